import itertools

import numpy as np
import pandas as pd
import pytest

from mlptheory.probes import BatchSize
from mlptheory.probes.batchsize.tuning import choose, edges
from tests.probes.batchsize.conftest import PROBE, WIDE, quiet

SMALL = BatchSize(batch_sizes=(8, 32), lengths=(1,), lr=1.0, lr_grid=(0.5, 1.0, 2.0, 4.0))


def table(accuracies, losses=None, diverged=()):
    """Return tuning rows of one cell: by learning rate, the accuracies of its seeds."""
    rows = []
    for lr, values in accuracies.items():
        for seed, accuracy in enumerate(values):
            loss = 1.0 if losses is None else losses[lr][seed]
            rows.append(
                {"role": "tuning", "arm": "mlp", "policy": "tuned", "length": 1, "batch_size": 8, "lr": lr}
                | {"block": seed, "validation_accuracy": accuracy, "validation_loss": loss}
                | {"diverged": (lr, seed) in diverged, "test_accuracy": 0.5}
            )
    return pd.DataFrame(rows)


def chosen(frame):
    return choose(SMALL, frame)["mlp", 1, 8]


def test_the_highest_mean_over_seeds_is_chosen_not_the_highest_run():
    found = chosen(table({0.5: [0.1, 0.2], 1.0: [0.9, 0.1], 2.0: [0.6, 0.6], 4.0: [0.5, 0.5]}))
    assert (found.lr, found.edge) == (2.0, "")


def test_ties_go_to_the_lower_loss_and_then_to_the_smaller_learning_rate():
    tied = {0.5: [0.1], 1.0: [0.7], 2.0: [0.7], 4.0: [0.1]}
    assert chosen(table(tied, {0.5: [0.1], 1.0: [0.9], 2.0: [0.8], 4.0: [0.1]})).lr == 2.0
    for losses in (None, {0.5: [0.1], 1.0: [0.8], 2.0: [0.8], 4.0: [0.1]}):
        frame = table(tied, losses)
        assert chosen(frame).lr == chosen(frame.iloc[::-1]).lr == 1.0


def test_a_learning_rate_at_which_any_run_diverged_is_not_chosen():
    best = {0.5: [0.1, 0.1], 1.0: [0.3, 0.3], 2.0: [0.9, np.nan], 4.0: [0.2, 0.2]}
    for diverged in ({(2.0, 1)}, ()):
        assert chosen(table(best, diverged=diverged)).lr == 1.0
    assert chosen(table({**best, 2.0: [0.9, 0.9]}, diverged={(2.0, 0)})).lr == 1.0


@pytest.mark.parametrize(("best", "edge"), [(0.5, "smallest"), (1.0, ""), (2.0, ""), (4.0, "largest")])
def test_edges_are_those_of_the_grid(best, edge):
    found = chosen(table({lr: [0.9 if lr == best else 0.5] for lr in (4.0, 0.5, 2.0, 1.0)}))
    assert (found.lr, found.edge) == (best, edge)


def test_an_edge_counts_where_all_beyond_diverged():
    """The largest learning rates diverged, so the best lies within the grid."""
    found = chosen(table({0.5: [0.1], 1.0: [0.2], 2.0: [0.3], 4.0: [np.nan]}, diverged={(4.0, 0)}))
    assert (found.lr, found.edge) == (2.0, "")


def test_where_all_diverged_the_smallest_is_taken_and_is_an_edge():
    frame = table({lr: [np.nan] for lr in SMALL.lr_grid}, diverged={(lr, 0) for lr in SMALL.lr_grid})
    frame["validation_accuracy"] = frame["validation_accuracy"].astype(object).where(lambda value: value.notna(), None)
    assert (chosen(frame).lr, chosen(frame).edge) == (0.5, "smallest")


def test_the_test_set_and_all_other_rows_have_no_say():
    frame = quiet(WIDE, change=3.0, drift=1.5)
    before = choose(WIDE, frame)
    assert set(before) == set(itertools.product(("mlp", "cnn"), (5, 20), (16, 64, 256)))
    tuning = frame["role"] == "tuning"
    rng = np.random.default_rng(0)
    changed = frame.copy()
    for name in ("test_accuracy", "examples_to_target", "sharpness_at_target", "chance_accuracy", "excess_loss"):
        changed[name] = rng.permutation(changed[name])
    changed.loc[~tuning, ["validation_accuracy", "validation_loss", "lr"]] = 1.0
    changed.loc[~tuning, "diverged"] = True
    assert choose(WIDE, changed) == before
    assert choose(WIDE, frame[tuning]) == before
    assert choose(WIDE, frame.sample(frac=1, random_state=3)) == before
    changed.loc[tuning, "validation_accuracy"] = -frame.loc[tuning, "validation_accuracy"]
    assert choose(WIDE, changed) != before


def test_a_drift_of_the_best_learning_rate_is_followed():
    """The best at the largest batch size lies two octaves above that at the smallest."""
    for (_, _, size), choice in choose(PROBE, quiet(PROBE, drift=2.0, curvature=5.0)).items():
        assert np.log2(choice.lr / PROBE.base_lr("mlp")) == pytest.approx({16: 0, 64: 1, 256: 2}[size])
        assert not choice.edge


def test_edges_are_told_for_the_arms_asked_of():
    frame = quiet(WIDE)
    tuning = (frame["role"] == "tuning") & (frame["arm"] == "cnn") & (frame["length"] == 20)
    frame.loc[tuning, "validation_accuracy"] = frame.loc[tuning, "lr"]
    found = choose(WIDE, frame)
    assert edges(WIDE, found, ("mlp",)) is None
    told = edges(WIDE, found, ("mlp", "cnn"))
    assert "CNN-2/Wi-8, batch size 64, length 20: the largest, 0.0256" in told and "and 1 more" in told
    assert WIDE.base_lr("cnn") * 8 == pytest.approx(0.0256)


def test_the_follow_up_is_at_what_was_chosen_in_the_order_of_the_design():
    frame = quiet(WIDE, drift=2.0)
    found = choose(WIDE, frame)
    later = [dict(trial.labels) for trial in WIDE.follow_up(frame)]
    assert [label["lr"] for label in later] == [
        found[label["arm"], label["length"], label["batch_size"]].lr for label in later
    ]
    stand_ins = [dict(trial.labels) for trial in WIDE.follow_up(None)]
    assert [{**label, "lr": None} for label in later] == [{**label, "lr": None} for label in stand_ins]
    assert all(trial.recipe.optimizer.lr == dict(trial.labels)["lr"] for trial in WIDE.follow_up(frame))
