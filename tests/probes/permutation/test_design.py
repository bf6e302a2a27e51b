import dataclasses
import json
import subprocess
import sys

import pytest

from mlptheory.base import InputError
from mlptheory.base.configuration import from_plain
from mlptheory.data import Augmentation
from mlptheory.probes import Permutation, probes
from mlptheory.probes.permutation import claims as named
from tests.probes.permutation.conftest import PROBE, TINY

MIXED = Augmentation(mixup=0.8)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dataset": "cifer10"}, ["'cifer10'", "'cifar10'"]),
        ({"model": "CNN-2/Wi-8"}, ["model = 'CNN-2/Wi-8'", "an MLP"]),
        ({"model": "ResNet-18", "lr": 1e-3}, ["model = 'ResNet-18'", "an MLP"]),
        ({"baseline": "B-2/Wi-64"}, ["baseline = 'B-2/Wi-64'", "locality"]),
        ({"baseline": "S-2/Wi-64"}, ["baseline = 'S-2/Wi-64'", "locality"]),
        ({"baseline": "Linear"}, ["baseline = 'Linear'", "locality"]),
        ({"augmentation": None}, ["augmentation = None", "an Augmentation"]),
        ({"augmentation": MIXED}, ["augmentation", "crops, flips or shifts"]),
        ({"baseline_augmented": 1}, ["baseline_augmented = 1", "true or false"]),
        ({"seeds": 0}, ["seeds = 0", "at least 1"]),
        ({"seeds": (1_000_000, 2)}, ["seeds = 1000000", "control"]),
        ({"n": 0}, ["n = 0", "at least 1"]),
        ({"image_size": 0}, ["image_size = 0"]),
        ({"batch_size": 0}, ["batch_size = 0"]),
        ({"epochs": 0}, ["epochs = 0"]),
        ({"optimizer": "adam"}, ["'adam'", "'adamw'"]),
        ({"optimizer": "sgd"}, ["lr = None", "sgd"]),
        ({"lr": 0.0}, ["lr = 0.0", "greater than 0"]),
        ({"baseline": "ResNet-18"}, ["baseline_lr = None", "ResNet-18"]),
        ({"baseline_lr": -1.0}, ["baseline_lr = -1.0", "greater than 0"]),
        ({"weight_decay": -1.0}, ["weight_decay"]),
        ({"label_smoothing": 2.0}, ["label_smoothing"]),
        ({"exact_models": ()}, ["exact_models = ()", "each once"]),
        ({"exact_models": ("S-1/Wi-4", "S-1/Wi-4")}, ["exact_models", "each once"]),
        ({"exact_models": ("CNN-1/Wi-4",)}, ["exact_models = 'CNN-1/Wi-4'", "dense"]),
        ({"exact_steps": 0}, ["exact_steps = 0"]),
        ({"exact_seeds": 0}, ["exact_seeds = 0", "at least 1"]),
        ({"exact_seeds": 11}, ["exact_seeds = 11", "at most the 10 seeds"]),
        ({"margin": 0.0}, ["margin = 0.0", "greater than 0"]),
        ({"effect": -1.0}, ["effect = -1.0"]),
        ({"control": "no"}, ["control = 'no'", "true or false"]),
        ({"shuffles": 0}, ["shuffles = 0"]),
        ({"precision": "float16"}, ["'float16'", "bfloat16"]),
    ],
    ids=lambda value: json.dumps(value, default=str) if isinstance(value, dict) else "",
)
def test_bad_settings_raise_at_the_door(settings, words):
    with pytest.raises(InputError) as caught:
        Permutation(**settings)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_setting_is_checked():
    marks = test_bad_settings_raise_at_the_door.pytestmark[0].args[1]
    assert {name for settings, _ in marks for name in settings} == {
        field.name for field in dataclasses.fields(Permutation)
    }


def test_settings_survive_the_way_through_json():
    for probe in (Permutation(), PROBE, TINY, dataclasses.replace(PROBE, lr=1e-3, image_size=16)):
        assert from_plain(Permutation, json.loads(json.dumps(probe.settings()))) == probe


def test_it_is_registered_and_frozen():
    assert probes["permutation"] is Permutation
    with pytest.raises(dataclasses.FrozenInstanceError):
        PROBE.seeds = 3


def test_a_design_needs_no_torch_and_no_pandas():
    code = (
        "import sys; from mlptheory.probes import Permutation; p = Permutation();"
        "p.trials(); p.claims(); p.bank_trials(3); p.scenarios();"
        "print(sorted({'torch', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_learning_rates_are_the_papers_carried_to_the_widest_layer():
    assert Permutation(model="B-6/Wi-1024").base_lr("mlp") == 5e-5
    assert Permutation(baseline="CNN-3/Wi-32").base_lr("baseline") == pytest.approx(4e-4)
    assert Permutation(lr=1, baseline_lr=2).base_lr("baseline") == 2.0


def test_claims_are_those_that_the_design_can_judge():
    names = [claim.id for claim in PROBE.claims()]
    assert len(names) == len(set(names)) == 7
    without = dataclasses.replace(PROBE, control=False, effect=0.0)
    assert set(names) - {claim.id for claim in without.claims()} == {named.LEAK}
    assert without.with_every_claim() == PROBE == PROBE.with_every_claim()


def test_claims_state_everything_before_a_run():
    margins = {claim.id: (claim.direction, claim.margin, claim.unit) for claim in PROBE.claims()}
    points, decades = "percentage points", "decades"
    assert margins == {
        named.EQUIVALENT: ("equivalent", 2.0, points),
        named.FALLS: ("greater", 2.0, points),
        named.AUGMENTED_EQUIVALENT: ("equivalent", 2.0, points),
        named.ORDER: ("greater", 2.0, points),
        named.TRAJECTORY: ("greater", 9.0, decades),
        named.WRONG: ("greater", 3.0, decades),
        named.LEAK: ("equivalent", 5.0, points),
    }
    for claim in PROBE.claims():
        assert claim.estimand and claim.test and claim.source and len(claim.held_fixed) >= 4
        assert "500 examples of digits" in claim.scope


def test_claims_say_what_a_block_shares():
    held = {claim.id: " / ".join(claim.held_fixed) for claim in PROBE.claims()}
    assert "permutation and seed within a block" in held[named.ORDER]
    for name in (named.EQUIVALENT, named.AUGMENTED_EQUIVALENT, named.FALLS):
        assert "nothing within a block" in held[name]
    assert "MixUp" in held[named.AUGMENTED_EQUIVALENT] and "no augmentation" in held[named.EQUIVALENT]
    assert "0.0016" in held[named.FALLS] and "0.0008" in held[named.EQUIVALENT]
    assert "lion at 0.001" in held[named.TRAJECTORY] and "weight decay 0.1" in held[named.TRAJECTORY]


def test_columns_hold_every_label_and_are_unique():
    names = [column.name for column in PROBE.columns()]
    assert len(names) == len(set(names)) and all(column.description for column in PROBE.columns())
    assert {name for trial in PROBE.trials() for name, _ in trial.labels} <= set(names)


def test_references_follow_the_design():
    assert {"Bachmann2023", "Chen2023", "Loshchilov2019", "Yang2022", "Zhang2018"} <= set(PROBE.references())
    assert "Yang2022" not in TINY.references()
    shifted = dataclasses.replace(PROBE, augmentation=Augmentation(shift=1), dataset="cifar10").references()
    assert "Zhang2018" not in shifted and shifted.count("Krizhevsky2009") == 1


def test_claims_say_what_is_held_fixed_of_each_kind_of_lane_and_how_many_shuffles():
    claims = {claim.id: claim for claim in dataclasses.replace(PROBE, shuffles=1).claims()}
    assert "mean over 1 shuffle;" in claims[named.LEAK].estimand
    assert "mean over 2 shuffles;" in {claim.id: claim for claim in PROBE.claims()}[named.LEAK].estimand
    assert claims[named.TRAJECTORY].held_fixed[0].endswith("columns moved by the permutation")
    assert claims[named.WRONG].held_fixed[0].endswith("columns moved by either permutation")
    assert claims[named.TRAJECTORY].held_fixed[1:] == claims[named.WRONG].held_fixed[1:]
