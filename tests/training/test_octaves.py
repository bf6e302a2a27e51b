"""Looks four times an octave of steps, within epochs too, the same for a run, a resumed run and a member."""

from __future__ import annotations

import math

import pytest

from mlptheory.models import ModelConfig
from mlptheory.training import (
    BudgetConfig,
    DataConfig,
    Observer,
    Recipe,
    count_work,
    train,
    train_ensemble,
)

RECIPE = Recipe(
    data=DataConfig(n=96),
    model=ModelConfig(name="B-1/Wi-8"),
    budget=BudgetConfig(amount=3, batch_size=8),
    precision="float64",
)
LOOKS = (Observer(name="evaluation", every="octave"),)


def _seen(history):
    return [(step, epoch) for step, epoch, quantity, _ in history if quantity == "test_loss"]


def test_steps_are_spaced_evenly_in_their_logarithm():
    due = [step for step in range(1, 5000) if LOOKS[0].is_due_at_step(step)]
    assert due == sorted({math.floor(2 ** (quarter / 4)) for quarter in range(50) if 2 ** (quarter / 4) < 5000})


def test_a_run_is_looked_at_from_its_start_to_its_end_within_epochs():
    steps = [0, 1, 2, 3, 4, 5, 6, 8, 9, 11, 13, 16, 19, 22, 26, 32, 36]
    assert _seen(train(RECIPE, LOOKS, device="cpu").history) == [
        (step, 3 if step == 36 else step // 12 if step % 12 else max(0, step // 12 - 1)) for step in steps
    ]
    assert count_work(RECIPE, 96, LOOKS).evaluations == len(steps) + 1


def test_a_member_of_an_ensemble_is_looked_at_like_a_run():
    single = train(RECIPE, LOOKS, device="cpu")
    member = train_ensemble([RECIPE], LOOKS, device="cpu")[0]
    assert _seen(member.history) == _seen(single.history)
    for (*_, one), (*_, other) in zip(member.history, single.history, strict=True):
        assert one == pytest.approx(other, rel=1e-9)


def test_a_resumed_run_looks_at_no_step_twice(tmp_path):
    whole = train(RECIPE, LOOKS, device="cpu")

    def stop(step, total):
        if step == 14:
            raise KeyboardInterrupt

    path = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, LOOKS, device="cpu", checkpoint=path, checkpoint_every_s=0, on_step=stop)
    assert train(RECIPE, LOOKS, device="cpu", checkpoint=path).history == whole.history
