import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mlptheory.base import InputError
from mlptheory.data import Dataset, Loader, pixel_permutation
from mlptheory.measures import transport_first_layer
from mlptheory.models import build

SHAPE = (2, 3, 4)
NAMES = {"S-2/Wi-5": "embedding", "B-1/Wi-4/E-2": "embedding", "MLP-2/Wi-5": "blocks.0.linear", "Linear": "head"}


def _model(name="S-2/Wi-5", **options):
    return build(name, image_size=SHAPE[1:], channels=SHAPE[0], num_classes=3, **options).double()


def _images(n=5):
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _permuted(images, permutation):
    return torch.stack([image.flatten()[permutation].reshape(image.shape) for image in images])


@pytest.mark.parametrize("parametrization", ["standard", "ntk"])
@pytest.mark.parametrize("name", NAMES)
def test_the_copy_does_with_permuted_images_what_the_model_does_with_the_images(name, parametrization, twin):
    model, permutation = _model(name, parametrization=parametrization), pixel_permutation(7, SHAPE)
    transported = transport_first_layer(model, permutation)
    images = _images()
    torch.testing.assert_close(transported(_permuted(images, permutation)), model(images), rtol=1e-12, atol=1e-13)
    assert (transported(images) - model(images)).abs().max() > 0.01
    matrix = torch.zeros(24, 24, dtype=torch.float64)
    for row, column in enumerate(permutation.tolist()):
        matrix[row, column] = 1
    weight = model.get_submodule(NAMES[name]).weight.detach()
    twin("transport_first_layer", transported.get_submodule(NAMES[name]).weight.detach(), weight @ matrix.T, rtol=0)


def test_a_permutation_of_pixels_moves_every_channel_alike():
    model, permutation = _model(), torch.randperm(12, generator=torch.Generator().manual_seed(0))
    images = _images()
    moved = images.flatten(2)[:, :, permutation].reshape(images.shape)
    torch.testing.assert_close(transport_first_layer(model, permutation)(moved), model(images), rtol=1e-12, atol=1e-13)


def test_the_inverse_gives_back_every_bit_and_everything_else_is_left():
    model, permutation = _model(), pixel_permutation(0, SHAPE)
    model.embedding.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    there = transport_first_layer(model, permutation)
    back = transport_first_layer(there, permutation.argsort())
    for name, value in before.items():
        assert torch.equal(back.state_dict()[name], value) and torch.equal(model.state_dict()[name], value)
        assert torch.equal(there.state_dict()[name], value) == (name != "embedding.weight")
    assert torch.equal(there.embedding.weight.sort(dim=1).values, model.embedding.weight.sort(dim=1).values)
    assert [p.requires_grad for p in back.parameters()] == [p.requires_grad for p in model.parameters()]
    assert back.embedding.weight.is_contiguous() and back.training
    with torch.no_grad():
        there.head.weight.zero_()
    assert torch.equal(model.head.weight, before["head.weight"])


def test_the_permutation_is_that_of_the_loader():
    pixels = torch.randint(0, 256, (6, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    dataset = Dataset(images=pixels, labels=torch.zeros(6, dtype=torch.int64), classes=("a",), name="a", split="train")

    def inputs(**options):
        loader = Loader(dataset, batch_size=6, shuffle=False, dtype=torch.float64, **options)
        return next(iter(loader.batches(epoch=0))).inputs

    model = _model()
    transported = transport_first_layer(model, pixel_permutation(3, SHAPE))
    permuted = inputs(pixel_permutation=3)
    assert not torch.equal(permuted, inputs())
    torch.testing.assert_close(transported(permuted), model(inputs()), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_training_keeps_the_copy_transported(optimizer):
    permutation, images, labels = pixel_permutation(5, SHAPE), _images(12), torch.arange(12) % 3
    model = _model()
    other = transport_first_layer(model, permutation)
    for trained, x in ((model, images), (other, _permuted(images, permutation))):
        steps = optimizer(trained.parameters(), lr=0.05, weight_decay=0.1)
        for _ in range(10):
            steps.zero_grad()
            F.cross_entropy(trained(x), labels).backward()
            steps.step()
    expected = transport_first_layer(model, permutation)
    for name, value in other.state_dict().items():
        torch.testing.assert_close(value, expected.state_dict()[name], rtol=1e-9, atol=1e-10)


class _Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.late, self.early = nn.Linear(4, 2), nn.Linear(24, 4)
        self.convolution = nn.Conv2d(2, 1, 1)

    def forward(self, x):
        return self.late(torch.tanh(self.early(x.flatten(1))))


@pytest.mark.parametrize(
    ("model", "layer"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(24, 3)), None),
        (nn.Sequential(nn.Sequential(nn.Identity(), nn.Flatten()), nn.Sequential(nn.Linear(24, 3), nn.ReLU())), None),
        (_Own(), "early"),
    ],
)
def test_other_models_tell_their_first_layer_or_are_told(model, layer):
    model, permutation, images = model.double(), pixel_permutation(2, SHAPE), _images()
    transported = transport_first_layer(model, permutation, layer=layer)
    torch.testing.assert_close(transported(_permuted(images, permutation)), model(images), rtol=1e-12, atol=1e-13)


def _tied():
    first, second = nn.Linear(24, 24), nn.Linear(24, 24)
    second.weight = first.weight
    return nn.Sequential(nn.Flatten(), first, nn.Tanh(), second)


GOOD = pixel_permutation(0, SHAPE)


@pytest.mark.parametrize(
    ("model", "permutation", "layer", "message"),
    [
        (
            _model("CNN-1/Wi-2"),
            GOOD,
            None,
            "model.blocks.0.convolution: a convolution shares its weights among positions",
        ),
        (_model("CNN-1/Wi-2", parametrization="ntk"), GOOD, None, "a convolution shares its weights among positions"),
        (nn.Sequential(nn.Conv2d(2, 1, 1), nn.Flatten()), GOOD, None, "model.0: a convolution shares"),
        (
            nn.Sequential(nn.LayerNorm(4), nn.Flatten()),
            GOOD,
            None,
            "model.0: expected a dense layer .* found LayerNorm",
        ),
        (_Own(), GOOD, None, "model: which layer of _Own sees the images cannot be told"),
        (_Own(), GOOD, "middle", "layer = 'middle': expected the name of a submodule"),
        (_Own(), GOOD, "convolution", "model.convolution: a convolution shares"),
        (_tied(), GOOD, None, "model: the first layer's weight is shared, as 1.weight and 3.weight"),
        (_model(), torch.arange(23), None, "permutation: expected 24 entries, or 12 for the pixels .* found 23"),
        (_Own(), torch.arange(12), "early", "permutation: expected 24 entries, found 12"),
        (_model(), torch.zeros(24, dtype=torch.int64), None, "permutation: expected integers, each of 0 .. n - 1 once"),
        (_model(), torch.arange(1, 25), None, "permutation: expected integers, each of 0 .. n - 1 once"),
        (_model(), torch.arange(24.0), None, "permutation: expected integers, each of 0 .. n - 1 once"),
        (_model(), torch.ones(24, dtype=torch.bool), None, "permutation: expected integers"),
        (_model(), torch.eye(24, dtype=torch.int64), None, r"found shape \(24, 24\)"),
    ],
)
def test_what_cannot_be_is_refused(model, permutation, layer, message):
    with pytest.raises(InputError, match=message):
        transport_first_layer(model, permutation, layer=layer)
