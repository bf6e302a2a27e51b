"""From a table to what stands behind each claim, and to the verdicts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mlptheory.probes.evidence import Evidence, blocks_lacking, judge_together, mean_of, not_monotone, plain_mean
from mlptheory.probes.locality import claims as named
from mlptheory.probes.locality.cells import Cells
from mlptheory.probes.locality.design import ARMS, CONTROL_DATASETS
from mlptheory.stats import Verdict

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from mlptheory.probes.locality.design import Locality


def judge(probe: Locality, table: pd.DataFrame) -> tuple[Verdict, ...]:
    """Return the verdicts; a pure function of the table."""
    claims, cells = probe.claims(), Cells(probe, table)
    return judge_together(claims, [gather(probe, cells, claim.id) for claim in claims])


def gather(probe: Locality, cells: Cells, claim: str) -> Evidence:
    """Return the evidence for a claim of the design, by its name."""
    known = {
        named.AUGMENTATION: _augmentation,
        named.DATA: _data,
        named.ONLY: _only,
        named.INITIALIZATION: _initialization,
        named.GAUSSIAN: _gaussian,
        named.SHUFFLED: _shuffled,
        named.POSITIVE: _positive,
        named.NULL: _null,
    }
    found = known[claim](probe, cells)
    return replace(found, forced=found.forced or blocks_lacking(found.n, len(probe.seed_list)))


def _augmentation(probe: Locality, cells: Cells) -> Evidence:
    augmented, plain = (cells.local(cells.center(arm), probe.of) for arm in ARMS)
    estimate, n = mean_of(augmented - plain)
    note = f"Augmented {plain_mean(augmented)}, plain {plain_mean(plain)}."
    return Evidence(estimate, n, cells.diverged(map(cells.center, ARMS)), note)


def _data(probe: Locality, cells: Cells) -> Evidence:
    augmented = cells.over_sizes("augmented")
    estimate, n = mean_of(cells.change(augmented))
    forced = cells.diverged(cells.sizes("augmented")) or _bent(probe, "with augmentation", augmented)
    return Evidence(estimate, n, forced)


def _only(probe: Locality, cells: Cells) -> Evidence:
    augmented, plain = (cells.over_sizes(arm) for arm in ARMS)
    estimate, n = mean_of(cells.change(augmented - plain))
    places = (*cells.sizes("augmented"), *cells.sizes("plain"))
    forced = cells.diverged(places) or _bent(probe, "augmented less plain", augmented - plain)
    note = f"Change augmented {plain_mean(cells.change(augmented))}, plain {plain_mean(cells.change(plain))}."
    return Evidence(estimate, n, forced, note)


def _bent(probe: Locality, where: str, values: np.ndarray) -> str | None:
    unit = named.UNITS[probe.statistic]
    return not_monotone({where: values}, probe.sizes_sorted, probe.delta, factor="training-set size", unit=unit)


def _initialization(probe: Locality, cells: Cells) -> Evidence:
    place = cells.center("augmented")
    return _lead(cells, cells.local(place, "weights") - cells.local(place, "initial"))


def _gaussian(probe: Locality, cells: Cells) -> Evidence:
    place = cells.center("augmented")
    return _lead(cells, cells.local(place, probe.of) - cells.local(place, probe.of, "gaussian"))


def _shuffled(probe: Locality, cells: Cells) -> Evidence:
    place = cells.center("augmented")
    return _lead(cells, cells.local(place, probe.of) - cells.local(place, probe.of, "shuffled"))


def _null(probe: Locality, cells: Cells) -> Evidence:
    place = cells.center("augmented")
    return _lead(cells, cells.local(place, "initial") - cells.local(place, "initial", "shuffled"))


def _lead(cells: Cells, lead: np.ndarray) -> Evidence:
    """Return the evidence for a lead within the center's augmented arm."""
    estimate, n = mean_of(lead)
    return Evidence(estimate, n, cells.diverged([cells.center("augmented")]))


def _positive(probe: Locality, cells: Cells) -> Evidence:
    edges, gaussian = (cells.local(cells.control(name), probe.of) for name in CONTROL_DATASETS)
    estimate, n = mean_of(edges - gaussian)
    note = f"Edges {plain_mean(edges)}, Gaussian {plain_mean(gaussian)}."
    return Evidence(estimate, n, cells.diverged(map(cells.control, CONTROL_DATASETS)), note)
