"""Errors of the argument reader come out on one line in our own words, however the terminal is framed."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass, field
from typing import Literal

import pytest

from mlptheory.arguments import read_arguments, tyro_flags
from mlptheory.base.configuration import require_number
from mlptheory.base.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Inner:
    """A group.

    Attributes
    ----------
    lr : float
        Peak learning rate.
    clip_norm : float or None
        Clipping.
    """

    lr: float = 0.1
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        require_number("inner.lr", self.lr, 0, low_open=True)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings.

    Attributes
    ----------
    inner : Inner
        A group.
    sizes : tuple of int
        Sizes.
    optimizer : {"lion", "adamw"}
        How weights move.
    control : bool
        Whether to.
    """

    inner: Inner = field(default_factory=Inner)
    sizes: tuple[int, ...] = (1, 2)
    optimizer: Literal["lion", "adamw"] = "lion"
    control: bool = True


class Terminal(io.StringIO):
    """A stdout of a given encoding that is, or is not, a terminal."""

    def __init__(self, encoding: str, is_terminal: bool) -> None:
        super().__init__()
        self._encoding, self._is_terminal = encoding, is_terminal

    @property
    def encoding(self) -> str:
        return self._encoding

    def isatty(self) -> bool:
        return self._is_terminal


def read(*args: str) -> Settings:
    return read_arguments(Settings, args, prog="settings", description="Settings.")


def message(*args: str) -> str:
    with pytest.raises(InputError) as caught:
        read(*args)
    text = str(caught.value)
    assert "\n" not in text
    assert not set("╭╮╰╯│─\x1b") & set(text), text
    assert "---" not in text and "helptext" not in text, text
    return text


@pytest.fixture(params=[("utf-8", False), ("utf-8", True), ("latin-1", False)], ids=["pipe", "terminal", "latin-1"])
def stdout(request, monkeypatch):
    """Tyro frames errors by stdout: lines of Unicode, colors on a terminal, dashes elsewhere."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stdout", Terminal(*request.param))


def test_arguments_reach_every_level():
    read_back = read("--inner.lr", "0.5", "--sizes", "3", "4", "5", "--optimizer", "adamw", "--no-control")
    assert read_back == Settings(inner=Inner(lr=0.5), sizes=(3, 4, 5), optimizer="adamw", control=False)


def test_defaults_come_from_the_given_instance():
    held = Settings(inner=Inner(lr=0.25), sizes=(7,))
    found = read_arguments(Settings, ["--optimizer", "adamw"], prog="settings", description="", default=held)
    assert found == Settings(inner=Inner(lr=0.25), sizes=(7,), optimizer="adamw")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--optimizer", "adam"], "--optimizer = 'adam': unknown; did you mean 'adamw'? (allowed: lion, adamw)"),
        (["--optimizer=adam"], "--optimizer = 'adam': unknown; did you mean 'adamw'? (allowed: lion, adamw)"),
        (["--inner.lr", "fast"], "--inner.lr = 'fast': expected FLOAT"),
        (["--inner.clip-norm", "none", "--control"], "--inner.clip-norm = 'none': expected None or FLOAT"),
        (["--inner.clip_norm=x"], "--inner.clip-norm = 'x': expected None or FLOAT"),
        (["--sizes", "1", "two", "3"], "--sizes = '1 two 3': expected [INT [INT ...]]"),
        (["--sizes", "1.5"], "--sizes = '1.5': expected [INT [INT ...]]"),
        (["--inner.lr", "-1"], "inner.lr = -1.0: expected a number greater than 0"),
        (["--sises", "1"], "unknown option '--sises'; did you mean --sizes? (--help lists them all)"),
        (["--lr", "1"], "unknown option '--lr'; did you mean --inner.lr? (--help lists them all)"),
        (["--clip-norn", "1"], "unknown option '--clip-norn'; did you mean --inner.clip-norm? (--help lists them all)"),
        (["--zzzzzzzzzz"], "unknown option '--zzzzzzzzzz' (--help lists them all)"),
        (["stray"], "unknown option 'stray' (--help lists them all)"),
    ],
)
def test_each_error_names_the_option_its_value_and_what_was_allowed(stdout, args, said):
    assert message(*args) == said


def test_an_option_without_its_value_is_named(stdout):
    assert "'--optimizer'" in message("--optimizer")


def test_a_long_value_is_shown_whole(stdout):
    value = "x" * 200
    assert f"--optimizer = {value!r}: unknown" in message("--optimizer", value)
    assert f"--inner.lr = {value!r}: expected FLOAT" == message("--inner.lr", value)


def test_help_goes_to_stdout_and_exits_with_zero(capsys):
    with pytest.raises(SystemExit) as left:
        read("--help")
    shown = capsys.readouterr()
    assert left.value.code == 0
    assert "--inner.lr" in shown.out and "Peak learning rate." in shown.out
    assert shown.err == ""


def test_flags_are_all_of_them():
    assert set(tyro_flags(Settings)) == {
        "--help",
        "--inner.lr",
        "--inner.clip-norm",
        "--sizes",
        "--optimizer",
        "--control",
        "--no-control",
    }
