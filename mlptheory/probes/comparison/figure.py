"""The figure: for every outcome, each arm's runs and each contrast with its margin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from mlptheory.probes.comparison.cells import Cells
from mlptheory.probes.comparison.claims import in_words
from mlptheory.probes.drawing import draw_runs
from mlptheory.reports import figure_style, new_figure

if TYPE_CHECKING:
    from mlptheory.probes.comparison.design import Comparison, Contrast
    from mlptheory.probes.result import Result

BAND = "0.85"
_TILTED = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}


def draw(probe: Comparison, result: Result) -> Figure:
    """Draw a row of two panels for every outcome and unit that contrasts are about."""
    cells = Cells(probe, result.table)
    rows: dict[tuple[str, float, str], list[Contrast]] = {}
    for contrast in probe.contrasts():
        rows.setdefault((contrast.outcome, contrast.scale, contrast.unit), []).append(contrast)
    with figure_style():
        figure = new_figure(columns=2, height=2.8 * len(rows))
        panels = figure.subplots(len(rows), 2, squeeze=False)
        for ((outcome, scale, unit), contrasts), (left, right) in zip(rows.items(), panels, strict=True):
            for place, arm in enumerate(probe.arms()):
                draw_runs(left, place, scale * cells.outcome(arm, outcome), f"C{place}")
            left.set_xticks(range(len(probe.arms())), list(probe.arms()), **_TILTED)
            left.set_ylabel(f"{outcome.replace('_', ' ')} ({unit})")
            left.set_title("arms")
            for place, contrast in enumerate(contrasts):
                band = (place - 0.4, place + 0.4)
                right.fill_between(band, -contrast.margin, contrast.margin, color=BAND, linewidth=0, zorder=0)
                draw_runs(right, place, cells.contrast(contrast), "0.2")
            right.axhline(0, color="0.4", linewidth=0.8, zorder=1)
            right.set_xticks(range(len(contrasts)), [in_words(contrast) for contrast in contrasts], **_TILTED)
            right.set_xlim(-0.6, len(contrasts) - 0.4)
            right.set_ylabel(f"contrast ({unit})")
            right.set_title("contrasts")
    return figure
