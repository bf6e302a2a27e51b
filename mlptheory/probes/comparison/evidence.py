"""From a table to what stands behind each contrast, and to the verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlptheory.probes.comparison.cells import Cells
from mlptheory.probes.evidence import Evidence, blocks_lacking, judge_together, mean_of, runs_diverged
from mlptheory.stats import Verdict

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.comparison.design import Comparison, Contrast


def judge(probe: Comparison, table: pd.DataFrame) -> tuple[Verdict, ...]:
    """Return the verdicts; a pure function of the table."""
    cells = Cells(probe, table)
    return judge_together(probe.claims(), [gather(cells, contrast) for contrast in probe.contrasts()])


def gather(cells: Cells, contrast: Contrast) -> Evidence:
    """Return the evidence for a contrast, with the means of its arms."""
    values = cells.contrast(contrast)
    estimate, n = mean_of(values)
    arms = list(contrast.weights)
    means = ", ".join(f"{arm} {_mean(contrast.scale * cells.outcome(arm, contrast.outcome))}" for arm in arms)
    forced = runs_diverged(cells.diverged(arms)) or blocks_lacking(n, len(values))
    return Evidence(estimate, n, forced, f"Means: {means}.")


def _mean(values: np.ndarray) -> str:
    return "unknown" if np.isnan(values).all() else f"{np.nanmean(values):.4g}"
