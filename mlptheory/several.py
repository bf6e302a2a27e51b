"""A command that torchrun started in several processes: the first one speaks for all."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator

from mlptheory.base.errors import InputError
from mlptheory.base.launch import Launch, LostProcessError, refuse_several_processes

PARALLEL = ("train", "reproduce")
"""Commands that run as several processes."""


def run_as_one_of(launch: Launch, arguments: list[str], command: Callable[[list[str]], int]) -> int:
    """Run a command in one of several processes; only the first one's output is seen.

    Parameters
    ----------
    launch : Launch
    arguments : list of str
        As typed; the first names the command.
    command : callable
        From the arguments to the exit code.

    Returns
    -------
    int
        The exit code; 2 for bad input, of which the first process says the line, or those that alone refuse theirs.

    Raises
    ------
    KeyboardInterrupt, LostProcessError
        In the first process.
    """
    from mlptheory.training.parallel import join, refused_by_first

    join()
    with _silent(launch.rank > 0):
        try:
            if arguments[:1] and arguments[0] not in PARALLEL:
                refuse_several_processes(arguments[0])
            return command(arguments)
        except InputError as error:
            message = str(error)
        except (KeyboardInterrupt, LostProcessError) as error:
            if launch.rank == 0:
                raise
            return 130 if isinstance(error, KeyboardInterrupt) else 1
    if launch.rank == 0:
        say(f"mlptheory: {' '.join(message.split())}")
        refused_by_first(message)
    elif not refused_by_first(message):
        say(f"mlptheory: process {launch.rank}: {' '.join(message.split())}")
    return 2


def say(line: str) -> None:
    """Print a line on stderr at once, as a launcher may end this process next."""
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _silent(wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
