"""A store that several processes see alike, of which the first one's is written."""

from __future__ import annotations

import threading

import pytest

from mlptheory.base.errors import InputError
from mlptheory.training.parallel import World
from mlptheory.trials import FolderStore, MemoryStore, Record, open_store
from mlptheory.trials.shared import SharedStore

RECORD = Record(digest="a" * 64, trial={"recipe": None}, metrics={"loss": 0.1 + 0.2, "nothing": None})


class Threads(World):
    """Processes that are threads: what the first shares, all hear."""

    def __init__(self, rank, size, wires):
        super().__init__(rank, size)
        object.__setattr__(self, "wires", wires)

    def share(self, content):
        barrier, heard = self.wires
        barrier.wait(10)
        if self.is_first:
            heard.append(content)
        barrier.wait(10)
        return heard[-1]


def in_all(stores, act, size=2):
    """Let every process do the same, and return what each came to."""
    wires, found = (threading.Barrier(size), []), [None] * size

    def go(rank):
        try:
            found[rank] = act(SharedStore(stores[rank], Threads(rank, size, wires)))
        except InputError as error:
            found[rank] = str(error)

    threads = [threading.Thread(target=go, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return found


def test_what_is_put_is_the_firsts_and_all_get_it(tmp_path):
    stores = [FolderStore(tmp_path / "first"), MemoryStore()]

    def act(store):
        before = store.get(RECORD.digest), store.get_weights(RECORD.digest), store.get_schedule("design")
        store.put(RECORD)
        store.put_weights(RECORD.digest, b"weights")
        store.put_schedule("design", from_schedule)
        return before, store.get(RECORD.digest), store.get_weights(RECORD.digest), store.get_schedule("design")

    from_schedule = {"device": "cpu", "threads": 1, "precision": "float32", "groups": [[0]], "data_parallel": True}
    first, second = in_all(stores, act)
    assert first == second == ((None, None, None), RECORD, b"weights", from_schedule)
    assert stores[0].get(RECORD.digest) == RECORD
    assert stores[1].get(RECORD.digest) is None


def test_what_the_others_hold_is_not_looked_at():
    stores = [MemoryStore(), MemoryStore()]
    stores[1].put(RECORD)
    assert in_all(stores, lambda store: store.get(RECORD.digest)) == [None, None]


def test_checkpoints_are_the_firsts(tmp_path):
    stores = [FolderStore(tmp_path), MemoryStore()]
    path = stores[0].checkpoint_path("run")
    path.write_bytes(b"state")
    assert in_all(stores, lambda store: store.checkpoint_path("run")) == [path, None]
    in_all(stores, lambda store: store.drop_checkpoint("run"))
    assert not path.exists()


def test_what_the_first_refuses_all_refuse():
    class Refusing(MemoryStore):
        def put(self, record):
            raise InputError("store: not here")

    found = in_all([Refusing(), MemoryStore()], lambda store: store.put(RECORD))
    assert found == ["store: not here"] * 2


@pytest.mark.parametrize("named", [None, "folder"])
def test_a_process_by_itself_has_its_own_store(named, tmp_path):
    assert isinstance(open_store(named and tmp_path), FolderStore if named else MemoryStore)
