"""The judgment: all claims of a table together, each with its evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mlptheory.probes.batchsize.cells import Cells
from mlptheory.probes.batchsize.evidence import gather
from mlptheory.probes.batchsize.tuning import choose
from mlptheory.stats import Verdict, decide_together

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.batchsize.design import BatchSize


def judge(probe: BatchSize, table: pd.DataFrame) -> tuple[Verdict, ...]:
    """Return the verdicts; a pure function of the table."""
    claims, cells, chosen = probe.claims(), Cells(probe, table), choose(probe, table)
    found = [gather(probe, cells, chosen, claim.id) for claim in claims]
    verdicts = decide_together(
        claims,
        [evidence.estimate for evidence in found],
        [evidence.n for evidence in found],
        [evidence.forced for evidence in found],
    )
    return tuple(
        replace(verdict, reason=f"{verdict.reason} {evidence.note}") if evidence.note else verdict
        for verdict, evidence in zip(verdicts, found, strict=True)
    )
