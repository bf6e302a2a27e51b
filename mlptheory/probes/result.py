"""The result of a probe: verdicts with all they rest on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mlptheory.base.configuration import from_plain
from mlptheory.base.errors import DamagedFileError, InputError
from mlptheory.base.files import writable_folder, write_atomically
from mlptheory.probes.probe import Probe
from mlptheory.probes.registry import probes
from mlptheory.reports import bibtex, figure_svg, render_html, save_figure, verdict_html, verdict_table
from mlptheory.stats import Verdict
from mlptheory.training import training_size
from mlptheory.trials import Record, Trial
from mlptheory.trials.record import unpack_predictions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMA = 1
HISTORY_COLUMNS = (
    ("trial", "Position of the trial in the table, from 0", ""),
    ("step", "Optimizer steps taken", ""),
    ("epoch", "Epochs finished", ""),
    ("quantity", "What was seen", ""),
    ("value", "Its value", ""),
)
EFFECT_COLUMNS = {
    "learner": "Which of the design's models",
    "arm": "Which of the design's arms; none for what stands beside all of them",
    "size": "Size of the training set",
    "images": "What was trained on: see the table's column of that name",
    "model": "Name of the model",
    "optimizer": "By which it was trained",
    "policy": "How the learning rate goes with the batch size",
    "stage": "What was trained last: see the table's column of that name",
    "length": "Training length; of a transfer, that of pretraining, and 0 without",
    "cell": "Which cell of the design: what departs from its center",
    "quantity": "What the mean is of, with its unit",
    "mean": "Over independent runs",
    "low": "Lower end of the 95 % t interval of the mean, for this row alone",
    "high": "Upper end of the 95 % t interval of the mean, for this row alone",
    "n": "Independent runs behind the mean",
    "runs": "Of so many; where some are missing the rest are a selection, and there is no interval",
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """What `Probe.run` returns; in a notebook it shows its verdicts and figure.

    Attributes
    ----------
    probe : Probe
    design : dict
        Everything decided before the first trial, with its digest.
    table : DataFrame
        One row a trial; `Probe.columns` documents the columns.
    history : DataFrame
        One row for each quantity seen during training: trial, step, epoch, quantity, value.
    verdicts : tuple of Verdict
        One a claim.
    effects : DataFrame
        The effects beside the verdicts', with intervals.
    diverged : tuple of dict
        Trials whose loss stopped being finite.
    environment : dict
        Versions and hardware.
    timing : dict
        Seconds planned and taken, and of every trial.
    """

    probe: Probe
    design: Mapping[str, Any]
    table: pd.DataFrame
    history: pd.DataFrame
    verdicts: tuple[Verdict, ...]
    effects: pd.DataFrame
    diverged: tuple[Mapping[str, Any], ...]
    environment: Mapping[str, Any]
    timing: Mapping[str, Any]

    def figure(self) -> Figure:
        """Return a new matplotlib figure; nothing is written, no backend is chosen."""
        return self.probe.draw(self)

    def to_plain(self) -> dict[str, Any]:
        """Return the payload of ``result.json``."""
        described = {column.name: column for column in self.probe.columns()}
        columns = [asdict(described[name]) for name in self.table.columns]
        return {
            "schema": SCHEMA,
            "design": dict(self.design),
            "table": {"columns": columns, "rows": _rows(self.table)},
            "history": {
                "columns": [{"name": name, "description": text, "unit": unit} for name, text, unit in HISTORY_COLUMNS],
                "rows": _rows(self.history),
            },
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
            "effects": {
                "columns": [
                    {"name": name, "description": EFFECT_COLUMNS.get(name, ""), "unit": ""}
                    for name in self.effects.columns
                ],
                "rows": _rows(self.effects),
            },
            "diverged": [dict(each) for each in self.diverged],
            "environment": dict(self.environment),
            "timing": dict(self.timing),
        }

    def html(self) -> str:
        """Return the report as one HTML page that needs nothing from outside."""
        return render_html(
            self._shown(),
            figures={self.probe.caption: figure_svg(self.figure())},
            bibtex=bibtex(self.probe.references()),
            title=self.probe.title,
        )

    def save(self, folder: str | Path) -> dict[str, Path]:
        """Write the result and everything a paper needs of it.

        Parameters
        ----------
        folder : path-like
            Created if need be.

        Returns
        -------
        dict of str to Path
            result.json, table.csv, history.csv, figure.pdf, figure.png, report.html, references.bib by name;
            result.json is written last, so that where it is the others are.

        Raises
        ------
        InputError
            If the folder cannot be written, or holds the result of another design.
        """
        out = claim_folder(folder, self.design)
        figure = self.figure()
        texts = {
            "table.csv": self.table.to_csv(index=False),
            "history.csv": self.history.to_csv(index=False),
            "references.bib": bibtex(self.probe.references()),
            "report.html": self.html(),
        }
        for name, text in texts.items():
            write_atomically(out / name, text)
        figures = save_figure(figure, out / "figure")
        write_atomically(out / "result.json", _one_line_a_row(self.to_plain()))
        written = [*(out / name for name in texts), *figures, out / "result.json"]
        return {path.name: path for path in written}

    def __str__(self) -> str:
        return verdict_table([verdict.to_json() for verdict in self.verdicts])

    def _repr_html_(self) -> str:
        effects = self.effects.to_html(index=False, float_format="{:.4g}".format, border=0)
        return f"{verdict_html(self._shown())}<div>{figure_svg(self.figure())}</div>{effects}"

    def _shown(self) -> dict[str, Any]:
        """Return the payload as pages show it: the trials' digests stand in the table, once is enough."""
        plain = self.to_plain()
        plain["design"].pop("trials")
        return plain


def _one_line_a_row(payload: Mapping[str, Any]) -> str:
    """Return JSON with a line for each part, and for each row of a table: a fraction of the size of indented JSON."""
    parts = []
    for name, part in payload.items():
        text = json.dumps(part, allow_nan=False)
        if isinstance(part, dict) and "rows" in part:
            rows = ",\n".join(json.dumps(row, allow_nan=False) for row in part["rows"])
            text = f'{{"columns": {json.dumps(part["columns"], allow_nan=False)}, "rows": [\n{rows}\n]}}'
        parts.append(f"{json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _plain_value(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.item() if hasattr(value, "item") else value


def _rows(frame: pd.DataFrame) -> list[list[Any]]:
    """Return the rows as plain values; a missing number is None."""
    columns = [[_plain_value(value) for value in frame[name].tolist()] for name in frame.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def assemble(
    probe: Probe,
    design: Mapping[str, Any],
    trials: Sequence[Trial],
    records: Sequence[Record],
    *,
    data_root: str | None,
    taken_s: float,
    planned_s: float | None,
) -> Result:
    """Make the result of a probe from its trials and their records, in the same order."""
    table = make_table(probe, trials, records, data_root)
    history = pd.DataFrame(
        [(index, *row) for index, record in enumerate(records) for row in record.history],
        columns=[name for name, _, _ in HISTORY_COLUMNS],
    )
    return Result(
        probe=probe,
        design=design,
        table=table,
        history=history,
        verdicts=probe.judge(table),
        effects=probe.effects(table),
        diverged=tuple(
            {"trial": index, **dict(trial.labels), **record.diverged}
            for index, (trial, record) in enumerate(zip(trials, records, strict=True))
            if record.diverged is not None
        ),
        environment=_environments(records),
        timing={
            "planned_s": planned_s,
            "taken_s": taken_s,
            "trial_s": [record.seconds for record in records],
        },
    )


def _environments(records: Sequence[Record]) -> dict[str, Any]:
    """Return the environment of the records; all of them where they were computed in several."""
    distinct: list[dict[str, Any]] = []
    for record in records:
        if record.environment not in distinct:
            distinct.append(dict(record.environment))
    return distinct[0] if len(distinct) == 1 else {"several": distinct}


def make_table(
    probe: Probe, trials: Sequence[Trial], records: Sequence[Record], data_root: str | None = None
) -> pd.DataFrame:
    """Return one row a trial: the probe's labels, then the metrics it documents."""
    rows = []
    for trial, record in zip(trials, records, strict=True):
        # A diverged run has no outcome: what an observer saw before it diverged is history, not a result.
        observed = {} if record.diverged else _last_observed(record)
        values = {**observed, **record.metrics, **dict(trial.labels)}
        values |= {"diverged": record.diverged is not None, "digest": record.digest}
        if trial.recipe is not None:
            values["train_examples"] = training_size(trial.recipe.data, data_root)
        if record.predictions is not None:
            values["test_examples"] = len(unpack_predictions(record.predictions))
        values |= probe.derived(values)
        rows.append([values.get(column.name) for column in probe.columns()])
    frame = pd.DataFrame(rows, columns=[column.name for column in probe.columns()])
    return frame.infer_objects()


def _last_observed(record: Record) -> dict[str, float | None]:
    return {quantity: value for _, _, quantity, value in record.history}


def claim_folder(folder: str | Path, design: Mapping[str, Any]) -> Path:
    """Take an output folder for a design, or refuse it if it holds another's.

    Raises
    ------
    InputError
        If the folder cannot be written, or its ``design.json`` is another design's; what differs is named.
    """
    out = writable_folder("out", folder)
    path = out / "design.json"
    if path.is_file():
        held = _read_json(path)
        if held.get("digest") != design["digest"]:
            raise InputError(
                f"out = {str(folder)!r}: holds another design ({_difference(held, design)}); "
                "expected an empty folder, or the settings that were used there"
            )
    else:
        write_atomically(path, json.dumps(dict(design), indent=1) + "\n")
    return out


def _difference(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    if held.get("probe") != wanted["probe"]:
        return f"probe {held.get('probe')!r} there, {wanted['probe']!r} here"
    there, here = held.get("settings", {}), wanted["settings"]
    for name in here:
        if there.get(name) != here[name]:
            return f"{name} = {there.get(name)!r} there, {here[name]!r} here"
    for name, label in (("data", "data"), ("code", "version of the code"), ("schedule", "schedule")):
        if held.get(name) != wanted[name]:
            return f"another {label}"
    return "another version of torch"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"folder = {str(path.parent)!r}: expected a result, but {path.name} is not there") from error
    except (OSError, ValueError) as error:
        raise DamagedFileError(f"{path}: expected JSON ({error})") from error
    if not isinstance(content, dict):
        raise DamagedFileError(f"{path}: expected a JSON object")
    return content


def load_result(folder: str | Path) -> Result:
    """Read a result back from the folder that `Result.save` wrote.

    Raises
    ------
    InputError
        If there is no result in the folder, or it is not whole.
    """
    path = Path(folder) / "result.json"
    payload = _read_json(path)
    if payload.get("schema") != SCHEMA:
        raise DamagedFileError(f"{path}: expected schema {SCHEMA}, found {payload.get('schema')!r}")
    try:
        design = payload["design"]
        probe = from_plain(probes[design["probe"]], design["settings"], design["probe"])
        frames = {
            name: pd.DataFrame(payload[name]["rows"], columns=[column["name"] for column in payload[name]["columns"]])
            for name in ("table", "history", "effects")
        }
        return Result(
            probe=probe,
            design=design,
            verdicts=tuple(Verdict.from_json(verdict) for verdict in payload["verdicts"]),
            diverged=tuple(payload["diverged"]),
            environment=payload["environment"],
            timing=payload["timing"],
            **frames,
        )
    except KeyError as error:
        raise DamagedFileError(f"{path}: expected {error.args[0]!r}, which is not there") from error
    except InputError:
        raise
    except (TypeError, AttributeError, ValueError) as error:
        raise DamagedFileError(f"{path}: expected a whole result ({error})") from error
