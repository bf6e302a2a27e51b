"""The file of a reproduction: TOML, one for each row, arm or family of a paper."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlptheory.base.configuration import from_plain, require_number
from mlptheory.base.errors import InputError, invalid, unknown_name
from mlptheory.reproductions.reproduction import QUANTITIES, PaperNumber, Reproduction
from mlptheory.training import Recipe, TestTimeAugmentation

TABLES = ("recipe", "pretraining", "downstream", "grid", "tta", "picture", "paper")
HOME = "experiments"
"""The folder that names of files count from."""


def read_reproduction(path: str | Path) -> Reproduction:
    """Read the file of a reproduction.

    Parameters
    ----------
    path : path-like
        TOML with either ``[recipe]``, or ``[pretraining]`` and ``[downstream]``: recipes by their fields, where
        ``datasets`` of ``[downstream]`` lists the sets that are transferred to; ``[paper]`` with ``source``,
        ``bibtex_key`` and, where the paper gives numbers, ``test_accuracy_percent`` and ``test_accuracy_spread``,
        the same with ``tta_``, ``real_`` and ``tta_real_`` in place of ``test_``: a number, or a table of numbers by
        dataset. Besides, if wanted: ``[grid]`` of fields and their values, ``[tta]`` with the fields of
        `TestTimeAugmentation`, and ``[picture]`` with ``units``.

    Returns
    -------
    Reproduction

    Raises
    ------
    InputError
        If the file is missing, is no TOML, or holds a name or value that does not belong there.
    """
    path = Path(path)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise invalid("file", str(path), "a TOML file that exists") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"file = {str(path)!r}: expected TOML: {error}") from error
    try:
        return _reproduction(name_of(path), tables)
    except InputError as error:
        raise InputError(f"file {str(path)!r}: {error}") from error


def name_of(path: Path) -> str:
    """Return a file's path below the folder of experiments, without its ending; its own name outside of it.

    Examples
    --------
    >>> name_of(Path("here/experiments/table1/row.toml")), name_of(Path("row.toml"))
    ('table1/row', 'row')
    """
    parts = path.absolute().with_suffix("").parts
    below = parts[len(parts) - parts[::-1].index(HOME) :] if HOME in parts else parts[-1:]
    return "/".join(below)


def _reproduction(name: str, tables: dict[str, Any]) -> Reproduction:
    for table, content in tables.items():
        if table not in TABLES:
            raise unknown_name("table", table, TABLES)
        if not isinstance(content, dict):
            raise invalid(table, content, "a table of names and values")
    transfers = "pretraining" in tables
    if transfers == ("recipe" in tables) or transfers != ("downstream" in tables):
        raise InputError("expected a [recipe] table, or [pretraining] and [downstream]")
    recipe = from_plain(
        Recipe, tables["pretraining" if transfers else "recipe"], "pretraining" if transfers else "recipe"
    )
    downstream, datasets = _downstream(tables["downstream"]) if transfers else (None, (recipe.data.name,))
    paper = dict(tables.get("paper", {}))
    texts = {}
    for each in ("source", "bibtex_key"):
        texts[each] = paper.pop(each, None)
        if not isinstance(texts[each], str):
            raise invalid(f"paper.{each}", texts[each], "a text")
    picture = tables.get("picture", {})
    for each in picture:
        if each != "units":
            raise unknown_name("picture", each, ("units",))
    return Reproduction(
        name=name,
        recipe=recipe,
        downstream=downstream,
        datasets=datasets,
        grid=tuple(_values(field, values) for field, values in tables.get("grid", {}).items()),
        tta=from_plain(TestTimeAugmentation, tables["tta"], "tta") if "tta" in tables else None,
        picture_units=picture.get("units"),
        numbers=_numbers(paper, datasets),
        **texts,
    )


def _downstream(table: Mapping[str, Any]) -> tuple[Recipe, tuple[str, ...]]:
    plain = dict(table)
    datasets = plain.pop("datasets", None)
    if not isinstance(datasets, list) or not datasets or not all(isinstance(each, str) for each in datasets):
        raise invalid("downstream.datasets", datasets, "a list of names of datasets")
    if "model" in plain:
        raise InputError("downstream.model: expected none, as the model is what was pretrained")
    if "name" in plain.get("data", {}):
        raise InputError("downstream.data.name: expected none, as downstream.datasets says which")
    if "seed" in plain:
        raise InputError("downstream.seed: expected none, as it is that of what was pretrained")
    return from_plain(Recipe, {"start": "body", **plain}, "downstream"), tuple(datasets)


def _values(field: str, values: Any) -> tuple[str, tuple[Any, ...]]:
    if not isinstance(values, list) or not values:
        raise invalid(f"grid.{field}", values, "a list of values")
    return field, tuple(tuple(value) if isinstance(value, list) else value for value in values)


def _numbers(paper: Mapping[str, Any], datasets: tuple[str, ...]) -> tuple[PaperNumber, ...]:
    known = {f"{quantity}_{what}" for quantity in QUANTITIES.values() for what in ("percent", "spread")}
    by_dataset = {}
    for name, values in paper.items():
        if name not in known:
            raise unknown_name("paper", name, ("source", "bibtex_key", *sorted(known)))
        by_dataset[name] = values if isinstance(values, dict) else {datasets[0]: values}
        for dataset, value in by_dataset[name].items():
            require_number(f"paper.{name}, {dataset}", value, 0, 100)
    for metric in QUANTITIES.values():
        percents, spreads = (by_dataset.get(f"{metric}_{what}", {}) for what in ("percent", "spread"))
        for dataset in spreads:
            if dataset not in percents:
                raise unknown_name(f"paper.{metric}_spread, dataset", dataset, percents)
    return tuple(
        PaperNumber(
            dataset=dataset,
            quantity=quantity,
            percent=float(percent),
            spread=by_dataset.get(f"{metric}_spread", {}).get(dataset),
        )
        for quantity, metric in QUANTITIES.items()
        for dataset, percent in by_dataset.get(f"{metric}_percent", {}).items()
    )
