import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mlptheory.base import InputError
from mlptheory.base.configuration import from_plain, to_plain
from mlptheory.base.random import key, uniform
from mlptheory.data import (
    Augmentation,
    Dataset,
    Loader,
    Normalization,
    load,
    pixel_permutation,
    random_resized_crop_boxes,
)
from mlptheory.models import build
from mlptheory.training import TestTimeAugmentation, evaluate
from mlptheory.training.tta import average_over_views

NORMALIZATION = Normalization(mean=(0.4, 0.6), std=(0.2, 0.3))
AVERAGES = ("logits", "softmax")


class Picked(nn.Module):
    """A model whose logits are the image's first numbers: bits in, bits out."""

    def __init__(self, classes=7, scale=1.0):
        super().__init__()
        self.scale, self.classes = nn.Parameter(torch.tensor(scale, dtype=torch.float64)), classes
        self.seen = []

    def forward(self, x):
        self.seen.append(x)
        return x.flatten(1)[:, : self.classes] * self.scale


def _twin_view(image, tta, view, example, size):
    """Cut one view out of one image by slicing, and resize it as torch does; pixels in [0, 1]."""
    shape, one = tuple(image.shape[1:]), np.array([example])
    seed = key(tta.seed, "test-time augmentation")
    (box,) = random_resized_crop_boxes(seed, view, one, shape, tta.crop_scale, tta.crop_ratio)
    top, left, height, width = box.tolist()
    crop = image[None, :, top : top + height, left : left + width].double() / 255
    crop = F.interpolate(crop, size, mode="bilinear", antialias=True)[0]
    return crop.flip(2) if tta.flip and uniform(seed, "flip", view, one, 1)[0, 0] < 0.5 else crop


def _twin_scores(model, dataset, tta, size):
    """Return the averages, one view of one example at a time, in NumPy."""
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in ((0.4, 0.6), (0.2, 0.3)))
    scores = []
    for example, image in enumerate(dataset.images):
        answers = []
        for view in range(tta.views):
            x = (_twin_view(image, tta, view, example, size) - mean) / std
            with torch.no_grad():
                answer = model(x.flatten()[pixel_permutation(5, tuple(x.shape))].view(1, *x.shape))[0].numpy()
            answers.append(np.exp(answer) / np.exp(answer).sum() if tta.average == "softmax" else answer)
        total = sum(answers) / tta.views
        scores.append(np.log(total) if tta.average == "softmax" else total)
    return np.stack(scores)


def _figures(scores, labels):
    """Return mean loss, top-1 and top-5 share, example by example."""
    loss = np.mean([np.log(np.exp(row).sum()) - row[label] for row, label in zip(scores, labels, strict=True)])
    ranks = [int((row > row[label]).sum()) for row, label in zip(scores, labels, strict=True)]
    return loss, np.mean([rank == 0 for rank in ranks]), np.mean([rank < 5 for rank in ranks])


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize(
    ("name", "image_size", "crops"),
    [
        ("tiny", None, {}),
        ("tiny", 7, {"crop_scale": (0.1, 1.0), "crop_ratio": (0.5, 2.0), "flip": True}),
        ("tiny", 3, {"crop_scale": (1.0, 1.0), "flip": True, "seed": 3}),
        ("tiny-wide", 4, {"crop_scale": (0.2, 0.6), "crop_ratio": (0.5, 2.0), "seed": 1}),
        ("tiny-wide", 2, {"crop_scale": (1.0, 1.0)}),
    ],
)
def test_averages_are_those_of_loops_over_views_and_examples(name, image_size, crops, average):
    dataset = load(name, "test")
    size = (image_size or 4,) * 2
    tta = TestTimeAugmentation(views=5, average=average, **crops)
    model = build("B-1/Wi-9", image_size=size[0], channels=2, num_classes=dataset.num_classes, seed=1).double().eval()
    expected = _twin_scores(model, dataset, tta, size)
    arguments = {"normalization": NORMALIZATION, "image_size": image_size, "pixel_permutation": 5}
    loader = Loader(
        dataset,
        batch_size=10,
        seed=tta.loader_seed,
        augmentation=tta.augmentation(dataset),
        shuffle=False,
        dtype=torch.float64,
        **arguments,
    )
    with torch.no_grad():
        scores = average_over_views(model, loader, tta)
    assert scores.shape == (23, dataset.num_classes) and scores.dtype == torch.float64
    # Torch's own resizing has float64 weights, so nothing but the order of sums is different.
    np.testing.assert_allclose(scores.numpy(), expected, rtol=0, atol=1e-10)
    loss, top1, top5 = _figures(expected, dataset.labels.tolist())
    for batch_size in (1, 10, 23, 2048):
        found = evaluate(model, dataset, precision="float64", batch_size=batch_size, tta=tta, **arguments)
        assert found.loss == pytest.approx(loss, rel=1e-10)
        assert (found.top1, found.top5, found.n) == pytest.approx((top1, top5, 23))
        assert np.array_equal(found.predictions, expected.argmax(1))


def test_views_do_not_depend_on_the_batch_size():
    dataset, tta = load("tiny", "test"), TestTimeAugmentation(views=3, crop_scale=(0.2, 1.0), flip=True)
    seen, figures = [], []
    for batch_size in (1, 2, 7, 22, 23, 100):
        model = Picked()
        found = evaluate(
            model, dataset, normalization=NORMALIZATION, precision="float64", batch_size=batch_size, tta=tta
        )
        seen.append(torch.cat(model.seen))
        figures.append((found.top1, found.top5, found.predictions.tolist()))
    assert seen[0].shape == (3 * 23, 2, 4, 4)
    assert all(torch.equal(inputs, seen[0]) for inputs in seen)
    assert all(figure == figures[0] for figure in figures)
    views = seen[0].unflatten(0, (3, 23))
    # Images of 4x4 pixels have few windows: now and then a view comes twice.
    assert (views[0] != views[1]).flatten(1).any(1).float().mean() > 0.5


def test_views_do_not_depend_on_their_number_or_on_the_other_examples():
    dataset = load("tiny", "test")
    few, many, part = Picked(), Picked(), Picked()
    arguments = {"normalization": NORMALIZATION, "precision": "float64"}
    evaluate(few, dataset, tta=TestTimeAugmentation(views=1), **arguments)
    evaluate(many, dataset, tta=TestTimeAugmentation(views=4, average="softmax"), **arguments)
    evaluate(part, dataset.select(torch.arange(9)), tta=TestTimeAugmentation(views=2), **arguments)
    assert torch.equal(few.seen[0], many.seen[0])
    assert torch.equal(part.seen[0], many.seen[0][:9]) and torch.equal(part.seen[1], many.seen[1][:9])


def test_seeds_decide_the_views():
    dataset, views = load("tiny", "test"), []
    for seed in (0, 0, 1):
        model = Picked()
        tta = TestTimeAugmentation(views=2, seed=seed)
        evaluate(model, dataset, normalization=NORMALIZATION, precision="float64", tta=tta)
        views.append(torch.stack(model.seen))
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])


def test_views_of_a_training_set_are_not_the_crops_it_was_trained_on():
    dataset = load("tiny", "train")
    augmentation = Augmentation(crop_scale=(0.4, 1.0), crop_ratio=(1.0, 1.0))
    arguments = {"normalization": NORMALIZATION, "dtype": torch.float64, "augmentation": augmentation}
    trained_on = Loader(dataset, batch_size=41, seed=0, shuffle=False, **arguments)
    model = Picked()
    evaluate(model, dataset, normalization=NORMALIZATION, precision="float64", tta=TestTimeAugmentation(views=3))
    for view, inputs in enumerate(model.seen):
        (batch,) = trained_on.batches(epoch=view)
        assert (inputs != batch.inputs).flatten(1).any(1).float().mean() > 0.5


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("image_size", [None, 6])
@pytest.mark.parametrize("average", AVERAGES)
def test_one_view_of_the_whole_image_is_the_plain_evaluation(average, image_size, precision):
    dataset = load("tiny", "test")
    model = build("B-1/Wi-9", image_size=image_size or 4, channels=2, num_classes=7, seed=1)
    model = model.double() if precision == "float64" else model
    arguments = {
        "normalization": NORMALIZATION,
        "image_size": image_size,
        "pixel_permutation": 5,
        "precision": precision,
        "batch_size": 10,
        "real_labels": [{example % 7} for example in range(23)],
    }
    tta = TestTimeAugmentation(views=1, crop_scale=(1.0, 1.0), average=average)
    plain, found = evaluate(model, dataset, **arguments), evaluate(model, dataset, tta=tta, **arguments)
    assert np.array_equal(plain.predictions, found.predictions)
    assert dataclasses.replace(plain, predictions=None) == dataclasses.replace(found, predictions=None)


def test_only_crops_that_can_differ_from_the_image_move_pixels():
    square, wide = load("tiny", "test"), load("tiny-wide", "test")
    whole = TestTimeAugmentation(crop_scale=(1.0, 1.0))
    assert not whole.augmentation(square).moves_pixels
    assert whole.augmentation(wide).crop_scale == (1.0, 1.0)
    own_ratio = dataclasses.replace(whole, crop_ratio=(5 / 3, 5 / 3))
    assert not own_ratio.augmentation(wide).moves_pixels
    assert own_ratio.augmentation(square).crop_scale == (1.0, 1.0)
    assert dataclasses.replace(whole, flip=True).augmentation(square) == Augmentation(crop_ratio=(1.0, 1.0), flip=True)
    assert TestTimeAugmentation().augmentation(square).crop_scale == (0.4, 1.0)


@pytest.mark.parametrize("average", AVERAGES)
def test_images_of_one_color_look_the_same_in_every_view(average):
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(256, (23, 2, 1, 1), generator=draw).to(torch.uint8).expand(-1, -1, 4, 4).clone()
    dataset = dataclasses.replace(load("tiny", "test"), images=images)
    model = build("S-1/Wi-9", image_size=4, channels=2, num_classes=7, seed=1).double()
    arguments = {"normalization": NORMALIZATION, "precision": "float64"}
    plain = evaluate(model, dataset, **arguments)
    found = evaluate(model, dataset, tta=TestTimeAugmentation(views=6, flip=True, average=average), **arguments)
    assert found.loss == pytest.approx(plain.loss, rel=1e-12)
    assert np.array_equal(found.predictions, plain.predictions)


def _mirrored(label, scale):
    """An image, bright on the left, whose label the model gets right from one side and wrong from the other."""
    images = torch.tensor([[[[255, 0]]]], dtype=torch.uint8)
    dataset = Dataset(images=images, labels=torch.tensor([label]), classes=("a", "b"), name="one", split="test")
    return Picked(classes=2, scale=scale), dataset, Normalization(mean=(0.0,), std=(1.0,))


@pytest.mark.parametrize("scale", [0.5, 3.0, 5000.0])
@pytest.mark.parametrize("label", [0, 1])
def test_both_averages_of_an_image_and_its_mirror_image(label, scale):
    model, dataset, normalization = _mirrored(label, scale)
    views = 40
    crops = {"views": views, "crop_scale": (1.0, 1.0), "crop_ratio": (2.0, 2.0), "flip": True}
    arguments = {"normalization": normalization, "precision": "float64"}
    logits, softmax = (
        evaluate(model, dataset, tta=TestTimeAugmentation(average=average, **crops), **arguments)
        for average in AVERAGES
    )
    bright_left = sum(float(x[0, 0, 0, 0]) for x in model.seen[:views]) / views
    share = bright_left if label == 0 else 1 - bright_left
    assert 0 < share < 1
    # The views' logits differ by ±scale: by (2 share - 1) scale on average.
    assert logits.loss == pytest.approx(np.logaddexp(0, -(2 * share - 1) * scale), rel=1e-12)
    probability = share / (1 + np.exp(-scale)) + (1 - share) * np.exp(-scale) / (1 + np.exp(-scale))
    assert softmax.loss == pytest.approx(-np.log(probability), rel=1e-12)


def test_probabilities_do_not_underflow():
    model, dataset, normalization = _mirrored(1, 5000.0)
    tta = TestTimeAugmentation(views=3, crop_scale=(1.0, 1.0), crop_ratio=(2.0, 2.0), average="softmax")
    found = evaluate(model, dataset, normalization=normalization, precision="float64", tta=tta)
    assert found.loss == pytest.approx(5000.0, rel=1e-12)


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_logits_that_are_no_numbers_show_in_the_loss(value, average):
    model = Picked(scale=value)
    tta = TestTimeAugmentation(views=2, average=average)
    found = evaluate(model, load("tiny", "test"), normalization=NORMALIZATION, precision="float64", tta=tta)
    assert not np.isfinite(found.loss) and 0 <= found.top1 <= found.top5 <= 1


@pytest.mark.parametrize("average", AVERAGES)
def test_real_labels_count_the_averaged_prediction(average):
    dataset, tta = load("tiny", "test"), TestTimeAugmentation(views=3, average=average)
    arguments = {"normalization": NORMALIZATION, "precision": "float64", "tta": tta}
    guesses = evaluate(Picked(), dataset, **arguments).predictions.tolist()
    sets = [{guess} if example % 3 else set() for example, guess in enumerate(guesses)]
    sets[1] = {(guesses[1] + 1) % 7}
    found = evaluate(Picked(), dataset, real_labels=sets, **arguments)
    assert (found.real, found.n_real) == (14 / 15, 15)


def _dropping_model():
    model = build("B-2/Wi-6", image_size=4, channels=2, num_classes=7, norm="batch", dropout=0.5)
    model.train()
    model.blocks[0].eval()
    return model


@pytest.mark.parametrize("average", AVERAGES)
def test_the_model_and_the_global_state_come_back_as_they_were(average):
    model = _dropping_model()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    before = torch.get_rng_state()
    tta = TestTimeAugmentation(views=2, average=average)
    alone = evaluate(model, load("tiny", "test"), normalization=NORMALIZATION, tta=tta)
    assert [module.training for module in model.modules()] == modes and len(set(modes)) == 2
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(value.grad is None and value.requires_grad for value in model.parameters())
    assert torch.equal(torch.get_rng_state(), before) and torch.is_grad_enabled()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = evaluate(model, load("tiny", "test"), normalization=NORMALIZATION, tta=tta)
    assert inside.loss == alone.loss
    half = evaluate(model, load("tiny", "test"), normalization=NORMALIZATION, tta=tta, precision="bfloat16")
    assert half.loss != alone.loss and half.loss == pytest.approx(alone.loss, rel=0.05)


def test_modes_come_back_also_when_the_model_fails_at_a_later_view():
    model = _dropping_model()
    modes = [module.training for module in model.modules()]
    calls = []

    def fail(module, inputs):
        calls.append(module)
        if len(calls) == 3:
            raise RuntimeError("third batch")

    model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="third batch"):
        evaluate(model, load("tiny", "test"), normalization=NORMALIZATION, tta=TestTimeAugmentation(views=5))
    assert [module.training for module in model.modules()] == modes and torch.is_grad_enabled()


def test_a_bar_is_shown_only_if_asked_for(capsys):
    arguments = {"normalization": NORMALIZATION, "precision": "float64", "tta": TestTimeAugmentation(views=2)}
    evaluate(Picked(), load("tiny", "test"), **arguments)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")
    evaluate(Picked(), load("tiny", "test"), progress=True, **arguments)
    shown = capsys.readouterr()
    assert shown.out == "" and "views" in shown.err and "2/2" in shown.err


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"views": 0}, "views = 0: expected an integer of at least 1"),
        ({"views": True}, "views = True"),
        ({"views": 2.0}, "views = 2.0"),
        ({"crop_scale": None}, "crop_scale = None: expected two positive numbers, lowest and highest, at most 1"),
        ({"crop_scale": (0.0, 1.0)}, "crop_scale = "),
        ({"crop_scale": (0.5, 1.1)}, "crop_scale = .*at most 1"),
        ({"crop_scale": 0.5}, "crop_scale = 0.5"),
        ({"crop_ratio": (2.0, 1.0)}, "crop_ratio = .*lowest and highest"),
        ({"flip": 1}, "flip = 1: expected true or false"),
        ({"average": "logit"}, "average = 'logit': unknown; did you mean 'logits'"),
        ({"seed": -1}, "seed = -1: expected an integer of at least 0"),
        ({"seed": None}, "seed = None"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(InputError, match=message):
        TestTimeAugmentation(**values)


def test_arguments_of_another_kind_are_refused():
    model, dataset = Picked(), load("tiny", "test")
    with pytest.raises(InputError, match="tta = 100: expected a TestTimeAugmentation or None"):
        evaluate(model, dataset, normalization=NORMALIZATION, precision="float64", tta=100)
    with pytest.raises(InputError, match="progress = 1: expected true or false"):
        evaluate(model, dataset, normalization=NORMALIZATION, precision="float64", progress=1)
    assert model.seen == []


def test_goes_to_json_and_back():
    tta = TestTimeAugmentation(views=3, crop_scale=(0.5, 1), flip=True, average="softmax", seed=7)
    assert from_plain(TestTimeAugmentation, json.loads(json.dumps(to_plain(tta)))) == tta


def test_defaults_are_the_papers_views_and_average_and_the_crops_of_the_authors_fine_tuning():
    assert to_plain(TestTimeAugmentation()) == {
        "views": 100,
        "crop_scale": [0.4, 1.0],
        "crop_ratio": [1.0, 1.0],
        "flip": False,
        "average": "logits",
        "seed": 0,
    }


@pytest.mark.cuda
@pytest.mark.parametrize("average", AVERAGES)
def test_a_gpu_gives_the_figures_of_the_cpu(average):
    model = build("B-2/Wi-9", image_size=4, channels=2, num_classes=7, seed=1).double()
    tta = TestTimeAugmentation(views=4, flip=True, average=average)
    arguments = {"normalization": NORMALIZATION, "precision": "float64", "tta": tta, "batch_size": 10}
    here = evaluate(model, load("tiny", "test"), **arguments)
    there = evaluate(model.cuda(), load("tiny", "test"), **arguments)
    assert there.loss == pytest.approx(here.loss, rel=1e-10)
    assert np.array_equal(there.predictions, here.predictions)
