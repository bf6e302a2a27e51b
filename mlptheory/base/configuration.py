"""Configurations as plain data: frozen dataclasses to dictionaries and back, strictly."""

from __future__ import annotations

import dataclasses
import math
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from mlptheory.base.errors import InputError, invalid, unknown_name

C = TypeVar("C")
_LARGEST = sys.float_info.max


def to_plain(value: Any) -> Any:
    """Return a configuration as dictionaries, lists and scalars, ready for JSON.

    Examples
    --------
    >>> @dataclasses.dataclass(frozen=True)
    ... class Point:
    ...     x: float
    ...     tags: tuple[str, ...] = ()
    >>> to_plain(Point(1.0, ("a",)))
    {'x': 1.0, 'tags': ['a']}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    return value


def from_plain(cls: type[C], plain: Mapping[str, Any], where: str = "") -> C:
    """Build a configuration from plain data; unknown names and wrong types raise.

    Parameters
    ----------
    cls : type
        A dataclass.
    plain : mapping
        As `to_plain` returns it, or as read from TOML; absent fields take their defaults.
    where : str
        Prefix of argument names in messages ("recipe").

    Raises
    ------
    InputError
        Naming the field, its value and what was allowed.

    Examples
    --------
    >>> @dataclasses.dataclass(frozen=True)
    ... class Point:
    ...     x: float
    ...     tags: tuple[str, ...] = ()
    >>> from_plain(Point, {"x": 1, "tags": ["a"]})
    Point(x=1.0, tags=('a',))
    """
    if not isinstance(plain, Mapping):
        raise invalid(where or cls.__name__, plain, "a table of names and values")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    prefix = f"{where}." if where else ""
    for name in plain:
        if name not in fields:
            raise unknown_name(f"{prefix}(name)", name, fields)
    missing = [
        name
        for name, field in fields.items()
        if name not in plain and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InputError(f"{prefix}{missing[0]}: required, but absent")
    return cls(**{name: _convert(value, hints[name], f"{prefix}{name}") for name, value in plain.items()})


def _convert(value: Any, hint: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for option in arguments:
            try:
                return _convert(value, option, where)
            except InputError:
                continue
        raise invalid(where, value, " or ".join(_describe(option) for option in arguments))
    if dataclasses.is_dataclass(hint):
        return from_plain(hint, value, where)  # type: ignore[arg-type]
    if origin is tuple:
        return _convert_tuple(value, arguments, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise unknown_name(where, value, [str(argument) for argument in arguments])
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST:
        return float(value)
    if hint is Any or type(value) is hint or (hint is type(None) and value is None):
        return value
    raise invalid(where, value, _describe(hint))


def _convert_tuple(value: Any, arguments: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise invalid(where, value, "a list")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_convert(item, arguments[0], f"{where}[{index}]") for index, item in enumerate(value))
    if len(value) != len(arguments):
        raise invalid(where, value, f"a list of {len(arguments)} values")
    return tuple(
        _convert(item, argument, f"{where}[{index}]")
        for index, (item, argument) in enumerate(zip(value, arguments, strict=True))
    )


def _describe(hint: Any) -> str:
    if hint is type(None):
        return "nothing"
    if typing.get_origin(hint) is tuple:
        items = typing.get_args(hint)
        return "a list" if items[-1] is Ellipsis else f"a list of {len(items)} values"
    return {int: "an integer", float: "a number", str: "a text", bool: "true or false"}.get(hint, str(hint))


def require_integer(argument: str, value: Any, minimum: int) -> None:
    """Raise unless `value` is an integer of at least `minimum`.

    Examples
    --------
    >>> require_integer("batch_size", -1, 1)
    Traceback (most recent call last):
    ...
    mlptheory.base.errors.InputError: batch_size = -1: expected an integer of at least 1
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise invalid(argument, value, f"an integer of at least {minimum}")


def require_number(
    argument: str, value: Any, low: float, high: float = math.inf, *, low_open: bool = False, high_open: bool = False
) -> None:
    """Raise unless `value` is a finite number between `low` and `high`; an open end is itself excluded.

    Examples
    --------
    >>> require_number("lr", -0.1, 0, low_open=True)
    Traceback (most recent call last):
    ...
    mlptheory.base.errors.InputError: lr = -0.1: expected a number greater than 0
    """
    good = (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and -_LARGEST <= value <= _LARGEST
        and (value > low if low_open else value >= low)
        and (value < high if high_open else value <= high)
    )
    if good:
        return
    lower = f"greater than {low:g}" if low_open else f"of at least {low:g}"
    upper = "" if math.isinf(high) else f" and {'less than' if high_open else 'at most'} {high:g}"
    raise invalid(argument, value, f"a number {lower}{upper}")


def require_boolean(argument: str, value: Any) -> None:
    """Raise unless `value` is True or False.

    Examples
    --------
    >>> require_boolean("drop_last", "no")
    Traceback (most recent call last):
    ...
    mlptheory.base.errors.InputError: drop_last = 'no': expected true or false
    """
    if not isinstance(value, bool):
        raise invalid(argument, value, "true or false")


def require_choice(argument: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise unless `value` is one of the allowed names.

    Examples
    --------
    >>> require_choice("optimizer", "adam", ("lion", "adamw", "sgd"))
    Traceback (most recent call last):
    ...
    mlptheory.base.errors.InputError: optimizer = 'adam': unknown; did you mean 'adamw'? (allowed: lion, adamw, sgd)
    """
    if value not in allowed:
        raise unknown_name(argument, value, allowed)
