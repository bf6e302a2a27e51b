"""The effects beside the verdicts', for the reader: each with its own 95 % t interval, corrected for nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mlptheory.probes.batchsize.cells import Cells
from mlptheory.probes.batchsize.design import TUNED
from mlptheory.probes.batchsize.tuning import choose
from mlptheory.probes.effects import mean_row
from mlptheory.stats import critical_batch_size, lack_of_fit

if TYPE_CHECKING:
    from mlptheory.probes.batchsize.design import BatchSize

CURVATURE = (
    "sharpness_at_target",
    "norm_weighted_sharpness_at_target",
    "hessian_top_eigenvalue",
    "noise_scale",
)
COLUMNS = ("arm", "policy", "length", "quantity", "mean", "low", "high", "n", "runs")


def effects(probe: BatchSize, table: pd.DataFrame) -> pd.DataFrame:
    """Return means, changes, planned contrasts, curvature and steps of a table, a row each.

    Where an outcome is missing in some runs, the rest are a selection: the row has their mean, and no interval.
    """
    cells = Cells(probe, table)
    rows = [
        row
        for arm in probe.models
        for policy in probe.lr_policies
        for length in probe.lengths
        for row in (*_accuracy(probe, cells, arm, policy, length), *_others(probe, cells, arm, policy, length))
    ]
    rows += [
        {"arm": arm, "policy": TUNED, "length": length, "quantity": f"tuned learning rate at batch size {size}"}
        | {"mean": choice.lr, "low": math.nan, "high": math.nan}
        | {"n": probe.tuning_seeds, "runs": probe.tuning_seeds}
        for (arm, length, size), choice in choose(probe, table).items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _accuracy(probe: BatchSize, cells: Cells, arm: str, policy: str, length: int) -> Iterator[dict[str, Any]]:
    values = cells.accuracy(arm, policy, length)
    groups = {
        f"test accuracy at batch size {size} (%)": column for size, column in zip(probe.sizes, values.T, strict=True)
    }
    groups["change, smallest to largest batch (points)"] = cells.change(values)
    for smaller, larger, change in zip(probe.sizes, probe.sizes[1:], np.diff(values, axis=1).T, strict=False):
        groups[f"batch size {larger} less {smaller} (points)"] = change
    for quantity, group in groups.items():
        yield _row(arm, policy, length, quantity, group)
    whole = values[~np.isnan(values).any(axis=1)]
    if len(probe.sizes) > 2 and len(whole) > 1:
        p = lack_of_fit(whole, np.log2(probe.sizes)).p
        yield _row(arm, policy, length, "lack of fit of the line (p)", np.array([p])) | {
            "n": len(whole),
            "runs": len(values),
        }


def _others(probe: BatchSize, cells: Cells, arm: str, policy: str, length: int) -> Iterator[dict[str, Any]]:
    measured = {
        "sharpness_at_target": "largest Hessian eigenvalue at equal training loss, batch size {}",
        "norm_weighted_sharpness_at_target": "the same times the squared norm of scale-invariant layers, batch size {}",
        "hessian_top_eigenvalue": "largest Hessian eigenvalue after the last step, batch size {}",
        "noise_scale": "gradient noise scale after the last step (examples), batch size {}",
        "steps_to_target": "steps to the target accuracy, batch size {}",
        "examples_to_target": "examples to the target accuracy, batch size {}",
    }
    for outcome, text in measured.items():
        values = cells.of(outcome, "run", arm, policy, length)
        asked = values[: len(probe.curvature_seed_list)] if outcome in CURVATURE else values
        for size, column in zip(probe.sizes, asked.T, strict=True):
            if not np.isnan(column).all():
                yield _row(arm, policy, length, text.format(size), column)
    examples = cells.of("examples_to_target", "run", arm, policy, length)
    if len(probe.sizes) > 2 and not np.isnan(examples).all():
        yield _critical(probe, arm, policy, length, examples)


def _critical(probe: BatchSize, arm: str, policy: str, length: int, examples: np.ndarray) -> dict[str, Any]:
    """Return the row of the critical batch size; a seed whose fit runs out of its range has none."""
    whole = examples[~np.isnan(examples).any(axis=1)]
    fitted = [critical_batch_size(probe.sizes, row / np.array(probe.sizes)) for row in whole]
    logs = np.array([math.log2(size) if 0 < size < math.inf else math.nan for size in fitted])
    missing = np.full(len(examples) - len(whole), math.nan)
    row = _row(arm, policy, length, "critical batch size, geometric mean (examples)", np.concatenate([logs, missing]))
    return row | {end: 2.0 ** row[end] for end in ("mean", "low", "high")}


def _row(arm: str, policy: str, length: int, quantity: str, values: np.ndarray) -> dict[str, Any]:
    return {"arm": arm, "policy": policy, "length": length, "quantity": quantity, **mean_row(values)}
