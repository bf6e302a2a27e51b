import numpy as np
import pytest
import torch
from torch import nn

from mlptheory.base import InputError
from mlptheory.data import Dataset, Normalization, load, pixel_permutation
from mlptheory.models import build
from mlptheory.training import TestTimeAugmentation, evaluate

NORMALIZATION = Normalization(mean=(0.4, 0.6), std=(0.2, 0.3))
STILL = TestTimeAugmentation(views=2, crop_scale=(1.0, 1.0))


class _Table(nn.Module):
    """A model that reads its logits from a table, by the number in the image's first pixels."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, x):
        return self.logits[(x[:, 0, 0, 0] * 255).round().long()]


def _dataset(labels, classes):
    images = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2).clone()
    return Dataset(images=images, labels=labels, classes=tuple("abcdefgh"[:classes]), name="t", split="test")


def _plain(dataset, logits):
    """Return mean loss, top-1 and top-5 share, example by example in pure Python."""
    loss, top1, top5 = 0.0, 0, 0
    for row, label in zip(logits.double().tolist(), dataset.labels.tolist(), strict=True):
        loss += np.log(np.exp(row).sum()) - row[label]
        rank = sum(value > row[label] for value in row)
        top1 += rank == 0
        top5 += rank < 5
    return loss / len(dataset), top1 / len(dataset), top5 / len(dataset)


@pytest.mark.parametrize("classes", [2, 3, 5, 6, 8])
def test_evaluation_equals_a_count_by_hand_in_batches_of_any_size(classes):
    draw = torch.Generator().manual_seed(classes)
    logits = torch.randn(61, classes, generator=draw)
    dataset = _dataset(torch.randint(classes, (61,), generator=draw), classes)
    identity = Normalization(mean=(0.0,), std=(1.0,))
    loss, top1, top5 = _plain(dataset, logits)
    assert 0 < top1 < 1 and (classes <= 5) == (top5 == 1)
    for batch_size in (1, 2, 7, 60, 61, 62, 2048):
        found = evaluate(_Table(logits), dataset, normalization=identity, batch_size=batch_size)
        assert (found.top1, found.top5, found.n) == (top1, top5, 61)
        assert found.loss == pytest.approx(loss, rel=1e-6)
        assert np.array_equal(found.predictions, logits.argmax(1).numpy())


@pytest.mark.parametrize("batch_size", [7, 61])
def test_the_squared_error_is_half_the_sum_over_classes_without_smoothing(batch_size):
    draw = torch.Generator().manual_seed(3)
    logits = torch.randn(61, 5, generator=draw, dtype=torch.float64)
    dataset = _dataset(torch.randint(5, (61,), generator=draw), 5)
    identity = Normalization(mean=(0.0,), std=(1.0,))
    arguments = {"normalization": identity, "precision": "float64", "batch_size": batch_size}
    found = evaluate(_Table(logits), dataset, loss="squared_error", **arguments)
    expected = 0.0
    for row, label in zip(logits.tolist(), dataset.labels.tolist(), strict=True):
        expected += sum((value - (index == label)) ** 2 for index, value in enumerate(row)) / 2
    assert found.loss == pytest.approx(expected / 61, rel=1e-13)
    assert found.top1 == evaluate(_Table(logits), dataset, **arguments).top1
    views = evaluate(_Table(logits), dataset, loss="squared_error", tta=STILL, **arguments)
    assert views.loss == pytest.approx(expected / 61, rel=1e-13)


def test_losses_that_do_not_exist_and_averages_they_do_not_take_are_refused():
    dataset, identity = _dataset(torch.zeros(4, dtype=torch.int64), 2), Normalization(mean=(0.0,), std=(1.0,))
    model = _Table(torch.zeros(4, 2))
    with pytest.raises(InputError, match=r"loss = 'mse': unknown \(allowed: cross_entropy, squared_error\)"):
        evaluate(model, dataset, normalization=identity, loss="mse")
    averaged = TestTimeAugmentation(views=2, average="softmax")
    with pytest.raises(InputError, match=r"tta\.average = 'softmax': expected 'logits' under the squared error"):
        evaluate(model, dataset, normalization=identity, loss="squared_error", tta=averaged)


@pytest.mark.parametrize("permute", ["after", "before"])
@pytest.mark.parametrize("image_size", [None, 6])
def test_inputs_are_normalized_resized_and_permuted_as_in_training(image_size, permute):
    dataset = load("tiny", "test")
    size = image_size or 4
    model = build("S-1/Wi-9", image_size=size, channels=2, num_classes=7, seed=1).double()
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in ((0.4, 0.6), (0.2, 0.3)))

    def permuted(x):
        return x.flatten(1)[:, pixel_permutation(5, tuple(x.shape[1:]))].view(x.shape)

    def resized(x):
        return nn.functional.interpolate(x, (size, size), mode="bilinear", antialias=True) if image_size else x

    x = (dataset.images.double() / 255 - mean) / std
    x = permuted(resized(x)) if permute == "after" else resized(permuted(x))
    with torch.no_grad():
        loss, top1, top5 = _plain(dataset, model(x))
    found = evaluate(
        model,
        dataset,
        normalization=NORMALIZATION,
        image_size=image_size,
        pixel_permutation=5,
        permute=permute,
        precision="float64",
        batch_size=10,
    )
    assert found.loss == pytest.approx(loss, rel=1e-12)
    assert (found.top1, found.top5) == (top1, top5)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf"), -float("inf")])
def test_ties_and_logits_that_are_no_numbers_do_not_crash(value):
    dataset = _dataset(torch.tensor([0, 1, 2, 3, 4, 5, 6] * 3), 7)
    found = evaluate(_Table(torch.full((21, 7), value)), dataset, normalization=Normalization(mean=(0.0,), std=(1.0,)))
    assert 0 <= found.top1 <= found.top5 <= 1
    assert found.predictions.shape == (21,)
    if value == 0:
        assert found.top1 == 3 / 21 and found.top5 == 15 / 21
        assert found.loss == pytest.approx(np.log(7), rel=1e-6)
    else:
        assert np.isnan(found.loss)


def _mixed_modes(norm="batch"):
    model = build("B-2/Wi-6", image_size=4, channels=2, num_classes=7, norm=norm, dropout=0.5)
    model.train()
    model.blocks[0].eval()
    model.blocks[1].norm.train(False)
    return model


def test_every_submodules_mode_comes_back():
    model = _mixed_modes()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, load("tiny", "test"), normalization=NORMALIZATION)
    assert [module.training for module in model.modules()] == modes and len(set(modes)) == 2
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(value.grad is None and value.requires_grad for value in model.parameters())


def test_modes_come_back_also_when_the_model_fails():
    model = _mixed_modes()
    modes = [module.training for module in model.modules()]
    with pytest.raises(InputError, match="was built for"):
        evaluate(model, load("tiny", "test"), normalization=NORMALIZATION, image_size=5)
    assert [module.training for module in model.modules()] == modes
    assert torch.is_grad_enabled()


def test_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    evaluate(_mixed_modes(), load("tiny", "test"), normalization=NORMALIZATION)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_callers_autocast_changes_nothing():
    model, dataset = _mixed_modes("layer"), load("tiny", "test")
    alone = evaluate(model, dataset, normalization=NORMALIZATION, image_size=4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = evaluate(model, dataset, normalization=NORMALIZATION, image_size=4)
    assert inside.loss == alone.loss
    half = evaluate(model, dataset, normalization=NORMALIZATION, precision="bfloat16")
    assert half.loss != alone.loss and half.loss == pytest.approx(alone.loss, rel=0.05)


def test_a_precision_that_does_not_fit_is_refused():
    model, dataset = _mixed_modes(), load("tiny", "test")
    with pytest.raises(InputError, match="precision = 'float64': expected one for a model of float32 weights"):
        evaluate(model, dataset, normalization=NORMALIZATION, precision="float64")
    with pytest.raises(InputError, match=r"precision = 'flaot32': unknown; did you mean 'float32'"):
        evaluate(model, dataset, normalization=NORMALIZATION, precision="flaot32")
    with pytest.raises(InputError, match="batch_size = 0"):
        evaluate(model, dataset, normalization=NORMALIZATION, batch_size=0)


def _guesses(classes=6, n=61):
    draw = torch.Generator().manual_seed(classes)
    logits = torch.randn(n, classes, generator=draw)
    return logits, _dataset(torch.randint(classes, (n,), generator=draw), classes)


def _evaluated(logits, dataset, real_labels, **arguments):
    identity = Normalization(mean=(0.0,), std=(1.0,))
    return evaluate(_Table(logits), dataset, normalization=identity, real_labels=real_labels, **arguments)


@pytest.mark.parametrize("batch_size", [1, 7, 2048])
def test_real_counts_predictions_in_their_set_among_the_sets_that_are_not_empty(batch_size):
    logits, dataset = _guesses()
    draw = np.random.default_rng(0)
    sets = [list(draw.integers(0, 6, size=draw.integers(0, 4))) for _ in range(61)]
    hits = misses = 0
    for row, labels in zip(logits.tolist(), sets, strict=True):
        guess = max(range(6), key=row.__getitem__)
        for label in labels:
            if label == guess:
                hits += 1
                break
        else:
            misses += len(labels) > 0
    assert hits and misses and hits + misses < 61
    found = _evaluated(logits, dataset, sets, batch_size=batch_size)
    assert (found.real, found.n_real) == (hits / (hits + misses), hits + misses)
    plain = _evaluated(logits, dataset, None, batch_size=batch_size)
    assert (plain.real, plain.n_real) == (None, None)
    assert (found.loss, found.top1, found.top5, found.n) == (plain.loss, plain.top1, plain.top5, plain.n)


def test_real_is_top1_where_each_set_is_the_label_and_1_where_it_is_every_class():
    logits, dataset = _guesses()
    for collection in (set, frozenset, tuple, np.array):
        found = _evaluated(logits, dataset, [collection([label]) for label in dataset.labels.tolist()])
        assert (found.real, found.n_real) == (found.top1, 61)
    assert _evaluated(logits, dataset, (range(6),) * 61).real == 1
    wrong = [set(range(6)) - {guess} for guess in logits.argmax(1).tolist()]
    assert _evaluated(logits, dataset, wrong).real == 0
    only = [set()] * 60 + [{int(logits[60].argmax())}]
    found = _evaluated(logits, dataset, only)
    assert (found.real, found.n_real) == (1.0, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda sets: sets[:-1], r"real_labels = 60 sets: expected 61, one for each example of 't', split 'test'"),
        (lambda sets: [*sets, {1}], "real_labels = 62 sets: expected 61"),
        (
            lambda sets: [*sets[:3], {6}, *sets[4:]],
            r"real_labels\[3\] = \{6\}: expected a collection of integers from 0 to 5",
        ),
        (lambda sets: [*sets[:60], {-1}], r"real_labels\[60\] = \{-1\}"),
        (lambda sets: [[True], *sets[1:]], r"real_labels\[0\] = \[True\]"),
        (lambda sets: [[1.0], *sets[1:]], r"real_labels\[0\] = \[1.0\]"),
        (lambda sets: [3, *sets[1:]], r"real_labels\[0\] = 3: expected a collection"),
        (lambda sets: ["12", *sets[1:]], r"real_labels\[0\] = '12'"),
        (lambda sets: [b"\x01", *sets[1:]], r"real_labels\[0\] = b'\\x01'"),
        (lambda sets: [()] * 61, "real_labels = 61 empty sets: expected at least one example with a label"),
        (lambda sets: {1, 2}, "real_labels = set: expected a sequence of sets of labels, or None"),
        (lambda sets: "x" * 61, "real_labels = str: expected a sequence"),
    ],
)
def test_sets_of_labels_that_do_not_fit_are_refused_before_anything_is_computed(change, message):
    logits, dataset = _guesses()
    model = _Table(logits)
    model.forward = None
    with pytest.raises(InputError, match=message):
        evaluate(
            model,
            dataset,
            normalization=Normalization(mean=(0.0,), std=(1.0,)),
            real_labels=change([{0}] * 61),
        )
