"""A table's outcomes by block: of runs on images, and of runs in lockstep."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from mlptheory.probes.evidence import runs_diverged
from mlptheory.probes.permutation.design import EXACT_OPTIMIZERS

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.permutation.design import Permutation

FLOOR = 1e-16
"""Below the rounding of any number of order 1 in float64; Lion's weights do not deviate at all."""
_FACTORS = ("role", "arm", "images", "model", "optimizer", "block")
_OUTCOMES = (
    "test_accuracy",
    "chance_accuracy",
    "permuted_weight_deviation",
    "permuted_logit_deviation",
    "permuted_sign_flips",
    "wrong_weight_deviation",
    "wrong_logit_deviation",
    "wrong_sign_flips",
    "sign_updates",
)


class Cells:
    """The outcomes of a table, found by role, arm, images, model, optimizer and block.

    Parameters
    ----------
    probe : Permutation
    table : DataFrame
        With the columns that `Permutation.columns` documents; an outcome that is absent counts as missing everywhere.
    """

    def __init__(self, probe: Permutation, table: pd.DataFrame) -> None:
        self.probe = probe
        self._values = {name: table[name].to_numpy(dtype=float) for name in _OUTCOMES if name in table}
        self._diverged = table["diverged"].to_numpy(dtype=bool)
        self._places: dict[tuple[str, str, str, str, str, int], list[int]] = {}
        keys = zip(*(table[name].tolist() for name in _FACTORS), strict=True)
        for place, (role, arm, images, model, optimizer, block) in enumerate(keys):
            self._places.setdefault((role, arm, images, model, optimizer, int(block)), []).append(place)

    def accuracy(self, arm: str, images: str, role: str = "run", outcome: str = "test_accuracy") -> np.ndarray:
        """Return an accuracy in percent by block, the mean over its replicates; NaN where one is missing."""
        key = (role, arm, images, self.probe.models[arm], self.probe.optimizer)
        return 100 * self._column(key, outcome, self.probe.seed_list)

    def lockstep(self, model: str, optimizer: str, outcome: str, role: str = "exact") -> np.ndarray:
        """Return an outcome of runs in lockstep by block."""
        return self._column((role, "mlp", "both", model, optimizer), outcome, self.probe.exact_seed_list)

    def exact(self) -> list[tuple[str, str]]:
        """Return model and optimizer of every cell of exact runs."""
        return [(model, each.name) for model in self.probe.exact_models for each in EXACT_OPTIMIZERS]

    def right(self, model: str, optimizer: str) -> np.ndarray:
        """Return by block the decimal logarithm of the largest deviation of a weight or a logit, from 1e-16 on."""
        found = [self.lockstep(model, optimizer, f"permuted_{quantity}_deviation") for quantity in ("weight", "logit")]
        return np.log10(np.maximum(np.maximum(*found), FLOOR))

    def wrong(self, model: str, optimizer: str) -> np.ndarray:
        """Return by block the same of a weight under the wrong permutation."""
        return np.log10(np.maximum(self.lockstep(model, optimizer, "wrong_weight_deviation"), FLOOR))

    def flips(self, role: str, which: str = "permuted") -> tuple[float, float]:
        """Return Lion's updates of another sign, and all of them; NaN where some are missing."""
        found = [
            sum(self.lockstep(model, "lion", outcome, role).sum() for model in self.probe.exact_models)
            for outcome in (f"{which}_sign_flips", "sign_updates")
        ]
        return float(found[0]), float(found[1])

    def diverged(self, kinds: Iterable[tuple[str, str, str]]) -> str | None:
        """Say that runs of some roles, arms and images diverged; None if none did."""
        if not self._diverged.any():
            return None
        wanted = set(kinds)
        places = [place for key, found in self._places.items() if key[:3] in wanted for place in found]
        return runs_diverged(self._diverged[places])

    def unbounded(self, which: Iterable[str]) -> str | None:
        """Say that exact runs have no deviation under some permutations though none diverged; None if all have one.

        A record has no number for what is not finite: the deviation of a run that blew up beside one that did not.
        """
        outcomes = [f"{name}_{quantity}_deviation" for name in which for quantity in ("weight", "logit")]
        places = [place for key, found in self._places.items() if key[0] == "exact" for place in found]
        values = [self._values[outcome][places] for outcome in outcomes if outcome in self._values]
        if not places or not values:
            return None
        bad = int((~np.isfinite(values).all(axis=0) & ~self._diverged[places]).sum())
        return (
            f"{bad} of {len(places)} runs have a deviation that is not finite, so means are selected." if bad else None
        )

    def _column(self, key: tuple[str, str, str, str, str], outcome: str, blocks: Iterable[int]) -> np.ndarray:
        blocks = list(blocks)
        values = self._values.get(outcome)
        found = np.full(len(blocks), np.nan)
        if values is None:
            return found
        for row, block in enumerate(blocks):
            places = self._places.get((*key, block))
            if places is not None:
                found[row] = values[places].mean() if len(places) > 1 else values[places[0]]
        return found
