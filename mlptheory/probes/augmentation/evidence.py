"""From a table to what stands behind each claim, and to the verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from mlptheory.probes.augmentation import claims as named
from mlptheory.probes.augmentation.cells import Cells, Kind
from mlptheory.probes.augmentation.design import NONE
from mlptheory.probes.augmentation.matched import Matched, matched_difference
from mlptheory.probes.augmentation.tuning import Cell, choose, edges
from mlptheory.probes.evidence import Evidence, blocks_lacking, judge_together, mean_of, plain_mean, smallest_mean_of
from mlptheory.probes.tuning import Choice
from mlptheory.stats import Verdict

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.augmentation.design import Augmentation


def judge(probe: Augmentation, table: pd.DataFrame) -> tuple[Verdict, ...]:
    """Return the verdicts; a pure function of the table."""
    claims, cells, chosen = probe.claims(), Cells(probe, table), choose(table)
    return judge_together(claims, [gather(probe, cells, chosen, claim.id) for claim in claims])


def gather(probe: Augmentation, cells: Cells, chosen: dict[Cell, Choice], claim: str) -> Evidence:
    """Return the evidence for a claim of the design, by its name."""
    known: dict[str, Callable[[Augmentation, Cells], Evidence]] = {
        named.LIFTS: _lifts,
        named.OVER_CNN: _over_cnn,
        named.OVER_CNN_ODDS: _over_cnn_in_log_odds,
        named.WORTH: _worth,
        named.INVARIANCE: _invariance,
        named.FILTERS: _filters,
        named.SPATIAL: _spatial,
        named.OVER_NOISE: _over_noise,
        named.TEACH: _teach,
        named.NULL: _null,
        named.LEAK: _leak,
    }
    found = known[claim](probe, cells)
    forced = (
        cells.diverged(_kinds(probe, claim))
        or edges(probe, chosen, named.arms_behind(probe, claim))
        or found.forced
        or blocks_lacking(found.n, len(probe.seed_list))
    )
    return Evidence(found.estimate, found.n, forced, found.note)


def match(probe: Augmentation, cells: Cells) -> Matched | str:
    """Return the log of the invariance error with augmentation less without, where both are as accurate."""
    error = f"{named.invariance_to(probe)}_error_logits"
    arms = (probe.full, NONE)
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = [np.log(cells.curve(arm, error)) for arm in arms]
    # A net that is exactly invariant has no logarithm.
    finite = [np.where(np.isfinite(values), values, np.nan) for values in errors]
    return matched_difference(tuple(cells.curve(arm) for arm in arms), tuple(finite))


def _lifts(probe: Augmentation, cells: Cells) -> Evidence:
    estimate, n = mean_of(cells.lift(probe.full))
    note = f"From {np.nanmean(cells.accuracy(NONE)):.1f} %." if n else ""
    paper = "The paper's 12 to 18 points on CIFAR-10 compare 100 epochs without with 1000 and 5000 epochs with it."
    return Evidence(estimate, n, None, f"{note} {paper}".strip())


def _over_cnn(probe: Augmentation, cells: Cells) -> Evidence:
    mlp, cnn = cells.lift(probe.full), cells.lift(probe.full, learner="cnn")
    estimate, n = mean_of(mlp - cnn)
    return Evidence(estimate, n, None, f"MLP {plain_mean(mlp)}, CNN {plain_mean(cnn)}.")


def _over_cnn_in_log_odds(probe: Augmentation, cells: Cells) -> Evidence:
    mlp, cnn = (
        cells.log_odds(probe.full, learner=learner) - cells.log_odds(NONE, learner=learner)
        for learner in ("mlp", "cnn")
    )
    estimate, n = mean_of(mlp - cnn)
    return Evidence(estimate, n, None, f"MLP {plain_mean(mlp)}, CNN {plain_mean(cnn)}.")


def _worth(probe: Augmentation, cells: Cells) -> Evidence:
    augmented, plain = 100 * cells.curve(probe.full), 100 * cells.curve(NONE)
    leads = list((augmented[:, :-1] - plain[:, 1:]).T)
    estimate, n = smallest_mean_of(leads)
    seen = ", ".join(f"{plain_mean(lead)} at {size}" for lead, size in zip(leads, probe.ordered_sizes, strict=False))
    return Evidence(estimate, n, None, f"By size: {seen}.")


def _invariance(probe: Augmentation, cells: Cells) -> Evidence:
    found = match(probe, cells)
    if isinstance(found, str):
        return Evidence(None, int((~np.isnan(cells.lift(probe.full))).sum()), found)
    estimate, n = mean_of(found.differences)
    missing = int(np.isnan(found.differences).sum())
    forced = f"{missing} blocks have no logarithm of the error, so the rest are selected." if missing else None
    at_largest = [100 * cells.of(arm, f"{named.invariance_to(probe)}_error_logits") for arm in (NONE, probe.full)]
    note = f"At an accuracy of {100 * found.accuracy:.1f} %; at {probe.largest} examples the error is "
    return Evidence(
        estimate, n, forced, note + " % without and ".join(f"{np.nanmean(v):.1f}" for v in at_largest) + " % with."
    )


def _filters(probe: Augmentation, cells: Cells) -> Evidence:
    augmented, plain = (100 * cells.of(arm, "change_local_share") for arm in (probe.full, NONE))
    shuffled = 100 * cells.of(probe.full, "change_local_share_shuffled")
    estimate, n = mean_of(augmented - plain)
    note = f"{plain_mean(plain)} without, {plain_mean(augmented)} with, {plain_mean(shuffled)} with pixels shuffled."
    return Evidence(estimate, n, None, note.replace("+", ""))


def _spatial(probe: Augmentation, cells: Cells) -> Evidence:
    return _lead(cells, probe.orthogonal, probe.conjugated)


def _over_noise(probe: Augmentation, cells: Cells) -> Evidence:
    return _lead(cells, probe.spatial, probe.noise)


def _lead(cells: Cells, arm: str, other: str) -> Evidence:
    estimate, n = mean_of(cells.accuracy(arm) - cells.accuracy(other))
    lift = cells.lift(arm)
    note = f"Lift by {arm} {plain_mean(lift)}, by {other} {plain_mean(cells.lift(other))}."
    if not np.isnan(lift).all() and np.nanmean(lift) <= 0:
        note += f" {arm.capitalize()} does not lift, so that losses are compared."
    return Evidence(estimate, n, None, note)


def _teach(probe: Augmentation, cells: Cells) -> Evidence:
    kind = ("shuffled", "mlp", probe.spatial, probe.largest)
    trained, initial, pixels = (
        100 * cells.column(kind, f"neighbor_accuracy{which}") for which in ("", "_initial", "_pixels")
    )
    estimate, n = smallest_mean_of([trained - initial, trained - pixels])
    fit = 100 * cells.column(kind, "train_accuracy")
    note = (
        f"Over features at initialization {plain_mean(trained - initial)}, over raw pixels "
        f"{plain_mean(trained - pixels)}; training accuracy {plain_mean(fit).replace('+', '')} %."
    )
    return Evidence(estimate, n, None, note)


def _null(probe: Augmentation, cells: Cells) -> Evidence:
    permuted = 100 * cells.column(("exact-null", "mlp", probe.full, probe.largest))
    estimate, n = mean_of(permuted - cells.accuracy(probe.full))
    return Evidence(estimate, n)


def _leak(probe: Augmentation, cells: Cells) -> Evidence:
    kind = ("shuffled", "mlp", NONE, probe.largest)
    estimate, n = mean_of(100 * (cells.column(kind) - cells.column(kind, "chance_accuracy")))
    return Evidence(estimate, n)


def _kinds(probe: Augmentation, claim: str) -> Iterator[Kind]:
    """Yield the runs behind a claim."""
    if claim in (named.TEACH, named.LEAK):
        yield "shuffled", "mlp", probe.spatial if claim == named.TEACH else NONE, probe.largest
        return
    if claim == named.NULL:
        yield "exact-null", "mlp", probe.full, probe.largest
        yield "run", "mlp", probe.full, probe.largest
        return
    sizes = probe.ordered_sizes if claim in (named.WORTH, named.INVARIANCE) else (probe.largest,)
    for learner, arm in named.arms_behind(probe, claim):
        for size in sizes:
            yield "run", learner, arm, size
