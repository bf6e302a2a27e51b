import threading

import pytest

from mlptheory.data import locks
from mlptheory.data.locks import alone


def test_one_at_a_time_and_no_file_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_ASK_AGAIN_S", 0.0)
    inside, most, entered = [], [], []

    def work():
        for _ in range(25):
            with alone(tmp_path / "lock"):
                inside.append(1)
                most.append(len(inside))
                inside.pop()
                entered.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and len(entered) == 100
    assert list(tmp_path.iterdir()) == []


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_none(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    lock, calls = locks._try_to_lock, []

    def removed_first(handle):
        calls.append(handle)
        if len(calls) == 1:
            path.unlink()
        return lock(handle)

    monkeypatch.setattr(locks, "_try_to_lock", removed_first)
    with alone(path):
        assert path.exists()
    assert len(calls) == 2


def test_an_error_inside_lets_go(tmp_path):
    with pytest.raises(KeyError), alone(tmp_path / "lock"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with alone(tmp_path / "lock"):
        pass
