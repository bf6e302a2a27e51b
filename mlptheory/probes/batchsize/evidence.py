"""From a table to what stands behind each claim: an estimate over blocks, and what forbids a verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlptheory.probes.batchsize import claims as named
from mlptheory.probes.batchsize.arms import NOISE_SEEDS, NOISE_SIZES, middle
from mlptheory.probes.batchsize.cells import Cells
from mlptheory.probes.batchsize.design import TUNED
from mlptheory.probes.batchsize.tuning import Cell, Choice, edges
from mlptheory.stats import (
    Estimate,
    bonferroni_level,
    lack_of_fit,
    linear_trend_coefficients,
    mean_estimate,
    mean_interval,
    smallest_of,
)

if TYPE_CHECKING:
    from mlptheory.probes.batchsize.design import BatchSize


@dataclass(frozen=True)
class Evidence:
    """What stands behind one claim.

    Attributes
    ----------
    estimate : Estimate or None
        None where fewer than two blocks are whole.
    n : int
        Whole blocks.
    forced : str or None
        Why the verdict is inconclusive whatever the interval.
    note : str
        What a reader should know beside it.
    """

    estimate: Estimate | None
    n: int
    forced: str | None = None
    note: str = ""


def gather(probe: BatchSize, cells: Cells, chosen: dict[Cell, Choice], claim: str) -> Evidence:
    """Return the evidence for a claim of the design, by its name."""
    for policy in probe.plain_policies:
        if claim == named.rule_claim(policy):
            return _better(probe, cells, policy, None)
    if claim == named.TUNING:
        return _better(probe, cells, TUNED, _edge(probe, chosen, TUNED))
    known = {
        named.EVERY_LENGTH: _at_every_length,
        named.GROWS: _grows,
        named.CNN: _opposite_to_cnn,
        named.SHARPNESS: _sharpness,
        named.EXAMPLES: _examples,
        named.A_A: _a_a,
        named.LEAK: _leak,
        named.NOISE_SCALE: _noise_scale,
    }
    return known[claim](probe, cells, chosen)


def _better(probe: BatchSize, cells: Cells, policy: str, edge: str | None) -> Evidence:
    by_length = cells.changes("mlp", policy)
    accuracy = _over_lengths(probe, cells, policy)
    estimate, n = _mean(by_length.mean(axis=0))
    forced = _divergence(cells, "run", "mlp", policy) or edge or _not_monotone(probe, {"over all lengths": accuracy})
    return Evidence(estimate, n, forced, f"{_best(probe, accuracy, by_length)} {_fit(probe, accuracy)}".strip())


def _at_every_length(probe: BatchSize, cells: Cells, chosen: dict[Cell, Choice]) -> Evidence:
    policy = probe.lr_policies[0]
    by_length = cells.changes("mlp", policy)
    edge = _edge(probe, chosen, policy)
    accuracies = {f"at length {length}": cells.accuracy("mlp", policy, length) for length in probe.lengths}
    forced = _divergence(cells, "run", "mlp", policy) or edge or _not_monotone(probe, accuracies)
    estimate, n = _smallest(list(by_length))
    if estimate is None:
        return Evidence(None, n, forced)
    length = probe.lengths[int(np.argmin([np.nanmean(changes) for changes in by_length]))]
    return Evidence(estimate, n, forced, f"The smallest change is that at length {length}.")


def _grows(probe: BatchSize, cells: Cells, chosen: dict[Cell, Choice]) -> Evidence:
    policy = probe.main_policy
    by_length = dict(zip(probe.lengths, cells.changes("mlp", policy), strict=True))
    estimate, n = _mean(by_length[max(probe.lengths)] - by_length[min(probe.lengths)])
    return Evidence(estimate, n, _divergence(cells, "run", "mlp", policy) or _edge(probe, chosen, policy))


def _opposite_to_cnn(probe: BatchSize, cells: Cells, chosen: dict[Cell, Choice]) -> Evidence:
    policy = probe.main_policy
    mlp, cnn = (cells.changes(arm, policy).mean(axis=0) for arm in ("mlp", "cnn"))
    edge = _edge(probe, chosen, policy, "mlp", "cnn")
    forced = _divergence(cells, "run", "mlp", policy) or _divergence(cells, "run", "cnn", policy) or edge
    estimate, n = _smallest([mlp, -cnn])
    return Evidence(estimate, n, forced, f"MLP {_plain_mean(mlp)}, CNN {_plain_mean(cnn)} percentage points.")


def _sharpness(probe: BatchSize, cells: Cells, chosen: dict[Cell, Choice]) -> Evidence:
    blocks, length = probe.curvature_seed_list, max(probe.lengths)
    values = cells.grid("sharpness_at_target", "run", "mlp", "fixed", length, blocks, probe.sizes)
    estimate, n = _mean(cells.change(np.log2(values)))
    weighted = cells.grid("norm_weighted_sharpness_at_target", "run", "mlp", "fixed", length, blocks, probe.sizes)
    beside = cells.change(np.log2(weighted))
    note = "" if np.isnan(beside).all() else f"Times the scale-invariant layers' squared norm: {_plain_mean(beside)}."
    missing = _missing(values, probe.sizes, "have no eigenvalue at the target training loss")
    return Evidence(estimate, n, _divergence(cells, "run", "mlp", "fixed") or missing, note)


def _examples(probe: BatchSize, cells: Cells, chosen: dict[Cell, Choice]) -> Evidence:
    policy = probe.main_policy
    examples = cells.of("examples_to_target", "run", "mlp", policy, max(probe.lengths))
    estimate, n = _mean(cells.change(np.log2(examples)))
    missing = _missing(examples, probe.sizes, f"did not reach {100 * probe.target_accuracy:g} % from below")
    forced = _divergence(cells, "run", "mlp", policy) or missing or _edge(probe, chosen, policy)
    return Evidence(estimate, n, forced)


def _a_a(probe: BatchSize, cells: Cells, chosen: dict[Cell, Choice]) -> Evidence:
    estimate, n = _mean(cells.change(cells.accuracy("mlp", "fixed", min(probe.lengths), role="a-a")))
    return Evidence(estimate, n, _divergence(cells, "a-a", "mlp", "fixed"))


def _leak(probe: BatchSize, cells: Cells, chosen: dict[Cell, Choice]) -> Evidence:
    where = ("shuffled", "mlp", "fixed", min(probe.lengths), probe.seed_list, (middle(probe),))
    above = 100 * (cells.grid("test_accuracy", *where) - cells.grid("chance_accuracy", *where))[:, 0]
    estimate, n = _mean(above)
    return Evidence(estimate, n, _divergence(cells, "shuffled", "mlp", "fixed"))


def _noise_scale(probe: BatchSize, cells: Cells, chosen: dict[Cell, Choice]) -> Evidence:
    x = np.log2(NOISE_SIZES)
    excess = cells.grid("excess_loss", "noise-scale", "", "fixed", 1, tuple(range(NOISE_SEEDS)), NOISE_SIZES)
    slopes = np.log2(excess) @ linear_trend_coefficients(x) / np.ptp(x)
    estimate, n = _mean(1 + slopes)
    return Evidence(estimate, n, _divergence(cells, "noise-scale", "", "fixed"))


def _edge(probe: BatchSize, chosen: dict[Cell, Choice], policy: str, *arms: str) -> str | None:
    return edges(probe, chosen, arms or ("mlp",)) if policy == TUNED else None


def _mean(values: np.ndarray) -> tuple[Estimate | None, int]:
    whole = values[~np.isnan(values)]
    return (mean_estimate(whole) if len(whole) > 1 else None), len(whole)


def _smallest(parts: list[np.ndarray]) -> tuple[Estimate | None, int]:
    estimates = [_mean(part) for part in parts]
    n = min(count for _, count in estimates)
    return (smallest_of([estimate for estimate, _ in estimates]) if n > 1 else None), n


def _over_lengths(probe: BatchSize, cells: Cells, policy: str) -> np.ndarray:
    return np.mean([cells.accuracy("mlp", policy, length) for length in probe.lengths], axis=0)


def _plain_mean(values: np.ndarray) -> str:
    return "unknown" if np.isnan(values).all() else f"{np.nanmean(values):+.2f}"


def _best(probe: BatchSize, accuracy: np.ndarray, by_length: np.ndarray) -> str:
    """Say what a mean over lengths hides: the change at each, and where the best batch size lies."""
    whole = accuracy[~np.isnan(accuracy).any(axis=1)]
    if not len(whole):
        return ""
    best = f"Highest mean accuracy at batch size {probe.sizes[int(whole.mean(axis=0).argmax())]}."
    if len(probe.lengths) < 2:
        return best
    seen = [f"{_plain_mean(changes)} at {length}" for length, changes in zip(probe.lengths, by_length, strict=True)]
    return f"{best} Change by length: {', '.join(seen)}."


def _fit(probe: BatchSize, accuracy: np.ndarray) -> str:
    """Say whether a line over log2 batch size fits, where there is a third batch size to tell."""
    whole = accuracy[~np.isnan(accuracy).any(axis=1)]
    if len(probe.sizes) < 3 or len(whole) < 2:
        return ""
    test = lack_of_fit(whole, np.log2(probe.sizes))
    return "" if math.isnan(test.p) else f"Lack of fit of the line: p = {test.p:.2g}."


def _not_monotone(probe: BatchSize, accuracies: dict[str, np.ndarray]) -> str | None:
    """Say why a rising line does not support a claim: a smaller batch beats the largest by more than δ.

    Looked for in the mean over lengths or, for the claim about every length, at each. The level is Bonferroni's over
    all that is compared, so that a response that truly rises is stopped in at most 2.5 % of studies. A claim that the
    line already contradicts needs no such guard.
    """
    coefficients = linear_trend_coefficients(np.log2(probe.sizes))
    level = bonferroni_level((len(probe.sizes) - 1) * len(accuracies))
    beating = []
    for where, accuracy in accuracies.items():
        changes = accuracy @ coefficients
        if np.isnan(changes).all() or np.nanmean(changes) <= probe.margin:
            continue
        for index, size in enumerate(probe.sizes[:-1]):
            leads = accuracy[:, index] - accuracy[:, -1]
            leads = leads[~np.isnan(leads)]
            lead = mean_interval(leads, level) if len(leads) > 1 else None
            if lead is not None and lead.low > probe.margin:
                beating.append((lead.estimate, where, size, lead))
    if not beating:
        return None
    _, where, size, lead = max(beating, key=lambda each: each[0])
    return (
        f"Not monotone: {where}, batch size {size} beats the largest by {lead.estimate:.3g} percentage points "
        f"[{lead.low:.3g}, {lead.high:.3g}], so a line does not describe the effect."
    )


def _missing(values: np.ndarray, sizes: tuple[int, ...], what: str) -> str | None:
    lacking = np.isnan(values)
    if not lacking.any():
        return None
    where = ", ".join(str(size) for size, column in zip(sizes, lacking.T, strict=True) if column.any())
    return f"{int(lacking.sum())} of {lacking.size} runs {what} (batch size {where}), so the rest are selected."


def _divergence(cells: Cells, role: str, arm: str, policy: str) -> str | None:
    bad, total, sizes = cells.diverged(role, arm, policy)
    if not bad:
        return None
    where = ", ".join(str(size) for size in sizes)
    return f"{bad} of {total} runs diverged (batch size {where}), so means over the rest are selected."
