"""Members of an ensemble against their own single runs, and the ensemble's promises at the edges."""

import copy
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from mlptheory.base import InputError
from mlptheory.data import Augmentation
from mlptheory.models import ModelConfig
from mlptheory.training import (
    BudgetConfig,
    DataConfig,
    Observer,
    OptimizerConfig,
    Recipe,
    ScheduleConfig,
    can_train_together,
    observers,
    together_key,
    train,
    train_ensemble,
)

EXACT = {"rtol": 0, "atol": 1e-10}
LION, ADAMW = OptimizerConfig(name="lion", lr=1e-3), OptimizerConfig(name="adamw", lr=1e-3)
SGD = OptimizerConfig(name="sgd", lr=0.05)
STEPS = BudgetConfig(amount=40, unit="steps", batch_size=16)
LONG = replace(STEPS, amount=200)
SMLP, BMLP = ModelConfig(name="S-2/Wi-6"), ModelConfig(name="B-1/Wi-5")
# Two channels a group: of one, GroupNorm would cancel the biases, and the sign of rounding errors would move them.
CNN = ModelConfig(name="CNN-2/Wi-16")
COSINE = ScheduleConfig(name="cosine", warmup=7)


def _recipe(**changes):
    base = {"data": DataConfig(name="tiny"), "model": BMLP, "optimizer": LION, "budget": STEPS}
    return Recipe(**{**base, "precision": "float64", **changes})


def members(recipe, lrs=(1.0, 0.3, 2.0), first_seed=4):
    return [
        replace(recipe, seed=first_seed + index, optimizer=replace(recipe.optimizer, lr=recipe.optimizer.lr * factor))
        for index, factor in enumerate(lrs)
    ]


def assert_same(member, single, **tolerance):
    """Compare everything that a run reports."""
    tolerance = tolerance or EXACT
    assert member.recipe == single.recipe and member.precision == single.precision
    assert member.diverged == single.diverged
    left, right = member.model.state_dict(), single.model.state_dict()
    assert list(left) == list(right) and not member.model.training
    for name in left:
        np.testing.assert_allclose(left[name].cpu(), right[name].cpu(), **tolerance, err_msg=name)
    assert [row[:3] for row in member.history] == [row[:3] for row in single.history]
    values = [[row[3] for row in run.history] for run in (member, single)]
    if member.diverged:
        # Which sums of infinities are no numbers hangs on their order, and so do the hits of that epoch.
        values = [of_run[:-1] for of_run in values]
    np.testing.assert_allclose(*values, **tolerance)
    assert list(member.evaluations) == list(single.evaluations)
    for split, evaluation in member.evaluations.items():
        other = single.evaluations[split]
        assert (evaluation.top1, evaluation.top5, evaluation.n) == (other.top1, other.top5, other.n)
        np.testing.assert_allclose(evaluation.loss, other.loss, **tolerance)
        assert np.array_equal(evaluation.predictions, other.predictions)


RECIPES = {
    "lion, B-MLP": _recipe(budget=LONG),
    "adamw, B-MLP": _recipe(optimizer=ADAMW, budget=LONG),
    "sgd, B-MLP": _recipe(optimizer=SGD, budget=LONG),
    "lion, S-MLP without normalization": _recipe(model=replace(SMLP, norm="none")),
    "adamw, S-MLP, decay, clipping, cosine": _recipe(
        model=SMLP, optimizer=replace(ADAMW, weight_decay=0.1, clip_norm=0.5, betas=(0.8, 0.95)), schedule=COSINE
    ),
    "sgd, S-MLP of the authors, decay, clipping, cosine": _recipe(
        model=replace(SMLP, variant="authors"),
        optimizer=replace(SGD, weight_decay=0.1, clip_norm=0.5),
        schedule=COSINE,
    ),
    "adamw, plain MLP with tanh, dropout": _recipe(
        model=ModelConfig(name="MLP-2/Wi-7", norm="none", activation="tanh", dropout=0.2), optimizer=ADAMW
    ),
    "sgd without momentum": _recipe(optimizer=replace(SGD, momentum=0.0)),
    "lion, CNN, decay, clipping, warm-up": _recipe(
        model=CNN,
        optimizer=replace(LION, weight_decay=0.5, clip_norm=0.5),
        schedule=ScheduleConfig(warmup=5),
    ),
    "lion, dropout, MixUp per batch, crops": _recipe(
        model=replace(BMLP, dropout=0.3),
        augmentation=Augmentation(crop_scale=(0.4, 1.0), flip=True, shift=1, mixup=0.8),
    ),
    "sgd, noise in place of crops and shifts, a permutation": _recipe(
        data=DataConfig(name="tiny", pixel_permutation=2),
        augmentation=Augmentation(crop_scale=(0.4, 1.0), shift=1, as_noise=True),
        optimizer=SGD,
    ),
    "sgd, MixUp per example, label noise, validation": _recipe(
        data=DataConfig(name="tiny", n=31, validation=6, label_noise=0.4, pixel_permutation=2),
        optimizer=SGD,
        augmentation=Augmentation(mixup=0.4, mixup_per="example"),
    ),
    "sgd, squared error, MixUp per example, validation": _recipe(
        data=DataConfig(name="tiny", n=31, validation=6),
        loss="squared_error",
        optimizer=SGD,
        augmentation=Augmentation(mixup=0.4, mixup_per="example"),
    ),
    "adamw, CNN with dropout, shuffled labels": _recipe(
        data=DataConfig(name="tiny", shuffle_labels=True, image_size=6),
        model=replace(CNN, dropout=0.2),
        optimizer=ADAMW,
    ),
    "sgd, muP": _recipe(
        model=replace(BMLP, parametrization="mup", base_width=2), optimizer=replace(SGD, weight_decay=0.2)
    ),
    "lion, muP": _recipe(
        model=replace(BMLP, parametrization="mup", base_width=2), optimizer=replace(LION, weight_decay=0.2)
    ),
    "adamw, NTK": _recipe(model=replace(SMLP, parametrization="ntk"), optimizer=ADAMW),
    "epochs, last batches left out": _recipe(budget=BudgetConfig(amount=3, batch_size=12, drop_last=True)),
    "sgd, a budget of compute": _recipe(
        model=ModelConfig(name="B-1/Wi-256"),
        budget=BudgetConfig(amount=1, unit="compute", batch_size=41),
        optimizer=SGD,
    ),
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_each_member_is_its_own_single_run(recipe):
    recipes = members(recipe)
    for member, single in zip(train_ensemble(recipes, device="cpu"), recipes, strict=True):
        assert_same(member, train(single, device="cpu"))


def test_an_ensemble_of_one_is_the_run():
    recipe = _recipe(model=replace(BMLP, dropout=0.3), augmentation=Augmentation(mixup=0.5))
    (member,) = train_ensemble([recipe], device="cpu")
    assert_same(member, train(recipe, device="cpu"))


def test_members_may_share_a_seed_and_come_in_any_order():
    recipes = members(_recipe(), lrs=(1.0, 1.0, 0.5))
    recipes[2] = replace(recipes[0], optimizer=recipes[2].optimizer)
    there, back = train_ensemble(recipes, device="cpu"), train_ensemble(recipes[::-1], device="cpu")
    for one, other in zip(there, reversed(back), strict=True):
        assert_same(one, other)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("bfloat16", 2e-2)])
def test_other_precisions_are_near_their_single_runs(precision, tolerance):
    recipe = _recipe(
        precision=precision,
        model=replace(BMLP, dropout=0.2),
        optimizer=replace(SGD, clip_norm=0.5),
        budget=BudgetConfig(amount=1, batch_size=16),
    )
    recipes = members(recipe)
    for member, single in zip(train_ensemble(recipes, device="cpu"), recipes, strict=True):
        own = train(single, device="cpu")
        assert {value.dtype for value in member.model.parameters()} == {torch.float32}
        assert member.precision == own.precision == precision
        for (name, value), other in zip(member.model.named_parameters(), own.model.parameters(), strict=True):
            torch.testing.assert_close(value, other, rtol=0, atol=tolerance, msg=name)
        for row, other in zip(member.history, own.history, strict=True):
            assert row[:3] == other[:3] and row[3] == pytest.approx(other[3], abs=tolerance)


@pytest.mark.cuda
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_each_member_is_its_own_single_run_on_cuda(recipe):
    recipes = members(recipe)
    for member, single in zip(train_ensemble(recipes, device="cuda"), recipes, strict=True):
        assert_same(member, train(single, device="cuda"), rtol=0, atol=1e-9)


@pytest.mark.parametrize("diverging", [(1,), (0, 2), (0, 1, 2)])
def test_a_member_that_diverges_ends_alone_and_as_its_single_run(diverging):
    recipe = _recipe(
        model=ModelConfig(name="S-1/Wi-5", norm="none"), optimizer=SGD, budget=BudgetConfig(amount=3, batch_size=8)
    )
    recipes = members(recipe, lrs=[1e61 if index in diverging else 1.0 for index in range(3)])
    look = [Observer(name="evaluation", every="doubling"), Observer(name="evaluation", every="octave")]
    found = train_ensemble(recipes, look, device="cpu")
    for index, (member, single) in enumerate(zip(found, recipes, strict=True)):
        assert (member.diverged is not None) == (index in diverging)
        assert_same(member, train(single, look, device="cpu"), rtol=1e-10)
    steps = []
    train_ensemble(recipes, device="cpu", on_step=lambda step, total: steps.append((step, total)))
    assert steps == [(step, 18) for step in range(1, 7 if len(diverging) == 3 else 19)]


def test_members_that_diverge_in_different_epochs_keep_the_weights_they_ended_with():
    recipe = _recipe(
        model=ModelConfig(name="S-3/Wi-5", norm="none"), optimizer=SGD, budget=BudgetConfig(amount=6, batch_size=41)
    )
    recipes = members(recipe, lrs=(1e61, 1e21, 1e4, 1.0))
    found = train_ensemble(recipes, device="cpu")
    epochs = [None if member.diverged is None else member.diverged["epoch"] for member in found]
    assert len(set(epochs)) >= 3 and epochs[-1] is None
    for member, single in zip(found, recipes, strict=True):
        assert_same(member, train(single, device="cpu"), rtol=1e-9)


def test_weights_that_overflow_in_the_last_step_count_as_divergence():
    recipe = _recipe(
        model=ModelConfig(name="B-1/Wi-6", output_scale=1e4),
        optimizer=SGD,
        budget=BudgetConfig(amount=1, unit="steps", batch_size=41),
        precision="float32",
    )
    recipes = members(recipe, lrs=(2e39, 1e-6))
    found = train_ensemble(recipes, [Observer(name="evaluation", every="end")], device="cpu")
    assert found[0].diverged == {"step": 1, "epoch": 1} and found[0].evaluations == {}
    assert [row[2] for row in found[0].history] == ["train_loss", "train_accuracy"]
    assert found[1].diverged is None and found[1].evaluations["test"].n == 23


@pytest.fixture
def seen(monkeypatch):
    """An observer for tests; returns copies of what it was handed, by seed."""
    monkeypatch.setattr(observers, "_entries", dict(observers._entries))
    states = {}

    @observers.register("spy")
    def spy(state):
        assert state.model.training
        state.model.eval()
        torch.rand(3), np.random.random(3), random.random()  # noqa: NPY002
        weights = {name: value.detach().clone() for name, value in state.model.named_parameters()}
        initial = {name: value.detach().clone() for name, value in state.initial_parameters().items()}
        kept = {
            "weights": weights,
            "initial": initial,
            "optimizer": copy.deepcopy(state.optimizer_state),
            "loss": state.evaluate("validation").loss,
            "at": (state.step, state.epoch),
            "recipe": state.recipe,
            "labels": state.examples.train.labels,
            "history": state.history,
        }
        states.setdefault(state.recipe.seed, []).append(kept)
        return {"moved": sum((weights[name] - initial[name]).square().sum().item() for name in weights)}

    return states


def _assert_alike(one, other):
    if isinstance(one, dict):
        assert list(one) == list(other)
        for name in one:
            _assert_alike(one[name], other[name])
    elif isinstance(one, (list, tuple)):
        assert type(one) is type(other) and len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            _assert_alike(a, b)
    elif isinstance(one, torch.Tensor):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=1e-10)
    else:
        assert one == other


@pytest.mark.parametrize("optimizer", [LION, ADAMW, SGD, replace(SGD, momentum=0.0)])
def test_observers_see_each_member_as_they_see_its_single_run(optimizer, seen):
    recipe = _recipe(
        data=DataConfig(name="tiny", validation=6, label_noise=0.3),
        model=replace(BMLP, parametrization="mup", base_width=2),
        optimizer=replace(optimizer, weight_decay=0.1),
        schedule=COSINE,
        budget=BudgetConfig(amount=2, batch_size=16),
    )
    look = [Observer(name="spy", every="doubling"), Observer(name="evaluation", every="octave")]
    recipes = members(recipe)
    together = train_ensemble(recipes, look, device="cpu")
    of_members = {seed: list(states) for seed, states in seen.items()}
    seen.clear()
    for member, single in zip(together, recipes, strict=True):
        assert_same(member, train(single, look, device="cpu"))
    assert list(of_members) == list(seen) == [4, 5, 6]
    for seed, states in seen.items():
        _assert_alike(of_members[seed], states)
    assert [state["at"] for state in seen[4]] == [(0, 0), (3, 1), (6, 2)]


def test_looking_changes_nothing(seen):
    recipes = members(_recipe(data=DataConfig(name="tiny", validation=6), model=replace(BMLP, dropout=0.2)))
    alone = train_ensemble(recipes, device="cpu")
    watched = train_ensemble(recipes, [Observer(name="spy", every="doubling")], device="cpu")
    for one, other in zip(alone, watched, strict=True):
        assert same_bits(one, other)
        assert [row for row in other.history if row[2].startswith("train_")] == list(one.history)


def same_bits(one, other):
    left, right = one.model.state_dict(), other.model.state_dict()
    return list(left) == list(right) and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("optimizer", [LION, ADAMW, SGD])
def test_an_ensemble_stopped_again_and_again_ends_with_the_same_bits(optimizer, tmp_path):
    recipe = _recipe(
        model=replace(BMLP, dropout=0.2),
        optimizer=replace(optimizer, weight_decay=0.1),
        augmentation=Augmentation(crop_scale=(0.4, 1.0), mixup=0.8),
        budget=BudgetConfig(amount=3, batch_size=16),
        schedule=COSINE,
        precision="float32",
    )
    # The second member overflows in the first epoch; what it ended with is resumed too.
    recipes, path = members(recipe, lrs=(1.0, 1e45 if optimizer is SGD else 0.3, 2.0)), tmp_path / "ensemble.pt"
    look = [Observer(name="evaluation", every="doubling")]

    def sit(stop_at=None, checkpoint=path):
        taken = []

        def on_step(step, total):
            taken.append(step)
            if step == stop_at:
                raise KeyboardInterrupt

        options = {"checkpoint": checkpoint, "checkpoint_every_s": 0, "on_step": on_step}
        try:
            return train_ensemble(recipes, look, device="cpu", **options), taken
        except KeyboardInterrupt:
            return None, taken

    whole, _ = sit(checkpoint=None)
    first_steps = [sit(stop_at)[1][0] for stop_at in (2, 3, 4, 5, 5, 7, 9)]
    assert first_steps == [1, 2, 3, 4, 5, 5, 7]
    resumed, taken = sit()
    assert taken == [9]
    assert [member.diverged is not None for member in whole] == [False, optimizer is SGD, False]
    for one, other in zip(whole, resumed, strict=True):
        assert one.diverged == other.diverged and one.earlier_s == 0 < other.earlier_s
        assert repr(one.history) == repr(other.history)
        assert [value.loss for value in one.evaluations.values()] == [
            value.loss for value in other.evaluations.values()
        ]
        for (name, left), right in zip(one.model.named_parameters(), other.model.parameters(), strict=True):
            np.testing.assert_array_equal(left.detach().numpy(), right.detach().numpy(), err_msg=name)


def test_another_ensembles_checkpoint_is_ignored(tmp_path):
    recipes, path = members(_recipe(budget=BudgetConfig(amount=1, batch_size=16))), tmp_path / "ensemble.pt"

    def stop(step, total):
        raise KeyboardInterrupt

    for others in (recipes[:2], recipes[::-1]):
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                train_ensemble(others, device="cpu", checkpoint=path, checkpoint_every_s=0, on_step=stop)
        steps = []
        train_ensemble(recipes, device="cpu", checkpoint=path, on_step=lambda step, _, steps=steps: steps.append(step))
        assert steps == [1, 2, 3]
        path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"loss": "squared_error"},
            r"recipes\[1\]\.loss = 'squared_error': expected 'cross_entropy', as the first has",
        ),
        ({"label_smoothing": 0.1}, r"recipes\[1\]\.label_smoothing = 0\.1: expected 0\.3, as the first has"),
        ({"optimizer": replace(LION, name="adamw")}, r"recipes\[1\]\.optimizer\.name = 'adamw': expected 'lion'"),
        ({"model": replace(BMLP, dropout=0.1)}, r"recipes\[1\]\.model\.dropout = 0\.1: expected 0\.0"),
        ({"data": DataConfig(name="tiny", n=30)}, r"recipes\[1\]\.data\.n = 30: expected None"),
        ({"augmentation": Augmentation(crop_scale=(0.5, 1.0))}, r"recipes\[1\]\.augmentation\.crop_scale = "),
        ({"precision": "float32"}, r"recipes\[1\]\.precision = 'float32': expected 'float64'"),
    ],
)
def test_the_first_difference_is_named(changes, message):
    with pytest.raises(InputError, match=message):
        train_ensemble([_recipe(), replace(_recipe(seed=1), **changes)], device="cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": "parent"}, "start = 'parent': expected 'initialization' in an ensemble"),
        ({"model": replace(BMLP, norm="batch")}, r"model\.norm = 'batch': expected 'layer' or 'none' in an ensemble"),
        ({"budget": replace(STEPS, microbatch=8)}, r"budget\.microbatch = 8: expected nothing in an ensemble"),
        ({"budget": replace(STEPS, batch_size=42)}, "batch_size = 42: larger than the training set of 41 examples"),
    ],
)
def test_what_cannot_be_an_ensemble_is_refused(changes, message):
    recipe = _recipe(**changes)
    with pytest.raises(InputError, match=message):
        train_ensemble(members(recipe), device="cpu")
    assert can_train_together(recipe) == ("larger" in message)


def test_no_members_and_unknown_observers_are_refused():
    with pytest.raises(InputError, match=r"recipes = \(\): expected at least one"):
        train_ensemble([], device="cpu")
    with pytest.raises(InputError, match=r"observer = 'evalution': unknown; did you mean 'evaluation'\?"):
        train_ensemble([_recipe()], [Observer(name="evalution", every="end")], device="cpu")


def test_a_microbatch_of_the_whole_batch_is_none():
    assert can_train_together(_recipe(budget=replace(STEPS, microbatch=16)))


def test_together_goes_by_all_but_seed_and_learning_rate():
    one, two = members(_recipe(), lrs=(1.0, 3.0))
    assert one != two and together_key(one) == together_key(two)
    assert together_key(one) != together_key(replace(one, label_smoothing=0.0))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_nothing_global_goes_in_or_out(precision):
    def states():
        name, keys, *rest = np.random.get_state()  # noqa: NPY002
        return torch.get_rng_state().tolist(), (name, keys.tolist(), *rest), random.getstate()

    recipe = _recipe(precision=precision, model=replace(BMLP, dropout=0.2), budget=replace(STEPS, amount=4))
    look = [Observer(name="evaluation")]
    before = states()
    alone = train_ensemble(members(recipe), look, device="cpu")
    assert states() == before
    torch.manual_seed(99)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = train_ensemble(members(recipe), look, device="cpu")
    for one, other in zip(alone, inside, strict=True):
        assert same_bits(one, other) and one.history == other.history
