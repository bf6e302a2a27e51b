"""The command line's arguments: dataclasses read by tyro, its errors brought to one line with the nearest names."""

from __future__ import annotations

import contextlib
import difflib
import io
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from mlptheory.base.errors import InputError, invalid, unknown_name

HELP = ("-h", "--help")

_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_RULE = re.compile(r"[─-]{3,}|╭.*|╰.*")


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
        _raise_on_one_line(exit_, said.getvalue(), list(args), tyro_flags(cls, default))


def tyro_flags(cls: Any, default: Any = None) -> list[str]:
    """Return the long options of a dataclass, for naming the nearest."""
    import tyro

    page = io.StringIO()
    options = {} if default is None else {"default": default}
    with contextlib.redirect_stdout(page), contextlib.suppress(SystemExit):
        tyro.cli(cls, args=["--help"], **options)
    return sorted(set(re.findall(r"(?<![\w-])--[a-z][\w.-]*", page.getvalue())))


def _raise_on_one_line(exit_: SystemExit, said: str, args: list[str], flags: list[str]) -> NoReturn:
    cause: BaseException | None = exit_
    while cause is not None:
        if isinstance(cause, InputError):
            raise InputError(str(cause)) from None
        cause = cause.__cause__ or cause.__context__
    raise _in_our_words(_sections(said), args, flags) from None


def _sections(said: str) -> list[list[str]]:
    """Return the title, the message and what follows it, from a box of tyro's.

    The frame is of Unicode lines or, where stdout cannot show those, a rule of dashes below the title.
    """
    sections: list[list[str]] = [[]]
    for line in _COLOR.sub("", said).splitlines():
        inner = line.strip().strip("│").strip()
        if _RULE.fullmatch(inner):
            sections.append([])
        elif inner:
            sections[-1].append(inner)
    return sections


def _in_our_words(sections: list[list[str]], args: list[str], flags: list[str]) -> InputError:
    message = " ".join(sections[1] if len(sections) > 1 else sections[0]) or "arguments that cannot be read"
    if unknown := re.match(r"Unrecognized options: (.*)", message):
        given = [part.split("=")[0] for part in unknown.group(1).split(", ")]
        return _unknown_option(next((part for part in given if part.startswith("-")), given[0]), flags)
    if choice := re.match(r"invalid choice .* for argument '([^']+)'\. Expected one of \((.*)\)", message):
        return unknown_name(choice.group(1), _given(choice.group(1), args), re.findall(r"'([^']*)'", choice.group(2)))
    if malformed := re.match(r"Error parsing (--[\w.-]+):", message):
        option = malformed.group(1)
        usage = next((line for part in sections[2:] for line in part if line.startswith(f"{option} ")), option)
        return invalid(option, _given(option, args), usage.removeprefix(option).strip().replace("{None}|", "None or "))
    return InputError(message)


def _given(option: str, args: list[str]) -> str:
    """Return what was typed after an option, at its last mention."""
    typed: list[str] = []
    taking = False
    for arg in args:
        name, _, value = arg.partition("=")
        if arg.startswith("--"):
            # tyro takes underscores for hyphens.
            taking = name.replace("_", "-") == option.replace("_", "-")
            typed = ([value] if value else []) if taking else typed
        elif taking:
            typed.append(arg)
    return " ".join(typed)


def _unknown_option(bad: str, flags: list[str]) -> InputError:
    # An option within a group ("--optimizer.lr") is found by its last part too.
    by_name = {f"--{flag.rpartition('.')[2].lstrip('-')}": flag for flag in reversed(flags)} | {
        flag: flag for flag in flags
    }
    close = [bad] if bad in by_name else difflib.get_close_matches(bad, by_name, n=3, cutoff=0.55)
    near = dict.fromkeys(by_name[name] for name in close)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return InputError(f"unknown option {bad!r}{hint} (--help lists them all)")


def plugins_named(arguments: Sequence[str]) -> list[str]:
    """Return the files after --plugin, which must load before the arguments that name what they register."""
    files: list[str] = []
    taking = False
    for argument in arguments:
        if argument.startswith("-"):
            name, _, value = argument.partition("=")
            taking = name == "--plugin" and not value
            files += [value] if name == "--plugin" and value else []
        elif taking:
            files.append(argument)
    return files
