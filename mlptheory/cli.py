"""The command line: a view of the dataclasses, and nothing that Python does not offer too."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any

from mlptheory import __version__
from mlptheory.arguments import read_arguments
from mlptheory.base.configuration import require_integer
from mlptheory.base.errors import InputError, invalid, unknown_name
from mlptheory.base.files import writable_folder
from mlptheory.base.plugins import load_plugins
from mlptheory.options import (
    CalibrateOptions,
    DataOptions,
    EvaluateOptions,
    GetOptions,
    ListOptions,
    ProbeOptions,
    ReproduceOptions,
    TrainOptions,
)

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
  report DIR             write the report of a finished probe again
  cite [PROBE]           BibTeX of mlptheory, and of what a probe rests on

options
  -h, --help             this page; after a command, that command's
  --version              the version
"""

HELP = ("-h", "--help")


def main(args: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 2 for bad input, 130 after Ctrl-C, 1 for anything else."""
    arguments = list(sys.argv[1:] if args is None else args)
    warnings.showwarning = lambda message, *_: print(f"mlptheory: note: {message}", file=sys.stderr)
    try:
        return _dispatch(arguments)
    except InputError as error:
        print(f"mlptheory: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
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


def _plugins_named(arguments: Sequence[str]) -> list[str]:
    """Return the files after --plugin, which must load before the arguments that name what they register."""
    files: list[str] = []
    taking = False
    for argument in arguments:
        if argument.startswith("-"):
            name, _, value = argument.partition("=")
            taking = name == "--plugin" and not value
            files += [value] if name == "--plugin" and value else []
        elif taking:
            files.append(argument)
    return files


def _probe(arguments: list[str]) -> int:
    from mlptheory.probes.registry import probes

    load_plugins(_plugins_named(arguments))
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

    load_plugins(_plugins_named(arguments))
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


def _train(arguments: list[str]) -> int:
    import tyro

    from mlptheory.training import Recipe, read_recipe

    load_plugins(_plugins_named(arguments))
    file = arguments[0] if arguments and not arguments[0].startswith("-") else None
    recipe, paper = read_recipe(file) if file else (Recipe(), {})
    command = make_dataclass(
        "Command",
        [
            ("recipe", Annotated[Recipe, tyro.conf.arg(name="", help="The recipe; every field decides the result.")]),
            ("options", Annotated[TrainOptions, tyro.conf.arg(name="")], field(default_factory=TrainOptions)),
        ],
        frozen=True,
    )
    read = read_arguments(
        command,
        arguments[1:] if file else arguments,
        prog="mlptheory train [RECIPE.toml]",
        description="Train one recipe; a file gives the defaults of its options.",
        default=command(recipe=recipe),
    )
    from mlptheory.trials.single import run_recipe

    options = read.options
    record = run_recipe(
        read.recipe,
        out=options.out,
        parent=options.parent,
        paper=paper,
        data_root=options.data_root,
        threads=options.threads,
        device=options.device,
        log=options.log,
    )
    if options.json:
        print(record.to_json(), end="")
        return 0
    _show_record(record, paper, options.out)
    return 0


def _reproduce(arguments: list[str]) -> int:
    load_plugins(_plugins_named(arguments))
    file = arguments[0] if arguments else ""
    if not file or (file.startswith("-") and file not in HELP):
        raise invalid("reproduce", file, "first a file such as experiments/table1/cifar10_b-mlp_100.toml")
    options = read_arguments(
        ReproduceOptions,
        arguments if file in HELP else arguments[1:],
        prog="mlptheory reproduce FILE.toml",
        description="Run what a paper's numbers take, and set ours beside them.",
    )
    from mlptheory.reproductions import miniature, read_reproduction, reproduce
    from mlptheory.reproductions.results import require_no_better, results_path, write_results
    from mlptheory.trials import FolderStore, WorkerDiedError

    reproduction = read_reproduction(file)
    if options.miniature and options.datasets:
        raise invalid("datasets", options.datasets, "none with --miniature, which runs on digits")
    path = results_path(file, reproduction, out=options.out, datasets=options.datasets, is_miniature=options.miniature)
    if not options.miniature:
        require_no_better(path, options.seeds)
    try:
        found = reproduce(
            miniature(reproduction) if options.miniature else reproduction,
            store=FolderStore(writable_folder("out", options.out) / "store"),
            seeds=options.seeds,
            datasets=options.datasets,
            data_root=options.data_root,
            workers=options.workers,
            threads=options.threads,
            device=options.device,
            plugins=options.plugin,
            logs=Path(options.out) / "logs",
            log=options.log,
        )
    except WorkerDiedError as error:
        print(f"mlptheory: {error}", file=sys.stderr)
        return 1
    files = write_results(path, found)
    if options.json:
        print(json.dumps(found.to_plain(), indent=1))
        return 0
    print(found.describe())
    print(f"record: {', '.join(map(str, files))}")
    return 0


def _evaluate(arguments: list[str]) -> int:
    load_plugins(_plugins_named(arguments))
    folder = arguments[0] if arguments else ""
    if not folder or (folder.startswith("-") and folder not in HELP):
        raise invalid("evaluate", folder, "first the folder that a recipe was trained into")
    options = read_arguments(
        EvaluateOptions,
        arguments if folder in HELP else arguments[1:],
        prog="mlptheory evaluate FOLDER",
        description="Evaluate a model that `mlptheory train` kept.",
    )
    from mlptheory.data import read_real_labels
    from mlptheory.training import TestTimeAugmentation
    from mlptheory.trials import evaluate_run

    views = TestTimeAugmentation(
        views=options.views,
        crop_scale=options.crop_scale,
        flip=options.flip,
        average=options.average,
        seed=options.seed,
    )
    found = evaluate_run(
        folder,
        split=options.split,
        tta=views if options.tta else None,
        real_labels=None if options.real is None else read_real_labels(options.real),
        data_root=options.data_root,
        device=options.device,
    )
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    for name in ("top1", "top5", "real"):
        if found[name] is not None:
            print(f"{name:<10} {100 * found[name]:.2f} %")
    print(f"{'loss':<10} {found['loss']:.6g}")
    how = f"{views.views} views, mean {views.average}" if options.tta else "images as they are"
    print(f"{found['n']} images of split {found['split']}, {how}; record {found['record'][:16]}")
    return 0


def _show_record(record: Any, paper: dict[str, Any], out: str) -> None:
    if record.diverged:
        print(f"diverged at step {record.diverged['step']} (epoch {record.diverged['epoch']})")
    for name, value in record.metrics.items():
        if value is not None:
            print(
                f"{name:<30} {100 * value:.2f} %" if name.endswith(("accuracy", "top5")) else f"{name:<30} {value:.6g}"
            )
    for name, value in paper.items():
        print(f"paper, {name:<23} {value}")
    print(f"{record.seconds:.0f} s taken; record and weights in {out}")


def _data(arguments: list[str]) -> int:
    from mlptheory.data import data_roots, datasets, load

    if arguments and arguments[0] in HELP:
        print("usage: mlptheory data list | get NAME [OPTIONS]\n")
    elif _choose("data command", {"list": False, "get": True}, arguments):
        return _get_data(arguments[1:])
    else:
        arguments = arguments[1:]
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
    print("looked in: " + ", ".join(f"{label} ({folder})" for label, folder in data_roots(options.data_root)))
    return 0


def _get_data(arguments: list[str]) -> int:
    from mlptheory.data.downloads import obtain
    from mlptheory.data.sources import SOURCES

    name = None
    if not arguments or arguments[0] not in HELP:
        name = _choose("dataset", {name: name for name in SOURCES}, arguments)
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
        print("usage: mlptheory report DIR\n\nWrite the report of a finished probe again, from its result.json.")
        return 0
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise invalid("report", " ".join(arguments), "one folder that a probe wrote to")
    from mlptheory.base.files import write_atomically
    from mlptheory.probes.result import load_result

    result = load_result(arguments[0])
    path = Path(arguments[0]) / "report.html"
    write_atomically(path, result.html())
    print(result)
    print(f"\nreport: {path}")
    return 0


def _cite(arguments: list[str]) -> int:
    from mlptheory.probes.registry import probes
    from mlptheory.reports import bibtex

    if arguments and arguments[0] in HELP:
        print("usage: mlptheory cite [PROBE ...]\n\nBibTeX of mlptheory, and of what the probes rest on.")
        return 0
    keys = ["mlptheory"]
    for name in arguments:
        if name not in probes:
            raise unknown_name("probe", name, probes)
        keys += [key for key in probes[name]().references() if key not in keys]
    print(bibtex(keys), end="")
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "probe": _probe,
    "calibrate": _calibrate,
    "train": _train,
    "reproduce": _reproduce,
    "evaluate": _evaluate,
    "data": _data,
    "report": _report,
    "cite": _cite,
}

if __name__ == "__main__":
    sys.exit(main())
