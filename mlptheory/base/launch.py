"""Which of several processes this one is, as torchrun tells it through the environment. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from mlptheory.base.errors import InputError

_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class LostProcessError(RuntimeError):
    """Another of several processes ended, or did not answer for too long."""


@dataclass(frozen=True)
class Launch:
    """A process among those that a launcher started together.

    Attributes
    ----------
    rank, size : int
        Its number, from 0, and how many there are on all machines.
    local_rank, local_size : int
        The same on this machine.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int


def launched(environment: Mapping[str, str] | None = None) -> Launch | None:
    """Return what a launcher such as torchrun says of this process, or None where there is none.

    Parameters
    ----------
    environment : mapping of str to str, optional
        This process's own, if None.

    Raises
    ------
    InputError
        If what it says is no number, or one that cannot be.

    Examples
    --------
    >>> launched({"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"})
    Launch(rank=1, size=4, local_rank=1, local_size=4)
    >>> launched({}) is None
    True
    """
    told = os.environ if environment is None else environment
    if any(name not in told for name in _NEEDED):
        return None
    size = _number(told, "WORLD_SIZE", 1)
    # One too many would be waited for, half an hour long.
    rank = _number(told, "RANK", 0, size - 1)
    _number(told, "MASTER_PORT", 0, 65_535)
    local_size = _number(told, "LOCAL_WORLD_SIZE", 1) if "LOCAL_WORLD_SIZE" in told else size
    local_rank = _number(told, "LOCAL_RANK", 0) if "LOCAL_RANK" in told else rank
    return Launch(rank, size, local_rank, local_size)


def refuse_several_processes(what: str, size: int | None = None) -> None:
    """Raise where more than one process does what does not run as several.

    Parameters
    ----------
    what : str
    size : int, optional
        How many there are; as a launcher says, if None.

    Raises
    ------
    InputError

    Examples
    --------
    >>> refuse_several_processes("probe", 2)
    Traceback (most recent call last):
    ...
    mlptheory.base.errors.InputError: probe: started as one of 2 processes: expected one process, as ...
    """
    launch = launched()
    size = size or (1 if launch is None else launch.size)
    if size > 1:
        raise InputError(
            f"{what}: started as one of {size} processes: expected one process, as data parallel is only how a recipe "
            "is trained (train, reproduce); a probe runs its trials beside each other by --workers"
        )


def _number(told: Mapping[str, str], name: str, low: int, high: int | None = None) -> int:
    allowed = f"an integer of at least {low}" if high is None else f"an integer from {low} to {high}"
    refusal = InputError(f"{name} = {told[name]!r} in the environment: expected {allowed}")
    try:
        number = int(told[name])
    except ValueError as error:
        raise refusal from error
    if number < low or (high is not None and number > high):
        raise refusal
    return number
