"""Errors a user can mend: each message names the argument, its value and what was allowed, on one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A value from the user that cannot be used; the command line prints it on one line and exits with 2."""


class MissingDataError(InputError, FileNotFoundError):
    """A dataset that is in none of the places it was looked for."""

    __str__ = ValueError.__str__


class DamagedFileError(InputError):
    """A file whose bytes are not what its format promises."""


def invalid(argument: str, value: object, allowed: str) -> InputError:
    """Build the error for a bad value.

    Parameters
    ----------
    argument : str
        The argument as the user wrote it.
    value : object
        The value that was given.
    allowed : str
        What would have been accepted, completing the sentence "expected ...".

    Returns
    -------
    InputError
        To be raised by the caller, so that the traceback starts where the value came in.

    Examples
    --------
    >>> print(invalid("batch_size", 0, "an integer of at least 1"))
    batch_size = 0: expected an integer of at least 1
    """
    return InputError(f"{argument} = {value!r}: expected {allowed}")


def nearest_names(name: str, allowed: Iterable[str], most: int = 3) -> list[str]:
    """Return the allowed names closest to `name`, best first, ignoring case.

    Examples
    --------
    >>> nearest_names("cifer10", ["cifar10", "cifar100", "digits"])
    ['cifar10', 'cifar100']
    """
    by_folded: dict[str, str] = {}
    for candidate in allowed:
        by_folded.setdefault(candidate.casefold(), candidate)
    close = difflib.get_close_matches(str(name).casefold(), by_folded, n=most, cutoff=0.55)
    return [by_folded[folded] for folded in close]


def unknown_name(argument: str, value: object, allowed: Iterable[str]) -> InputError:
    """Build the error for a name that is not among the allowed ones, with the nearest names first.

    Examples
    --------
    >>> print(unknown_name("dataset", "cifer10", ["cifar10", "digits"]))
    dataset = 'cifer10': unknown; did you mean 'cifar10'? (allowed: cifar10, digits)
    """
    names = list(allowed)
    near = nearest_names(str(value), names)
    hint = f"; did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
    return InputError(f"{argument} = {value!r}: unknown{hint} (allowed: {', '.join(names) or 'none'})")
