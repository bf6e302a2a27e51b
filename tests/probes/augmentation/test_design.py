import dataclasses
import json
import subprocess
import sys

import pytest

from mlptheory import data
from mlptheory.base import InputError
from mlptheory.base.configuration import from_plain
from mlptheory.probes import Augmentation, probes
from mlptheory.probes.augmentation import claims as named
from tests.probes.augmentation.conftest import PROBE, TINY, UNTUNED


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dataset": "cifer10"}, ["'cifer10'", "'cifar10'"]),
        ({"model": "CNN-2/Wi-8"}, ["model = 'CNN-2/Wi-8'", "hidden layer"]),
        ({"model": "Linear"}, ["model = 'Linear'", "hidden layer"]),
        ({"baseline": "B-1/Wi-8"}, ["baseline = 'B-1/Wi-8'", "convolutional"]),
        ({"sizes": (40,)}, ["sizes = (40,)", "at least 2"]),
        ({"sizes": (30, 40)}, ["sizes = (30, 40)", "at least twice"]),
        ({"flip": 1}, ["flip = 1", "true or false"]),
        ({"crop_scale": None}, ["crop_scale = None", "where nothing is mirrored"]),
        ({"crop_scale": (0.5, 1.5)}, ["crop_scale = (0.5, 1.5)", "two positive numbers"]),
        ({"crop_ratio": (2.0, 1.0)}, ["crop_ratio = (2.0, 1.0)"]),
        ({"mixup": -0.5}, ["mixup = -0.5"]),
        ({"shift": 0}, ["shift = 0", "at least 1"]),
        ({"epochs": 0}, ["epochs = 0"]),
        ({"shuffled_epochs": 0}, ["shuffled_epochs = 0"]),
        ({"batch_size": 0}, ["batch_size = 0"]),
        ({"batch_size": 11}, ["batch_size = 11", "smallest size, 10"]),
        ({"optimizer": "adam"}, ["'adam'", "'adamw'"]),
        ({"optimizer": "sgd"}, ["lr = None", "sgd"]),
        ({"optimizer": "sgd", "lr": 0.1}, ["baseline_lr = None", "sgd"]),
        ({"lr": 0.0}, ["lr = 0.0", "greater than 0"]),
        ({"baseline_lr": -1.0}, ["baseline_lr = -1.0"]),
        ({"lr_grid": ()}, ["lr_grid = ()", "at least 3"]),
        ({"lr_grid": (1.0, 4.0)}, ["lr_grid = (1.0, 4.0)", "at least 3"]),
        ({"lr_grid": (1.0, 1.0, 4.0)}, ["lr_grid", "different"]),
        ({"lr_grid": (0.0, 1.0, 4.0)}, ["lr_grid = 0.0", "greater than 0"]),
        ({"tuning_seeds": 0}, ["tuning_seeds = 0"]),
        ({"validation": 1.0}, ["validation = 1.0"]),
        ({"validation": 0}, ["validation = 0"]),
        ({"weight_decay": -1.0}, ["weight_decay"]),
        ({"label_smoothing": 2.0}, ["label_smoothing"]),
        ({"seeds": 0}, ["seeds = 0", "at least 1"]),
        ({"seeds": (1_000_000, 2)}, ["seeds = 1000000", "control"]),
        ({"margin": 0.0}, ["margin = 0.0", "greater than 0"]),
        ({"margin": -1.0, "control": False}, ["margin = -1.0"]),
        ({"log_odds_margin": -0.1}, ["log_odds_margin = -0.1"]),
        ({"invariance_margin": -0.1}, ["invariance_margin = -0.1"]),
        ({"share_margin": 101.0}, ["share_margin = 101.0"]),
        ({"control": "no"}, ["control = 'no'", "true or false"]),
        ({"control_runs": 0}, ["control_runs = 0"]),
        ({"shuffles": 0}, ["shuffles = 0"]),
        ({"precision": "float16"}, ["'float16'", "bfloat16"]),
    ],
    ids=lambda value: json.dumps(value, default=str) if isinstance(value, dict) else "",
)
def test_bad_settings_raise_at_the_door(settings, words):
    with pytest.raises(InputError) as caught:
        Augmentation(**settings)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_setting_is_checked():
    marks = test_bad_settings_raise_at_the_door.pytestmark[0].args[1]
    assert {name for settings, _ in marks for name in settings} == {
        field.name for field in dataclasses.fields(Augmentation)
    }


@pytest.mark.parametrize("how", ["plan", "run"])
def test_sizes_that_the_data_lack_are_refused_before_anything_is_trained(how, tmp_path):
    probe = dataclasses.replace(TINY, sizes=(20, 5000))
    with pytest.raises(InputError, match=r"data\.n = 5000: expected at most the 958"):
        getattr(probe, how)(store=tmp_path, workers=1)
    assert not any((tmp_path / "records").rglob("*.json"))


def test_settings_survive_the_way_through_json():
    for probe in (Augmentation(), PROBE, UNTUNED, TINY, dataclasses.replace(PROBE, seeds=(3, 1), lr=1e-3)):
        assert from_plain(Augmentation, json.loads(json.dumps(probe.settings()))) == probe


def test_it_is_registered_frozen_and_not_the_configuration_of_that_name():
    assert probes["augmentation"] is Augmentation and Augmentation is not data.Augmentation
    with pytest.raises(dataclasses.FrozenInstanceError):
        PROBE.seeds = 3


def test_a_design_needs_no_torch_and_no_pandas():
    code = (
        "import sys; from mlptheory.probes import Augmentation; p = Augmentation();"
        "p.trials(); p.follow_up(None); p.claims(); p.bank_trials(3); p.scenarios();"
        "print(sorted({'torch', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_learning_rates_are_the_papers_carried_to_the_widths():
    probe = Augmentation(model="B-6/Wi-1024", baseline="CNN-3/Wi-32")
    assert probe.base_lr("mlp") == 5e-5 and probe.base_lr("cnn") == pytest.approx(5e-5 * 1024 / 128)
    given = Augmentation(lr=1, baseline_lr=2)
    assert (given.base_lr("mlp"), given.base_lr("cnn")) == (1.0, 2.0)


def test_claims_are_those_that_the_design_can_judge():
    names = [claim.id for claim in PROBE.claims()]
    assert len(names) == len(set(names)) == 11
    less = dataclasses.replace(PROBE, baseline=None, control=False)
    assert set(names) - {claim.id for claim in less.claims()} == {
        named.OVER_CNN,
        named.OVER_CNN_ODDS,
        named.NULL,
        named.LEAK,
    }
    more = less.with_every_claim()
    assert more.baseline and more.control and len(more.claims()) == 11
    assert PROBE.with_every_claim() == PROBE
    sgd = Augmentation(optimizer="sgd", lr=0.1, baseline=None).with_every_claim()
    assert sgd.baseline_lr == 0.1


def test_claims_name_the_operators_that_were_used():
    for probe, full, spatial, orthogonal, kind in (
        (PROBE, "flip+crop+mixup", "flip+crop", "flip+shift", "mirroring"),
        (Augmentation(), "crop+mixup", "crop", "shift", "shifts"),
        (UNTUNED, "flip", "flip", "flip+shift", "mirroring"),
    ):
        said = {claim.id: claim.statement + claim.estimand for claim in probe.claims()}
        for name in (named.LIFTS, named.OVER_CNN, named.WORTH, named.INVARIANCE, named.FILTERS, named.NULL):
            assert full in said[name]
        assert kind in said[named.INVARIANCE] and f"lift by {orthogonal} " in said[named.SPATIAL]
        assert f"lift by {spatial} " in said[named.OVER_NOISE] and f"({spatial})" in said[named.TEACH]
    assert not any("flip" in claim.statement + claim.scope for claim in Augmentation().claims())


def test_claims_state_everything_before_a_run():
    margins = {
        named.OVER_CNN_ODDS: 0.1,
        named.WORTH: 0.0,
        named.INVARIANCE: 0.1,
        named.FILTERS: 1.0,
        named.LEAK: 5.0,
    }
    for claim in PROBE.claims():
        assert claim.margin == margins.get(claim.id, 2.0)
        assert claim.estimand and claim.test and claim.source and len(claim.held_fixed) >= 5
        assert "20, 40, 80 examples of digits" in claim.scope
    directions = {claim.id: claim.direction for claim in PROBE.claims() if claim.direction != "greater"}
    assert directions == {named.INVARIANCE: "less", named.NULL: "equivalent", named.LEAK: "equivalent"}


def test_claims_say_what_was_tuned_and_whether_seeds_pair():
    held = {claim.id: " / ".join(claim.held_fixed) for claim in PROBE.claims()}
    assert all("at 80 examples, kept at all sizes" in text and "5 multiples" in text for text in held.values())
    assert all("tuned for no arm" in " / ".join(claim.held_fixed) for claim in UNTUNED.claims())
    unpaired = {name for name, text in held.items() if "initialization" not in text}
    assert unpaired == {named.NULL, named.LEAK} and all("a seed of its own" in held[name] for name in unpaired)
    assert "a permutation of its own" in held[named.SPATIAL]


def test_claims_about_shuffled_labels_name_the_epochs_of_their_runs():
    for probe, epochs in ((PROBE, 100), (dataclasses.replace(PROBE, shuffled_epochs=None), 50)):
        for claim in probe.claims():
            of_runs = epochs if claim.id in (named.TEACH, named.LEAK) else 50
            assert any(text.startswith(f"{of_runs} epochs of batches of 10") for text in claim.held_fixed)
            assert sum("epochs of batches" in text for text in claim.held_fixed) == 1


def test_worth_is_of_as_many_again_only_where_sizes_double():
    said = {}
    for sizes in ((20, 40, 80), (20, 40, 100)):
        claims = dataclasses.replace(PROBE, sizes=sizes).claims()
        said[sizes] = next(claim for claim in claims if claim.id == named.WORTH)
    assert "as many examples again" in said[20, 40, 80].statement
    assert "as many" not in said[20, 40, 100].statement and "the next size" in said[20, 40, 100].statement
    assert all("more steps" in claim.held_fixed[0] for claim in said.values())


def test_claims_of_one_pair_of_sizes_one_shuffle_and_one_tuning_seed_are_not_told_as_of_several():
    probe = dataclasses.replace(PROBE, sizes=(20, 40), tuning_seeds=1)
    said = {claim.id: claim for claim in probe.claims()}
    worth = said[named.WORTH]
    assert worth.test == "t interval of the per-seed difference"
    assert "smallest" not in worth.estimand and "every size" not in worth.statement
    assert "mean over 1 shuffle;" in said[named.LEAK].estimand
    assert any("1 tuning seed;" in text for text in worth.held_fixed)


def test_columns_hold_every_label_and_are_unique():
    names = [column.name for column in PROBE.columns()]
    assert len(names) == len(set(names)) and all(column.description for column in PROBE.columns())
    for trial in (*PROBE.trials(), *PROBE.follow_up(None)):
        assert {name for name, _ in trial.labels} <= set(names)


def test_references_follow_the_design():
    assert {"Bachmann2023", "Geiping2023", "Anagnostidis2023", "Zhang2018", "Yang2022"} <= set(PROBE.references())
    assert "Zhang2018" not in UNTUNED.references()
    assert "Yang2022" not in dataclasses.replace(PROBE, lr=1e-3).references()
    assert {claim.bibtex_key for claim in PROBE.claims()} - {None} <= set(PROBE.references())
