"""The commands of recipes: train one, reproduce a paper's, look at a trained model again."""

from __future__ import annotations

import json
import sys
from dataclasses import field, make_dataclass
from pathlib import Path
from typing import Annotated, Any

from mlptheory.arguments import HELP, plugins_named, read_arguments
from mlptheory.base.errors import invalid
from mlptheory.base.files import writable_folder
from mlptheory.base.plugins import load_plugins
from mlptheory.options import EvaluateOptions, ReproduceOptions, TrainOptions


def run_train(arguments: list[str]) -> int:
    """Train one recipe, and show its record."""
    import tyro

    from mlptheory.training import Recipe, read_recipe

    load_plugins(plugins_named(arguments))
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


def run_reproduce(arguments: list[str]) -> int:
    """Run a paper's file, in full or in miniature, and show ours beside its numbers."""
    load_plugins(plugins_named(arguments))
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
    from mlptheory.training.parallel import join
    from mlptheory.trials import FolderStore, WorkerDiedError

    reproduction = read_reproduction(file)
    if options.miniature and options.datasets:
        raise invalid("datasets", options.datasets, "none with --miniature, which runs on digits")
    path = results_path(file, reproduction, out=options.out, datasets=options.datasets, is_miniature=options.miniature)
    world = join()
    if not options.miniature:
        world.first(lambda: require_no_better(path, options.seeds))
    try:
        found = reproduce(
            miniature(reproduction) if options.miniature else reproduction,
            store=world.first(lambda: FolderStore(writable_folder("out", options.out) / "store")),
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
    files = world.first(lambda: write_results(path, found)) or ()
    if options.json:
        print(json.dumps(found.to_plain(), indent=1))
        return 0
    print(found.describe())
    print(f"record: {', '.join(map(str, files))}")
    return 0


def run_evaluate(arguments: list[str]) -> int:
    """Look at a kept model again."""
    load_plugins(plugins_named(arguments))
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
