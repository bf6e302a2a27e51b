import dataclasses
import json
import subprocess
import sys

import pytest

from mlptheory.base import InputError
from mlptheory.base.configuration import from_plain
from mlptheory.data import Augmentation
from mlptheory.probes import Transfer, probes
from mlptheory.probes.transfer.claims import A_A, EVERY_LENGTH, LEAK, LONGER, TTA
from tests.probes.transfer.conftest import PROBE, TINY


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"source": "cifer10"}, ["'cifer10'", "'cifar10'"]),
        ({"target": "digits-9"}, ["'digits-9'", "digits-5-9"]),
        ({"target": "digits-0-4"}, ["target = 'digits-0-4'", "another dataset"]),
        ({"model": "CNN-2/Wi-8"}, ["model = 'CNN-2/Wi-8'", "an MLP"]),
        ({"model": "Linear"}, ["lr = None", "Linear"]),
        ({"batch_sizes": (16,)}, ["batch_sizes = (16,)", "at least 2"]),
        ({"lengths": ()}, ["lengths = ()", "at least 1"]),
        ({"seeds": 0}, ["seeds = 0", "at least 1"]),
        ({"seeds": (1_000_000, 2)}, ["seeds = 1000000", "control"]),
        ({"augmentation": Augmentation()}, ["augmentation", "MixUp"]),
        ({"augmentation": None}, ["augmentation", "an Augmentation"]),
        ({"finetuning_augmentation": {}}, ["finetuning_augmentation", "an Augmentation"]),
        ({"source_n": 0}, ["source_n = 0", "at least 1"]),
        ({"target_n": 0.5}, ["target_n = 0.5", "an integer"]),
        ({"image_size": 0}, ["image_size = 0"]),
        ({"optimizer": "adam"}, ["'adam'", "'adamw'"]),
        ({"optimizer": "sgd"}, ["lr = None", "sgd"]),
        ({"lr": 0.0}, ["lr = 0.0", "greater than 0"]),
        ({"weight_decay": -1.0}, ["weight_decay"]),
        ({"finetuning_epochs": 0}, ["finetuning_epochs = 0"]),
        ({"finetuning_batch_size": 0}, ["finetuning_batch_size = 0"]),
        ({"finetuning_lr": 0.0}, ["finetuning_lr = 0.0"]),
        ({"finetuning_head_lr": -1.0}, ["finetuning_head_lr = -1.0"]),
        ({"probing_epochs": 0}, ["probing_epochs = 0"]),
        ({"probing_batch_size": 0}, ["probing_batch_size = 0"]),
        ({"probing_lr": 0.0}, ["probing_lr = 0.0"]),
        ({"tta_views": 0}, ["tta_views = 0"]),
        ({"tta_crop_scale": (0.0, 1.0)}, ["tta_crop_scale = (0.0, 1.0)", "two positive numbers"]),
        ({"tta_crop_scale": None}, ["tta_crop_scale = None", "two positive numbers"]),
        ({"tta_flip": 1}, ["tta_flip = 1", "true or false"]),
        ({"label_smoothing": 2.0}, ["label_smoothing"]),
        ({"margin": 0.0}, ["margin = 0.0", "greater than 0"]),
        ({"margin": -1.0, "control": False}, ["margin = -1.0"]),
        ({"control": "no"}, ["control = 'no'", "true or false"]),
        ({"control_runs": 0}, ["control_runs = 0"]),
        ({"shuffles": 0}, ["shuffles = 0"]),
        ({"precision": "float16"}, ["'float16'", "bfloat16"]),
    ],
    ids=lambda value: json.dumps(value, default=str) if isinstance(value, dict) else "",
)
def test_bad_settings_raise_at_the_door(settings, words):
    with pytest.raises(InputError) as caught:
        Transfer(**settings)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("how", ["plan", "run"])
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"target": "teacher"}, ["target = 'teacher'", "1x8x8", "1x4x4", "image_size"]),
        ({"target_n": 5000}, ["data.n = 5000", "597"]),
        ({"source_n": 5000}, ["data.n = 5000", "600"]),
    ],
    ids=["shape", "target_n", "source_n"],
)
def test_data_that_do_not_fit_are_refused_before_anything_is_trained(how, settings, words, tmp_path):
    probe = dataclasses.replace(TINY, **settings)
    with pytest.raises(InputError) as caught:
        getattr(probe, how)(store=tmp_path, workers=1)
    for word in words:
        assert word in str(caught.value)
    assert not any(tmp_path.rglob("*.json"))


def test_image_size_makes_two_datasets_one_shape(tmp_path):
    plan = dataclasses.replace(TINY, target="teacher", image_size=8, control=False).plan(store=tmp_path, workers=1)
    assert plan.trials > 0


def test_every_setting_is_checked():
    marks = test_bad_settings_raise_at_the_door.pytestmark[0].args[1]
    assert {name for settings, _ in marks for name in settings} == {
        field.name for field in dataclasses.fields(Transfer)
    }


def test_settings_survive_the_way_through_json():
    for probe in (Transfer(), PROBE, TINY, dataclasses.replace(PROBE, seeds=(3, 1), lr=1e-3, image_size=16)):
        assert from_plain(Transfer, json.loads(json.dumps(probe.settings()))) == probe


def test_it_is_registered_and_frozen():
    assert probes["transfer"] is Transfer
    with pytest.raises(dataclasses.FrozenInstanceError):
        PROBE.seeds = 3


def test_a_design_needs_no_torch_and_no_pandas():
    code = (
        "import sys; from mlptheory.probes import Transfer; p = Transfer();"
        "p.trials(); p.claims(); p.bank_trials(3); p.scenarios();"
        "print(sorted({'torch', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_learning_rate_is_the_papers_carried_to_the_width():
    assert Transfer(model="B-6/Wi-1024").base_lr == 5e-5
    assert Transfer(model="B-6/Wi-256").base_lr == pytest.approx(2e-4)
    assert Transfer(lr=1).base_lr == 1.0 and type(Transfer(lr=1).base_lr) is float


def test_claims_are_those_that_the_design_can_judge():
    names = [claim.id for claim in PROBE.claims()]
    assert len(names) == len(set(names)) == 11
    one = dataclasses.replace(PROBE, lengths=(5,), control=False)
    assert set(names) - {claim.id for claim in one.claims()} == {EVERY_LENGTH, LONGER, A_A, LEAK}
    assert one.with_every_claim().lengths == (5, 20) and one.with_every_claim().control
    assert PROBE.with_every_claim() == PROBE


def test_claims_state_everything_before_a_run():
    for claim in PROBE.claims():
        assert claim.margin == (5.0 if claim.id == LEAK else 2.0) and claim.unit == "percentage points"
        assert claim.estimand and claim.test and claim.source and len(claim.held_fixed) >= 5
        assert "50 examples of digits-5-9" in claim.scope and "ImageNet-21k" in claim.scope
        assert claim.bibtex_key in (None, "Bachmann2023")
    assert {claim.id for claim in PROBE.claims() if claim.direction == "equivalent"} == {A_A, LEAK}


def test_claims_say_whether_seeds_pair_and_that_views_do_not_vary():
    held = {claim.id: " / ".join(claim.held_fixed) for claim in PROBE.claims()}
    unpaired = {name for name, text in held.items() if "initialization" not in text}
    assert unpaired == {A_A, LEAK} and all("a seed of its own" in held[name] for name in unpaired)
    assert [name for name, text in held.items() if "20 views" in text and "the same for every net" in text] == [TTA]


def test_columns_hold_every_label_and_are_unique():
    names = [column.name for column in PROBE.columns()]
    assert len(names) == len(set(names)) and all(column.description for column in PROBE.columns())
    assert {name for trial in PROBE.trials() for name, _ in trial.labels} <= set(names)


def test_references_follow_the_design():
    assert {"Bachmann2023", "Chen2023", "Yang2022", "Zhang2018", "Alpaydin1998"} <= set(PROBE.references())
    assert not {"Yang2022", "Zhang2018"} & set(TINY.references())
    cifar = Transfer(source="cifar100", target="cifar10").references()
    assert cifar.count("Krizhevsky2009") == 1
