import dataclasses
import json
import subprocess
import sys

import pytest

from mlptheory.base import InputError
from mlptheory.base.configuration import from_plain
from mlptheory.probes import NeuralTangentKernel, probes
from mlptheory.probes.ntk import claims as named
from tests.probes.ntk.conftest import PROBE, TINY


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dataset": "cifer10"}, ["'cifer10'", "'cifar10'"]),
        ({"model": "CNN-2"}, ["model = 'CNN-2'", "an S-MLP or B-MLP"]),
        ({"model": "B-1/Wi-64"}, ["model = 'B-1/Wi-64'", "widths go by themselves"]),
        ({"model": 3}, ["model = 3", "architecture and depth"]),
        ({"widths": (16, 32)}, ["widths = (16, 32)", "at least 3"]),
        ({"widths": (16, 32, 32)}, ["widths", "different"]),
        ({"sizes": ()}, ["sizes = ()", "at least 1"]),
        ({"sizes": (63, 600)}, ["sizes = (63, 600)", "at least 64"]),
        ({"epochs": 1}, ["epochs = 1", "at least 2"]),
        ({"batch_size": 151}, ["batch_size = 151", "at most 150"]),
        ({"optimizer": "adam"}, ["'adam'", "'adamw'"]),
        ({"optimizer": "sgd", "other_optimizers": (), "other_lrs": ()}, ["lr = None", "sgd"]),
        ({"lr": 0.0}, ["lr = 0.0", "greater than 0"]),
        ({"lr_factors": (1.0, 2.0)}, ["lr_factors = (1.0, 2.0)", "not 1"]),
        ({"lr_factors": (0.0,)}, ["lr_factors = 0.0", "greater than 0"]),
        ({"other_optimizers": ("lion", "sgd")}, ["other_optimizers", "not lion"]),
        ({"other_optimizers": ("muon", "sgd")}, ["'muon'"]),
        ({"other_lrs": (0.1,)}, ["other_lrs = (0.1,)", "2, one for each"]),
        ({"other_lrs": (0.1, 0.0)}, ["other_lrs = 0.0", "greater than 0"]),
        ({"ntk_lr": 0.0}, ["ntk_lr = 0.0", "greater than 0"]),
        ({"output_scales": (0.5, 1.0, 2.0)}, ["output_scales", "two"]),
        ({"output_scales": (2.0, 0.5)}, ["output_scales = (2.0, 0.5)", "smaller first"]),
        ({"output_scales": (0.0, 0.5)}, ["output_scales = 0.0", "greater than 0"]),
        ({"coordinate_steps": 0}, ["coordinate_steps = 0", "at least 1"]),
        ({"kernel_examples": 601}, ["kernel_examples = 601", "at most 600"]),
        ({"test_examples": 0}, ["test_examples = 0", "at least 1"]),
        ({"seeds": 0}, ["seeds = 0", "at least 1"]),
        ({"image_size": 0}, ["image_size = 0"]),
        ({"label_smoothing": 2.0}, ["label_smoothing"]),
        ({"margin": 0.0}, ["margin = 0.0", "greater than 0"]),
        ({"margin_better": 0.0}, ["margin_better = 0.0"]),
        ({"margin_exponent": 0.5}, ["margin_exponent = 0.5", "less than 0.5"]),
        ({"margin_ratio": 0.0}, ["margin_ratio = 0.0"]),
        ({"margin_alignment": 0.0}, ["margin_alignment = 0.0"]),
        ({"margin_curve": 0.0}, ["margin_curve = 0.0"]),
        ({"margin_coordinates": -1.0}, ["margin_coordinates = -1.0"]),
        ({"margin_leak": 0.0}, ["margin_leak = 0.0"]),
        ({"control": "no"}, ["control = 'no'", "true or false"]),
        ({"precision": "float16"}, ["'float16'", "bfloat16"]),
    ],
    ids=lambda value: json.dumps(value, default=str) if isinstance(value, dict) else "",
)
def test_bad_settings_raise_at_the_door(settings, words):
    with pytest.raises(InputError) as caught:
        NeuralTangentKernel(**settings)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_setting_is_checked():
    marks = test_bad_settings_raise_at_the_door.pytestmark[0].args[1]
    assert {name for settings, _ in marks for name in settings} == {
        field.name for field in dataclasses.fields(NeuralTangentKernel)
    }


def test_settings_survive_plain_data():
    assert from_plain(probes["ntk"], json.loads(json.dumps(TINY.settings())), "ntk") == TINY


def test_learning_rates_are_carried_over_widths_and_scales():
    assert PROBE.base_lr == pytest.approx(5e-5 * 1024 / 64)
    assert PROBE.lr_at(16) == pytest.approx(4 * PROBE.base_lr) and PROBE.lr_at_scale(8.0) == PROBE.base_lr / 8
    sgd = dataclasses.replace(PROBE, optimizer="sgd", lr=0.1, other_optimizers=(), other_lrs=())
    assert sgd.lr_at(16) == 0.1 and sgd.lr_at_scale(8.0) == 0.1 / 64
    held = next(claim for claim in sgd.claims() if claim.id == named.SCALE).held_fixed
    assert any("square of the factor" in each for each in held)


def test_controls_come_last_and_go_with_their_setting():
    ids = [claim.id for claim in PROBE.claims()]
    assert ids[-3:] == [named.SCALE, named.SHUFFLED, named.SHUFFLED_KERNEL]
    without = dataclasses.replace(PROBE, control=False)
    assert [claim.id for claim in without.claims()] == ids[:-3]
    assert without.with_every_claim() == PROBE
    assert "Chizat2019" not in without.references() and "Chizat2019" in PROBE.references()


def test_claims_say_all_that_is_held():
    for claim in PROBE.claims():
        assert claim.bibtex_key is None or claim.bibtex_key in PROBE.references()
        assert len(set(claim.held_fixed)) == len(claim.held_fixed)
        assert "B-1 of widths 16, 32, 64 on 600 examples of digits" in claim.scope


def test_importing_the_probe_loads_no_torch():
    code = (
        "import sys; from mlptheory.probes import NeuralTangentKernel; p = NeuralTangentKernel(); "
        "p.trials(); p.claims(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
