import io
import sys

import pytest

from mlptheory.base import InputError
from mlptheory.reports import verdict_table


@pytest.mark.parametrize("width", [60, 72, 80, 120])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_no_line_is_longer_than_the_terminal(verdict, width, encoding):
    verdict["claim"] *= 5
    verdict["reason"] = "word " * 60 + "x" * 200
    text = verdict_table([verdict, verdict], width, encoding=encoding)
    assert max(map(len, text.splitlines())) <= width
    text.encode(encoding)


def test_everything_a_reader_needs_is_there(verdict):
    text = " ".join(verdict_table([verdict], encoding="utf-8").replace("\u00a0", " ").split())
    for part in ("✓ supported", "+1.25", "[+0.63, +1.87]", "95 %", "points", "δ = 0.5", "0.004", "toy data", "Nobody"):
        assert part in text


@pytest.mark.parametrize(("kind", "mark"), [("supported", "✓"), ("contradicted", "✗"), ("inconclusive", "?")])
def test_each_verdict_is_said_in_words_and_by_a_mark(verdict, kind, mark):
    verdict["verdict"] = kind
    assert f"{mark} {kind}" in verdict_table([verdict], encoding="utf-8")


def test_without_an_interval_nothing_is_invented(verdict):
    verdict |= {"effect": None, "low": None, "high": None, "level": None, "p": None, "n": 2}
    text = verdict_table([verdict], encoding="utf-8")
    assert "none to report" in text
    assert "95 %" not in text
    assert "None" not in text
    verdict["effect"] = 0.75
    assert "+0.750 points, no interval" in verdict_table([verdict], encoding="utf-8")


def test_standard_output_decides_where_nothing_is_said(verdict, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert verdict_table([verdict]).isascii()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert "✓" in verdict_table([verdict])


def test_an_encoding_without_the_signs_falls_back_to_ascii(verdict):
    verdict["scope"] = "Ω-data ± 1"
    text = verdict_table([verdict], encoding="cp1252")
    assert text.isascii()
    assert "?-data +/- 1" in text


def test_control_characters_cannot_reach_the_terminal(verdict):
    verdict["scope"] = "bad\x1b[2Jname\nnext\r"
    text = verdict_table([verdict], encoding="utf-8")
    assert "\x1b" not in text
    assert "\r" not in text
    assert "bad [2Jname next" in text


def test_no_verdicts_says_so():
    assert verdict_table([]) == "No claims were judged."


def test_a_terminal_too_narrow_is_named(verdict):
    with pytest.raises(InputError, match="width = 40: expected at least 60"):
        verdict_table([verdict], 40)
