"""One trial in this process: parents' weights arrive, measures are right, interrupted runs end with the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from mlptheory.base.errors import InputError
from mlptheory.models import ModelConfig
from mlptheory.training import BudgetConfig, DataConfig, Observer, OptimizerConfig, Recipe, train
from mlptheory.trials import Measurement, Record, Schedule, Trial, measures, run_trial
from mlptheory.trials.fitting import require_fitting_data
from mlptheory.trials.record import unpack_predictions
from mlptheory.trials.run import Task

SCHEDULE = Schedule(device="cpu", threads=1, precision="float32", groups=())
RECIPE = Recipe(data=DataConfig(n=64), model=ModelConfig(name="B-1/Wi-16"), budget=BudgetConfig(amount=2, batch_size=8))
OBSERVERS = (Observer(name="evaluation", every="doubling"), Observer(name="weights", every="end"))
PAIR = (Measurement(name="weight_distance"), Measurement(name="prediction_agreement"))


def task(trial: Trial, *weights: bytes, keep: bool = True, checkpoint: Path | None = None) -> Task:
    return Task(
        trial=trial,
        digest="d",
        parent_digests=tuple("p" for _ in trial.parents),
        parent_weights=weights,
        schedule=SCHEDULE,
        data_root=None,
        checkpoint=checkpoint,
        keep_weights=keep,
    )


@pytest.fixture(scope="module")
def trained() -> list[tuple[Trial, Record, bytes]]:
    """Two trained trials that differ in their seed."""
    trials = [Trial(recipe=replace(RECIPE, seed=seed), observers=OBSERVERS) for seed in (0, 1)]
    return [(trial, *run_trial(task(trial))) for trial in trials]


def without_clock(record: Record) -> Record:
    return replace(record, environment={}, seconds=0.0)


def test_the_record_says_what_training_came_to(trained):
    trial, record, _ = trained[0]
    direct = train(replace(trial.recipe, precision="float32"), OBSERVERS, device="cpu")
    assert record.metrics["test_accuracy"] == direct.evaluations["test"].top1
    assert record.metrics["test_loss"] == direct.evaluations["test"].loss
    assert record.metrics["steps"] == 16
    assert record.history == direct.history
    assert (unpack_predictions(record.predictions) == direct.evaluations["test"].predictions).all()
    assert record.diverged is None and record.seconds > 0
    assert record.trial["recipe"] == trial.recipe.to_plain()


def test_weights_are_kept_only_where_others_need_them(trained):
    trial, record, weights = trained[0]
    again, none = run_trial(task(trial, keep=False))
    assert none is None and weights is not None
    assert without_clock(again) == without_clock(record)


def test_a_trial_starts_from_its_parents_weights(trained):
    parent, record, weights = trained[0]
    child = Trial(
        recipe=replace(RECIPE, seed=7, start="parent"),
        parents=(parent,),
        observers=OBSERVERS,
        measures=(Measurement(name="weight_distance"),),
    )
    found, own = run_trial(task(child, weights))
    at_start = {quantity: value for step, _, quantity, value in found.history if step == 0}
    assert at_start["test_loss"] == record.metrics["test_loss"]
    assert at_start["test_accuracy"] == record.metrics["test_accuracy"]
    assert found.metrics["weight_distance"] == pytest.approx(distance(weights, own), rel=1e-6)
    assert found.metrics["weight_distance"] > 0


def distance(a: bytes, b: bytes) -> float:
    left, right = safetensors.numpy.load(a), safetensors.numpy.load(b)
    return float(np.sqrt(sum(((left[name].astype(np.float64) - right[name]) ** 2).sum() for name in left)))


def test_a_trial_without_a_recipe_measures_its_parents(trained):
    (one, record_one, weights_one), (two, record_two, weights_two) = trained
    found, none = run_trial(task(Trial(parents=(one, two), measures=PAIR), weights_one, weights_two))
    agreement = np.mean(unpack_predictions(record_one.predictions) == unpack_predictions(record_two.predictions))
    assert set(found.metrics) == {"weight_distance", "prediction_agreement"}
    assert found.metrics["weight_distance"] == pytest.approx(distance(weights_one, weights_two), rel=1e-6)
    assert found.metrics["prediction_agreement"] == agreement
    assert 0 < agreement < 1
    assert none is None and found.predictions is None and found.history == () and found.data_digest is None


def test_a_measure_is_told_how_many_models_it_needs(trained):
    one, _, weights = trained[0]
    for measure, said in [
        ("weight_distance", "two models"),
        ("prediction_agreement", "two parents"),
        ("weight_norm", "a trial with a recipe"),
    ]:
        with pytest.raises(InputError, match=said):
            run_trial(task(Trial(parents=(one,), measures=(Measurement(name=measure),)), weights))


def test_a_measure_is_told_which_recipe_it_looks_at_with_the_precision_that_was_used(trained):
    seen = []

    @measures.register("spy")
    def spy(context):
        """What it is given."""
        seen.append(context.recipe)
        return {}

    (one, _, weights_one), (two, _, weights_two) = trained
    spied = (Measurement(name="spy"),)
    run_trial(task(Trial(recipe=replace(RECIPE, seed=5), measures=spied)))
    run_trial(task(Trial(parents=(one, two), measures=spied), weights_one, weights_two))
    assert seen == [replace(RECIPE, seed=5, precision="float32"), replace(one.recipe, precision="float32")]


def test_an_unknown_measure_is_named_with_the_nearest(trained):
    one, _, weights = trained[0]
    with pytest.raises(InputError, match="measure = 'weight_nrom': unknown; did you mean 'weight_norm'"):
        run_trial(task(Trial(parents=(one,), measures=(Measurement(name="weight_nrom"),)), weights))


def test_a_diverged_trial_is_recorded_without_numbers():
    recipe = replace(
        RECIPE, model=ModelConfig(name="B-1/Wi-16", norm="none"), optimizer=OptimizerConfig(name="sgd", lr=1e30)
    )
    record, _ = run_trial(task(Trial(recipe=recipe, measures=(Measurement(name="weight_norm"),))))
    assert record.diverged["epoch"] == 0
    assert record.metrics["test_accuracy"] is None and record.predictions is None
    assert "weight_norm" not in record.metrics
    assert Record.from_json(record.to_json()) == record


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("last_step", [1, 8, 11])
def test_an_interrupted_trial_resumes_where_it_stood_and_ends_with_the_same_bits(trained, tmp_path, last_step):
    trial, record, weights = trained[0]
    checkpoint = tmp_path / "state.pt"

    def interrupt(step: int, total: int) -> None:
        if step > last_step:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(
            replace(trial.recipe, precision="float32"),
            OBSERVERS,
            device="cpu",
            checkpoint=checkpoint,
            checkpoint_every_s=0.0,
            on_step=interrupt,
        )
    steps = []
    resumed, resumed_weights = run_trial(task(trial, checkpoint=checkpoint), lambda step, total: steps.append(step))
    assert steps[0] == last_step + 1 and steps[-1] == 16
    assert without_clock(resumed) == without_clock(record)
    assert resumed_weights == weights


def test_another_trials_checkpoint_is_not_resumed(trained, tmp_path):
    (one, *_), (two, record, _) = trained
    checkpoint = tmp_path / "state.pt"

    def interrupt(step: int, total: int) -> None:
        if step > 5:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(
            replace(one.recipe, precision="float32"),
            OBSERVERS,
            device="cpu",
            checkpoint=checkpoint,
            checkpoint_every_s=0.0,
            on_step=interrupt,
        )
    found, _ = run_trial(task(two, checkpoint=checkpoint))
    assert without_clock(found) == without_clock(record)


def test_batches_that_do_not_fit_are_found_in_any_ancestor():
    large = Trial(recipe=replace(RECIPE, budget=BudgetConfig(batch_size=65)))
    require_fitting_data([Trial(recipe=RECIPE)])
    child = Trial(recipe=replace(RECIPE, start="parent"), parents=(large,))
    for trial in (large, child, Trial(parents=(child,), measures=PAIR)):
        with pytest.raises(InputError, match="batch_size = 65: expected at most 64"):
            require_fitting_data([Trial(recipe=RECIPE), trial])
