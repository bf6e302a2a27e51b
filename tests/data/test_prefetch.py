import gc
import threading
import traceback
import weakref

import pytest

from mlptheory.base import InputError
from mlptheory.data.prefetch import prefetched


class Thing:
    pass


def running():
    return [thread for thread in threading.enumerate() if thread.name == "mlptheory-prefetch"]


@pytest.mark.parametrize("ahead", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_gives_what_the_iterator_gives(count, ahead):
    assert list(prefetched(iter(range(count)), ahead)) == list(range(count))
    assert running() == []


def test_never_more_than_ahead_are_in_the_making():
    made, taken = [], []

    def source():
        for index in range(30):
            assert len(made) - len(taken) <= 3
            made.append(index)
            yield index

    for item in prefetched(source(), ahead=3):
        taken.append(item)
    assert taken == made == list(range(30))


def test_an_exception_comes_in_its_place_with_its_own_traceback():
    def failing():
        yield 1
        raise KeyError("here")

    items = prefetched(failing())
    assert next(items) == 1
    with pytest.raises(KeyError, match="here") as error:
        next(items)
    assert "failing" in [frame.name for frame in traceback.extract_tb(error.value.__traceback__)]
    assert running() == []


def endless(alive, closed):
    try:
        while True:
            thing = Thing()
            alive.add(thing)
            yield thing
    finally:
        closed.append(threading.current_thread().name)


@pytest.mark.parametrize("how", ["break", "exception", "close", "collected", "cycle"])
def test_leaving_early_ends_the_thread_and_frees_all(how):
    alive, closed = weakref.WeakSet(), []
    items = prefetched(endless(alive, closed), ahead=2)
    next(items)
    assert len(running()) == 1
    if how == "close":
        items.close()
    elif how == "cycle":
        knot = [items]
        knot.append(knot)
        del knot
    elif how == "exception":
        with pytest.raises(ZeroDivisionError):
            leave(items, ZeroDivisionError)
    elif how == "break":
        leave(items)
    del items
    gc.collect()
    assert running() == []
    assert closed == ["mlptheory-prefetch"]
    assert len(alive) == 0


def leave(items, error=None):
    for _ in items:
        if error is not None:
            raise error
        break


def test_without_a_first_item_there_is_no_thread():
    items = prefetched(iter(range(3)))
    assert running() == []
    items.close()


def test_an_exception_that_nobody_waits_for_is_forgotten():
    class Error(Exception):
        pass

    errors, may_fail = weakref.WeakSet(), threading.Event()

    def failing():
        yield 1
        may_fail.wait()
        error = Error()
        errors.add(error)
        try:
            raise error
        finally:
            del error

    gc.disable()
    try:
        items = prefetched(failing())
        next(items)
        may_fail.set()
        items.close()
        assert len(errors) == 0
    finally:
        gc.enable()


def test_many_streams_that_come_and_go():
    def source(index):
        for item in range(index % 5):
            yield bytearray(100 * item)
        if index % 3 == 0:
            raise KeyError(index)

    def use(index):
        items, seen = prefetched(source(index), ahead=1 + index % 3), 0
        try:
            for _ in items:
                seen += 1
                if seen == index % 4:
                    break
        except KeyError as error:
            assert error.args == (index,)
        return seen

    found = []
    users = [
        threading.Thread(target=lambda start=start: found.extend(map(use, range(start, start + 100))))
        for start in range(4)
    ]
    for user in users:
        user.start()
    for user in users:
        user.join(timeout=60)
    assert len(found) == 400
    gc.collect()
    assert running() == []


def test_bad_arguments():
    with pytest.raises(InputError, match="ahead = 0: expected an integer of at least 1"):
        prefetched(iter(()), ahead=0)
