"""Where the record of a reproduction lies, and how it gets there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mlptheory.base.errors import InputError
from mlptheory.base.files import writable_folder, write_atomically
from mlptheory.reproductions.files import HOME
from mlptheory.reproductions.reproduction import Reproduction
from mlptheory.reproductions.run import Reproduced

RESULTS = "results"


def results_path(
    file: str | Path,
    reproduction: Reproduction,
    *,
    out: str | Path,
    datasets: Sequence[str] = (),
    is_miniature: bool = False,
) -> Path:
    """Return where the record of a file's reproduction goes.

    Parameters
    ----------
    file : path-like
    reproduction : Reproduction
    out : path-like
        For what is no result: miniatures, and files outside of a folder of experiments.
    datasets : sequence of str
        Those that are run; all of the file's if empty.
    is_miniature : bool

    Returns
    -------
    Path
        ``experiments/results/NAME.json``, with the datasets in its name where they are a part of the file's.

    Examples
    --------
    >>> from mlptheory.training import Recipe
    >>> row = Reproduction(
    ...     name="table1/row", source="a table", bibtex_key="key", recipe=Recipe(), datasets=("digits",)
    ... )
    >>> results_path("/here/experiments/table1/row.toml", row, out="out").as_posix()
    '/here/experiments/results/table1/row.json'
    """
    file = Path(file).absolute()
    home = next((folder for folder in file.parents if folder.name == HOME), None)
    base = Path(out) / "miniature" if is_miniature else Path(out) if home is None else home / RESULTS
    chosen = [name for name in reproduction.datasets if name in datasets]
    part = ["_".join(chosen)] if 0 < len(chosen) < len(reproduction.datasets) else []
    return base / f"{'.'.join([reproduction.name, *part])}.json"


def require_no_better(path: Path, seeds: int) -> None:
    """Raise if a file holds the record of more seeds than are to be run: it would be lost under fewer.

    Raises
    ------
    InputError
    """
    if not path.is_file():
        return
    try:
        runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
        held = len({run["labels"]["seed"] for run in runs})
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{str(path)!r}: expected the record of a reproduction, or no such file") from error
    if held > seeds:
        raise InputError(f"seeds = {seeds}: expected at least {held}, those that {str(path)!r} holds already")


def write_results(path: Path, reproduced: Reproduced) -> tuple[Path, ...]:
    """Write the record, and the picture where there is one; return their paths."""
    from mlptheory.reports import save_figure

    writable_folder("results", path.parent)
    write_atomically(path, json.dumps(reproduced.to_plain(), indent=1) + "\n")
    if not reproduced.pictures:
        return (path,)
    return (path, *save_figure(reproduced.figure(), path.with_suffix("")))
