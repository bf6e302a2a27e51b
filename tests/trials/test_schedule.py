"""The schedule is decided by the trials and the device, by nothing else."""

from __future__ import annotations

import json

import pytest

from mlptheory.base.configuration import from_plain
from mlptheory.base.errors import InputError
from mlptheory.models import ModelConfig
from mlptheory.training import Recipe, resolve_precision
from mlptheory.trials import Schedule, Trial, digest_trials, plan_schedule
from mlptheory.trials.schedule import default_threads

TRIALS = [Trial(recipe=Recipe(seed=seed)) for seed in range(3)]


def test_the_same_trials_get_the_same_schedule():
    assert plan_schedule(TRIALS, device="cpu") == plan_schedule(list(TRIALS), device="cpu")
    assert plan_schedule(TRIALS, device="cpu").groups == ((0,), (1,), (2,))


def test_threads_are_one_unless_asked_for():
    assert plan_schedule(TRIALS, device="cpu").threads == 1
    assert plan_schedule(TRIALS, device="cpu", threads=2).threads == 2


def test_auto_is_written_down_as_what_it_came_to():
    assert plan_schedule(TRIALS, device="cpu").precision in ("float32", "bfloat16")


def test_grouping_of_lone_trials_is_no_part_of_how_one_is_executed():
    more = plan_schedule([*TRIALS, TRIALS[0]], device="cpu")
    assert more.execution(None) == plan_schedule(TRIALS, device="cpu").execution(None)
    assert set(more.execution(None)) == {"device", "threads", "precision"}


def test_a_schedule_goes_to_json_and_back():
    schedule = plan_schedule(TRIALS, device="cpu", threads=2)
    assert from_plain(Schedule, json.loads(json.dumps(schedule.to_plain()))) == schedule


def test_a_device_that_is_not_here_is_refused_with_those_that_are():
    with pytest.raises(InputError, match=r"device = 'tpu': unknown.*allowed: cpu"):
        plan_schedule(TRIALS, device="tpu")


def test_a_recipes_own_precision_is_what_is_recorded():
    own = Trial(recipe=Recipe(precision="float64"))
    schedule = plan_schedule([own], device="cpu")
    assert schedule.precision == "float64"
    mixed = plan_schedule([own, Trial(recipe=Recipe(precision="float32"))], device="cpu")
    assert mixed.execution(own.recipe)["precision"] == "float64"
    assert mixed.execution(Recipe())["precision"] == mixed.precision == resolve_precision("auto", "cpu")


def test_data_parallel_trials_are_trained_by_themselves():
    small = [Trial(recipe=Recipe(model=ModelConfig(name="B-1/Wi-16"), seed=seed)) for seed in (0, 1, 0)]
    assert plan_schedule(small, device="cpu").groups == ((0, 1, 2),)
    schedule = plan_schedule(small, small[:1], device="cpu", threads=2, data_parallel=True)
    assert schedule.groups == ((0,), (1,), (2,), (3,))
    assert from_plain(Schedule, json.loads(json.dumps(schedule.to_plain()))) == schedule
    digests = digest_trials(small, schedule=schedule, data_digests={"digits": "x"})
    assert digests.groups == ()
    assert len({digests[trial] for trial in small}) == 2


def test_one_digest_stands_for_any_number_of_threads_and_processes():
    alone, two = (plan_schedule(TRIALS, device="cpu", threads=each, data_parallel=True) for each in (1, 2))
    assert alone.execution(None) == two.execution(None)
    assert set(alone.execution(None)) == {"device", "data_parallel", "precision"}
    assert alone.execution(None) != plan_schedule(TRIALS, device="cpu").execution(None)


@pytest.mark.parametrize(("local_size", "expected"), [(None, 8), (3, 2), (16, 1)])
def test_the_processes_of_a_machine_share_its_cores(local_size, expected, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    if local_size is not None:
        told = {"RANK": 0, "WORLD_SIZE": 32, "LOCAL_WORLD_SIZE": local_size, "MASTER_ADDR": "a", "MASTER_PORT": 1}
        for name, value in told.items():
            monkeypatch.setenv(name, str(value))
    assert default_threads() == expected
