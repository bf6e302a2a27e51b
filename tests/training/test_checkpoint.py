"""Interrupted runs end with the bits of uninterrupted ones; damaged or foreign checkpoints never get in."""

import io
import os

import numpy as np
import pytest
import torch

from mlptheory.base.files import sha256
from mlptheory.data import Augmentation
from mlptheory.models import ModelConfig
from mlptheory.training import BudgetConfig, DataConfig, Observer, OptimizerConfig, Recipe, ScheduleConfig, train
from mlptheory.training.checkpoint import load_checkpoint, save_checkpoint

STATE = {"weights": torch.arange(40, dtype=torch.float64), "counts": [1, 2], "history": [[1, 0, "loss", 0.5]]}


def _recipe(optimizer="lion", **changes):
    return Recipe(
        data=DataConfig(name="tiny"),
        model=ModelConfig(name="B-1/Wi-6", dropout=0.2),
        augmentation=Augmentation(crop_scale=(0.4, 1.0), mixup=0.8),
        optimizer=OptimizerConfig(name=optimizer, lr=1e-2, weight_decay=0.1),
        budget=BudgetConfig(amount=3, batch_size=16, microbatch=7),
        schedule=ScheduleConfig(name="cosine", warmup=2),
        precision="float32",
        **changes,
    )


OBSERVERS = (Observer(name="evaluation", every="doubling"),)


def _train(recipe, path=None, stop_at=None):
    """Return the run, or None if it was stopped, and the steps that it took itself."""
    taken = []

    def on_step(step, total):
        taken.append(step)
        if step == stop_at:
            raise KeyboardInterrupt

    try:
        trained = train(recipe, OBSERVERS, device="cpu", checkpoint=path, checkpoint_every_s=0, on_step=on_step)
    except KeyboardInterrupt:
        return None, taken
    return trained, taken


def _assert_same(a, b):
    left, right = a.model.state_dict(), b.model.state_dict()
    assert list(left) == list(right)
    for name in left:
        assert torch.equal(left[name], right[name]), name
    assert a.history == b.history
    assert a.diverged == b.diverged
    for split, evaluation in a.evaluations.items():
        other = b.evaluations[split]
        assert (evaluation.loss, evaluation.top1, evaluation.top5) == (other.loss, other.top1, other.top5)
        assert np.array_equal(evaluation.predictions, other.predictions)


@pytest.mark.parametrize("optimizer", ["lion", "adamw", "sgd"])
def test_a_run_stopped_again_and_again_ends_with_the_same_bits(optimizer, tmp_path):
    recipe, path = _recipe(optimizer), tmp_path / "run.pt"
    whole, _ = _train(recipe)
    # Of 3 batches an epoch: in mid-epoch, on an epoch's last batch, on the next one's first, twice at one step.
    steps = []
    for stop_at in (2, 3, 4, 5, 5, 7, 9):
        stopped, taken = _train(recipe, path, stop_at)
        assert stopped is None and taken[-1] == stop_at
        steps.append(taken[0])
    assert steps == [1, 2, 3, 4, 5, 5, 7]
    resumed, taken = _train(recipe, path)
    assert taken == [9]
    _assert_same(whole, resumed)


def test_batch_normalizations_statistics_are_resumed_too(tmp_path):
    plain = _recipe().to_plain()
    plain["budget"]["microbatch"] = None
    plain["model"].update(norm="batch")
    recipe = Recipe.from_plain(plain)
    whole, _ = _train(recipe)
    _train(recipe, tmp_path / "run.pt", stop_at=5)
    _assert_same(whole, _train(recipe, tmp_path / "run.pt")[0])


def test_a_run_that_diverges_after_it_was_resumed_says_so_at_the_same_step(tmp_path):
    plain = _recipe("sgd").to_plain()
    plain["optimizer"]["lr"] = 1e30
    recipe = Recipe.from_plain(plain)
    whole, _ = _train(recipe)
    assert whole.diverged is not None
    stop_at = whole.diverged["step"] + 1
    _train(recipe, tmp_path / "run.pt", stop_at=stop_at)
    resumed, _ = _train(recipe, tmp_path / "run.pt")
    assert resumed.diverged == whole.diverged
    np.testing.assert_equal(np.array(resumed.history)[:, 3], np.array(whole.history)[:, 3])


def test_writing_checkpoints_changes_nothing(tmp_path):
    _assert_same(_train(_recipe())[0], _train(_recipe(), tmp_path / "run.pt")[0])


@pytest.mark.parametrize("other", [_recipe(seed=1), _recipe("sgd"), _recipe(label_smoothing=0.0)])
def test_another_recipes_checkpoint_is_ignored(other, tmp_path):
    _train(other, tmp_path / "run.pt", stop_at=5)
    trained, taken = _train(_recipe(), tmp_path / "run.pt")
    assert taken[0] == 1
    _assert_same(trained, _train(_recipe())[0])


def test_the_order_in_which_a_parents_weights_were_read_does_not_matter(tmp_path):
    child, path = _recipe(start="parent"), tmp_path / "run.pt"
    weights = _train(_recipe(seed=1))[0].model.state_dict()

    def stop(step, total):
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(child, device="cpu", start_weights=weights, checkpoint=path, checkpoint_every_s=0, on_step=stop)
    taken, otherwise = [], dict(reversed(weights.items()))
    resumed = train(
        child, device="cpu", start_weights=otherwise, checkpoint=path, on_step=lambda step, _: taken.append(step)
    )
    assert taken[0] > 1
    _assert_same(resumed, train(child, device="cpu", start_weights=weights))


def test_another_parents_checkpoint_is_ignored(tmp_path):
    child, path = _recipe(start="parent"), tmp_path / "run.pt"
    parents = [_train(_recipe(seed=seed))[0].model.state_dict() for seed in (1, 2)]

    def stop(step, total):
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(child, device="cpu", start_weights=parents[0], checkpoint=path, checkpoint_every_s=0, on_step=stop)
    taken = []
    second = train(
        child, device="cpu", start_weights=parents[1], checkpoint=path, on_step=lambda step, _: taken.append(step)
    )
    assert taken[0] == 1
    _assert_same(second, train(child, device="cpu", start_weights=parents[1]))


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_checkpoint_is_set_aside_and_the_run_is_right(keep, tmp_path):
    path = tmp_path / "run.pt"
    _train(_recipe(), path, stop_at=5)
    content = path.read_bytes()
    cut = content[: keep if isinstance(keep, int) else int(keep * len(content))]
    path.write_bytes(cut)
    with pytest.warns(UserWarning, match=r"checkpoint run\.pt: damaged .*; set aside as run\.pt\.damaged"):
        trained, taken = _train(_recipe(), path)
    assert taken[0] == 1
    assert (tmp_path / "run.pt.damaged").read_bytes() == cut
    _assert_same(trained, _train(_recipe())[0])


def test_no_flipped_byte_gets_in(tmp_path):
    path = tmp_path / "run.pt"
    save_checkpoint(path, "mine", STATE)
    content = path.read_bytes()
    assert load_checkpoint(path, "mine", "cpu")["counts"] == [1, 2]
    for position in range(0, len(content), 5):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x41]) + content[position + 1 :])
        with pytest.warns(UserWarning, match=r"checkpoint .*: damaged"):
            assert load_checkpoint(path, "mine", "cpu") is None


class _Caller:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def _write(path, content, form="zip"):
    """Write what a forger would: the digest is right, the content is not."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=form == "zip")
    written = buffer.getvalue()
    path.write_bytes(sha256(written).encode() + written)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_checkpoint_that_calls_code_is_set_aside_unopened(form, tmp_path):
    path, proof = tmp_path / "run.pt", tmp_path / "proof"
    _write(path, {"run": "mine", "state": _Caller(proof)}, form)
    with pytest.warns(UserWarning, match=r"checkpoint .*: damaged"):
        assert load_checkpoint(path, "mine", "cpu") is None
    assert not proof.exists()
    assert (tmp_path / "run.pt.damaged").exists() and not path.exists()
    # The proof proves something: unpickled without care, the file does call.
    written = (tmp_path / "run.pt.damaged").read_bytes()[64:]
    torch.load(io.BytesIO(written), weights_only=False)
    assert proof.exists()


@pytest.mark.parametrize("content", [[1, 2], {"run": "mine"}, {"state": {}}, 3])
def test_what_is_no_checkpoint_is_set_aside(content, tmp_path):
    _write(tmp_path / "run.pt", content)
    with pytest.warns(UserWarning, match=r"checkpoint .*: damaged"):
        assert load_checkpoint(tmp_path / "run.pt", "mine", "cpu") is None


def test_a_missing_checkpoint_and_a_foreign_one_are_no_reason_to_warn(tmp_path):
    assert load_checkpoint(tmp_path / "run.pt", "mine", "cpu") is None
    save_checkpoint(tmp_path / "run.pt", "theirs", STATE)
    assert load_checkpoint(tmp_path / "run.pt", "mine", "cpu") is None
    assert load_checkpoint(tmp_path / "run.pt", "theirs", "cpu")["history"] == STATE["history"]
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]
