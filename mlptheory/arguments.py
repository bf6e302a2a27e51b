"""The command line's arguments: dataclasses read by tyro, its errors brought to one line with the nearest names."""

from __future__ import annotations

import contextlib
import difflib
import io
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from mlptheory.base.errors import InputError

_BOX = re.compile(r"[╭╮╰╯│]|─{2,}")
_RULE = re.compile(r"^\s*│\s*─{3,}")


def read_arguments(cls: Any, args: Sequence[str], *, prog: str, description: str, default: Any = None) -> Any:
    """Build a dataclass from command-line arguments.

    Parameters
    ----------
    cls : dataclass
        Its fields, and those of dataclasses within it, are the options.
    args : sequence of str
    prog : str
        The command so far, for the help page.
    description : str
        Of the help page.
    default : instance of `cls`, optional
        Where defaults come from.

    Raises
    ------
    InputError
        On one line, for an unknown option, a malformed value, or one that the dataclass refuses.
    SystemExit
        With code 0, after ``--help`` printed its page.
    """
    import tyro

    said = io.StringIO()
    options = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                cls,
                args=list(args),
                prog=prog,
                description=description,
                **options,
            )
    except SystemExit as exit_:
        if not exit_.code:
            raise
        _raise_on_one_line(exit_, said.getvalue(), tyro_flags(cls, default))


def tyro_flags(cls: Any, default: Any = None) -> list[str]:
    """Return the long options of a dataclass, for naming the nearest."""
    import tyro

    page = io.StringIO()
    options = {} if default is None else {"default": default}
    with contextlib.redirect_stdout(page), contextlib.suppress(SystemExit):
        tyro.cli(cls, args=["--help"], **options)
    return sorted(set(re.findall(r"(?<![\w-])--[a-z][\w.-]*", page.getvalue())))


def _raise_on_one_line(exit_: SystemExit, said: str, flags: list[str]) -> NoReturn:
    cause: BaseException | None = exit_
    while cause is not None:
        if isinstance(cause, InputError):
            raise InputError(str(cause)) from None
        cause = cause.__cause__ or cause.__context__
    raise InputError(_with_nearest(_first_paragraph(said), flags)) from None


def _first_paragraph(said: str) -> str:
    """Return what a box of tyro's says before its first rule, its frame and title taken off."""
    lines = said.splitlines()
    body = []
    for line in lines[1:] if lines and lines[0].startswith("╭") else lines:
        if _RULE.match(line) or line.startswith("╰") or "Argument helptext" in line:
            break
        body.append(_BOX.sub("", line).strip())
    return " ".join(part for part in body if part) or "arguments that cannot be read"


def _with_nearest(message: str, flags: list[str]) -> str:
    unknown = re.match(r"Unrecognized options: (.*)", message)
    if unknown is None:
        return message
    given = [part.split("=")[0] for part in unknown.group(1).split(", ")]
    bad = next((part for part in given if part.startswith("-")), given[0])
    near = difflib.get_close_matches(bad, flags, n=3, cutoff=0.55)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"unknown option {bad!r}{hint} (--help lists them all)"
