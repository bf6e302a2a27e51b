"""The judgment: all claims of a table together, each with its evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlptheory.probes.batchsize.cells import Cells
from mlptheory.probes.batchsize.evidence import gather
from mlptheory.probes.batchsize.tuning import choose
from mlptheory.probes.evidence import judge_together
from mlptheory.stats import Verdict

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.batchsize.design import BatchSize


def judge(probe: BatchSize, table: pd.DataFrame) -> tuple[Verdict, ...]:
    """Return the verdicts; a pure function of the table."""
    claims, cells, chosen = probe.claims(), Cells(probe, table), choose(probe, table)
    return judge_together(claims, [gather(probe, cells, chosen, claim.id) for claim in claims])
