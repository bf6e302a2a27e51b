"""The effects beside the verdicts', for the reader: each with its own 95 % t interval, corrected for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mlptheory.probes.effects import mean_row
from mlptheory.probes.permutation.cells import FLOOR, Cells
from mlptheory.probes.permutation.design import AFTER, AUGMENTED, BEFORE, PERMUTED, PLAIN

if TYPE_CHECKING:
    from mlptheory.probes.permutation.design import Permutation

COLUMNS = ("arm", "images", "model", "optimizer", "quantity", "mean", "low", "high", "n", "runs")
CONTRASTS = {
    "fall by permutation, no augmentation (points)": (PLAIN, PERMUTED),
    "fall by permutation after augmentation (points)": (AUGMENTED, AFTER),
    "fall by permutation before augmentation (points)": (AUGMENTED, BEFORE),
    "permuted after less before augmentation (points)": (AFTER, BEFORE),
    "gain by augmentation (points)": (AUGMENTED, PLAIN),
    "gain by augmentation of permuted images (points)": (BEFORE, PERMUTED),
}


def effects(probe: Permutation, table: pd.DataFrame) -> pd.DataFrame:
    """Return means over blocks, differences between treatments, deviations and sign flips, a row each.

    Where an outcome is missing in some runs, the rest are a selection: the row has their mean, and no interval.
    """
    cells = Cells(probe, table)
    rows = [*_accuracies(probe, cells), *_deviations(cells), *_flips(probe, cells)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _accuracies(probe: Permutation, cells: Cells) -> Iterator[dict[str, Any]]:
    for arm, model in probe.models.items():
        treatments = probe.treatments(arm)
        for images in treatments:
            values = cells.accuracy(arm, images)
            yield _row(arm, images, model, probe.optimizer, "test accuracy (%)", values)
        for quantity, (first, second) in CONTRASTS.items():
            if first in treatments and second in treatments:
                difference = cells.accuracy(arm, first) - cells.accuracy(arm, second)
                yield _row(arm, "", model, probe.optimizer, quantity, difference)
    falls = [cells.accuracy(arm, PLAIN) - cells.accuracy(arm, PERMUTED) for arm in ("baseline", "mlp")]
    yield _row("", "", "", probe.optimizer, "baseline's fall less the MLP's (points)", falls[0] - falls[1])


def _deviations(cells: Cells) -> Iterator[dict[str, Any]]:
    for model, optimizer in cells.exact():
        for quantity in ("weight", "logit"):
            for which in ("permuted", "wrong"):
                values = cells.lockstep(model, optimizer, f"{which}_{quantity}_deviation")
                named = "" if which == "permuted" else ", wrong permutation"
                text = f"largest deviation of a {quantity}{named} (log10, from {FLOOR:g})"
                yield _row("mlp", "both", model, optimizer, text, np.log10(np.maximum(values, FLOOR)))


def _flips(probe: Permutation, cells: Cells) -> Iterator[dict[str, Any]]:
    kinds = {
        "float64": ("exact", "permuted"),
        "float64, wrong permutation": ("exact", "wrong"),
        "float32, step by step": ("one-step", "permuted"),
    }
    for model in probe.exact_models:
        for text, (role, which) in kinds.items():
            flips = cells.lockstep(model, "lion", f"{which}_sign_flips", role)
            updates = cells.lockstep(model, "lion", "sign_updates", role)
            yield _row(
                "mlp", "both", model, "lion", f"updates of another sign, {text} (per million)", 1e6 * flips / updates
            )


def _row(arm: str, images: str, model: str, optimizer: str, quantity: str, values: np.ndarray) -> dict[str, Any]:
    return {
        "arm": arm,
        "images": images,
        "model": model,
        "optimizer": optimizer,
        "quantity": quantity,
        **mean_row(values),
    }
