import xml.etree.ElementTree as ET

import pytest

from mlptheory.reports.interval_plot import WIDTH, interval_svg


def parts(svg):
    root = ET.fromstring(svg)
    return {
        name: [element for element in root.iter() if element.get("class") == name]
        for name in ("claimed", "zero", "margin", "interval", "effect")
    }


def x_of(element, name="x1"):
    return float(element.get(name))


def scale_of(drawn, verdict):
    """Recover the affine scale from the two ends of the interval, independently of how it was chosen."""
    line = drawn["interval"][0]
    slope = (x_of(line, "x2") - x_of(line, "x1")) / (verdict["high"] - verdict["low"])
    return lambda value: x_of(line, "x1") + slope * (value - verdict["low"])


@pytest.mark.parametrize(("effect", "low", "high"), [(1.25, 0.63, 1.87), (-3.4, -4.1, -2.8), (0.0, -0.2, 0.2)])
@pytest.mark.parametrize("margin", [0.5, 0.1])
@pytest.mark.parametrize("direction", ["greater", "less", "equivalent"])
def test_all_marks_lie_on_one_scale_inside_the_picture(verdict, effect, low, high, margin, direction):
    verdict |= {"effect": effect, "low": low, "high": high, "margin": margin, "direction": direction}
    drawn = parts(interval_svg(verdict))
    at = scale_of(drawn, verdict)
    assert x_of(drawn["effect"][0], "cx") == pytest.approx(at(effect), abs=0.4)
    assert x_of(drawn["zero"][0]) == pytest.approx(at(0), abs=1.5)
    assert sorted(map(x_of, drawn["margin"])) == pytest.approx([at(-margin), at(margin)], abs=1.5)
    start = x_of(drawn["claimed"][0], "x")
    end = start + x_of(drawn["claimed"][0], "width")
    expected = {"greater": (at(margin), WIDTH), "less": (0, at(-margin)), "equivalent": (at(-margin), at(margin))}
    assert (start, end) == pytest.approx(expected[direction], abs=1.5)
    everything = [x_of(line, name) for line in drawn["interval"] for name in ("x1", "x2")]
    assert 0 <= min(everything) <= max(everything) <= WIDTH


def test_labels_do_not_run_into_each_other(verdict):
    verdict |= {"margin": 0.001}
    texts = [element.text for element in ET.fromstring(interval_svg(verdict)).iter() if element.tag == "text"]
    assert texts == ["0"]


def test_no_margin_draws_one_line_at_zero_only(verdict):
    verdict |= {"margin": 0.0}
    drawn = parts(interval_svg(verdict))
    assert len(drawn["zero"]) == 1
    assert not drawn["margin"]


def test_a_point_at_zero_does_not_divide_by_zero(verdict):
    verdict |= {"effect": 0.0, "low": 0.0, "high": 0.0, "margin": 0.0}
    assert parts(interval_svg(verdict))["effect"]


@pytest.mark.parametrize("missing", ["effect", "low", "high"])
def test_without_an_interval_there_is_no_picture(verdict, missing):
    verdict[missing] = None
    assert interval_svg(verdict) is None


def test_the_label_speaks_and_is_escaped(verdict):
    verdict["unit"] = '"><script>'
    svg = interval_svg(verdict)
    assert "<script>" not in svg
    assert "+1.25" in ET.fromstring(svg).get("aria-label")
