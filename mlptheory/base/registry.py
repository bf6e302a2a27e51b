"""Open lists of names: built-in entries load when first used, users add their own with one decorator."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mlptheory.base.errors import InputError, unknown_name


@dataclass(frozen=True)
class _Entry:
    target: Any
    summary: str


class Registry:
    """Map names to objects, in order of registration.

    Parameters
    ----------
    kind : str
        What is registered ("dataset", "probe"); it is the argument that errors name.

    Examples
    --------
    >>> shapes = Registry("shape")
    >>> @shapes.register("square", summary="four equal sides")
    ... def square(side):
    ...     return side**2
    >>> shapes["square"](3)
    9
    >>> list(shapes)
    ['square']
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, _Entry] = {}

    def register(self, name: str, *, summary: str = "", replace: bool = False) -> Callable[[Any], Any]:
        """Return a decorator that registers what it decorates.

        Parameters
        ----------
        name : str
            The name users type.
        summary : str
            One line for listings; the first line of the docstring where it is empty.
        replace : bool
            Allow a name that is taken.

        Raises
        ------
        InputError
            If the name is taken and `replace` is false.
        """

        def add(target: Any) -> Any:
            self._add(name, target, summary or (target.__doc__ or "").strip().split("\n")[0], replace)
            return target

        return add

    def register_lazily(self, name: str, location: str, *, summary: str) -> None:
        """Register ``"package.module:attribute"``, imported when it is first asked for."""
        self._add(name, location, summary, replace=False)

    def _add(self, name: str, target: Any, summary: str, replace: bool) -> None:
        if name in self._entries and not replace:
            raise InputError(f"{self.kind} = {name!r}: already registered; pass replace=True to replace it")
        self._entries[name] = _Entry(target, summary)

    def __getitem__(self, name: str) -> Any:
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)
        entry = self._entries[name]
        if isinstance(entry.target, str):
            module, _, attribute = entry.target.partition(":")
            entry = _Entry(getattr(importlib.import_module(module), attribute), entry.summary)
            self._entries[name] = entry
        return entry.target

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def summary(self, name: str) -> str:
        """Return the one line that describes an entry, without loading it."""
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)
        return self._entries[name].summary
