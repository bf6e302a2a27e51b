import numpy as np
import pytest
import torch
from torch import nn

from mlptheory.base import InputError
from mlptheory.models import ModelConfig, build, count_parameters, model_from_config, models

NAMES = ["S-2/Wi-16", "B-2/Wi-16", "MLP-2/Wi-16", "CNN-2/Wi-16"]
SMALL = {"image_size": 4, "channels": 1, "num_classes": 3}


def same_bits(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.fixture
def register():
    """Register builders and take them away again."""
    names = []

    def add(name, builder):
        models.register(name, summary="a test's own")(builder)
        names.append(name)

    yield add
    for name in names:
        del models._entries[name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("parametrization", ["standard", "ntk", "mup"])
def test_the_seed_decides_the_parameters_and_nothing_else_does(name, parametrization):
    options = {**SMALL, "parametrization": parametrization}
    first = build(name, seed=4, **options)
    torch.rand(3)
    assert same_bits(first, build(name, seed=np.int64(4), **options))
    other = build(name, seed=5, **options)
    drawn = [key for key, value in first.named_parameters() if "norm" not in key]
    assert all(not torch.equal(first.get_parameter(key), other.get_parameter(key)) for key in drawn)


@pytest.mark.parametrize("name", NAMES)
def test_the_global_random_state_is_left_alone(name):
    before = torch.random.get_rng_state()
    build(name, **SMALL)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_other_options_do_not_change_the_draw():
    plain = build("B-2/Wi-16", **SMALL)
    assert same_bits(plain, build("B-2/Wi-16", dropout=0.5, activation="relu", output_scale=3.0, skip=False, **SMALL))


@pytest.mark.parametrize("name", NAMES)
def test_double_precision_starts_from_the_same_numbers(name):
    single = build(name, **SMALL)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        double = build(name, **SMALL)
    finally:
        torch.set_default_dtype(default)
    assert all(parameter.dtype == torch.float64 for parameter in double.parameters())
    assert same_bits(single.double(), double)


@pytest.mark.cuda
def test_another_device_starts_from_the_same_numbers():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    with torch.device("cuda"):
        model = build("B-2/Wi-16", **SMALL)
    assert next(model.parameters()).is_cuda
    assert same_bits(model.cpu(), build("B-2/Wi-16", **SMALL))


def test_a_configuration_builds_what_its_fields_build_by_name():
    config = ModelConfig(name="S-2/Wi-16", norm="none", parametrization="ntk", output_scale=2.0)
    by_config = model_from_config(config, **SMALL, seed=2)
    by_name = build("S-2/Wi-16", norm="none", parametrization="ntk", output_scale=2.0, seed=2, **SMALL)
    x = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(by_config(x), by_name(x))
    assert by_config.config == config.resolved()


def test_images_need_not_be_square():
    assert build("S-1/Wi-4", image_size=(2, 5), num_classes=3)(torch.zeros(1, 3, 2, 5)).shape == (1, 3)


def test_initialize_starts_over():
    model = build("B-2/Wi-16", **SMALL)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(9.0)
    model.initialize(torch.Generator().manual_seed(0))
    twin = build("B-2/Wi-16", **SMALL)
    twin.initialize(torch.Generator().manual_seed(0))
    assert same_bits(model, twin)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size = 0: expected an integer of at least 1"),
        ({"image_size": (4, -1)}, "image_size = -1: expected an integer of at least 1"),
        ({"image_size": (1, 4, 4)}, r"image_size = \(1, 4, 4\): expected an integer, or a height and a width"),
        ({"image_size": 4.0}, "image_size = 4.0: expected an integer of at least 1"),
        ({"channels": 0}, "channels = 0: expected an integer of at least 1"),
        ({"num_classes": "10"}, "num_classes = '10': expected an integer of at least 1"),
        ({"num_classes": True}, "num_classes = True: expected an integer of at least 1"),
        ({"seed": 0.5}, "seed = 0.5: expected an integer"),
        ({"seed": None}, "seed = None: expected an integer"),
        ({"activaton": "relu"}, "model option = 'activaton': unknown; did you mean 'activation'"),
        ({"norm": "group"}, "norm = 'group': unknown"),
    ],
)
def test_bad_input_is_refused_on_one_line(options, message):
    with pytest.raises(InputError, match=message) as caught:
        build("S-2/Wi-16", **{**SMALL, **options})
    assert "\n" not in str(caught.value)


def test_a_users_family_is_seeded_though_it_draws_from_the_global_generator(register):
    calls = []

    def builder(parsed, config, input_shape, num_classes):
        calls.append((parsed.depth, parsed.width, config.norm, input_shape, num_classes))
        return nn.Sequential(nn.Flatten(), nn.Linear(16, num_classes))

    register("Mine", builder)
    before = torch.random.get_rng_state()
    first, again, other = (build("Mine-2/Wi-5", norm="none", seed=seed, **SMALL) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert calls[0] == (2, 5, "none", (1, 4, 4), 3)
    assert same_bits(first, again)
    assert not same_bits(first, other)


def test_a_users_model_may_initialize_itself(register):
    class Constant(nn.Linear):
        def initialize(self, generator):
            nn.init.constant_(self.weight, generator.initial_seed() % 97)

    register("Constant", lambda parsed, config, input_shape, num_classes: Constant(2, num_classes))
    first, other = build("Constant", seed=0, **SMALL), build("Constant", seed=1, **SMALL)
    assert torch.unique(first.weight).numel() == 1
    assert not torch.equal(first.weight, other.weight)


def test_shared_and_frozen_parameters_are_counted_once_and_never():
    shared = nn.Linear(3, 3)
    model = nn.Sequential(shared, shared, nn.Linear(3, 2))
    model[2].bias.requires_grad_(False)
    assert count_parameters(model) == 12 + 6


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("parametrization", ["standard", "ntk", "mup"])
def test_bfloat16_autocast_trains(name, parametrization):
    model = build(name, parametrization=parametrization, **SMALL)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))).float().square().sum()
    loss.backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())
