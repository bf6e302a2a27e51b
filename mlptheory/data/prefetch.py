"""Reading ahead: one thread prepares the next items while the caller works on the current one."""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from collections.abc import Iterator
from typing import TypeVar

from mlptheory.base.configuration import require_integer

T = TypeVar("T")


def prefetched(iterator: Iterator[T], ahead: int = 2) -> Iterator[T]:
    """Yield what an iterator yields, which a thread of its own runs ahead of the caller.

    The thread begins with the first item that is asked for. It has at most `ahead` items ready or in the making, so
    that with the caller's there are never more than ``ahead + 1``. An exception of the iterator reaches the caller
    in its place, with its own traceback. Left early (closed, an exception, garbage collection, the interpreter's
    end), it waits for the item in the making, closes the iterator and frees all.

    Parameters
    ----------
    iterator : iterator
        It runs in the other thread, where the caller's gradient mode and autocast do not hold.
    ahead : int
        At least 1.

    Yields
    ------
    object
        In the iterator's order.

    Raises
    ------
    InputError
        If `ahead` is below 1.
    RuntimeError
        If the next item is asked for in a forked process, which has no such thread.

    Examples
    --------
    >>> list(prefetched(iter(range(4)), ahead=2))
    [0, 1, 2, 3]
    """
    require_integer("ahead", ahead, 1)
    return _receive(_Channel(ahead), [iterator])


class _Channel:
    """What the two threads share: items, how the iterator ended, and whether the caller has left."""

    def __init__(self, room: int) -> None:
        # Re-entrant, as the garbage collector may close the caller's end in the middle of anything.
        self.changed = threading.Condition()
        self.room, self.items = room, deque()
        self.error: BaseException | None = None
        self.has_ended = self.is_left = False

    def wait_for_room(self) -> bool:
        """Wait until an item is wanted; return false if none is any more."""
        with self.changed:
            self.changed.wait_for(lambda: self.is_left or len(self.items) < self.room)
            return not self.is_left

    def put(self, item: object) -> None:
        with self.changed:
            if not self.is_left:
                self.items.append(item)
            self.changed.notify_all()

    def end(self, error: BaseException | None) -> None:
        with self.changed:
            self.has_ended, self.error = True, None if self.is_left else error
            self.changed.notify_all()

    def leave(self) -> None:
        with self.changed:
            self.is_left, self.error = True, None
            self.items.clear()
            self.changed.notify_all()

    def pop(self) -> object:
        with self.changed:
            self.changed.notify_all()
            return self.items.popleft()

    def wait_for_item(self) -> bool:
        """Wait for the next item; return false at the end, and raise what the iterator raised."""
        with self.changed:
            self.changed.wait_for(lambda: self.items or self.has_ended)
            if self.items:
                return True
            error, self.error = self.error, None
        if error is None:
            return False
        try:
            raise error
        finally:
            # An exception that its own frames hold keeps all that they hold.
            del error


def _send(iterator: Iterator[T], channel: _Channel) -> None:
    error = None
    try:
        try:
            while channel.wait_for_room():
                item = next(iterator)
                channel.put(item)
                # Not to be held while the next one is made.
                del item
        finally:
            if hasattr(iterator, "close"):
                iterator.close()
    except StopIteration:
        pass
    except BaseException as raised:
        error = raised
    channel.end(error)
    del error


def _receive(channel: _Channel, source: list[Iterator[T]]) -> Iterator[T]:
    owner = os.getpid()
    thread = threading.Thread(target=_send, args=(source.pop(), channel), name="mlptheory-prefetch", daemon=True)

    def leave() -> None:
        # In a forked process there is no such thread, and its lock may be held for ever.
        if os.getpid() != owner:
            return
        channel.leave()
        if thread is not threading.current_thread():
            thread.join()

    thread.start()
    # A daemon that still runs while the interpreter is taken down may bring it down harder.
    atexit.register(leave)
    try:
        while True:
            if os.getpid() != owner:
                raise RuntimeError("a stream was begun in another process: begin it again after the fork")
            if not channel.wait_for_item():
                return
            yield channel.pop()
    finally:
        atexit.unregister(leave)
        leave()
