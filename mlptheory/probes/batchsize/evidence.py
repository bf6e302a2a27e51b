"""From a table to what stands behind each claim: an estimate over blocks, and what forbids a verdict."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mlptheory.probes.batchsize import claims as named
from mlptheory.probes.batchsize.arms import NOISE_SEEDS, NOISE_SIZES, middle
from mlptheory.probes.batchsize.cells import Cells
from mlptheory.probes.batchsize.design import TUNED
from mlptheory.probes.batchsize.tuning import Cell, Choice, edges
from mlptheory.probes.evidence import Evidence, mean_of, not_monotone, plain_mean, smallest_mean_of
from mlptheory.stats import lack_of_fit, linear_trend_coefficients

if TYPE_CHECKING:
    from mlptheory.probes.batchsize.design import BatchSize


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
    estimate, n = mean_of(by_length.mean(axis=0))
    forced = (
        _divergence(cells, "run", "mlp", policy)
        or edge
        or not_monotone({"over all lengths": accuracy}, probe.sizes, probe.margin)
    )
    return Evidence(estimate, n, forced, f"{_best(probe, accuracy, by_length)} {_fit(probe, accuracy)}".strip())


def _at_every_length(probe: BatchSize, cells: Cells, chosen: dict[Cell, Choice]) -> Evidence:
    policy = probe.lr_policies[0]
    by_length = cells.changes("mlp", policy)
    edge = _edge(probe, chosen, policy)
    accuracies = {f"at length {length}": cells.accuracy("mlp", policy, length) for length in probe.lengths}
    forced = _divergence(cells, "run", "mlp", policy) or edge or not_monotone(accuracies, probe.sizes, probe.margin)
    estimate, n = smallest_mean_of(list(by_length))
    if estimate is None:
        return Evidence(None, n, forced)
    length = probe.lengths[int(np.argmin([np.nanmean(changes) for changes in by_length]))]
    return Evidence(estimate, n, forced, f"The smallest change is that at length {length}.")


def _grows(probe: BatchSize, cells: Cells, chosen: dict[Cell, Choice]) -> Evidence:
    policy = probe.main_policy
    by_length = dict(zip(probe.lengths, cells.changes("mlp", policy), strict=True))
    estimate, n = mean_of(by_length[max(probe.lengths)] - by_length[min(probe.lengths)])
    return Evidence(estimate, n, _divergence(cells, "run", "mlp", policy) or _edge(probe, chosen, policy))


def _opposite_to_cnn(probe: BatchSize, cells: Cells, chosen: dict[Cell, Choice]) -> Evidence:
    policy = probe.main_policy
    mlp, cnn = (cells.changes(arm, policy).mean(axis=0) for arm in ("mlp", "cnn"))
    edge = _edge(probe, chosen, policy, "mlp", "cnn")
    forced = _divergence(cells, "run", "mlp", policy) or _divergence(cells, "run", "cnn", policy) or edge
    estimate, n = smallest_mean_of([mlp, -cnn])
    return Evidence(estimate, n, forced, f"MLP {plain_mean(mlp)}, CNN {plain_mean(cnn)} percentage points.")


def _sharpness(probe: BatchSize, cells: Cells, chosen: dict[Cell, Choice]) -> Evidence:
    blocks, length = probe.curvature_seed_list, max(probe.lengths)
    values = cells.grid("sharpness_at_target", "run", "mlp", "fixed", length, blocks, probe.sizes)
    estimate, n = mean_of(cells.change(np.log2(values)))
    weighted = cells.grid("norm_weighted_sharpness_at_target", "run", "mlp", "fixed", length, blocks, probe.sizes)
    beside = cells.change(np.log2(weighted))
    note = "" if np.isnan(beside).all() else f"Times the scale-invariant layers' squared norm: {plain_mean(beside)}."
    missing = _missing(values, probe.sizes, "have no eigenvalue at the target training loss")
    return Evidence(estimate, n, _divergence(cells, "run", "mlp", "fixed") or missing, note)


def _examples(probe: BatchSize, cells: Cells, chosen: dict[Cell, Choice]) -> Evidence:
    policy = probe.main_policy
    examples = cells.of("examples_to_target", "run", "mlp", policy, max(probe.lengths))
    estimate, n = mean_of(cells.change(np.log2(examples)))
    missing = _missing(examples, probe.sizes, f"did not reach {100 * probe.target_accuracy:g} % from below")
    forced = _divergence(cells, "run", "mlp", policy) or missing or _edge(probe, chosen, policy)
    return Evidence(estimate, n, forced)


def _a_a(probe: BatchSize, cells: Cells, chosen: dict[Cell, Choice]) -> Evidence:
    estimate, n = mean_of(cells.change(cells.accuracy("mlp", "fixed", min(probe.lengths), role="a-a")))
    return Evidence(estimate, n, _divergence(cells, "a-a", "mlp", "fixed"))


def _leak(probe: BatchSize, cells: Cells, chosen: dict[Cell, Choice]) -> Evidence:
    where = ("shuffled", "mlp", "fixed", min(probe.lengths), probe.seed_list, (middle(probe),))
    above = 100 * (cells.grid("test_accuracy", *where) - cells.grid("chance_accuracy", *where))[:, 0]
    estimate, n = mean_of(above)
    return Evidence(estimate, n, _divergence(cells, "shuffled", "mlp", "fixed"))


def _noise_scale(probe: BatchSize, cells: Cells, chosen: dict[Cell, Choice]) -> Evidence:
    x = np.log2(NOISE_SIZES)
    excess = cells.grid("excess_loss", "noise-scale", "", "fixed", 1, tuple(range(NOISE_SEEDS)), NOISE_SIZES)
    slopes = np.log2(excess) @ linear_trend_coefficients(x) / np.ptp(x)
    estimate, n = mean_of(1 + slopes)
    return Evidence(estimate, n, _divergence(cells, "noise-scale", "", "fixed"))


def _edge(probe: BatchSize, chosen: dict[Cell, Choice], policy: str, *arms: str) -> str | None:
    return edges(probe, chosen, arms or ("mlp",)) if policy == TUNED else None


def _over_lengths(probe: BatchSize, cells: Cells, policy: str) -> np.ndarray:
    return np.mean([cells.accuracy("mlp", policy, length) for length in probe.lengths], axis=0)


def _best(probe: BatchSize, accuracy: np.ndarray, by_length: np.ndarray) -> str:
    """Say what a mean over lengths hides: the change at each, and where the best batch size lies."""
    whole = accuracy[~np.isnan(accuracy).any(axis=1)]
    if not len(whole):
        return ""
    best = f"Highest mean accuracy at batch size {probe.sizes[int(whole.mean(axis=0).argmax())]}."
    if len(probe.lengths) < 2:
        return best
    seen = [f"{plain_mean(changes)} at {length}" for length, changes in zip(probe.lengths, by_length, strict=True)]
    return f"{best} Change by length: {', '.join(seen)}."


def _fit(probe: BatchSize, accuracy: np.ndarray) -> str:
    """Say whether a line over log2 batch size fits, where there is a third batch size to tell."""
    whole = accuracy[~np.isnan(accuracy).any(axis=1)]
    if len(probe.sizes) < 3 or len(whole) < 2:
        return ""
    test = lack_of_fit(whole, np.log2(probe.sizes))
    return "" if math.isnan(test.p) else f"Lack of fit of the line: p = {test.p:.2g}."


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
