import subprocess
import sys

import matplotlib
import pytest
from matplotlib.text import Text

from mlptheory.base import InputError
from mlptheory.reports import figure_style, new_figure
from mlptheory.reports.style import COLORS, INK


def luminance(color):
    def linear(value):
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(int(color[i : i + 2], 16) / 255) for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_the_twin_knows_black_on_white():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("color", COLORS)
def test_colors_show_on_light_and_dark_pages(color):
    assert contrast(color, "#ffffff") >= 3
    assert contrast(color, "#15181c") >= 3


def test_ink_reads_on_paper():
    assert contrast(INK, "#ffffff") >= 7


def test_letters_are_at_least_seven_points_in_a_column():
    with figure_style():
        figure = new_figure()
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], label="line")
        axes.set(title="title", xlabel="x", ylabel="y")
        axes.legend(title="legend")
        figure.suptitle("all")
        figure.draw_without_rendering()
        sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text()]
    assert figure.get_figwidth() == 3.25
    assert len(sizes) > 10
    assert min(sizes) >= 7


def test_the_style_leaves_nothing_behind():
    before = dict(matplotlib.rcParams)
    with figure_style():
        assert matplotlib.rcParams["font.size"] == 8
        new_figure(columns=2)
    assert dict(matplotlib.rcParams) == before


def test_no_pyplot_and_no_backend_is_chosen():
    program = (
        "import sys, matplotlib\n"
        "from mlptheory.reports import figure_style, new_figure, figure_svg\n"
        "with figure_style():\n"
        "    figure = new_figure(); figure.subplots().plot([1, 2])\n"
        "figure_svg(figure)\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert matplotlib.rcParams._get_backend_or_none() is None\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={"PATH": "", "HOME": "/nonexistent"})


@pytest.mark.parametrize("options", [{"columns": 3}, {"columns": 0}, {"height": 0}, {"height": -1.0}])
def test_bad_sizes_are_refused(options):
    (name, value), *_ = options.items()
    with pytest.raises(InputError, match=rf"{name} = {value}"):
        new_figure(**options)
