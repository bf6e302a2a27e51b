"""ResNets against the same functions written another way, published counts, and BatchNorm's state on its ways."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mlptheory.base import InputError
from mlptheory.models import (
    ModelConfig,
    ParsedName,
    ResNet18,
    ResNet152,
    build,
    count_macs,
    count_parameters,
    load_model,
    lr_multipliers,
    parse_name,
    save_model,
    scale_invariant_parameters,
)
from mlptheory.training import (
    BudgetConfig,
    DataConfig,
    OptimizerConfig,
    Recipe,
    can_train_together,
    finetune,
    finetuning_recipe,
    linear_probe,
    probing_recipe,
    train,
)
from mlptheory.training.together import require_together
from mlptheory.trials import Trial
from mlptheory.trials.grouping import group_trials

SMALL = {"image_size": 8, "channels": 1, "num_classes": 10}
COUNTS = {"ResNet-18": (2, 2, 2, 2), "ResNet-152": (3, 8, 36, 3)}


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def on_meta(name, image_size, num_classes=1000, channels=3):
    with torch.device("meta"):
        return build(name, image_size=image_size, channels=channels, num_classes=num_classes)


def disturbed(model):
    """Return a model in float64 whose normalizations are no longer the identity, in evaluation mode."""
    model = model.double().eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "norm." in name and tensor.is_floating_point():
                drawn = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
                tensor.copy_(drawn + 0.5 if name.endswith(("weight", "var")) else drawn - 0.5)
    return model


def expected_logits(state, x, counts, in_training):
    """Compute the logits from a state dict, layer by layer as He et al. (2016) describe them."""

    def normalized(z, path):
        mean, variance = state[path + "norm.running_mean"], state[path + "norm.running_var"]
        if in_training:
            mean, variance = z.mean((0, 2, 3)), z.var((0, 2, 3), unbiased=False)
        scale = state[path + "norm.weight"] / torch.sqrt(variance + 1e-5)
        shift = state[path + "norm.bias"] - mean * scale
        return z * scale[:, None, None] + shift[:, None, None]

    def layer(z, path, stride, padding):
        return normalized(F.conv2d(z, state[path + "convolution.weight"], stride=stride, padding=padding), path)

    bottleneck = "blocks.0.branch.2.convolution.weight" in state
    large = max(x.shape[2:]) > 64
    if large:
        z = F.max_pool2d(layer(x, "stem.", 2, 3).clamp(min=0), 3, 2, 1)
    else:
        z = layer(x, "stem.", 1, 0 if bottleneck else 1).clamp(min=0)
    firsts = set(np.cumsum(counts)[:-1].tolist())
    for index in range(sum(counts)):
        path, stride = f"blocks.{index}.", 2 if index in firsts else 1
        if bottleneck:
            branch = layer(z, path + "branch.0.", 1, 0).clamp(min=0)
            branch = layer(branch, path + "branch.1.", stride, 1).clamp(min=0)
            branch = layer(branch, path + "branch.2.", 1, 0)
        else:
            branch = layer(z, path + "branch.0.", stride, 1).clamp(min=0)
            branch = layer(branch, path + "branch.1.", 1, 1)
        projected = index in firsts or (bottleneck and index == 0)
        shortcut = layer(z, path + "shortcut.", stride, 0) if projected else z
        z = (branch + shortcut).clamp(min=0)
    return z.mean((2, 3)) @ state["head.weight"].T + state["head.bias"]


@pytest.mark.parametrize("in_training", [False, True])
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("ResNet-18", (3, 1, 8, 8)),
        ("ResNet-18", (2, 3, 5, 7)),
        ("ResNet-18", (2, 3, 32, 32)),
        ("ResNet-18", (2, 3, 65, 40)),
        # Fifty normalizations over a handful of values would magnify the last bits beyond any tolerance.
        ("ResNet-152", (16, 1, 8, 11)),
        ("ResNet-152", (2, 1, 66, 66)),
    ],
)
def test_forward_equals_the_paper_written_out(name, shape, in_training):
    model = disturbed(build(name, image_size=shape[2:], channels=shape[1], num_classes=4, output_scale=0.5))
    x = noise(*shape)
    expected = 0.5 * expected_logits(model.state_dict(), x, COUNTS[name], in_training)
    found = model.train(in_training)(x)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "image_size", "parameters", "macs"),
    [
        # As torchvision publishes them: 11,689,512 and 1.814 G, 60,192,808 and 11.514 G.
        ("ResNet-18", 224, 11_689_512, 1_814_073_344),
        ("ResNet-152", 224, 60_192_808, 11_513_626_624),
        # With 3 x 3 instead of 7 x 7 x 3 x 64 weights in the stem.
        ("ResNet-18", 64, 11_689_512 - 40 * 3 * 64, None),
        ("ResNet-152", 64, 60_192_808, None),
    ],
)
def test_published_counts(name, image_size, parameters, macs):
    model = on_meta(name, image_size)
    assert count_parameters(model) == parameters
    assert macs is None or count_macs(model, (3, image_size, image_size)) == macs


def counted(name, image_size, channels, num_classes):
    """Count multiply-accumulates, and the numbers that are normalized, by the sizes of the layers."""
    counts, side = COUNTS[name], image_size
    large = side > 64
    kernel, stride, padding = (7, 2, 3) if large else (3, 1, 1) if name == "ResNet-18" else (7, 1, 0)
    side = (side + 2 * padding - kernel) // stride + 1
    macs, numbers = side**2 * kernel**2 * channels * 64, side**2 * 64
    side = (side + 1) // 2 if large else side
    channels = 64
    for index, stage in enumerate(counts):
        for block in range(stage):
            wide, before = 64 * 2**index, side
            halved = index > 0 and block == 0
            side = (side + 1) // 2 if halved else side
            if name == "ResNet-18":
                out = wide
                layers = [(side, 9 * channels, wide), (side, 9 * wide, wide)]
            else:
                out = 4 * wide
                layers = [(before, channels, wide), (side, 9 * wide, wide), (side, wide, out)]
            if halved or channels != out:
                layers.append((side, channels, out))
            macs += sum(positions**2 * fan_in * fan_out for positions, fan_in, fan_out in layers)
            numbers += sum(positions**2 * fan_out for positions, _, fan_out in layers)
            channels = out
    return macs + channels * num_classes, numbers, side**2 * channels


@pytest.mark.parametrize(("name", "image_size"), [("ResNet-18", 8), ("ResNet-18", 32), ("ResNet-18", 64)])
def test_multiply_accumulates_are_those_of_the_layers(name, image_size):
    found = count_macs(on_meta(name, image_size, 100), (3, image_size, image_size))
    assert found == counted(name, image_size, 3, 100)[0]


def test_table_7_of_scaling_mlps():
    macs, normalized, pooled = counted("ResNet-152", 64, 3, 1000)
    assert count_macs(on_meta("ResNet-152", 64), (3, 64, 64)) == macs == 13_023_718_144
    # fvcore adds 2 for each number that a BatchNorm scales and shifts, and 1 for each that is pooled.
    assert round((macs + 2 * normalized + pooled) / 1e9, 2) == 13.07
    assert round(count_parameters(on_meta("ResNet-152", 64)) / 1e6, 2) == 60.19


@pytest.mark.parametrize("name", ["ResNet-18", "ResNet-152"])
def test_initialization_is_kaiming_normal_over_fan_out(name):
    model = build(name, **SMALL)
    for path, parameter in model.named_parameters():
        if path.endswith("convolution.weight"):
            std = np.sqrt(2 / (parameter.shape[0] * parameter[0, 0].numel()))
            assert parameter.mean().abs() < 6 * std / np.sqrt(parameter.numel())
            assert abs(parameter.std() / std - 1) < 6 / np.sqrt(2 * parameter.numel())
            assert parameter.abs().max() > 2.5 * std
        elif "norm." in path:
            assert torch.equal(parameter, torch.full_like(parameter, path.endswith("weight")))
        else:
            assert path in ("head.weight", "head.bias")
            assert parameter.abs().max() <= 1 / np.sqrt(model.head.in_features)
    assert not any("convolution.bias" in path for path in model.state_dict())


def test_the_seed_decides_the_draw_and_the_global_state_is_left_alone():
    before = torch.random.get_rng_state()
    first, again, other = (build("ResNet-18", seed=seed, **SMALL) for seed in (4, 4, 5))
    assert torch.equal(torch.random.get_rng_state(), before)
    for path, parameter in first.named_parameters():
        assert torch.equal(parameter, again.get_parameter(path))
        assert "norm" in path or not torch.equal(parameter, other.get_parameter(path))


def test_initialize_starts_over_with_the_statistics_too():
    model = build("ResNet-18", **SMALL)
    model(noise(4, 1, 8, 8).float())
    assert model.stem.norm.running_mean.any() and model.stem.norm.num_batches_tracked == 1
    model.initialize(torch.Generator().manual_seed(0))
    fresh = build("ResNet-18", **SMALL)
    fresh.initialize(torch.Generator().manual_seed(0))
    assert all(torch.equal(value, fresh.state_dict()[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["ResNet-18", "ResNet-152"])
def test_every_parameter_gets_a_gradient(name, precision):
    model = build(name, **SMALL)
    with torch.autocast("cpu", precision, enabled=precision == torch.bfloat16):
        logits = model(noise(6, 1, 8, 8).float())
    F.cross_entropy(logits.float(), torch.arange(6)).backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad.dtype == torch.float32 and parameter.grad.isfinite().all(), path
        assert parameter.grad.any(), path


def test_one_image_is_evaluated_as_in_a_batch():
    model = disturbed(build("ResNet-18", **SMALL))
    x = noise(5, 1, 8, 8)
    torch.testing.assert_close(model(x[2:3]), model(x)[2:3], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "stem", "last"), [((8, 8), (8, 8), (1, 1)), ((1, 1), (1, 1), (1, 1)), ((65, 9), (17, 3), (3, 1))]
)
def test_intermediates_and_their_sizes(size, stem, last):
    model = build("ResNet-18", image_size=size, channels=2, num_classes=3).eval()
    x = noise(2, 2, *size).float()
    found = model.intermediates(x)
    assert list(found) == ["stem", *(f"block{index}" for index in range(8)), "pooled", "logits"]
    assert found["stem"].shape == (2, 64, *stem) and found["block7"].shape == (2, 512, *last)
    assert torch.equal(found["logits"], model(x))


def test_a_model_is_saved_with_its_statistics(tmp_path):
    model = build("ResNet-18", **SMALL)
    for seed in range(3):
        model(noise(4, 1, 8, 8, seed=seed).float())
    save_model(tmp_path, model)
    loaded, x = load_model(tmp_path), noise(3, 1, 8, 8, seed=9).float()
    assert loaded.stem.norm.num_batches_tracked == 3 and not loaded.training
    assert loaded.config == model.config
    with torch.no_grad():
        assert torch.equal(loaded(x), model.eval()(x))


def test_the_names_are_whole():
    assert parse_name("ResNet-18") == ParsedName("ResNet-18", "ResNet-18")
    assert isinstance(on_meta("ResNet-18", 8), ResNet18) and isinstance(on_meta("ResNet-152", 8), ResNet152)
    for name in ("resnet18", "ResNet18", "resnet-18"):
        with pytest.raises(InputError, match="did you mean 'ResNet-18'"):
            parse_name(name)
    for name in ("ResNet-50", "ResNet-18/Wi-64", "ResNet-18-2/Wi-64"):
        with pytest.raises(InputError, match="ResNet-18 or ResNet-152"):
            parse_name(name)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("norm", "layer", "'batch'"),
        ("norm", "none", "'batch'"),
        ("activation", "gelu", "None or 'relu'"),
        ("dropout", 0.1, "0"),
        ("skip", False, "None or True"),
        ("parametrization", "mup", "'standard'"),
        ("parametrization", "ntk", "'standard'"),
        ("variant", "authors", "'paper'"),
    ],
)
def test_other_architectures_are_refused(option, value, expected):
    message = f"{option} = {value!r}: expected {expected} for 'ResNet-18', whose architecture is He et al.'s"
    with pytest.raises(InputError) as caught:
        ModelConfig(name="ResNet-18", **{"norm": "batch", option: value})
    assert str(caught.value) == message


def test_a_configuration_says_batch_and_a_model_that_is_built_need_not():
    with pytest.raises(InputError, match="norm = 'layer': expected 'batch' for 'ResNet-18'"):
        ModelConfig(name="ResNet-18")
    with pytest.raises(InputError, match="norm = 'layer': expected 'batch' for 'ResNet-152'"):
        build("ResNet-152", norm="layer", **SMALL)
    assert on_meta("ResNet-18", 8).config.norm == "batch"


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"image_size = \(6, 9\): expected at least 7 for 'ResNet-152'"):
        build("ResNet-152", image_size=(6, 9), num_classes=2)
    model = build("ResNet-18", **SMALL)
    with pytest.raises(InputError, match=r"ResNet-18 was built for \(N, 1, 8, 8\)"):
        model(torch.zeros(2, 3, 8, 8))
    with pytest.raises(InputError, match="takes floating-point images"):
        model(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lion"])
def test_all_learning_rates_are_the_runs(optimizer):
    model = on_meta("ResNet-18", 8)
    assert lr_multipliers(model, optimizer) == {path: 1.0 for path, _ in model.named_parameters()}
    assert scale_invariant_parameters(model) == ()


def recipe(**changes):
    options = {
        "data": DataConfig(n=200),
        "optimizer": OptimizerConfig(name="sgd", lr=0.05),
        "budget": BudgetConfig(amount=4, unit="steps", batch_size=48),
        "precision": "float32",
    }
    return Recipe(model=ModelConfig(name="ResNet-18", norm="batch"), **{**options, **changes})


def test_an_interrupted_run_ends_with_the_same_bits_and_the_same_statistics(tmp_path):
    def stop(step, total):
        if step == 3:
            raise KeyboardInterrupt

    whole = train(recipe(precision="bfloat16"), device="cpu")
    checkpoint = {"checkpoint": tmp_path / "run", "checkpoint_every_s": 0.0, "device": "cpu"}
    with pytest.raises(KeyboardInterrupt):
        train(recipe(precision="bfloat16"), on_step=stop, **checkpoint)
    steps = []
    resumed = train(recipe(precision="bfloat16"), on_step=lambda step, _: steps.append(step), **checkpoint)
    assert steps[0] > 1 and steps[-1] == 4
    expected = whole.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.model.state_dict().items())
    assert expected["blocks.7.branch.1.norm.num_batches_tracked"] == 4
    assert resumed.evaluations["test"].loss == whole.evaluations["test"].loss


def test_a_linear_probe_leaves_the_bodys_statistics_and_fine_tuning_goes_on_from_them():
    parent = train(recipe(), device="cpu")
    before = {name: value.clone() for name, value in parent.model.named_buffers()}
    short = BudgetConfig(amount=2, unit="steps", batch_size=48)
    probed = linear_probe(parent, probing_recipe(DataConfig(n=200), budget=short), device="cpu")
    assert all(torch.equal(value, before[name]) for name, value in probed.model.named_buffers())
    assert all(torch.equal(value, before[name]) for name, value in parent.model.named_buffers())
    tuned = finetune(parent, finetuning_recipe(DataConfig(n=200), budget=short), device="cpu")
    assert tuned.model.stem.norm.num_batches_tracked == 4 + 2


def test_it_trains_by_itself_and_on_whole_batches():
    trials = [Trial(recipe=recipe(seed=seed)) for seed in range(3)]
    assert group_trials(trials, "cpu") == group_trials(trials, "cuda") == ((0,), (1,), (2,))
    assert not can_train_together(recipe())
    with pytest.raises(InputError, match="'ResNet-18': expected a model without batch normalization in an ensemble"):
        require_together([recipe()])
    with pytest.raises(InputError, match="batch normalization sees the whole batch"):
        recipe(budget=BudgetConfig(batch_size=48, microbatch=8))
    with pytest.raises(InputError, match="batches of at least 2"):
        train(recipe(budget=BudgetConfig(batch_size=199)), device="cpu")
