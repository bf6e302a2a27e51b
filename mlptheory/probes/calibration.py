"""How often a probe's judgment errs, by tables whose truth is known: Gaussian ones, and resampled real runs."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlptheory.base.configuration import require_integer, to_plain
from mlptheory.base.errors import InputError
from mlptheory.base.files import writable_folder, write_atomically
from mlptheory.probes.bank import run_bank
from mlptheory.probes.scenario import Scenario
from mlptheory.probes.simulated import judge_tables
from mlptheory.stats import (
    ClaimCalibration,
    Outcome,
    Proportion,
    calibrate_claim,
    family_errors,
    reaches_down_to,
)

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.probe import Probe
    from mlptheory.trials.store import Store

SCHEMA = 1
CONFIDENCE = 0.999
LEVEL = 0.95
FAMILY = "any of the family"
"""Stands for the claim where a row is about all claims of a direction together."""

FEWEST_RUNS = 300
"""Of a bank: fewer would be resampled too often to stand for new runs."""

_RATES = ("false_supported", "false_contradicted", "false_any", "coverage", "zero_rejected")
COLUMNS = (
    ("kind", "simulated: Gaussian tables; bank: tables of real runs of one arm, relabeled and resampled"),
    ("scenario", "The planted world"),
    ("claim", f"Its id, or {FAMILY!r}: a table counts where any claim of a direction got a false verdict"),
    ("truth", "Mean of the claim's estimand over tables; none where it is not defined"),
    ("tables", "Tables judged"),
    ("supported", "Tables with that verdict"),
    ("contradicted", "Tables with that verdict"),
    ("inconclusive", "Tables with that verdict"),
    *(
        (f"{rate}{end}", f"{text}{', ' + end[1:] + ' end of its 99.9 % interval' if end else ''}")
        for rate, text in (
            ("false_supported", "Share of tables with a false supported"),
            ("false_contradicted", "Share of tables with a false contradicted"),
            ("false_any", "Share of tables with any false verdict in the family"),
            ("coverage", "Share of shown intervals that hold the estimand"),
            ("zero_rejected", "A/A test: share of 95 % intervals without 0, where the truth is 0"),
        )
        for end in ("", "_low", "_high")
    ),
    ("intervals", "Tables behind the coverage"),
    ("mean_width", "Of the shown intervals, in the claim's unit"),
    ("mean_level", "Of the shown intervals; Holm's method gives each claim its own"),
    ("holds", "Whether no error rate is shown to exceed 5 % and the coverage not to fall short of 95 %"),
)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What :func:`calibrate` returns.

    Attributes
    ----------
    design : dict
        Probe, settings, claims and scenarios judged, number of tables, seed, level and confidence, and the bank: its
        digest and number of runs.
    rows : tuple of dict
        One per kind, scenario and claim, and one for the family; `COLUMNS` says what they hold.
    bank : DataFrame or None
        The real runs.
    environment : dict
        Versions and hardware of the machine that judged.
    seconds : float
        Of judging, without the bank's runs.
    """

    design: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...]
    bank: pd.DataFrame | None
    environment: Mapping[str, Any]
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether every row does."""
        return all(row["holds"] for row in self.rows)

    def to_plain(self) -> dict[str, Any]:
        """Return the payload of ``calibration.json``."""
        return {
            "schema": SCHEMA,
            "design": dict(self.design),
            "columns": [{"name": name, "description": text} for name, text in COLUMNS],
            "rows": [dict(row) for row in self.rows],
            "environment": dict(self.environment),
            "seconds": self.seconds,
        }

    def save(self, folder: str | Path) -> dict[str, Path]:
        """Write calibration.csv, bank.csv where there is a bank, and last calibration.json; return their paths."""
        out = writable_folder("out", folder)
        text = io.StringIO()
        writer = csv.DictWriter(text, [name for name, _ in COLUMNS], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        texts = {"calibration.csv": text.getvalue()}
        if self.bank is not None:
            texts["bank.csv"] = self.bank.to_csv(index=False)
        texts["calibration.json"] = json.dumps(self.to_plain(), indent=1, allow_nan=False) + "\n"
        for name, content in texts.items():
            write_atomically(out / name, content)
        return {name: out / name for name in texts}

    def __str__(self) -> str:
        lines = [f"{'':<44}  sup.  con.  inc.  false s.  false c.  covered     width"]
        heading = None
        for row in self.rows:
            if heading != (heading := f"{row['kind']}, {row['scenario']}"):
                lines.append(heading)
            lines.append(_line(row))
        failed = sum(not row["holds"] for row in self.rows)
        lines.append(
            f"Every line holds ({len(self.rows)} lines of {self.design['tables']:,} tables)."
            if not failed
            else f"{failed} of {len(self.rows)} lines do not hold, marked !"
        )
        return "\n".join(lines)


def _line(row: Mapping[str, Any]) -> str:
    name = f"{'  ' if row['holds'] else '! '}{row['claim']}"
    if row["claim"] == FAMILY:
        return f"{name:<44}  {100 * row['false_any']:.2f} % of tables with any false verdict"
    words = "".join(f"{100 * row[word] / row['tables']:6.1f}" for word in ("supported", "contradicted", "inconclusive"))
    shares = "".join(
        f"{'–' if row[rate] is None else f'{100 * row[rate]:.2f}':>{width}}"
        for rate, width in (("false_supported", 10), ("false_contradicted", 10), ("coverage", 9))
    )
    width = "–" if row["mean_width"] is None else f"{row['mean_width']:.3g}"
    return f"{name:<44}{words}{shares}{width:>10}"


def calibrate(
    probe: Probe,
    *,
    tables: int = 5000,
    seed: int = 0,
    bank_runs: int = FEWEST_RUNS,
    store: str | Store | None = None,
    workers: int | None = None,
    data_root: str | None = None,
    device: str | None = None,
    plugins: Sequence[str] = (),
    progress: bool = True,
) -> Calibration:
    """Judge tables with planted truths, and count how often the verdicts are wrong.

    Every claim, in every scenario of the probe, is judged on `tables` Gaussian tables and on as many of real runs: a
    bank of runs that are equal but for the seed, relabeled, resampled, and shifted to the planted truth. A row
    holds if the exact 99.9 % interval of each rate of false verdicts, and of the A/A test's rejections, reaches down
    to 5 %, and that of the coverage up to 95 %.

    Parameters
    ----------
    probe : Probe
        Judged as ``probe.with_every_claim()``.
    tables : int
        Per scenario and kind.
    seed : int
        Of the tables; the bank's runs have seeds of their own.
    bank_runs : int
        At least 300, or 0 for Gaussian tables alone.
    store : path or Store, optional
        Keeps the bank's records, so that an interrupted run goes on; memory if None.
    workers : int, optional
        Processes; as many as there are cores, if None. Changes no number.
    data_root, device, plugins
        As for `Probe.run`.
    progress : bool
        Show progress bars.

    Returns
    -------
    Calibration

    Raises
    ------
    InputError
        If a number is out of its range, or a run of the bank diverged.
    """
    from mlptheory.base.plugins import load_plugins
    from mlptheory.trials import describe_environment

    require_integer("tables", tables, 1)
    require_integer("seed", seed, 0)
    require_integer("bank_runs", bank_runs, 0)
    if 0 < bank_runs < FEWEST_RUNS:
        raise InputError(f"bank_runs = {bank_runs}: expected at least {FEWEST_RUNS}, or 0 for Gaussian tables alone")
    if workers is not None:
        require_integer("workers", workers, 1)
    load_plugins(plugins)
    judged = probe.with_every_claim()
    bank, bank_digest = None, None
    if bank_runs:
        bank, bank_digest = run_bank(
            judged,
            bank_runs,
            store=store,
            workers=workers,
            data_root=data_root,
            device=device,
            plugins=plugins,
            progress=progress,
        )
    kinds = ("simulated", "bank") if bank_runs else ("simulated",)
    places = [(kind, scenario) for kind in kinds for scenario in judged.scenarios()]
    began = time.perf_counter()
    rows = _rows(judged, places, tables, bank, seed, workers or _cores(), plugins, progress)
    return Calibration(
        design={
            "probe": judged.name,
            "title": judged.title,
            "settings": judged.settings(),
            "claims": [to_plain(claim) for claim in judged.claims()],
            "scenarios": [to_plain(scenario) for scenario in judged.scenarios()],
            "tables": tables,
            "seed": seed,
            "level": LEVEL,
            "confidence": CONFIDENCE,
            "bank": None if bank_digest is None else {"runs": bank_runs, "digest": bank_digest},
        },
        rows=tuple(rows),
        bank=bank,
        environment=describe_environment(),
        seconds=time.perf_counter() - began,
    )


def _rows(
    probe: Probe,
    places: Sequence[tuple[str, Scenario]],
    tables: int,
    bank: pd.DataFrame | None,
    seed: int,
    workers: int,
    plugins: Sequence[str],
    progress: bool,
) -> list[dict[str, Any]]:
    from tqdm.auto import tqdm

    claims = probe.claims()
    rows: list[dict[str, Any]] = []
    seen: dict[str, list[Outcome]] = {claim.id: [] for claim in claims}
    judged = judge_tables(probe, places, tables, bank=bank, seed=seed, workers=workers, plugins=plugins)
    with tqdm(total=len(places) * tables, disable=not progress, desc="tables", dynamic_ncols=True) as bar:
        for place, outcomes in judged:
            for by_claim in outcomes:
                for claim in claims:
                    seen[claim.id].append(by_claim[claim.id])
            bar.update(len(outcomes))
            if len(seen[claims[0].id]) < tables:
                continue
            kind, scenario = places[place]
            head = {"kind": kind, "scenario": scenario.name}
            rows += [head | _row(calibrate_claim(claim, seen[claim.id], LEVEL, CONFIDENCE)) for claim in claims]
            together = family_errors(claims, seen, CONFIDENCE)
            rows += [] if together is None else [head | _family_row(together)]
            seen = {claim.id: [] for claim in claims}
    return [{name: row.get(name) for name, _ in COLUMNS} for row in rows]


def _row(found: ClaimCalibration) -> dict[str, Any]:
    rates = {name: getattr(found, name) for name in _RATES if name != "false_any"}
    plain = ("claim", "truth", "tables", "supported", "contradicted", "inconclusive", "mean_width", "mean_level")
    return {
        **{name: getattr(found, name) for name in plain},
        **_shares(rates),
        "intervals": 0 if found.coverage is None else found.coverage.n,
        "holds": found.holds,
    }


def _family_row(found: Proportion) -> dict[str, Any]:
    return {
        "claim": FAMILY,
        "tables": found.n,
        **_shares({"false_any": found}),
        "holds": reaches_down_to(found, 1 - LEVEL),
    }


def _shares(rates: Mapping[str, Proportion | None]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name, rate in rates.items():
        values = (None, None, None) if rate is None else (rate.share, rate.low, rate.high)
        found |= dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
    return found


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
