"""The pages build without a warning, stay on the reader's machine, and name everything that is public."""

from __future__ import annotations

import html.parser
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mlptheory
from mlptheory import measures

REPOSITORY = Path(__file__).resolve().parents[1]
ROOMS = sorted(set(mlptheory.__all__) - {"__version__"})
LOADING_ATTRIBUTES = {"src", "srcset", "data", "poster"}


@pytest.fixture(scope="session")
def pages(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("html")
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "--quiet", "-b", "html"]
    done = subprocess.run(
        [*build, "-d", str(out / ".doctrees"), str(REPOSITORY / "docs"), str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


class Loads(html.parser.HTMLParser):
    """Collects addresses that a browser fetches by itself, not those a reader may follow."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self.addresses += [values[name] for name in LOADING_ATTRIBUTES & values.keys()]
        if tag == "link" and values.get("rel") not in ("canonical", "license"):
            self.addresses.append(values.get("href", ""))


def outside(addresses: list[str]) -> list[str]:
    return [address for address in addresses if re.match(r"(https?:)?//", address)]


def fetched_by(text: str) -> list[str]:
    loads = Loads()
    loads.feed(text)
    return outside(loads.addresses)


def test_pages_load_nothing_from_outside(pages):
    found = {page.name: fetched_by(page.read_text(encoding="utf-8")) for page in pages.rglob("*.html")}
    assert len(found) > 10
    assert {name: addresses for name, addresses in found.items() if addresses} == {}


def test_styles_load_nothing_from_outside(pages):
    styles = {style.name: style.read_text(encoding="utf-8", errors="replace") for style in pages.rglob("*.css")}
    assert styles
    for name, text in styles.items():
        addresses = re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s;]+)""", text)
        assert outside(addresses) == [], name


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://example.org/x.js"></script>',
        '<link rel="stylesheet" href="//example.org/x.css">',
        '<link rel="preload" as="font" href="http://example.org/x.woff2">',
        '<img src="https://example.org/x.png">',
    ],
)
def test_an_outside_address_would_be_seen(text):
    assert len(fetched_by(text)) == 1
    assert fetched_by('<a href="https://example.org">a link is no load</a><script src="_static/x.js"></script>') == []


@pytest.mark.parametrize("room", ROOMS)
def test_reference_names_everything_public(pages, room):
    page = (pages / "api" / f"{room}.html").read_text(encoding="utf-8")
    documented = set(re.findall(r'id="([\w.]+)"', page))
    facade = importlib.import_module(f"mlptheory.{room}")
    public = {
        name for name in facade.__all__ if getattr(getattr(facade, name), "__module__", "").startswith("mlptheory")
    }
    assert public
    assert {name for name in public if f"mlptheory.{room}.{name}" not in documented} == set()


def test_formulas_are_rendered_from_local_files(pages):
    page = (pages / "probes" / "batchsize.html").read_text(encoding="utf-8")
    scripts = [script for script in re.findall(r'<script[^>]*src="([^"?]+)', page) if "mathjax" in script.lower()]
    assert scripts
    assert all((pages / "probes" / script).resolve().is_file() for script in scripts)


def test_picture_of_the_house_is_on_its_page(pages):
    page = (pages / "architecture.html").read_text(encoding="utf-8")
    (picture,) = re.findall(r'<img[^>]*src="([^"]*house\.svg)"', page)
    assert (pages / picture).is_file()


PUBLIC_MEASURES = {name for name in measures.__all__ if inspect.isfunction(getattr(measures, name))}


def test_every_public_measure_is_in_the_table_of_twins():
    text = (REPOSITORY / "docs" / "twins.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    errors = {row[1].strip(" `"): float(row[4]) for row in rows}
    assert errors.keys() >= PUBLIC_MEASURES
    assert {name for name, error in errors.items() if error > 1e-6} <= {"plan_ntk"}


def test_every_public_measure_is_on_the_page_of_measures(pages):
    page = (pages / "measures.html").read_text(encoding="utf-8")
    assert {name for name in PUBLIC_MEASURES if f">{name}<" not in page} == set()
