import dataclasses
import json
import subprocess
import sys

import pytest

from mlptheory.base import InputError
from mlptheory.base.configuration import from_plain
from mlptheory.data import Augmentation
from mlptheory.probes import Locality, probes
from mlptheory.probes.locality.claims import NULL, POSITIVE, SHUFFLED
from tests.probes.locality.conftest import PROBE, TINY


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dataset": "cifer10"}, ["'cifer10'", "'cifar10'"]),
        ({"model": "CNN-2/Wi-8"}, ["model = 'CNN-2/Wi-8'", "an MLP"]),
        ({"model": "Linear"}, ["lr = None", "Linear"]),
        ({"sizes": (100,)}, ["sizes = (100,)", "at least 2"]),
        ({"sizes": (100, 100)}, ["sizes = (100, 100)", "different"]),
        ({"sizes": (20, 100)}, ["batch_size = 32", "at most 20"]),
        ({"epochs": 0}, ["epochs = 0", "at least 1"]),
        ({"epochs": 60}, ["long_epochs = 60", "more than epochs, 60"]),
        ({"long_epochs": 0.5}, ["long_epochs = 0.5", "an integer"]),
        ({"batch_size": 0}, ["batch_size = 0"]),
        ({"batch_size": 76}, ["batch_size = 76", "at most 75"]),
        ({"augmentation": Augmentation()}, ["augmentation", "one arm goes without"]),
        ({"augmentation": None}, ["augmentation", "an Augmentation"]),
        ({"weight_decay": 0.0}, ["weight_decay = 0.0", "greater than 0"]),
        ({"optimizer": "adam"}, ["'adam'", "'adamw'"]),
        ({"optimizer": "sgd", "other_optimizers": ("lion", "adamw")}, ["lr = None", "sgd"]),
        ({"lr": 0.0}, ["lr = 0.0", "greater than 0"]),
        ({"other_optimizers": ("lion", "sgd")}, ["other_optimizers", "not lion"]),
        ({"other_optimizers": ("sgd", "sgd")}, ["other_optimizers", "different"]),
        ({"other_optimizers": ("sgd", "muon")}, ["'muon'"]),
        ({"other_lrs": (0.1,)}, ["other_lrs = (0.1,)", "2, one for each"]),
        ({"other_lrs": (0.1, 0.0)}, ["other_lrs = 0.0", "greater than 0"]),
        ({"statistic": "locality"}, ["statistic = 'locality'", "local_share"]),
        ({"of": "initial"}, ["of = 'initial'", "weights"]),
        ({"window": 0}, ["window = 0", "at least 1"]),
        ({"seeds": 0}, ["seeds = 0", "at least 1"]),
        ({"seeds": (1_000_000, 2)}, ["seeds = 1000000", "control"]),
        ({"image_size": 0}, ["image_size = 0"]),
        ({"label_smoothing": 2.0}, ["label_smoothing"]),
        ({"margin": 0.0}, ["margin = 0.0", "greater than 0"]),
        ({"control": "no"}, ["control = 'no'", "true or false"]),
        ({"precision": "float16"}, ["'float16'", "bfloat16"]),
    ],
    ids=lambda value: json.dumps(value, default=str) if isinstance(value, dict) else "",
)
def test_bad_settings_raise_at_the_door(settings, words):
    with pytest.raises(InputError) as caught:
        Locality(**settings)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_setting_is_checked():
    marks = test_bad_settings_raise_at_the_door.pytestmark[0].args[1]
    assert {name for settings, _ in marks for name in settings} == {
        field.name for field in dataclasses.fields(Locality)
    }


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sizes": (20, 5000)}, r"data\.n = 5000: .*1197"),
        ({"window": 8}, r"window = 8: expected less than 8, the side of the images"),
        ({"window": 16, "image_size": 16}, r"window = 16: expected less than 16"),
        ({"window": 9, "statistic": "ipr"}, r"window = 9: expected at most 8, the side of the images"),
        ({"image_size": 2}, r"image_size = 2: expected room for the smallest window, 2 pixels"),
        ({"image_size": 1, "statistic": "ipr"}, r"image_size = 1: expected room for the smallest window"),
    ],
    ids=["size", "window of all pixels", "of resized images", "window that is larger", "two pixels", "one pixel"],
)
def test_data_that_do_not_fit_are_refused_before_anything_is_trained(settings, words, tmp_path):
    with pytest.raises(InputError, match=words):
        dataclasses.replace(TINY, **settings).plan(store=tmp_path, workers=1)
    assert not any(tmp_path.rglob("*.json"))


def test_settings_survive_the_way_through_json():
    for probe in (Locality(), PROBE, TINY, dataclasses.replace(PROBE, seeds=(3, 1), statistic="ipr", margin=2.0)):
        assert from_plain(Locality, json.loads(json.dumps(probe.settings()))) == probe


def test_it_is_registered_and_frozen():
    assert probes["locality"] is Locality
    with pytest.raises(dataclasses.FrozenInstanceError):
        PROBE.seeds = 3


def test_a_design_needs_no_torch_and_no_pandas():
    code = (
        "import sys; from mlptheory.probes import Locality; p = Locality();"
        "p.trials(); p.claims(); p.bank_trials(3); p.scenarios();"
        "print(sorted({'torch', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_learning_rate_is_the_papers_carried_to_the_width():
    assert Locality(model="B-6/Wi-1024").base_lr == 5e-5
    assert Locality(lr=1).base_lr == 1.0 and type(Locality(lr=1).base_lr) is float


def test_each_statistic_has_a_margin_and_a_unit_which_every_claim_shows():
    for statistic, margin, word in (("local_share", 1.0, "points"), ("ipr", 5.0, "W₀'s"), ("spread", 2.0, "less")):
        claims = Locality(statistic=statistic).claims()
        assert {claim.margin for claim in claims} == {margin} and all(word in claim.unit for claim in claims)
    assert {claim.margin for claim in Locality(margin=3).claims()} == {3.0}


def test_claims_are_those_that_the_design_can_judge():
    names = {claim.id for claim in PROBE.claims()}
    assert len(PROBE.claims()) == len(names) == 8
    without = dataclasses.replace(PROBE, control=False)
    assert names - {claim.id for claim in without.claims()} == {POSITIVE, NULL}
    assert without.with_every_claim() == PROBE.with_every_claim() == PROBE
    # A shuffle of pixels leaves an inverse participation ratio as it is.
    ratio = dataclasses.replace(PROBE, statistic="ipr")
    assert names - {claim.id for claim in ratio.claims()} == {SHUFFLED, NULL}


def test_claims_state_everything_before_a_run():
    for claim in PROBE.claims():
        assert claim.estimand and claim.test and claim.source and len(claim.held_fixed) >= 3
        if claim.id != POSITIVE:
            assert "75, 300, 1197 examples of digits" in claim.scope and "others may disagree" in claim.scope
    assert [claim.id for claim in PROBE.claims() if claim.direction == "equivalent"] == [NULL]


def test_claims_name_the_statistic_and_the_weights_they_are_of():
    probe = dataclasses.replace(PROBE, statistic="spread", of="weights")
    for claim in probe.claims():
        assert "spatial spread, negated, of W" in claim.estimand and "W − W₀" not in claim.estimand


def test_columns_hold_every_label_and_are_unique():
    names = [column.name for column in PROBE.columns()]
    assert len(names) == len(set(names)) and all(column.description for column in PROBE.columns())
    assert {name for trial in PROBE.trials() for name, _ in trial.labels} <= set(names)


def test_claims_hold_a_window_where_the_statistic_has_one():
    def windows(**settings):
        return [[each for each in claim.held_fixed if "window" in each] for claim in Locality(**settings).claims()]

    default, control = ["window: a quarter of the image's side, at least 2 pixels"], ["window: 2 pixels"]
    assert windows() == [default] * 6 + [control, default]
    assert windows(window=3)[0] == ["window: 3 pixels"] and windows(window=3)[-2] == control
    assert not any(windows(statistic="spread") + windows(statistic="ipr", window=3))


def test_references_follow_the_design():
    assert {"Ingrosso2022", "dAscoli2019", "Chen2023", "Loshchilov2019", "Alpaydin1998"} <= set(PROBE.references())
    plain = dataclasses.replace(TINY, statistic="spread", control=False).references()
    assert not {"Ingrosso2022", "dAscoli2019", "Loshchilov2019", "Yang2022"} & set(plain)
    assert "Krizhevsky2009" in Locality(dataset="cifar10").references()
