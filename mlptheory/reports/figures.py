"""Figures to files and to SVG: the same figure gives the same bytes, and never a date."""

from __future__ import annotations

import os
import re
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from mlptheory.base import invalid
from mlptheory.base.files import sha256, write_atomically
from mlptheory.reports.style import INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NO_SVG_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_NO_PDF_METADATA = {"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None}


def save_figure(figure: Figure, stem: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write ``stem.pdf`` (fonts embedded as TrueType) and ``stem.png`` (300 dpi), each whole or not at all.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        It keeps its canvas and size.
    stem : path-like
        Without suffix; its folder must exist.

    Returns
    -------
    tuple of two Paths
        The PDF and the PNG.

    Raises
    ------
    InputError
        If the folder does not exist.

    Examples
    --------
    >>> import tempfile
    >>> from mlptheory.reports import new_figure
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pdf, png = save_figure(new_figure(), Path(folder) / "accuracy")
    ...     pdf.name, png.name
    ('accuracy.pdf', 'accuracy.png')
    """
    import matplotlib

    stem = Path(stem)
    if not stem.parent.is_dir():
        raise invalid("stem", str(stem), "a path in a folder that exists")
    pdf, png = stem.with_name(stem.name + ".pdf"), stem.with_name(stem.name + ".png")
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        write_atomically(pdf, _rendered(figure, "pdf", metadata=_NO_PDF_METADATA))
    write_atomically(png, _rendered(figure, "png", dpi=300, metadata={"Software": None}))
    return pdf, png


def figure_svg(figure: Figure) -> Markup:
    """Return a figure as an SVG element to put into a page.

    The background is transparent and what is drawn in the style's ink (or in black) takes the page's text color,
    so that a figure reads on a light and on a dark page; letters are outlines, so that no font is needed; ids carry
    a hash of the figure, so that several figures can share a page.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Best drawn inside :func:`mlptheory.reports.figure_style`.

    Returns
    -------
    markupsafe.Markup
        A str; :func:`mlptheory.reports.render_html` accepts figures from here only, since an SVG can hold scripts.

    Examples
    --------
    >>> from mlptheory.reports import figure_style, new_figure
    >>> with figure_style():
    ...     figure = new_figure()
    ...     lines = figure.subplots().plot([1, 2], [3, 4])
    >>> str(figure_svg(figure))[:4]
    '<svg'
    """
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "mlptheory", "svg.fonttype": "path"}):
        svg = _rendered(figure, "svg", metadata=_NO_SVG_METADATA, transparent=True).decode()
    svg = svg[svg.index("<svg") :]
    # Inside a page, a stylesheet in one figure would style the whole page.
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = svg.replace("<svg ", '<svg style="stroke-linejoin: round; stroke-linecap: butt; fill: currentColor" ', 1)
    svg = re.sub(rf"{INK}|#000000", "currentColor", svg)
    prefix = f"f{sha256(svg)[:8]}-"
    svg = re.sub(r'(?<=\sid=")', prefix, svg)
    svg = re.sub(r'(?<=href="#)|(?<=url\(#)', prefix, svg)
    return Markup(svg.strip() + "\n")


def _rendered(figure: Figure, file_format: str, **options: object) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format=file_format, **options)
    return buffer.getvalue()
