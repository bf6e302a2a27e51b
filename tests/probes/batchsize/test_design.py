import dataclasses
import itertools
import json
import math
import subprocess
import sys

import pytest

from mlptheory.base import InputError
from mlptheory.base.configuration import from_plain
from mlptheory.data import Augmentation
from mlptheory.probes import BatchSize
from mlptheory.probes.batchsize.claims import (
    A_A,
    CNN,
    EVERY_LENGTH,
    EXAMPLES,
    GROWS,
    LEAK,
    MAIN,
    NOISE_SCALE,
    SHARPNESS,
    TUNING,
)
from tests.probes.batchsize.conftest import PROBE, WIDE


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dataset": "cifer10"}, ["'cifer10'", "'cifar10'", "digits"]),
        ({"model": "B-3-Wi-256"}, ["'B-3-Wi-256'", "B-{depth}/Wi-{width}"]),
        ({"model": "Q-3/Wi-256"}, ["'Q-3/Wi-256'"]),
        ({"model": "CNN-2/Wi-8"}, ["model = 'CNN-2/Wi-8'", "an MLP"]),
        ({"model": "Linear"}, ["lr = None", "Linear"]),
        ({"cnn": "B-1/Wi-16"}, ["cnn = 'B-1/Wi-16'", "CNN-{depth}/Wi-{width}"]),
        ({"cnn": "CNN-0/Wi-8"}, ["'CNN-0/Wi-8'"]),
        ({"batch_sizes": (0, 16)}, ["batch_sizes = 0", "at least 1"]),
        ({"batch_sizes": (-1, 16)}, ["batch_sizes = -1", "at least 1"]),
        ({"batch_sizes": (16,)}, ["batch_sizes = (16,)", "at least 2"]),
        ({"batch_sizes": (16, 16)}, ["batch_sizes = (16, 16)", "different"]),
        ({"batch_sizes": [16, 32]}, ["batch_sizes = [16, 32]"]),
        ({"batch_sizes": (16, 32.0)}, ["batch_sizes = 32.0", "an integer"]),
        ({"budget": "step"}, ["budget = 'step'", "did you mean 'steps'", "epochs, steps, compute"]),
        ({"lengths": ()}, ["lengths = ()", "at least 1"]),
        ({"lengths": (0,)}, ["lengths = 0"]),
        ({"lengths": (5, 5)}, ["lengths = (5, 5)", "different"]),
        ({"seeds": ()}, ["seeds = ()", "at least one"]),
        ({"seeds": 0}, ["seeds = 0", "at least 1"]),
        ({"seeds": True}, ["seeds = True"]),
        ({"seeds": (1, 1)}, ["seeds = (1, 1)", "different"]),
        ({"seeds": (-1, 2)}, ["seeds = -1"]),
        ({"seeds": (1_000_000, 2)}, ["seeds = 1000000", "control"]),
        ({"n": 0}, ["n = 0", "at least 1"]),
        ({"n": 1.5}, ["n = 1.5", "an integer"]),
        ({"label_noise": -0.1}, ["label_noise = -0.1", "at least 0"]),
        ({"label_noise": 1.1}, ["label_noise = 1.1", "at most 1"]),
        ({"augmentation": {"mixup": 0.8}}, ["augmentation", "an Augmentation"]),
        ({"lr": -1e-3}, ["lr = -0.001", "greater than 0"]),
        ({"lr": math.nan}, ["lr = nan"]),
        ({"lr": math.inf}, ["lr = inf"]),
        ({"cnn_lr": 0.0}, ["cnn_lr = 0.0", "greater than 0"]),
        ({"cnn": "CNN-2/Wi-8", "cnn_lr": -1.0}, ["cnn_lr = -1.0", "greater than 0"]),
        ({"cnn": "CNN-2/Wi-8", "optimizer": "sgd", "lr": 0.1}, ["cnn_lr = None", "sgd on CNN-2/Wi-8"]),
        ({"optimizer": "adam"}, ["'adam'", "'adamw'"]),
        ({"optimizer": "sgd"}, ["lr = None", "sgd"]),
        ({"lr_policies": ()}, ["lr_policies = ()", "fixed, linear, sqrt, tuned"]),
        ({"lr_policies": ("fixed", "fixed")}, ["lr_policies", "each once"]),
        ({"lr_policies": "fixed"}, ["lr_policies = 'fixed'", "some of"]),
        ({"lr_policies": ("tuend",)}, ["lr_policies = 'tuend'", "did you mean 'tuned'"]),
        ({"lr_grid": (1.0, 2.0)}, ["lr_grid = (1.0, 2.0)", "at least 3"]),
        ({"lr_grid": (1.0, 2.0, 2.0)}, ["lr_grid", "different"]),
        ({"lr_grid": (0.0, 1.0, 2.0)}, ["lr_grid = 0.0", "greater than 0"]),
        ({"lr_grid": [0.5, 1.0, 2.0]}, ["lr_grid"]),
        ({"tuning_seeds": 0}, ["tuning_seeds = 0", "at least 1"]),
        ({"validation": 0}, ["validation = 0", "at least 1"]),
        ({"validation": 0.0}, ["validation = 0.0", "greater than 0"]),
        ({"validation": 1.0}, ["validation = 1.0", "less than 1"]),
        ({"weight_decay": -1.0}, ["weight_decay"]),
        ({"label_smoothing": 2.0}, ["label_smoothing"]),
        ({"target_accuracy": 0.0}, ["target_accuracy = 0.0", "greater than 0"]),
        ({"target_accuracy": 90}, ["target_accuracy = 90", "less than 1"]),
        ({"curvature_seeds": -1}, ["curvature_seeds = -1"]),
        ({"remaining_loss": 0.0}, ["remaining_loss = 0.0"]),
        ({"remaining_loss": 1.0}, ["remaining_loss = 1.0"]),
        ({"margin": -1.0}, ["margin = -1.0"]),
        ({"margin": 0.0}, ["margin = 0.0", "greater than 0"]),
        ({"control": "no"}, ["control = 'no'", "true or false"]),
        ({"precision": "float16"}, ["'float16'", "bfloat16"]),
    ],
    ids=lambda value: json.dumps(value, default=str) if isinstance(value, dict) else "",
)
def test_bad_settings_raise_at_the_door(settings, words):
    with pytest.raises(InputError) as caught:
        BatchSize(**settings)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_setting_is_tried_at_the_door():
    marks = test_bad_settings_raise_at_the_door.pytestmark[0].args[1]
    tried = {name for settings, _ in marks for name in settings}
    assert tried == {field.name for field in dataclasses.fields(BatchSize)}


def test_a_margin_of_nothing_is_allowed_without_controls():
    assert BatchSize(margin=0.0, control=False).margin == 0


def test_what_only_tuning_needs_is_not_asked_for_without_it():
    BatchSize(lr_policies=("fixed",), lr_grid=(1.0,), tuning_seeds=0, validation=0)


def test_settings_survive_the_way_through_json():
    probe = BatchSize(
        seeds=(3, 1, 4),
        lr=1e-3,
        batch_sizes=(8, 32),
        lengths=(1, 2, 3),
        cnn="CNN-2/Wi-8",
        lr_policies=("tuned", "sqrt"),
        validation=100,
        target_accuracy=None,
        augmentation=Augmentation(mixup=0.4),
    )
    assert from_plain(BatchSize, json.loads(json.dumps(probe.settings()))) == probe
    assert from_plain(BatchSize, json.loads(json.dumps(PROBE.settings()))) == PROBE


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PROBE.seeds = 3


def test_a_design_needs_no_torch_and_no_pandas():
    code = (
        "import sys; from mlptheory.probes import BatchSize; p = BatchSize(cnn='CNN-2/Wi-8');"
        "p.trials(); p.claims(); p.follow_up(None); p.bank_trials(3);"
        "print(sorted({'torch', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_learning_rate_is_the_papers_carried_to_the_width():
    assert BatchSize(model="B-6/Wi-1024").base_lr("mlp") == 5e-5
    assert BatchSize(model="B-3/Wi-256").base_lr("mlp") == pytest.approx(2e-4)
    assert BatchSize(lr=3e-3).base_lr("mlp") == 3e-3
    # Channels double at each stride, and the last block decides: 8 · 2² = 32.
    assert BatchSize(cnn="CNN-3/Wi-8").base_lr("cnn") == pytest.approx(5e-5 * 1024 / 32)
    assert BatchSize(cnn="CNN-3/Wi-8", cnn_lr=1e-2).base_lr("cnn") == 1e-2
    assert BatchSize(lr=3e-3).rule_lr("mlp", "fixed", 256) == 3e-3


def test_the_last_block_of_a_cnn_has_as_many_channels_as_its_learning_rate_takes_it_to_have():
    from mlptheory.models import build

    for name in ("CNN-1/Wi-8", "CNN-2/Wi-8", "CNN-3/Wi-4"):
        model = build(name, image_size=32, channels=3, num_classes=10)
        widest = max(parameter.shape[0] for parameter in model.parameters() if parameter.ndim == 4)
        assert BatchSize(cnn=name).base_lr("cnn") == pytest.approx(5e-5 * 1024 / widest)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {MAIN, TUNING, EVERY_LENGTH, GROWS, SHARPNESS, EXAMPLES, A_A, LEAK, NOISE_SCALE}),
        ({"control": False}, {MAIN, TUNING, EVERY_LENGTH, GROWS, SHARPNESS, EXAMPLES}),
        ({"control": False, "lengths": (5,)}, {MAIN, TUNING, SHARPNESS, EXAMPLES}),
        ({"control": False, "lengths": (5,), "lr_policies": ("fixed",)}, {MAIN, SHARPNESS, EXAMPLES}),
        ({"control": False, "lengths": (5,), "lr_policies": ("tuned",)}, {TUNING, EXAMPLES}),
        (
            {"control": False, "lengths": (5,), "lr_policies": ("linear", "sqrt"), "target_accuracy": None},
            {f"{MAIN}-linear", f"{MAIN}-sqrt"},
        ),
        (
            {"control": False, "lengths": (5,), "cnn": "CNN-2/Wi-8", "curvature_seeds": 0, "target_accuracy": None},
            {MAIN, TUNING, CNN},
        ),
    ],
    # The order of a set is another in every process, and so would be the names that xdist compares.
    ids=lambda value: str(sorted(value)) if isinstance(value, set) else str(value),
)
def test_claims_are_those_that_the_design_can_judge(settings, expected):
    claims = BatchSize(**settings).claims()
    assert {claim.id for claim in claims} == expected
    assert len(claims) == len(expected)


def test_claims_state_everything_before_a_run():
    for claim in WIDE.claims():
        assert claim.margin > 0 and claim.unit and claim.estimand and claim.test and claim.source
        if claim.id != NOISE_SCALE:
            where = {A_A: "64, 5", LEAK: "64, 5", SHARPNESS: "16, 64, 256, 20", EXAMPLES: "16, 64, 256, 20"}
            assert "digits" in claim.scope
            assert f"batches {where.get(claim.id, '16, 64, 256, 5, 20')} epochs" in claim.scope
        assert any("learning rate" in item for item in claim.held_fixed)
    claims = {claim.id: claim for claim in WIDE.claims()}
    assert claims[MAIN].margin == 1.0 and claims[MAIN].unit == "percentage points"
    assert "0.0008" in claims[MAIN].scope
    assert "CNN-2/Wi-8" in claims[CNN].scope and "CNN-2/Wi-8" not in claims[MAIN].scope
    assert any("7 multiples of 0.0008" in item for item in claims[TUNING].held_fixed)


@pytest.mark.parametrize(
    ("budget", "follows"), [("epochs", "more steps"), ("steps", "more examples"), ("compute", "more")]
)
def test_what_a_budget_leaves_free_is_said(budget, follows):
    claim = BatchSize(budget=budget).claims()[0]
    assert follows in claim.held_fixed[0] and f"equal {budget}" in claim.statement


def test_with_every_claim_adds_what_is_missing_and_no_more():
    full = BatchSize(lengths=(3,)).with_every_claim()
    assert full.lengths == (3, 12) and full.cnn is not None
    assert {CNN, GROWS, EVERY_LENGTH} <= {claim.id for claim in full.claims()}
    assert WIDE.with_every_claim() == WIDE


def test_columns_hold_every_label_and_are_unique():
    names = [column.name for column in WIDE.columns()]
    assert len(names) == len(set(names))
    for trial in itertools.chain(WIDE.trials(), WIDE.follow_up(None)):
        assert set(dict(trial.labels)) <= set(names)
    assert all(column.description for column in WIDE.columns())


def test_the_main_policy_is_tuned_where_there_is_tuning():
    assert PROBE.main_policy == "tuned"
    assert BatchSize(lr_policies=("sqrt", "fixed")).main_policy == "sqrt"


def test_references_follow_the_design():
    assert "Hoffer2017" in PROBE.references() and "Hoffer2017" not in BatchSize(lengths=(5,)).references()
    bare = BatchSize(target_accuracy=None, curvature_seeds=0, lr=1e-3)
    assert not {"McCandlish2018", "Yang2022"} & set(bare.references())
    for probe in (PROBE, WIDE, bare):
        assert {claim.bibtex_key for claim in probe.claims()} - {None} <= set(probe.references())
