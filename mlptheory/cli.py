"""The command line: a view of the dataclasses, and nothing that Python does not offer too."""

from __future__ import annotations

import itertools
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, make_dataclass
from pathlib import Path
from typing import Annotated, Any

from mlptheory import __version__
from mlptheory.arguments import HELP, plugins_named, read_arguments
from mlptheory.base.configuration import require_integer
from mlptheory.base.errors import InputError, invalid, unknown_name
from mlptheory.base.files import writable_folder
from mlptheory.base.launch import LostProcessError, launched
from mlptheory.base.plugins import load_plugins
from mlptheory.convert_command import run_convert
from mlptheory.options import (
    CalibrateOptions,
    DataOptions,
    GetOptions,
    ListOptions,
    ProbeOptions,
)
from mlptheory.recipe_commands import run_evaluate, run_reproduce, run_train
from mlptheory.several import run_as_one_of

USAGE = """\
usage: mlptheory COMMAND [OPTIONS]

Does this claim of deep-learning theory hold for MLPs as they are really trained?

commands
  probe list             the probes and their questions
  probe NAME             plan, run and judge one; --help lists its settings
  calibrate NAME         how often a probe's verdicts err, where the truth is planted
  train [RECIPE.toml]    train one recipe, every field of it an option
  reproduce FILE.toml    a paper's number, or its figure's runs: ours beside it; --miniature within seconds
  evaluate FOLDER        a trained model again: test-time augmentation, ReaL labels
  data list              the datasets, and where their files are looked for
  data get NAME          fetch a dataset's official files, check and unpack them
  data convert SOURCE    make a store or a .beton file of image folders or a dataset
  report DIR             write the report of a finished probe again
  cite [PROBE]           BibTeX of mlptheory, and of what a probe rests on

options
  -h, --help             this page; after a command, that command's
  --version              the version
"""


def main(args: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 2 for bad input, 130 after Ctrl-C, 1 for anything else."""
    arguments = list(sys.argv[1:] if args is None else args)
    warnings.showwarning = lambda message, *_: print(f"mlptheory: note: {message}", file=sys.stderr)
    try:
        launch = launched()
        if launch is not None and launch.size > 1:
            return run_as_one_of(launch, arguments, _dispatch)
        return _dispatch(arguments)
    except InputError as error:
        print(f"mlptheory: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except LostProcessError as error:
        print(f"mlptheory: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("mlptheory: interrupted; finished trials are kept, and the same command goes on", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"mlptheory: {error.strerror or error}: {error.filename or ''}".rstrip(": "), file=sys.stderr)
        return 1


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in HELP:
        print(USAGE, end="")
        return 0
    if arguments[0] == "--version":
        print(f"mlptheory {__version__}")
        return 0
    return _choose("command", COMMANDS, arguments)(arguments[1:])


def _choose(kind: str, choices: dict[str, Any], arguments: Sequence[str]) -> Any:
    if not arguments:
        raise InputError(f"{kind}: expected one of {', '.join(choices)}")
    if arguments[0] not in choices:
        raise unknown_name(kind, arguments[0], choices)
    return choices[arguments[0]]


def _probe(arguments: list[str]) -> int:
    from mlptheory.probes.registry import probes

    load_plugins(plugins_named(arguments))
    if not arguments or arguments[0] in HELP:
        print("usage: mlptheory probe list | NAME [OPTIONS]\n")
    if not arguments or arguments[0] in (*HELP, "list"):
        if arguments[1:]:
            read_arguments(ListOptions, arguments[1:], prog="mlptheory probe list", description="The probes.")
        for name in probes:
            print(f"{name:<14} {probes.summary(name)}")
        return 0
    if arguments[0] not in probes:
        raise unknown_name("probe", arguments[0], [*probes, "list"])
    return _run_probe(probes[arguments[0]], arguments[1:])


def _read_design(cls: Any, options: type, arguments: list[str], prog: str, description: str) -> tuple[Any, Any]:
    import tyro

    command = make_dataclass(
        "Command",
        [
            ("probe", Annotated[cls, tyro.conf.arg(name="", help="The design; every field decides the result.")]),
            ("options", Annotated[options, tyro.conf.arg(name="")]),
        ],
        frozen=True,
    )
    read = read_arguments(command, arguments, prog=f"mlptheory {prog} {cls.name}", description=description)
    return read.probe, read.options


def _run_probe(cls: Any, arguments: list[str]) -> int:
    probe, options = _read_design(cls, ProbeOptions, arguments, "probe", cls.question)

    from mlptheory.probes.result import claim_folder, load_result
    from mlptheory.trials import FolderStore, WorkerDiedError, require_fitting_data

    if options.workers is not None:
        require_integer("workers", options.workers, 1)
    require_fitting_data(probe.trials(), options.data_root)
    say = sys.stderr if options.json else sys.stdout
    common = {"data_root": options.data_root, "workers": options.workers, "device": options.device}
    pilot = None if options.pilot is None else load_result(options.pilot)
    if options.plan_only:
        kept = Path(options.out) / "store"
        plan = probe.plan(store=kept if kept.is_dir() else None, pilot=pilot, **common)
        print(json.dumps(asdict(plan), indent=1) if options.json else plan)
        return 0
    store = FolderStore(writable_folder("out", options.out) / "store")
    plan = probe.plan(store=store, pilot=pilot, **common)
    claim_folder(options.out, plan.design)
    print(plan, file=say, flush=True)
    try:
        result = probe.run(store=store, plugins=options.plugin, planned_s=plan.seconds, **common)
    except WorkerDiedError as error:
        print(f"mlptheory: {error}", file=sys.stderr)
        return 1
    files = result.save(options.out)
    if options.json:
        payload = result.to_plain()
        shown = {
            "digest": payload["design"]["digest"],
            "verdicts": payload["verdicts"],
            "files": {name: str(path) for name, path in files.items()},
        }
        print(json.dumps(shown, indent=1))
        return 0
    print(f"\n{result}\n")
    print(f"{plan.seconds:.0f} s planned, {result.timing['taken_s']:.0f} s taken")
    print(f"report: {files['report.html']}")
    print(f"also in {options.out}: {', '.join(sorted(set(files) - {'report.html'}))}")
    return 0


def _calibrate(arguments: list[str]) -> int:
    from mlptheory.probes.registry import probes

    load_plugins(plugins_named(arguments))
    if not arguments or arguments[0] in HELP:
        print(f"usage: mlptheory calibrate NAME [OPTIONS]\n\nThe probes: {', '.join(probes)}")
        return 0
    name = _choose("probe", {each: each for each in probes}, arguments)
    description = "Judge tables whose truth is planted, and count how often the verdicts are wrong."
    probe, options = _read_design(probes[name], CalibrateOptions, arguments[1:], "calibrate", description)

    from mlptheory.probes import calibrate
    from mlptheory.trials import WorkerDiedError

    store = writable_folder("out", options.out) / "store"
    try:
        found = calibrate(
            probe,
            tables=options.tables,
            seed=options.seed,
            bank_runs=options.bank_runs,
            store=store,
            workers=options.workers,
            data_root=options.data_root,
            device=options.device,
            plugins=options.plugin,
        )
    except WorkerDiedError as error:
        print(f"mlptheory: {error}", file=sys.stderr)
        return 1
    files = found.save(options.out)
    print(f"in {options.out}: {', '.join(sorted(files))}\n")
    print(found)
    return 0


def _data(arguments: list[str]) -> int:
    from mlptheory.data import data_roots, datasets, load

    if arguments and arguments[0] in HELP:
        print("usage: mlptheory data list | get NAME | convert SOURCE [OPTIONS]\n")
    elif command := _choose("data command", {"list": None, "get": _get_data, "convert": run_convert}, arguments):
        return command(arguments[1:])
    else:
        arguments = arguments[1:]
    from mlptheory.data.catalog import files

    options = read_arguments(
        DataOptions, arguments, prog="mlptheory data list", description="The datasets and where they are."
    )
    load_plugins(options.plugin)
    for name in datasets:
        try:
            found = load(name, "train", root=options.data_root)
            state = f"{len(found)} training images of {'x'.join(str(size) for size in found.image_shape)}"
        except InputError as error:
            state = "not found" if isinstance(error, FileNotFoundError) else str(error)
        print(f"{name:<14} {state:<42} {datasets.summary(name)}")
    for kind in files:
        print(f"{f'{kind}:NAME':<14} {'':<42} {files.summary(kind)}")
    print("looked in: " + ", ".join(f"{label} ({folder})" for label, folder in data_roots(options.data_root)))
    return 0


def _get_data(arguments: list[str]) -> int:
    from mlptheory.data.downloads import obtain
    from mlptheory.data.imagenet import IMAGE_FOLDERS
    from mlptheory.data.sources import SOURCES

    name = None
    if not arguments or arguments[0] not in HELP:
        # Those that nobody may pass on are refused with what to do instead.
        known = {name: name for name in SOURCES}
        name = arguments[0] if arguments and arguments[0] in IMAGE_FOLDERS else _choose("dataset", known, arguments)
        arguments = arguments[1:]
    options = read_arguments(
        GetOptions,
        arguments,
        prog=f"mlptheory data get {name or 'NAME'}",
        description=f"Fetch one of {', '.join(SOURCES)}, check and unpack it. A download that was cut goes on.",
    )
    folder, fetched = obtain(name, options.data_root, mirror=options.mirror)
    print(f"{name}: {'whole' if fetched else 'already whole'} in {folder}")
    return 0


def _report(arguments: list[str]) -> int:
    if arguments and arguments[0] in HELP:
        print(
            "usage: mlptheory report DIR [--plugin FILE ...]\n\n"
            "Write the report of a finished probe again, from its result.json; a file registers your own probe."
        )
        return 0
    named = _without_plugins("report", arguments)
    if len(named) != 1:
        raise invalid("report", " ".join(named), "one folder that a probe wrote to")
    from mlptheory.base.files import write_atomically
    from mlptheory.probes.result import load_result

    result = load_result(named[0])
    path = Path(named[0]) / "report.html"
    write_atomically(path, result.html())
    print(result)
    print(f"\nreport: {path}")
    return 0


def _without_plugins(command: str, arguments: list[str]) -> list[str]:
    """Load the files after --plugin, and return the arguments before."""
    named = list(itertools.takewhile(lambda argument: not argument.startswith("-"), arguments))
    rest = arguments[len(named) :]
    read_arguments(ListOptions, rest, prog=f"mlptheory {command}", description="What stands behind a probe.")
    load_plugins(plugins_named(rest))
    return named


def _cite(arguments: list[str]) -> int:
    from mlptheory.probes.registry import probes
    from mlptheory.reports import bibtex

    if arguments and arguments[0] in HELP:
        print(
            "usage: mlptheory cite [PROBE ...] [--plugin FILE ...]\n\n"
            "BibTeX of mlptheory, and of what the probes rest on; a file registers your own."
        )
        return 0
    keys = ["mlptheory"]
    for name in _without_plugins("cite", arguments):
        if name not in probes:
            raise unknown_name("probe", name, probes)
        keys += [key for key in probes[name]().references() if key not in keys]
    print(bibtex(keys), end="")
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "probe": _probe,
    "calibrate": _calibrate,
    "train": run_train,
    "reproduce": run_reproduce,
    "evaluate": run_evaluate,
    "data": _data,
    "report": _report,
    "cite": _cite,
}

if __name__ == "__main__":
    sys.exit(main())
