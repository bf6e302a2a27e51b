"""The effects beside the verdicts', for the reader: each with its own 95 % interval, corrected for nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mlptheory.probes.augmentation.cells import Cells
from mlptheory.probes.augmentation.design import NONE
from mlptheory.probes.augmentation.matched import worth_in_examples
from mlptheory.probes.effects import mean_row

if TYPE_CHECKING:
    from mlptheory.probes.augmentation.design import Augmentation

COLUMNS = ("learner", "arm", "size", "quantity", "mean", "low", "high", "n", "runs")
SHARES = {
    "flip_error_logits": "invariance error of the logits, flips (%)",
    "shift_error_logits": "invariance error of the logits, shifts (%)",
    "flip_error_features": "invariance error of the features, flips (%)",
    "shift_error_features": "invariance error of the features, shifts (%)",
    "neighbor_accuracy": "nearest neighbor by features (%)",
}
FILTERS = {
    "change_local_share": "local share of W - W0 (%)",
    "change_local_share_gaussian": "local share of W - W0, Gaussian surrogates (%)",
    "change_local_share_shuffled": "local share of W - W0, pixels shuffled (%)",
    "initial_local_share": "local share of W0 (%)",
}
AFFINITIES = ("flip", "crop", "flip_crop", "orthogonal")
NEIGHBORS = {"": "trained features", "_initial": "features at initialization", "_pixels": "raw pixels"}


def effects(probe: Augmentation, table: pd.DataFrame) -> pd.DataFrame:
    """Return means over seeds, a row each, and what augmentation is worth in examples.

    Where an outcome is missing in some runs, the rest are a selection: the row has their mean, and no interval.
    """
    cells = Cells(probe, table)
    rows = [*_of_arms(probe, cells), *_of_sizes(probe, cells), *_of_shuffled_labels(probe, cells)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _of_arms(probe: Augmentation, cells: Cells) -> Iterator[dict[str, Any]]:
    for learner in probe.models:
        for arm in probe.arms_of(learner):
            for size in probe.ordered_sizes if arm in (NONE, probe.full) else (probe.largest,):
                yield from _of_arm(cells, learner, arm, size)
        yield from _affinities(cells, probe, learner)


def _of_arm(cells: Cells, learner: str, arm: str, size: int) -> Iterator[dict[str, Any]]:
    def of(outcome: str, which: str = arm) -> np.ndarray:
        return cells.of(which, outcome, learner=learner, size=size)

    where = (learner, arm, size)
    yield _row(*where, "test accuracy (%)", 100 * of("test_accuracy"))
    yield _row(*where, "gap of training and test accuracy (points)", of("gap"))
    if arm != NONE:
        yield _row(
            *where, "lift over no augmentation (points)", 100 * (of("test_accuracy") - of("test_accuracy", NONE))
        )
        yield _row(*where, "diversity: training loss over that without", of("train_loss") / of("train_loss", NONE))
    for outcome, quantity in SHARES.items() if learner == "cnn" else (SHARES | FILTERS).items():
        yield _row(*where, quantity, 100 * of(outcome))


def _affinities(cells: Cells, probe: Augmentation, learner: str) -> Iterator[dict[str, Any]]:
    """Yield by how much nets without augmentation do worse on augmented test images (Gontijo-Lopes et al. 2021)."""
    clean = cells.accuracy(NONE, learner=learner)
    for name in AFFINITIES:
        under = 100 * cells.of(NONE, f"accuracy_under_{name}", learner=learner)
        if not np.isnan(under).all():
            arm = probe.orthogonal if name == "orthogonal" else name.replace("_", "+")
            yield _row(
                learner,
                NONE,
                probe.largest,
                f"affinity: accuracy on test images under {arm} less clean (points)",
                under - clean,
            )


def _of_sizes(probe: Augmentation, cells: Cells) -> Iterator[dict[str, Any]]:
    """Yield what the next size gives without augmentation, and how many examples augmentation is worth."""
    sizes = probe.ordered_sizes
    for learner in probe.models:
        plain, augmented = (cells.curve(arm, learner=learner) for arm in (NONE, probe.full))
        for index, size in enumerate(sizes):
            if size != probe.largest:
                gain = 100 * (plain[:, index + 1] - plain[:, index])
                yield _row(learner, NONE, size, f"gain by real data, up to {sizes[index + 1]} examples (points)", gain)
            worth = worth_in_examples(plain, augmented[:, index], sizes, size)
            # A block is whole if the net with augmentation and all of the reference are.
            row = mean_row(augmented[:, index] + plain.sum(axis=1))
            ends = (worth.low, worth.high) if row["n"] == row["runs"] else (math.nan, math.nan)
            found = {"mean": worth.value, "low": ends[0], "high": ends[1]}
            quantity = "worth in examples, v(n); no bound where the reference ends"
            yield {"learner": learner, "arm": probe.full, "size": size, "quantity": quantity, **row, **found}


def _of_shuffled_labels(probe: Augmentation, cells: Cells) -> Iterator[dict[str, Any]]:
    for arm in (probe.spatial, NONE) if probe.control else (probe.spatial,):
        kind = ("shuffled", "mlp", arm, probe.largest)
        for which, by in NEIGHBORS.items():
            values = 100 * cells.column(kind, f"neighbor_accuracy{which}")
            yield _row("mlp", arm, probe.largest, f"shuffled labels: nearest neighbor by {by} (%)", values)
        fit = 100 * cells.column(kind, "train_accuracy")
        yield _row("mlp", arm, probe.largest, "shuffled labels: training accuracy (%)", fit)


def _row(learner: str, arm: str, size: int, quantity: str, values: np.ndarray) -> dict[str, Any]:
    return {"learner": learner, "arm": arm, "size": size, "quantity": quantity, **mean_row(values)}
