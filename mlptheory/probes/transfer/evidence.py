"""From a table to what stands behind each claim, and to the verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlptheory.probes.evidence import (
    Evidence,
    judge_together,
    mean_of,
    not_monotone,
    plain_mean,
    smallest_mean_of,
)
from mlptheory.probes.transfer import claims as named
from mlptheory.probes.transfer.cells import Cells
from mlptheory.stats import Verdict

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.transfer.design import Transfer

BODIES, PROBES, FINETUNED = ("run", "pretraining"), ("run", "probing"), ("run", "finetuning")
SCRATCH = (("run", "scratch"), ("run", "scratch-as-finetuning"))
OF_NO_USE = {"an untrained body": "untrained", "one of shuffled source labels": "shuffled-source"}
ALL_CELLS, OVER_ARMS = (0, 1, 3), 0
"""Axes of `Cells.everything` that means are over."""


def judge(probe: Transfer, table: pd.DataFrame) -> tuple[Verdict, ...]:
    """Return the verdicts; a pure function of the table."""
    claims, cells = probe.claims(), Cells(probe, table)
    return judge_together(claims, [gather(probe, cells, claim.id) for claim in claims])


def gather(probe: Transfer, cells: Cells, claim: str) -> Evidence:
    """Return the evidence for a claim of the design, by its name."""
    known = {
        named.PRETRAINING: _helps,
        named.FEATURES: _learned,
        named.AUGMENTED_PROBE: _augmented_probe,
        named.AUGMENTED_FINETUNING: _augmented_finetuning,
        named.OVER_PROBE: _over_probe,
        named.TTA: _tta,
        named.LARGER: _larger,
        named.EVERY_LENGTH: _at_every_length,
        named.LONGER: _longer,
        named.A_A: _a_a,
        named.LEAK: _leak,
    }
    return known[claim](probe, cells)


def _helps(probe: Transfer, cells: Cells) -> Evidence:
    finetuned = cells.everything("finetuning").mean(axis=ALL_CELLS)
    leads = {stage: finetuned - cells.column("run", stage) for _, stage in SCRATCH}
    estimate, n = smallest_mean_of(list(leads.values()))
    note = (
        f"Over pretraining's optimizer {plain_mean(leads['scratch'])}, over fine-tuning's "
        f"{plain_mean(leads['scratch-as-finetuning'])}."
    )
    return Evidence(estimate, n, cells.diverged((BODIES, FINETUNED, *SCRATCH)), note)


def _learned(probe: Transfer, cells: Cells) -> Evidence:
    probed = cells.beside("run", "probing")
    leads = {what: probed - cells.beside(role, "probing") for what, role in OF_NO_USE.items()}
    estimate, n = smallest_mean_of(list(leads.values()))
    note = f"{', '.join(f'Over {what} {plain_mean(lead)}' for what, lead in leads.items())}.".replace(
        ", Over", ", over"
    )
    roles = (("untrained", "probing"), ("shuffled-source", "pretraining"), ("shuffled-source", "probing"))
    return Evidence(estimate, n, cells.diverged((BODIES, PROBES, *roles)), note)


def _augmented_probe(probe: Transfer, cells: Cells) -> Evidence:
    return _augmented(cells, PROBES)


def _augmented_finetuning(probe: Transfer, cells: Cells) -> Evidence:
    return _augmented(cells, FINETUNED)


def _augmented(cells: Cells, kind: tuple[str, str]) -> Evidence:
    augmented, plain = cells.everything(kind[1])
    estimate, n = mean_of((augmented - plain).mean(axis=(0, 2)))
    return Evidence(estimate, n, cells.diverged((BODIES, kind)))


def _over_probe(probe: Transfer, cells: Cells) -> Evidence:
    leads = cells.everything("finetuning") - cells.everything("probing")
    estimate, n = mean_of(leads.mean(axis=ALL_CELLS))
    return Evidence(estimate, n, cells.diverged((BODIES, PROBES, FINETUNED)))


def _tta(probe: Transfer, cells: Cells) -> Evidence:
    leads = cells.everything("finetuning", "tta_accuracy") - cells.everything("finetuning")
    estimate, n = mean_of(leads.mean(axis=ALL_CELLS))
    return Evidence(estimate, n, cells.diverged((BODIES, FINETUNED)))


def _larger(probe: Transfer, cells: Cells) -> Evidence:
    everything = cells.everything("probing")
    accuracy = everything.mean(axis=(0, 1))
    estimate, n = mean_of(cells.change(accuracy))
    forced = cells.diverged((BODIES, PROBES)) or not_monotone(
        {"over arms and lengths": accuracy}, probe.sizes, probe.margin
    )
    augmented, plain = cells.change(everything).mean(axis=1)
    return Evidence(estimate, n, forced, f"Augmented {plain_mean(augmented)}, plain {plain_mean(plain)}.")


def _at_every_length(probe: Transfer, cells: Cells) -> Evidence:
    by_length = dict(zip(probe.lengths, cells.everything("probing").mean(axis=OVER_ARMS), strict=True))
    changes = {length: cells.change(accuracy) for length, accuracy in by_length.items()}
    where = {f"at length {length}": accuracy for length, accuracy in by_length.items()}
    forced = cells.diverged((BODIES, PROBES)) or not_monotone(where, probe.sizes, probe.margin)
    estimate, n = smallest_mean_of(list(changes.values()))
    seen = ", ".join(f"{plain_mean(change)} at {length}" for length, change in changes.items())
    return Evidence(estimate, n, forced, f"Change by length: {seen}.")


def _longer(probe: Transfer, cells: Cells) -> Evidence:
    by_length = dict(zip(probe.lengths, cells.everything("probing").mean(axis=(0, 3)), strict=True))
    estimate, n = mean_of(by_length[max(probe.lengths)] - by_length[min(probe.lengths)])
    return Evidence(estimate, n, cells.diverged((BODIES, PROBES)))


def _a_a(probe: Transfer, cells: Cells) -> Evidence:
    augmented, plain = (
        cells.column("a-a", "probing", arm, min(probe.lengths), probe.middle) for arm in ("augmented", "plain")
    )
    estimate, n = mean_of(augmented - plain)
    return Evidence(estimate, n, cells.diverged((("a-a", "pretraining"), ("a-a", "probing"))))


def _leak(probe: Transfer, cells: Cells) -> Evidence:
    where = ("shuffled-target", "finetuning", "plain", max(probe.lengths), probe.middle)
    above: np.ndarray = cells.column(*where) - cells.column(*where, outcome="chance_accuracy")
    estimate, n = mean_of(above)
    return Evidence(estimate, n, cells.diverged((BODIES, where[:2])))
