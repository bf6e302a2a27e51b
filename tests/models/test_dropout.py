import math

import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap

from mlptheory.base import InputError
from mlptheory.models import KeyedDropout, build, dropout_masks, set_dropout_key

NAMES = ["S-2/Wi-16", "B-2/Wi-16", "MLP-2/Wi-16", "CNN-2/Wi-16"]


def model_and_images(name, rows=10, p=0.4, **options):
    options = {"image_size": 4, "channels": 1, "num_classes": 3, "dropout": p, **options}
    x = torch.randn(rows, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return build(name, **options).double(), x


@pytest.mark.parametrize("name", NAMES)
def test_microbatches_are_the_rows_of_the_whole_batch(name):
    model, x = model_and_images(name)
    set_dropout_key(model, seed=1, step=5, rows=slice(0, 10), batch_size=10)
    whole = model(x)
    parts = []
    for rows in (slice(0, 4), slice(4, 8), slice(8, 10)):
        set_dropout_key(model, seed=1, step=5, rows=rows, batch_size=10)
        parts.append(model(x[rows]))
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-12, atol=1e-12)
    model.eval()
    assert not torch.allclose(model(x), whole)


def test_the_key_is_seed_step_and_layer():
    model, _ = model_and_images("S-3/Wi-16")
    whole = {"rows": slice(0, 10), "batch_size": 10}
    first = dropout_masks(model, seed=0, step=0, **whole)
    assert list(first) == [f"blocks.{index}.dropout.mask" for index in range(3)]
    again = dropout_masks(model, seed=0, step=0, **whole)
    assert all(torch.equal(first[name], again[name]) for name in first)
    others = [dropout_masks(model, seed=0, step=1, **whole), dropout_masks(model, seed=1, step=0, **whole)]
    masks = list(first.values()) + [mask for other in others for mask in other.values()]
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == 9


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_share_p_is_dropped_and_the_rest_scaled(p):
    layer = KeyedDropout(p, features=500)
    set_dropout_key(layer, seed=0, step=0, rows=slice(0, 200), batch_size=200)
    out = layer(torch.ones(200, 500, dtype=torch.float64))
    dropped = (out == 0).double().mean().item()
    assert abs(dropped - p) < 5 * math.sqrt(p * (1 - p) / 100_000)
    torch.testing.assert_close(out[out != 0], torch.full_like(out[out != 0], 1 / (1 - p)))


def test_a_cnn_drops_whole_channels():
    layer = KeyedDropout(0.5, features=6)
    set_dropout_key(layer, seed=0, step=0, rows=slice(0, 4), batch_size=4)
    out = layer(torch.ones(4, 6, 3, 3))
    assert torch.equal(out, out[:, :, :1, :1].expand_as(out))
    assert set(out.flatten().tolist()) == {0.0, 2.0}


def test_it_is_the_hidden_activation_that_is_dropped():
    model, x = model_and_images("B-1/Wi-4")
    set_dropout_key(model, seed=0, step=0, rows=slice(0, 10), batch_size=10)
    block = model.blocks[0]
    z = model.embedding(x.flatten(1))
    hidden = torch.nn.functional.gelu(block.expand(block.norm(z)))
    mask = dropout_masks(model, seed=0, step=0, rows=slice(0, 10), batch_size=10)["blocks.0.dropout.mask"]
    expected = z + block.contract(hidden * mask / 0.6)
    torch.testing.assert_close(model.intermediates(x)["block0"], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_drops_nothing(name):
    with_dropout, x = model_and_images(name)
    without, _ = model_and_images(name, p=0.0)
    assert torch.equal(with_dropout.eval()(x), without.eval()(x))


def test_without_dropout_no_key_is_needed_and_none_is_drawn():
    model, x = model_and_images("S-2/Wi-16", p=0.0)
    assert not [module for module in model.modules() if isinstance(module, KeyedDropout)]
    set_dropout_key(model, seed=0, step=0, rows=slice(0, 10), batch_size=10)
    assert model(x).shape == (10, 3)


def test_training_without_a_key_says_what_to_call():
    model, x = model_and_images("S-2/Wi-16")
    with pytest.raises(RuntimeError, match="call set_dropout_key"):
        model(x)


def test_masks_of_another_batch_are_refused():
    model, x = model_and_images("S-2/Wi-16")
    set_dropout_key(model, seed=0, step=0, rows=slice(0, 4), batch_size=10)
    with pytest.raises(RuntimeError, match="for 4 rows, the input has 10"):
        model(x)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_p_is_a_probability_below_1(p):
    with pytest.raises(InputError, match="expected a probability in"):
        KeyedDropout(p, features=3)


def test_masks_are_no_part_of_a_checkpoint():
    model, _ = model_and_images("S-2/Wi-16")
    before = set(model.state_dict())
    set_dropout_key(model, seed=0, step=0, rows=slice(0, 10), batch_size=10)
    assert set(model.state_dict()) == before


@pytest.mark.parametrize("name", NAMES)
def test_an_ensemble_takes_stacked_masks(name):
    models = [model_and_images(name, seed=seed)[0] for seed in range(3)]
    _, x = model_and_images(name)
    parameters, buffers = stack_module_state(models)
    members = [dropout_masks(model, seed, 7, slice(0, 10), 10) for seed, model in enumerate(models)]
    masks = {key: torch.stack([member[key] for member in members]) for key in members[0]}

    def forward(parameters, buffers):
        return functional_call(models[0], (parameters, buffers), (x,))

    together = vmap(forward)(parameters, {**buffers, **masks})
    for seed, model in enumerate(models):
        set_dropout_key(model, seed, 7, slice(0, 10), 10)
        torch.testing.assert_close(together[seed], model(x), rtol=1e-12, atol=1e-12)
