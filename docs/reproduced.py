"""What of a paper was reproduced, and what was not run: tables written from experiments/ and experiments/results/.

``python docs/measured.py`` writes them to docs/reproduced.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measured_quantities import machine

from mlptheory.data.imagenet import IMAGE_FOLDERS
from mlptheory.reports import markdown_table
from mlptheory.reproductions import Reproduction, read_reproduction

QUANTITIES = {"test": "accuracy", "tta": "accuracy, TTA", "real": "accuracy, ReaL", "tta_real": "accuracy, ReaL, TTA"}
HEAD = """\
# What was reproduced, and what was not run

A row for each number of the paper and each point that was measured, written from the files and records under
`experiments/`. Accuracy is on the test set after the last step, in percent; brackets are 95 % t intervals over seeds,
and one run has none. "±" is the paper's, which does not say what it is.

The runs on CIFAR used the official images and labels in another order than the official files', so their data digests
are not those of a download.

`mlptheory reproduce experiments/PATH.toml` runs a file, in small and within seconds with `--miniature`.
"""


def reproductions_text(experiments: Path) -> str:
    """Return the page: the tables of all files, a section for each folder, and under each where its runs come from."""
    found = list(reproduction_records(experiments).values())
    files = {path: read_reproduction(path) for path in sorted(experiments.rglob("*.toml"))}
    by_file = {
        path: [record for record in found if record["reproduction"]["name"] == reproduction.name]
        for path, reproduction in files.items()
    }
    parts = [HEAD, _count(files, by_file)]
    run = {path.parent for path in files if by_file[path]}
    for folder in sorted({path.parent for path in files}, key=lambda folder: (folder not in run, _by_number(folder))):
        here = [path for path in files if path.parent == folder]
        rows = [
            row for path in here for row in _rows(files[path], by_file[path], _unfinished(experiments, files[path]))
        ]
        notes = [note for path in here for record in by_file[path] for note in _evidence(record)]
        notes += [note for path in here for note in _evidence_so_far(experiments, files[path].name)]
        parts += [
            f"## `{folder.relative_to(experiments).as_posix()}`\n",
            markdown_table(rows, ["recipe", "dataset", "what", "measured (%)", "runs", "paper (%)"]),
            *(["\n".join(notes) + "\n"] if notes else []),
        ]
    return "\n".join(parts)


def _by_number(folder: Path) -> list[str | int]:
    """Return what puts figure10 behind figure2."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", folder.name)]


def _count(files: dict[Path, Reproduction], by_file: dict[Path, list[dict[str, Any]]]) -> str:
    """Say how many files were run, and why the others were not."""
    needed = {path: {each.recipe.data.name, *each.datasets} for path, each in files.items()}
    rest = [path for path in files if not by_file[path]]
    waiting = {path: needed[path] & IMAGE_FOLDERS.keys() for path in rest if needed[path] & IMAGE_FOLDERS.keys()}
    names = sorted(set().union(*waiting.values()))
    return (
        f"{len(files) - len(rest)} of {len(files)} files were run, in full or in part. {len(waiting)} of the others "
        f"need images that were not at hand ({', '.join(names)}; {{doc}}`getting_data` says how they are converted), "
        f"{len(rest) - len(waiting)} more time than there was.\n"
    )


def reproduction_records(experiments: Path) -> dict[str, dict[str, Any]]:
    """Return every record of a reproduction, by its path under experiments/results, without its ending."""
    results = experiments / "results"
    return {
        path.relative_to(results).with_suffix("").as_posix(): json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(results.rglob("*.json"))
    }


def _unfinished(experiments: Path, reproduction: Reproduction) -> str:
    """Return how far a run came that was not finished: its last look at the test set, from the lines it left."""
    path = experiments / "unfinished" / f"{reproduction.name}.jsonl"
    if not path.is_file():
        return "not run"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    looks = [row for row in rows if row["quantity"] == "test_accuracy" and row["value"] is not None]
    if not looks:
        return "not run to its first look at the test set"
    last, budget = looks[-1], reproduction.recipe.budget
    whole = budget.unit == "epochs"
    taken = f"{last['epoch']} of {budget.amount} epochs" if whole else f"{last['step']} steps"
    return f"{100 * last['value']:.2f} after {taken}, unfinished"


def _evidence_so_far(experiments: Path, name: str) -> Iterator[str]:
    """Yield what a run that was not finished rests on: how it was run, its data and the machine."""
    path = experiments / "unfinished" / f"{name}.json"
    if path.is_file():
        held = json.loads(path.read_text(encoding="utf-8"))
        execution = held["execution"]
        yield (
            f"- `{name}`, unfinished: seed {held['recipe']['seed']}; {_execution(execution, held['environment'])} on "
            f"{machine(held['environment'])}. Data {held['data_digest'][:16]}, run {held['digest'][:16]}."
        )


def _execution(execution: dict[str, Any], environment: dict[str, Any]) -> str:
    if execution.get("data_parallel"):
        sittings = ", then ".join(str(processes) for processes in environment["processes"])
        return f"{execution['precision']}, {sittings} process(es), data parallel"
    return f"{execution['precision']}, {execution['threads']} thread(s)"


def _rows(reproduction: Reproduction, records: list[dict[str, Any]], otherwise: str) -> Iterator[list[str]]:
    title = f"`{reproduction.name.rpartition('/')[2]}`"
    paper = {(number.dataset, number.quantity): number for number in reproduction.numbers}
    for row in (row for record in records for row in record["numbers"]):
        cell = [f"{path.rpartition('.')[2]} {row[path]}" for path, _ in reproduction.grid]
        number = paper.pop((row["dataset"], row["quantity"]), None)
        interval = "" if row["low"] is None else f" [{row['low']:.2f}, {row['high']:.2f}]"
        yield [
            title,
            row["dataset"],
            ", ".join([QUANTITIES[row["quantity"]], *cell]),
            f"{row['measured']:.2f}{interval}",
            str(row["n"]),
            _paper(number),
        ]
    for number in paper.values():
        runs = [run for record in records for run in record["runs"] if run["labels"]["dataset"] == number.dataset]
        found = "diverged" if runs and all(run["record"]["diverged"] for run in runs) else otherwise
        yield [title, number.dataset, QUANTITIES[number.quantity], found, "", _paper(number)]
    if not records and not reproduction.numbers:
        yield [title, ", ".join(reproduction.datasets), "points or pictures of a figure", "not run", "", ""]


def _paper(number: Any) -> str:
    if number is None:
        return ""
    return f"{number.percent}" + ("" if number.spread is None else f" ± {number.spread}")


def _evidence(record: dict[str, Any]) -> Iterator[str]:
    """Yield what a record rests on: seeds, lengths, how it was run, its data and the machine."""
    runs = [run["record"] for run in record["runs"]]
    first, every = runs[0], [*runs, *record["ancestors"]]
    recipe, execution = first["trial"]["recipe"], first["trial"]["execution"]
    seeds = ", ".join(sorted({str(run["labels"]["seed"]) for run in record["runs"]}))
    data = ", ".join(sorted({each["data_digest"][:16] for each in every}))
    minutes = sum(each["seconds"] for each in every) / 60
    train = [run["metrics"].get("train_accuracy") for run in runs]
    training = f" Training accuracy in the last epoch {100 * train[0]:.2f} %." if len(train) == 1 and train[0] else ""
    lost = [
        f"{run['labels']['dataset']}, seed {run['labels']['seed']}"
        for run in record["runs"]
        if run["record"]["diverged"]
    ]
    diverged = f" Diverged, and in no mean: {'; '.join(lost)}." if lost else ""
    yield (
        f"- `{record['reproduction']['name']}`: {record['reproduction']['source']}. Seeds {seeds}; "
        f"{recipe['budget']['amount']} {recipe['budget']['unit']} at batch size {recipe['budget']['batch_size']}."
        f"{training}{diverged} {_execution(execution, first['environment'])}, {minutes:.0f} min in all on "
        f"{machine(first['environment'])}. Data {data}, record {first['digest'][:16]}."
    )
