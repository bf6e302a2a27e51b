"""The command that makes stores and .beton files."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from mlptheory.arguments import HELP, plugins_named, read_arguments
from mlptheory.base.errors import invalid
from mlptheory.base.plugins import load_plugins
from mlptheory.options import ConvertOptions

if TYPE_CHECKING:
    from mlptheory.data import Conversion

_NAMED = 20


def run_convert(arguments: list[str]) -> int:
    """Convert a source of images, and say what came out and what it is called."""
    load_plugins(plugins_named(arguments))
    source = arguments[0] if arguments else ""
    if not source or (source.startswith("-") and source not in HELP):
        raise invalid("source", source, "first a registered dataset, a folder of images, a .store or a .beton")
    options = read_arguments(
        ConvertOptions,
        arguments if source in HELP else arguments[1:],
        prog="mlptheory data convert SOURCE",
        description="Decode and resize images once. Killed at any moment, the same command goes on.",
    )
    from mlptheory.data import convert
    from mlptheory.data.conversion import usage

    done = convert(
        source,
        options.out,
        to=options.to,
        resolution=options.resolution,
        workers=options.workers,
        real=options.real,
        allow_unreadable=options.allow_unreadable,
        data_root=options.data_root,
    )
    name = usage(done, options.data_root)
    if options.json:
        made = [{**asdict(each), "path": str(each.path)} for each in done]
        print(json.dumps({"dataset": name, "splits": made}, indent=1))
        return 0
    for each in done:
        _show(each)
    print(f"its name is {name!r}: --dataset {name} for a probe, --data.name {name} for a recipe")
    return 0


def _show(made: Conversion) -> None:
    size = "x".join(str(side) for side in made.shape[1:])
    print(
        f"{made.split}: {made.shape[0]} images of {size}, {made.classes} classes, digest {made.digest[:16]}, "
        f"{made.seconds:.0f} s; {made.path}"
    )
    if made.unreadable:
        print(f"  {len(made.unreadable)} unreadable, left out:")
        for each in made.unreadable[:_NAMED]:
            print(f"    {each}")
        if len(made.unreadable) > _NAMED:
            print(
                f"    and {len(made.unreadable) - _NAMED} more, all named in {made.path.stem}.unreadable.txt beside it"
            )
    sys.stdout.flush()
