"""The figure style: legible in a 3.25 inch column, safe for color-blind readers, without pyplot."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from mlptheory.base import invalid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#1b1f24"

# After Okabe & Ito 2008, darkened or lightened until each has a contrast of at least 3:1 on white and on #15181c.
COLORS = ("#2a7fbf", "#d1600a", "#12946f", "#b5609a", "#9a7b0a", "#7a7f87")

_COLUMN_WIDTH_INCHES = {1: 3.25, 2: 6.75}


def _parameters() -> dict[str, Any]:
    from cycler import cycler

    return {
        "figure.constrained_layout.use": True,
        "figure.facecolor": "white",
        "font.family": ["DejaVu Sans"],
        "mathtext.fontset": "dejavusans",
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.labelsize": 8,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "legend.fontsize": 7,
        "legend.title_fontsize": 7,
        "figure.titlesize": 9,
        "axes.titlelocation": "left",
        "text.color": INK,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.facecolor": "none",
        "axes.prop_cycle": cycler(color=COLORS),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": INK,
        "grid.alpha": 0.14,
        "grid.linewidth": 0.5,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.minor.width": 0.4,
        "ytick.minor.width": 0.4,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "xtick.minor.size": 1.5,
        "ytick.minor.size": 1.5,
        "lines.linewidth": 1.3,
        "lines.markersize": 4,
        "errorbar.capsize": 2,
        "legend.frameon": False,
        "axes.formatter.use_mathtext": True,
        "savefig.dpi": 300,
        "figure.dpi": 150,
    }


def figure_style() -> AbstractContextManager[None]:
    """Return a context in which Matplotlib draws in the house style; what was set before comes back after it.

    It changes neither the backend nor the global parameters outside the ``with`` block, and imports no pyplot.
    Fonts are 7 to 9 pt at the size of print; colors keep a contrast of 3:1 on white and on the report's dark page.

    Examples
    --------
    >>> with figure_style():
    ...     figure = new_figure()
    ...     axes = figure.subplots()
    >>> float(figure.get_figwidth())
    3.25
    """
    import matplotlib

    return matplotlib.rc_context(_parameters())


def new_figure(columns: int = 1, height: float | None = None) -> Figure:
    """Return an empty figure of a paper's column width, in the house style.

    Axes take the style that holds when they are made: make them inside ``with figure_style():``.

    Parameters
    ----------
    columns : int
        1 (3.25 inches) or 2 (6.75 inches).
    height : float, optional
        In inches; 2.3 for one column and 2.6 for two where it is not given.

    Returns
    -------
    matplotlib.figure.Figure
        Without axes, and unknown to pyplot.

    Raises
    ------
    InputError
        If `columns` is neither 1 nor 2, or `height` is not positive.

    Examples
    --------
    >>> figure = new_figure(columns=2, height=3.0)
    >>> [float(inches) for inches in figure.get_size_inches()]
    [6.75, 3.0]
    """
    from matplotlib.figure import Figure

    if columns not in _COLUMN_WIDTH_INCHES:
        raise invalid("columns", columns, "1 or 2")
    if height is None:
        height = 2.3 if columns == 1 else 2.6
    if not height > 0:
        raise invalid("height", height, "a positive number of inches")
    with figure_style():
        return Figure(figsize=(_COLUMN_WIDTH_INCHES[columns], height))
