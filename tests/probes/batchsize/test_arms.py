import dataclasses
import itertools

import pandas as pd
import pytest

from mlptheory.probes import BatchSize
from mlptheory.probes.settings import CONTROL_SEEDS
from mlptheory.probes.tuning import TUNING_SEEDS
from mlptheory.training import planned_work
from tests.probes.batchsize.conftest import PROBE, WIDE

EVERYTHING = (*WIDE.trials(), *WIDE.follow_up(None))
ROWS = pd.DataFrame([dict(trial.labels) for trial in EVERYTHING])


def rows(probe, role=None):
    found = pd.DataFrame([dict(trial.labels) for trial in (*probe.trials(), *probe.follow_up(None))])
    return found if role is None else found[found["role"] == role]


def keys(frame, *names):
    return list(frame[list(names)].itertuples(index=False, name=None))


def test_the_runs_are_the_full_grid_once():
    found = keys(rows(WIDE, "run"), "arm", "policy", "length", "batch_size", "seed")
    wanted = itertools.product(("mlp", "cnn"), WIDE.lr_policies, WIDE.lengths, WIDE.batch_sizes, range(5))
    assert sorted(found) == sorted(wanted)
    runs = rows(WIDE, "run")
    assert (runs["batch_size"] == runs["trained_batch_size"]).all() and (runs["block"] == runs["seed"]).all()


def test_the_tuning_runs_are_the_full_grid_once_for_each_arm_length_and_size():
    tuning = rows(WIDE, "tuning")
    found = keys(tuning, "arm", "length", "batch_size", "lr", "seed")
    wanted = [
        (arm, length, size, WIDE.base_lr(arm) * multiple, TUNING_SEEDS + seed)
        for arm in ("mlp", "cnn")
        for length, size, multiple, seed in itertools.product(WIDE.lengths, WIDE.batch_sizes, WIDE.lr_grid, range(2))
    ]
    assert sorted(found) == sorted(wanted)


def test_seeds_of_tuning_and_of_the_a_a_control_are_their_own():
    seeds = {role: set(ROWS.loc[ROWS["role"] == role, "seed"]) for role in ("run", "tuning", "a-a", "shuffled")}
    seeds["bank"] = {dict(trial.labels)["seed"] for trial in WIDE.bank_trials(400)}
    assert seeds["shuffled"] == seeds["run"], "as other labels are drawn, the initialization may be the same"
    for one, other in itertools.combinations(("run", "tuning", "a-a", "bank"), 2):
        assert not seeds[one] & seeds[other]
    assert min(seeds["a-a"]) == CONTROL_SEEDS and len(seeds["bank"]) == 400


def test_the_controls_are_one_batch_size_at_the_shortest_length():
    a_a, shuffled = ROWS[ROWS["role"] == "a-a"], ROWS[ROWS["role"] == "shuffled"]
    assert len(a_a) == 3 * 5 and a_a["seed"].is_unique
    assert sorted(keys(a_a, "block", "batch_size")) == sorted(itertools.product(range(5), (16, 64, 256)))
    for control in (a_a, shuffled):
        assert set(control["trained_batch_size"]) == {64} and set(control["length"]) == {5}
        assert set(control["arm"]) == {"mlp"} and set(control["policy"]) == {"fixed"}
    assert shuffled["seed"].tolist() == [0, 1, 2, 3, 4]


def test_no_controls_where_none_are_asked_for():
    assert set(rows(dataclasses.replace(WIDE, control=False))["role"]) == {"run", "tuning"}


def test_the_noise_scale_control_is_the_same_in_every_design():
    def control(probe):
        return [trial for trial in probe.trials() if dict(trial.labels)["role"] == "noise-scale"]

    assert control(BatchSize()) == control(BatchSize(dataset="cifar10", model="S-1/Wi-8", seeds=2, optimizer="adamw"))
    assert len(control(BatchSize())) == 3 * 16


def test_runs_of_a_model_differ_in_batch_size_length_seed_and_learning_rate_alone():
    plain = {}
    for trial in EVERYTHING:
        label, recipe = dict(trial.labels), trial.recipe.to_plain()
        if label["role"] == "noise-scale":
            continue
        assert recipe["budget"].pop("batch_size") == label["trained_batch_size"]
        assert recipe["budget"].pop("amount") == label["length"]
        assert recipe.pop("seed") == label["seed"]
        assert recipe["optimizer"].pop("lr") == label["lr"]
        assert recipe["data"].pop("shuffle_labels") == (label["role"] == "shuffled")
        assert recipe["model"].pop("name") == label["model"] == WIDE.models[label["arm"]]
        plain[str(recipe)] = recipe
    assert len(plain) == 1


def test_within_a_policy_arms_differ_in_learning_rate_as_the_policy_says():
    base = {"mlp": WIDE.base_lr("mlp"), "cnn": WIDE.base_lr("cnn")}
    for row in rows(WIDE, "run").itertuples():
        factor = {"fixed": 1, "linear": row.batch_size / 16, "sqrt": (row.batch_size / 16) ** 0.5}
        if row.policy != "tuned":
            assert row.lr == pytest.approx(base[row.arm] * factor[row.policy], rel=1e-15)
    rules = ROWS[(ROWS["role"] == "run") & (ROWS["batch_size"] == 16) & (ROWS["policy"] != "tuned")]
    assert {(row.arm, row.lr) for row in rules.itertuples()} == set(base.items())


def test_a_learning_rate_that_is_a_whole_number_is_not_cut_to_one_when_multiplied():
    probe = BatchSize(optimizer="sgd", lr=1, lr_grid=(1, 0.5, 2), lr_policies=("tuned",))
    assert set(rows(probe, "tuning")["lr"]) == {0.5, 1.0, 2.0}
    assert all(type(trial.recipe.optimizer.lr) is float for trial in probe.trials())


@pytest.mark.parametrize(
    ("policies", "held_out"), [(("fixed", "linear"), 0), (("tuned",), 0.2), (("fixed", "tuned"), 0.2)]
)
def test_validation_examples_are_held_out_of_every_run_where_anything_is_tuned_and_else_of_none(policies, held_out):
    probe = dataclasses.replace(PROBE, lr_policies=policies)
    trials = (*probe.trials(), *probe.follow_up(None), *probe.bank_trials(2))
    found = {trial.recipe.data.validation for trial in trials if trial.recipe.data.name != "teacher"}
    assert found == {held_out}


def looked(trial, kind):
    return {each.name for each in getattr(trial, kind)}


def test_curvature_is_measured_where_it_is_claimed_and_nowhere_else():
    probe = dataclasses.replace(WIDE, curvature_seeds=2)
    for trial in (*probe.trials(), *probe.follow_up(None)):
        label = dict(trial.labels)
        claimed = (label["role"], label["arm"], label["policy"], label["length"]) == ("run", "mlp", "fixed", 20)
        claimed = claimed and label["seed"] in (0, 1)
        assert ("sharpness" in looked(trial, "observers")) == claimed
        curved = {"hessian_top_eigenvalue", "gradient_noise_scale"}
        assert looked(trial, "measures") & curved == (curved if claimed else set())


@pytest.mark.parametrize("policies", [("fixed",), ("linear", "fixed"), ("fixed", "tuned")])
def test_steps_to_the_target_are_counted_under_the_main_policy_at_the_longest_length(policies):
    probe = dataclasses.replace(WIDE, lr_policies=policies)
    for trial in (*probe.trials(), *probe.follow_up(None)):
        label = dict(trial.labels)
        claimed = (label["role"], label["arm"], label["policy"], label["length"]) == (
            "run",
            "mlp",
            probe.main_policy,
            20,
        )
        assert ("steps_to_target" in looked(trial, "observers")) == claimed


def test_without_claims_about_them_nothing_is_looked_at():
    probe = dataclasses.replace(WIDE, curvature_seeds=0, target_accuracy=None)
    for trial in (*probe.trials(), *probe.follow_up(None)):
        assert not {"sharpness", "steps_to_target"} & looked(trial, "observers")
    assert {name for trial in probe.trials() for name in looked(trial, "measures")} == {
        "chance_accuracy",
        "excess_loss",
    }


def test_observers_are_given_what_the_claims_say():
    probe = dataclasses.replace(PROBE, remaining_loss=0.25, target_accuracy=0.7, lr_policies=("fixed",))
    found = {each.name: dict(each.parameters) for trial in probe.trials() for each in trial.observers}
    assert found["sharpness"] == {"remaining": 0.25} and found["steps_to_target"] == {"accuracy": 0.7}


@pytest.mark.parametrize("budget", ["epochs", "steps", "compute"])
def test_a_budget_reaches_every_run_and_makes_equal_what_it_names(budget):
    probe = BatchSize(
        budget=budget, lengths=(2, 8), batch_sizes=(8, 32), seeds=1, cnn="CNN-1/Wi-4", curvature_seeds=0, control=False
    )
    found = {}
    for trial in (*probe.trials(), *probe.follow_up(None)):
        label, recipe = dict(trial.labels), trial.recipe
        assert (recipe.budget.unit, recipe.budget.amount) == (budget, label["length"])
        found[label["arm"], label["length"], label["batch_size"]] = planned_work(recipe).steps
    small, large = (pd.Series({key[:2]: steps for key, steps in found.items() if key[2] == size}) for size in (8, 32))
    if budget == "steps":
        assert (small == large).all() and set(small) == {2, 8}
    else:
        assert ((small / large - 4).abs() < 0.2).all()
    if budget == "compute":
        assert small["mlp", 2] != small["cnn", 2]
    else:
        assert small["mlp", 2] == small["cnn", 2]


@pytest.mark.parametrize(("optimizer", "batches"), [("lion", 100), ("adamw", 10), ("sgd", 10)])
def test_the_momentum_horizon_is_that_of_the_optimizers_defaults(optimizer, batches):
    probe = BatchSize(optimizer=optimizer, lr=1e-3, control=False)
    for row in rows(probe).itertuples():
        assert row.momentum_horizon == pytest.approx(batches * row.trained_batch_size)


def test_the_stand_ins_for_tuned_runs_are_as_many_as_come_and_equal_no_run_of_the_first_stage():
    first = {trial.unlabeled() for trial in WIDE.trials()}
    later = WIDE.follow_up(None)
    assert len(later) == len({trial.unlabeled() for trial in later}) == 2 * 2 * 3 * 5
    assert not first & {trial.unlabeled() for trial in later}
    assert dataclasses.replace(WIDE, lr_policies=("fixed", "sqrt")).follow_up(None) == ()


def test_a_bank_is_runs_of_one_arm_that_differ_in_seed_alone_and_are_looked_at_in_full():
    trials = WIDE.bank_trials(5)
    assert len({trial.recipe.seed for trial in trials}) == 5
    assert len({dataclasses.replace(trial.recipe, seed=0) for trial in trials}) == 1
    assert {"sharpness", "steps_to_target"} <= looked(trials[0], "observers")
    assert (trials[0].recipe.budget.batch_size, trials[0].recipe.budget.amount) == (64, 20)


def test_decay_per_run_is_the_sum_over_steps():
    row = {"lr": 0.5, "weight_decay": 0.25, "steps": 8}
    assert PROBE.derived(row) == {"decay_per_run": 1.0}
    assert PROBE.derived({"lr": 0.5, "weight_decay": 0.25}) == {}, "a run that diverged"


@pytest.mark.parametrize(
    ("steps", "size", "examples"),
    [(0.0, 32, 0), (2.0, 32, 64), (2.5, 32, 80), (4.0, 32, 100), (5.0, 32, 132), (3.9, 32, 100), (3.5, 100, 350)],
)
def test_examples_to_the_target_count_the_last_batch_of_an_epoch_as_what_it_is(steps, size, examples):
    """Of 100 examples in batches of 32, the fourth holds 4."""
    row = {"steps_to_target": steps, "train_examples": 100, "trained_batch_size": size}
    assert PROBE.derived(row)["examples_to_target"] == pytest.approx(examples)
