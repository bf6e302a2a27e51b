import itertools
import re
from html.parser import HTMLParser
from importlib import resources

import pytest
from markupsafe import Markup

from mlptheory.base import InputError
from mlptheory.reports import bibtex, figure_style, figure_svg, new_figure, render_html, verdict_html

VOID = {"meta", "br", "hr", "img", "link", "input"}
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


# Their values are looked up, not shown as text of the user's own.
KEPT = {"verdict", "direction", "role", "id"}


class Page(HTMLParser):
    """Records what a browser would see, and fails on tags that do not nest."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "svg"} & set(self.open):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def tags(self, name):
        return [attributes for tag, attributes in self.elements if tag == name]


def poisoned(value):
    """Put hostile text wherever the payload holds text that only gets shown."""
    if isinstance(value, dict):
        return {name: item if name in KEPT else poisoned(item) for name, item in value.items()}
    if isinstance(value, list):
        return [poisoned(item) for item in value]
    return value + EVIL if isinstance(value, str) else value


@pytest.fixture
def svg():
    with figure_style():
        figure = new_figure()
        figure.subplots().plot([1, 2, 3])
    return figure_svg(figure)


@pytest.fixture
def page(payload, svg):
    return Page(render_html(payload, {"Scores by factor.": svg}, bibtex(["mlptheory", "Bachmann2023"])))


def test_the_page_says_everything(page):
    for part in (
        "A toy study",
        "Does the score rise?",
        "1 supported",
        "4 runs",
        "1 diverged",
        "The score rises with the factor.",
        "+1.25 points",
        "95 % interval [+0.63, +1.87]",
        "lies above +0.5",
        "Nobody 1999, Fig. 1",
        "toy data",
        "mean difference over seeds",
        "95 % paired t interval",
        "effect > +0.5",
        "Scores by factor.",
        "11.0 ± 1.4",
        "abc123",
        "epochs, learning rate",
        "float32",
        "optimizer · lr",
        "0.9, 0.99",
        "peak memory (GiB)",
        "All 4 runs",
        "b1",
        "torch · version",
        "taken (s)",
        "@inproceedings{Bachmann2023,",
    ):
        assert part in page.text, part
    assert "None" not in page.text
    assert "Undefined" not in page.text


def test_nothing_is_fetched_and_nothing_runs(payload, svg):
    html = render_html(payload, {"f": svg}, bibtex(["mlptheory"]))
    tags = {tag for tag, _ in Page(html).elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a"}
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    addresses = {address for address in re.findall(r"https?://[^\s\"'<)]+", html)}
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "default-src 'none'" in html


def test_everything_from_users_is_escaped(payload, svg):
    html = render_html(poisoned(payload), {EVIL: svg}, EVIL, title=EVIL)
    page = Page(html)
    assert not page.tags("script")
    assert not page.tags("img")
    assert html.count("&lt;script&gt;alert(1)") > 30
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_fragment_escapes_too(payload):
    page = Page(verdict_html(poisoned(payload)))
    assert not page.tags("script")
    assert not page.tags("img")
    assert "alert(1)" in page.text


def test_names_of_settings_are_escaped(payload):
    payload["design"]["recipe"] = {EVIL: {EVIL: 1}}
    payload["environment"] = {EVIL: 2}
    payload["table"]["columns"][0]["name"] = EVIL
    assert not Page(render_html(payload, {}, "")).tags("script")


def test_it_can_be_read_aloud(page):
    assert page.tags("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert page.tags("th")
    assert all(attributes["scope"] == "col" for attributes in page.tags("th"))
    images = [attributes for _, attributes in page.elements if attributes.get("role") == "img"]
    assert len(images) == 2
    assert all(attributes["aria-label"] for attributes in images)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {attributes["aria-labelledby"] for attributes in page.tags("section")} <= set(ids)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(scheme):
    css = resources.files("mlptheory.reports").joinpath("report.css").read_text()
    block = css.split(":root {")[1 if scheme == "light" else 2].split("}")[0]
    colors = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})\b", block))
    for text in ("ink", "soft", "supported", "contradicted", "inconclusive"):
        for ground in ("page", "card", "faint"):
            assert _contrast(colors[text], colors[ground]) >= 4.5, (text, ground)


def _contrast(one, other):
    def luminance(color):
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_the_least_payload_is_a_page():
    page = Page(render_html({"design": {}, "table": {"columns": [], "rows": []}, "verdicts": []}, {}, ""))
    assert "No claims were judged." in page.text
    assert "0 runs" in page.text
    assert {attributes["aria-labelledby"] for attributes in page.tags("section")} == {"verdicts", "design"}


def test_too_few_runs_are_shown_as_such(payload):
    payload["verdicts"][0] |= {
        "effect": None, "low": None, "high": None, "level": None, "p": None, "verdict": "inconclusive", "n": 2
    }  # fmt: skip
    text = Page(render_html(payload, {}, "")).text
    assert "not estimated" in text
    assert "no interval" in text
    assert "95 % interval" not in text
    assert "Shaded" not in text


@pytest.mark.parametrize("part", ["design", "table", "verdicts"])
def test_a_missing_part_is_named(payload, part):
    del payload[part]
    with pytest.raises(InputError, match=f"'{part}' is missing"):
        render_html(payload, {}, "")


def test_only_our_own_svg_is_trusted(payload):
    with pytest.raises(InputError, match=r"figures\['f'\] = 'str'.*figure_svg"):
        render_html(payload, {"f": "<svg onload='alert(1)'/>"}, "")
    assert "<svg/>" in render_html(payload, {"f": Markup("<svg/>")}, "")


def test_the_same_payload_is_the_same_page(payload, svg):
    assert render_html(payload, {"f": svg}, "") == render_html(payload, {"f": svg}, "")


def test_the_fragment_holds_verdict_and_numbers(payload):
    page = Page(verdict_html(payload))
    for part in ("The score rises", "✓ supported", "+1.25 [+0.63, +1.87]", "points · δ = 0.5", "0.004", "toy data"):
        assert part in page.text
    assert verdict_html({"verdicts": payload["verdicts"]})


def test_the_fragment_says_each_intervals_level(payload, verdict):
    payload["verdicts"] += [
        verdict | {"low": 0.55, "high": 1.95, "level": 0.975},
        verdict | {"effect": None, "low": None, "high": None, "level": None},
    ]
    text = Page(verdict_html(payload)).text
    assert "[+0.63, +1.87] 95 % interval · points" in text
    assert "[+0.55, +1.95] 97.5 % interval · points" in text
    assert text.count("% interval") == 2


def test_controls_are_counted_by_themselves(payload, verdict):
    # A direction makes no control: equivalence can be what a paper claims.
    claims = [
        {**verdict, "direction": direction, "verdict": word}
        for direction, word in (("greater", "supported"), ("equivalent", "contradicted"))
    ]
    controls = [
        {**verdict, "claim": statement, "direction": direction, "verdict": word}
        for statement, direction, word in (
            ("Control: nothing happens.", "equivalent", "supported"),
            ("Control: something does.", "greater", "supported"),
            ("Control with a known answer: it halves.", "equivalent", "inconclusive"),
        )
    ]
    page = Page(render_html({**payload, "verdicts": [*claims, *controls]}, {}, bibtex=bibtex(["mlptheory"]), title="x"))
    assert "1 supported" in page.text and "1 contradicted" in page.text and "2 of 3 controls pass" in page.text
    assert "1 inconclusive" not in page.text
