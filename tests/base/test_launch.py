"""What a launcher says of a process."""

from __future__ import annotations

import pytest

from mlptheory.base.errors import InputError
from mlptheory.base.launch import Launch, launched, refuse_several_processes

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "node0", "MASTER_PORT": "29500"}


def test_torchrun_says_which_process_this_is():
    told = {**TORCHRUN, "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert launched(told) == Launch(rank=3, size=4, local_rank=1, local_size=2)


def test_without_machines_all_processes_are_on_one():
    assert launched(TORCHRUN) == Launch(rank=3, size=4, local_rank=3, local_size=4)


@pytest.mark.parametrize("missing", TORCHRUN)
def test_a_part_of_it_is_no_launch(missing):
    assert launched({name: value for name, value in TORCHRUN.items() if name != missing}) is None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("WORLD_SIZE", "two", "of at least 1"),
        ("WORLD_SIZE", "0", "of at least 1"),
        ("RANK", "4", "from 0 to 3"),
        ("RANK", "-1", "from 0 to 3"),
        ("MASTER_PORT", "http", "from 0 to 65535"),
        ("LOCAL_WORLD_SIZE", "0", "of at least 1"),
        ("LOCAL_RANK", "", "of at least 0"),
    ],
)
def test_what_cannot_be_is_refused(name, value, expected):
    with pytest.raises(InputError, match=f"^{name} = '{value}' in the environment: expected an integer {expected}$"):
        launched({**TORCHRUN, name: value})


def test_what_runs_as_one_process_refuses_several(monkeypatch):
    refuse_several_processes("probe")
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="probe: started as one of 4 processes: expected one process"):
        refuse_several_processes("probe")
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    refuse_several_processes("probe")
