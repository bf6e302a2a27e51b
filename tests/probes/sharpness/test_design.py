import dataclasses
import json
import subprocess
import sys

import pytest

from mlptheory.base import InputError
from mlptheory.base.configuration import from_plain
from mlptheory.measures import stability_threshold
from mlptheory.probes import Sharpness, probes
from mlptheory.probes.sharpness import claims as named
from mlptheory.probes.sharpness.arms import nets
from tests.probes.sharpness.conftest import PROBE, TINY


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dataset": "cifer10"}, ["'cifer10'", "'cifar10'"]),
        ({"model": "B-2/Wi-32"}, ["model = 'B-2/Wi-32'", "MLP-{depth}/Wi-{width}"]),
        ({"activation": "sine"}, ["'sine'", "tanh"]),
        ({"n": 1}, ["n = 1", "at least 2"]),
        ({"n": 100}, ["batch_sizes", "at most 100"]),
        ({"label_noise": 1.5}, ["label_noise = 1.5"]),
        ({"gd_lr": 0.0}, ["gd_lr = 0.0", "greater than 0"]),
        ({"momentum_lr": -1.0}, ["momentum_lr = -1.0"]),
        ({"adam_lr": 0.0}, ["adam_lr = 0.0"]),
        ({"small_lr": 0.15}, ["small_lr = 0.15", "less than gd_lr, 0.15"]),
        ({"momentum": 0.0}, ["momentum = 0.0"]),
        ({"adam_betas": (0.9,)}, ["adam_betas = (0.9,)", "two numbers"]),
        ({"adam_betas": (0.9, 1.0)}, ["adam_betas = 1.0", "less than 1"]),
        ({"edge_steps": 0}, ["edge_steps = 0"]),
        ({"every": 101}, ["every = 101", "at most 100, for 6 looks in 600 steps"]),
        ({"widths": (32,)}, ["widths = (32,)", "at least 2"]),
        ({"widths": (16, 64)}, ["widths = (16, 64)", "32 among them"]),
        ({"depths": (1, 3)}, ["depths = (1, 3)", "2 among them"]),
        ({"flow_lr": 0.0}, ["flow_lr = 0.0"]),
        ({"flow_steps": 0.5}, ["flow_steps = 0.5"]),
        ({"flow_loss": 0.0}, ["flow_loss = 0.0"]),
        ({"batch_sizes": (8, 16, 32)}, ["batch_sizes", "at least 4"]),
        ({"batch_sizes": (8, 16, 32, 401)}, ["batch_sizes", "at most 400, the training examples"]),
        ({"batch_lr": 0.0}, ["batch_lr = 0.0"]),
        ({"batch_steps": 0}, ["batch_steps = 0"]),
        ({"batch_loss": 0.0}, ["batch_loss = 0.0"]),
        ({"edge_margin": 0.0}, ["edge_margin = 0.0"]),
        ({"sharpening_margin": 0.0}, ["sharpening_margin = 0.0"]),
        ({"tau_margin": 1.0}, ["tau_margin = 1.0", "less than 1"]),
        ({"seeds": 0}, ["seeds = 0", "at least 1"]),
        ({"image_size": 0}, ["image_size = 0"]),
        ({"control": "no"}, ["control = 'no'", "true or false"]),
        ({"precision": "bfloat16"}, ["'bfloat16'", "float64"]),
    ],
    ids=lambda value: json.dumps(value, default=str) if isinstance(value, dict) else "",
)
def test_bad_settings_raise_at_the_door(settings, words):
    with pytest.raises(InputError) as caught:
        Sharpness(**settings)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_setting_is_checked():
    marks = test_bad_settings_raise_at_the_door.pytestmark[0].args[1]
    assert {name for settings, _ in marks for name in settings} == {
        field.name for field in dataclasses.fields(Sharpness)
    }


def test_settings_survive_the_way_through_json():
    for probe in (Sharpness(), PROBE, TINY, dataclasses.replace(PROBE, seeds=(3, 1), image_size=4)):
        assert from_plain(Sharpness, json.loads(json.dumps(probe.settings()))) == probe


def test_it_is_registered_and_frozen():
    assert probes["sharpness"] is Sharpness
    with pytest.raises(dataclasses.FrozenInstanceError):
        PROBE.seeds = 3


def test_a_design_needs_no_torch_and_no_pandas():
    code = (
        "import sys; from mlptheory.probes import Sharpness; p = Sharpness();"
        "p.trials(); p.claims(); p.bank_trials(3); p.scenarios();"
        "print(sorted({'torch', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_claims_are_those_that_the_design_can_judge():
    names = {claim.id for claim in PROBE.claims()}
    assert len(PROBE.claims()) == len(names) == 12
    without = dataclasses.replace(PROBE, control=False)
    controls = {named.BELOW, named.RESCALED, named.SAME_FUNCTION, named.SAME_ADAPTIVE}
    assert names - {claim.id for claim in without.claims()} == controls
    assert without.with_every_claim() == PROBE.with_every_claim() == PROBE


def test_claims_state_everything_before_a_run():
    for claim in PROBE.claims():
        assert claim.estimand and claim.test and claim.source and len(claim.held_fixed) >= 3
        assert "400 examples of digits" in claim.scope
    assert {claim.id for claim in PROBE.claims() if claim.direction == "equivalent"} == {
        named.EDGE_GD,
        named.EDGE_MOMENTUM,
        named.EDGE_ADAM,
        named.RESCALED,
    }


def test_the_edges_are_those_of_the_thresholds():
    """At these rates nets of the digits begin below the edge, and the small step's edge is out of reach."""
    probe = Sharpness()
    assert stability_threshold(probe.small_lr) > 4 * stability_threshold(probe.gd_lr)


def test_columns_hold_every_label_and_are_unique():
    names = [column.name for column in PROBE.columns()]
    assert len(names) == len(set(names)) and all(column.description for column in PROBE.columns())
    assert {name for trial in PROBE.trials() for name, _ in trial.labels} <= set(names)


def test_there_is_a_trial_for_every_arm_net_batch_size_and_seed():
    trials = PROBE.trials()
    roles = [dict(trial.labels)["role"] for trial in trials]
    assert [roles.count(role) for role in ("edge", "flow", "batch")] == [4 * 5, 5 * 5, 6 * 5]
    assert len({trial.unlabeled() for trial in trials}) == len(trials)
    assert nets(PROBE) == ((32, 2), (16, 2), (64, 2), (32, 1), (32, 3))
    fewer = dataclasses.replace(PROBE, control=False).trials()
    assert {dict(trial.labels)["arm"] for trial in fewer} == {"gd", "momentum", "adam", ""}


def test_edges_and_flows_are_full_batches_on_half_the_squared_error():
    for trial in PROBE.trials():
        labels, recipe = dict(trial.labels), trial.recipe
        assert recipe.model.norm == "none" and recipe.label_smoothing == 0 and recipe.optimizer.weight_decay == 0
        if labels["role"] == "batch":
            assert (recipe.loss, recipe.model.activation) == ("cross_entropy", "relu")
        else:
            assert (recipe.loss, recipe.model.activation) == ("squared_error", "tanh")
            assert recipe.budget.batch_size == recipe.data.n == 400
        assert bool(recipe.data.label_noise) == (labels["role"] == "edge")


@pytest.mark.parametrize(("runs", "parts"), [(7, (3, 2, 2)), (8, (3, 3, 2)), (9, (3, 3, 3))])
def test_a_bank_is_of_every_part_alike(runs, parts):
    bank = PROBE.bank_trials(runs)
    roles = [dict(trial.labels)["role"] for trial in bank]
    assert roles == ["edge"] * parts[0] + ["flow"] * parts[1] + ["batch"] * parts[2]
    seeds = [trial.recipe.seed for trial in bank]
    assert sorted(set(seeds)) == [3_000_000, 3_000_001, 3_000_002]
    assert len(set(zip(roles, seeds, strict=True))) == runs


def test_references_follow_the_design():
    assert {"Cohen2021", "Cohen2022", "Keskar2017", "Dinh2017", "Kwon2021", "Alpaydin1998"} <= set(PROBE.references())
    assert "Krizhevsky2009" in Sharpness(dataset="cifar10").references()
