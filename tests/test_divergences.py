"""Where the authors' code differs from the paper: what we do, beside what that code would have done.

Each test computes both by itself, so it fails if ours became theirs. `ITEMS` names the rows of docs/divergences.md that
an item has, and the tests elsewhere that go deeper into it.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F

from mlptheory.base import InputError
from mlptheory.cli import main
from mlptheory.data import Augmentation, Dataset, Loader, Normalization, datasets, draw_mixup, load
from mlptheory.models import ModelConfig, build, load_scaling_mlps
from mlptheory.options import EvaluateOptions
from mlptheory.training import (
    BudgetConfig,
    DataConfig,
    OptimizerConfig,
    Recipe,
    ScheduleConfig,
    TestTimeAugmentation,
    build_optimizer,
    build_recipe_model,
    evaluate,
    finetune,
    finetuning_recipe,
    lr_factor,
    prepare_examples,
    read_recipe,
    train,
)
from mlptheory.trials import run_recipe

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "docs" / "divergences.md").read_text(encoding="utf-8")
EXACT = {"rtol": 1e-12, "atol": 1e-12}
F64 = torch.float64

RECIPE = Recipe(
    data=DataConfig(n=50),
    model=ModelConfig(name="B-1/Wi-8"),
    budget=BudgetConfig(amount=3, batch_size=16),
    precision="float64",
)


@dataclass(frozen=True)
class Item:
    rows: tuple[str, ...]
    deeper: tuple[str, ...]


ITEMS = {
    "S-MLP": Item(
        rows=("S-MLP's block", "S-MLP's normalization", "S-MLP's keys"),
        deeper=("models/test_mlp.py::test_forward_equals_the_formulas",),
    ),
    "the B-MLP's command": Item(
        rows=("pretraining from the README", "options of the B-MLP (c9763b1)"),
        deeper=("test_readme.py::test_commands_run_in_the_order_they_are_printed",),
    ),
    "fine-tuning": Item(
        rows=("weight decay in fine-tuning", "fine-tuning", "crops in pretraining", "MixUp in fine-tuning"),
        deeper=(
            "training/test_optimizers.py::test_decay_per_step_is_lr_times_decay_whatever_the_multiplier",
            "training/test_transfer.py::test_fine_tuning_moves_all_and_a_probe_the_head",
        ),
    ),
    "MixUp": Item(
        rows=("MixUp", "loss under MixUp", "training accuracy under MixUp"),
        deeper=(
            "data/test_loader.py::test_against_one_image_at_a_time",
            "data/test_mixup.py::test_one_weight_for_a_batch_and_another_for_the_next",
            "training/test_loop.py::test_train_equals_a_plain_loop",
        ),
    ),
    "test-time augmentation": Item(
        rows=("test-time augmentation", "views at test time"),
        deeper=("training/test_tta.py::test_averages_are_those_of_loops_over_views_and_examples",),
    ),
    "length, loss, seeds, files": Item(
        rows=(
            "length of pretraining",
            "test loss",
            "seeds",
            "going on after an interruption",
            "the folder of a run",
            "data files",
            "images of ImageNet",
            "normalization of CIFAR-100",
            "accumulated gradients",
        ),
        deeper=(
            "data/test_decoding.py::test_the_central_square_is_resized_by_an_antialiased_triangle",
            "training/test_budget.py::test_an_uneven_last_batch_is_a_step_unless_it_is_dropped",
            "training/test_evaluation.py::test_evaluation_equals_a_count_by_hand_in_batches_of_any_size",
            "training/test_checkpoint.py::test_a_run_stopped_again_and_again_ends_with_the_same_bits",
            "trials/test_single.py::test_a_folder_that_holds_another_record_is_refused_and_left_as_it_is",
            "data/test_official.py::test_the_command_fetches_and_says_where",
            "training/test_loop.py::test_microbatches_equal_the_whole_batch",
        ),
    ),
    "defaults": Item(
        rows=(
            *("optimizer", "weight decay", "clipping", "schedule", "warm-up", "batch size", "label smoothing"),
            *("MixUp", "TF32", "dropout (c9763b1)"),
        ),
        deeper=("training/test_optimizers.py::test_optimizers_equal_numpy_twins_step_by_step",),
    ),
    "checkpoints": Item(
        rows=("checkpoints", "published configs (50cb3a9)"),
        deeper=(
            "models/test_scaling_mlps.py::test_logits_are_those_of_the_formula_in_numpy",
            "models/test_scaling_mlps.py::test_exported_again_it_is_the_same_file",
            "models/test_scaling_mlps_refusals.py::test_all_missing_and_unexpected_keys_and_other_shapes_are_named",
        ),
    ),
    "numbers": Item(
        rows=("B-6/Wi-512", "B-12/Wi-512", "B-6/Wi-1024", "B-12/Wi-1024", "B-12/Wi-1024, test-time augmentation"),
        deeper=(),
    ),
    "ReaL": Item(
        rows=("ReaL",),
        deeper=(
            "training/test_evaluation.py::test_real_counts_predictions_in_their_set_among_the_sets_that_are_not_empty",
        ),
    ),
}


def table_rows() -> list[list[str]]:
    """Return the cells of every row of the page's tables, without those of their heads."""
    lines = PAGE.splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line, following in zip(lines, [*lines[1:], ""], strict=True)
        if line.startswith("|") and not line.startswith("|---") and not following.startswith("|---")
    ]


@pytest.mark.parametrize("item", ITEMS)
def test_every_item_has_its_rows_on_the_page(item):
    on_page = {row[0] for row in table_rows()}
    assert set(ITEMS[item].rows) <= on_page


def test_every_row_of_the_page_is_of_an_item_and_whole():
    rows = table_rows()
    assert {row[0] for row in rows} == {name for item in ITEMS.values() for name in item.rows}
    assert {len(row) for row in rows} == {3, 5, 8}


@pytest.mark.parametrize("test", [test for item in ITEMS.values() for test in item.deeper])
def test_the_tests_that_go_deeper_exist(test):
    file, name = test.split("::")
    assert f"\ndef {name}(" in (REPOSITORY / "tests" / file).read_text(encoding="utf-8")


# S-MLP


def layer_norm(z, weight, bias):
    mean = z.mean(1, keepdim=True)
    return (z - mean) / (((z - mean) ** 2).mean(1, keepdim=True) + 1e-5).sqrt() * weight + bias


def s_mlp(depth=3, width=6, **options):
    """Return an S-MLP in float64 with no parameter at a special value, its parameters and some images."""
    model = build(f"S-{depth}/Wi-{width}", image_size=2, num_classes=4, **options).double()
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw, dtype=F64))
    return model, dict(model.named_parameters()), torch.randn(9, 3, 2, 2, generator=draw, dtype=F64)


def paper_s_mlp(w, z, depth):
    for i in range(depth):
        z = layer_norm(z, w[f"blocks.{i}.norm.weight"], w[f"blocks.{i}.norm.bias"])
        z = (z @ w[f"blocks.{i}.linear.weight"].T + w[f"blocks.{i}.linear.bias"]).clamp(min=0)
    return z


def authors_s_mlp(w, z, depth):
    for i in range(depth - 1):
        z = layer_norm(z, w[f"blocks.{i}.norm.weight"], w[f"blocks.{i}.norm.bias"])
        z = z * (1 + torch.erf(z / 2**0.5)) / 2
        z = z @ w[f"blocks.{i}.linear.weight"].T + w[f"blocks.{i}.linear.bias"]
    return z


@pytest.mark.parametrize(("variant", "formula"), [("paper", paper_s_mlp), ("authors", authors_s_mlp)])
def test_s_mlp_is_the_papers_and_on_request_the_authors(variant, formula):
    model, w, x = s_mlp(variant=variant)
    z = formula(w, x.flatten(1) @ w["embedding.weight"].T + w["embedding.bias"], depth=3)
    expected = z @ w["head.weight"].T + w["head.bias"]
    torch.testing.assert_close(model(x), expected, **EXACT)
    assert len(model.blocks) == {"paper": 3, "authors": 2}[variant]


def test_s_mlp_bends_in_every_block_and_also_in_the_last():
    model, _, x = s_mlp()
    found = model.intermediates(x)
    for i in range(3):
        block = found[f"block{i}"]
        assert (block >= 0).all() and (block == 0).any() and (block > 0).any()
    # Half way between two inputs a network without a nonlinearity answers with the mean of its answers.
    between = model((x[:1] + x[1:2]) / 2) - (model(x[:1]) + model(x[1:2])) / 2
    assert between.abs().max() > 0.1
    theirs, _, x = s_mlp(variant="authors")
    assert (theirs.intermediates(x)["block1"] < 0).any(), "the authors' last block ends with its matrix"


@pytest.mark.parametrize("name", ["S-2/Wi-6", "B-2/Wi-6", "B-2/Wi-6/E-3"])
def test_norms_have_the_width_of_what_enters_them(name):
    for block in build(name, image_size=2, num_classes=4).blocks:
        (entering,) = [layer for layer in block.children() if isinstance(layer, nn.Linear)][:1]
        assert block.norm.normalized_shape == (entering.in_features,) == (6,)


# The B-MLP's command


def test_the_b_mlps_recipe_trains_from_the_command_line_with_every_option_of_the_model(tmp_path):
    recipe = REPOSITORY / "experiments" / "table1" / "cifar10_b-mlp_100.toml"
    small = ["--data.name", "digits", "--model.name", "B-2/Wi-16", "--budget.amount", "1", "--threads", "1"]
    options = ["--model.norm", "batch", "--model.activation", "relu", "--model.dropout", "0.1"]
    out = tmp_path / "out"
    assert main(["train", str(recipe), *small, "--budget.batch-size", "512", *options, "--out", str(out)]) == 0
    held = json.loads((out / "record.json").read_text())
    assert held["metrics"]["steps"] == 3 and held["diverged"] is None
    assert held["paper"]["test_accuracy_percent"] == 58.1


# Fine-tuning


@pytest.fixture(scope="module")
def pretrained():
    return train(dataclasses.replace(RECIPE, budget=BudgetConfig(amount=1, batch_size=16)), device="cpu")


def finetuned(parent, decay, **others):
    recipe = finetuning_recipe(DataConfig(n=40, split_seed=1), budget=BudgetConfig(amount=1, batch_size=40), seed=2)
    optimizer = dataclasses.replace(recipe.optimizer, weight_decay=decay, **others)
    recipe = dataclasses.replace(recipe, optimizer=optimizer, precision="float64")
    return dict(finetune(parent, recipe, device="cpu").model.named_parameters())


def test_weight_decay_acts_in_fine_tuning_in_proportion_to_each_learning_rate(pretrained):
    plain, decayed = finetuned(pretrained, 0.0), finetuned(pretrained, 5.0)
    # The seed draws the head anew; a run that does not move shows where both began.
    start = finetuned(pretrained, 0.0, lr=1e-300, head_lr=1e-300)
    for name, weights in start.items():
        lr = 0.01 if name.startswith("head.") else 0.001
        torch.testing.assert_close(plain[name] - decayed[name], lr * 5.0 * weights, rtol=1e-9, atol=1e-12)
        assert not torch.equal(plain[name], decayed[name]), f"{name}: the decay did not act"


def test_fine_tuning_is_the_papers_and_the_readmes_can_be_written_down():
    recipe = finetuning_recipe(DataConfig())
    assert (recipe.optimizer.name, recipe.optimizer.lr, recipe.optimizer.head_lr) == ("sgd", 0.001, 0.01)
    assert (recipe.optimizer.momentum, recipe.optimizer.weight_decay, recipe.budget.amount) == (0.9, 0.0, 50)
    assert recipe.augmentation == Augmentation()
    theirs = finetuning_recipe(
        DataConfig(),
        augmentation=Augmentation(crop_scale=(0.4, 1.0), crop_ratio=(1.0, 1.0), flip=True),
        budget=BudgetConfig(amount=100, batch_size=2048),
        optimizer=dataclasses.replace(recipe.optimizer, clip_norm=1.0),
    )
    assert Recipe.from_plain(theirs.to_plain()) == theirs


# MixUp

NORMALIZATION = Normalization(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


def images_of(shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def dataset_of(images, labels, classes=4):
    names = tuple("abcdefghij"[:classes])
    return Dataset(images=images, labels=torch.as_tensor(labels), classes=names, name="divergences", split="train")


def normalized(images):
    mean, std = (torch.tensor(part, dtype=F64)[:, None, None] for part in (NORMALIZATION.mean, NORMALIZATION.std))
    return (images.to(F64) / 255 - mean) / std


def test_mixup_takes_one_weight_a_batch_and_the_example_before_after_normalization():
    images = images_of((12, 3, 2, 2))
    dataset = dataset_of(images, np.arange(12) % 4)
    loader = Loader(dataset, batch_size=5, augmentation=Augmentation(mixup=0.8), normalization=NORMALIZATION, dtype=F64)
    weights = []
    for batch in loader.batches(epoch=0):
        (weight,) = set(batch.mix.tolist())
        weights.append(weight)
        own = images[batch.examples]
        before = own[[i - 1 for i in range(len(own))]]
        expected = weight * normalized(own) + (1 - weight) * normalized(before)
        torch.testing.assert_close(batch.inputs, expected, **EXACT)
        in_bytes = (weight * own.to(F64) + (1 - weight) * before.to(F64)).to(torch.uint8)
        assert (batch.inputs - normalized(in_bytes)).abs().max() > 1e-4, "mixed in bytes"
        assert batch.partners.tolist() == [batch.targets[i - 1].item() for i in range(len(own))]
    assert len(set(weights)) == len(weights) == 3


def test_mixups_weight_follows_its_beta_law():
    drawn = [draw_mixup(0, 1, batch, np.arange(2), 2, 0.8)[0] for batch in range(8000)]
    assert stats.kstest(drawn, stats.beta(0.8, 0.8).cdf).pvalue > 1e-3
    assert stats.kstest(drawn, stats.uniform.cdf).pvalue < 1e-3


def test_loss_and_accuracy_under_mixup_weigh_both_labels():
    recipe = dataclasses.replace(
        RECIPE,
        data=DataConfig(n=100),
        model=ModelConfig(name="S-1/Wi-64"),
        augmentation=Augmentation(mixup=0.8),
        optimizer=OptimizerConfig(name="sgd", lr=1e-300),
        budget=BudgetConfig(amount=1, batch_size=16),
        label_smoothing=0.3,
    )
    history = {row[2]: row[3] for row in train(recipe, device="cpu").history}
    examples = prepare_examples(recipe.data, recipe.seed)
    model = build_recipe_model(recipe, examples).double()
    loader = Loader(
        examples.train,
        batch_size=16,
        seed=recipe.seed,
        augmentation=recipe.augmentation,
        normalization=examples.normalization,
        dtype=F64,
    )
    losses, shares, theirs = [], [], []
    for batch in loader.batches(epoch=0):
        with torch.no_grad():
            log_p = model(batch.inputs).log_softmax(1)
        weight, each = batch.mix[0].item(), range(len(log_p))
        own, partner = (
            -(0.7 * torch.stack([log_p[i, labels[i]] for i in each]) + 0.3 * log_p.mean(1))
            for labels in (batch.targets, batch.partners)
        )
        losses += (weight * own + (1 - weight) * partner).tolist()
        hit, partner_hit = ((log_p.argmax(1) == labels).double() for labels in (batch.targets, batch.partners))
        shares += (weight * hit + (1 - weight) * partner_hit).tolist()
        theirs += [max(hit.mean().item(), partner_hit.mean().item())] * len(log_p)
    np.testing.assert_allclose(history["train_loss"], np.mean(losses), rtol=1e-12)
    np.testing.assert_allclose(history["train_accuracy"], np.mean(shares), rtol=1e-12)
    assert np.mean(theirs) > history["train_accuracy"] + 0.01


# Test-time augmentation


class Watching(nn.Module):
    """Two logits, 0 and what a function makes of each view; keeps what it answered."""

    def __init__(self, answer):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1, dtype=F64))
        self.answer, self.seen = answer, []

    def forward(self, x):
        found = self.answer(x[:, 0])
        self.seen += found.tolist()
        return torch.stack([torch.zeros_like(found), found], dim=1)


def look(model, pixels, **options):
    dataset = dataset_of(pixels[None, None], [1], classes=2)
    normalization = Normalization(mean=(0.0,), std=(1.0,))
    views = TestTimeAugmentation(**options)
    return evaluate(model, dataset, normalization=normalization, precision="float64", tta=views)


def test_views_are_averaged_by_their_logits_unless_softmax_is_asked_for():
    pixels = torch.zeros(16, 16, dtype=torch.uint8)
    pixels[0] = 255

    def answer(views):
        # Rarely, where the crop reaches the upper edge, very sure of one class; else a little of the other.
        return torch.where(views[:, 0, 0] > 0.5, 10.0, -2.0).to(F64)

    model = Watching(answer)
    by_logits = look(model, pixels)
    assert len(model.seen) == 100
    logits = np.array(model.seen)
    probabilities = 1 / (1 + np.exp(-logits))
    assert logits.mean() > 0 > probabilities.mean() - 0.5, "the two averages must disagree"
    assert by_logits.predictions.tolist() == [1]
    np.testing.assert_allclose(by_logits.loss, np.log1p(np.exp(-logits.mean())), rtol=1e-12)
    by_softmax = look(model, pixels, average="softmax")
    assert by_softmax.predictions.tolist() == [0]
    np.testing.assert_allclose(by_softmax.loss, -np.log(probabilities.mean()), rtol=1e-12)


def test_views_are_crops_and_are_flipped_only_on_request():
    pixels = torch.arange(255, 255 - 16 * 8, -8, dtype=torch.int64).to(torch.uint8).repeat(16, 1)

    def slope(views):
        return views[:, :, 0].mean(1) - views[:, :, -1].mean(1)

    model = Watching(slope)
    look(model, pixels)
    assert len(set(model.seen)) > 3, "crops of several sizes"
    assert min(model.seen) > 0
    flipping = Watching(slope)
    look(flipping, pixels, flip=True)
    assert 30 < sum(value < 0 for value in flipping.seen) < 70


def test_the_commands_views_are_those_of_the_paper():
    options, views = EvaluateOptions(), TestTimeAugmentation()
    named = ("views", "crop_scale", "flip", "average", "seed")
    assert [getattr(options, name) for name in named] == [getattr(views, name) for name in named]
    assert (views.views, views.crop_scale, views.crop_ratio) == (100, (0.4, 1.0), (1.0, 1.0))
    assert (views.average, views.flip) == ("logits", False)


# Length, loss, seeds, files


def test_training_takes_as_many_epochs_as_said_and_every_batch():
    steps = []
    trained = train(RECIPE, device="cpu", on_step=lambda step, total: steps.append((step, total)))
    assert steps == [(step, 12) for step in range(1, 13)], "3 epochs of batches of 16, 16, 16 and 2"
    assert [row[:2] for row in trained.history if row[2] == "train_loss"] == [(4, 1), (8, 2), (12, 3)]
    loader = Loader(load("digits", "train"), batch_size=100)
    seen = torch.cat([batch.examples for batch in loader.batches(epoch=0)])
    assert sorted(seen.tolist()) == list(range(1197))
    dropped = dataclasses.replace(RECIPE, budget=BudgetConfig(amount=3, batch_size=16, drop_last=True))
    assert max(row[0] for row in train(dropped, device="cpu").history) == 9


def test_the_test_loss_is_the_mean_over_examples_without_smoothing():
    dataset = dataset_of(images_of((10, 3, 2, 2)), np.arange(10) % 4)
    model = build("B-1/Wi-8", image_size=2, num_classes=4, output_scale=5.0).double().eval()
    with torch.no_grad():
        losses = F.cross_entropy(model(normalized(dataset.images)), dataset.labels, reduction="none")
    by_batches = np.mean([losses[:4].mean(), losses[4:8].mean(), losses[8:].mean()])
    for batch_size in (4, 10):
        found = evaluate(model, dataset, normalization=NORMALIZATION, precision="float64", batch_size=batch_size)
        np.testing.assert_allclose(found.loss, losses.mean(), rtol=1e-12)
    assert abs(by_batches - losses.mean()) > 1e-3


def weights_of(trained):
    return torch.cat([value.flatten() for value in trained.model.parameters()])


def test_a_seed_decides_a_run_and_an_interrupted_one_goes_on_to_the_same_bits(tmp_path):
    whole = train(RECIPE, device="cpu")
    torch.rand(5)
    again = train(RECIPE, device="cpu")
    assert torch.equal(weights_of(again), weights_of(whole)) and again.history == whole.history
    other = train(dataclasses.replace(RECIPE, seed=1), device="cpu")
    assert not torch.equal(weights_of(other), weights_of(whole))

    taken = []

    def stop(step, total):
        taken.append(step)
        if step == 7 and taken.count(7) == 1:
            raise KeyboardInterrupt

    given = {"device": "cpu", "checkpoint": tmp_path / "run.pt", "checkpoint_every_s": 0, "on_step": stop}
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, **given)
    resumed = train(RECIPE, **given)
    assert taken == [*range(1, 8), *range(7, 13)], "from the step that was not kept, and not from the first"
    assert torch.equal(weights_of(resumed), weights_of(whole)) and resumed.history == whole.history


def test_another_run_is_refused_the_folder_of_the_first(tmp_path):
    given = {"out": tmp_path, "threads": 1, "device": "cpu", "progress": False}
    # The authors' folders are named by dataset, model, batch size, optimizer, smoothing, augmentation: not by these.
    run_recipe(RECIPE, **given)
    for other in (
        dataclasses.replace(RECIPE, seed=1),
        dataclasses.replace(RECIPE, budget=BudgetConfig(amount=4, batch_size=16)),
        dataclasses.replace(RECIPE, optimizer=OptimizerConfig(clip_norm=1.0)),
        dataclasses.replace(RECIPE, schedule=ScheduleConfig(name="cosine")),
    ):
        with pytest.raises(InputError, match="holds another record"):
            run_recipe(other, **given)


def test_every_dataset_is_normalized_by_its_own_statistics():
    for name, high in (("divergences-dark", 64), ("divergences-bright", 256)):

        @datasets.register(name, summary="images of one brightness")
        def load_images(split, root, name=name, high=high):
            pixels = np.random.default_rng(0).integers(high // 2, high, (30, 3, 4, 4), dtype=np.uint8)
            labels = torch.arange(30) % 3
            return Dataset(
                images=torch.from_numpy(pixels), labels=labels, classes=("a", "b", "c"), name=name, split=split
            )

        found = prepare_examples(DataConfig(name=name), 0)
        pixels = found.train.images.double().numpy() / 255
        np.testing.assert_allclose(found.normalization.mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-12)
        np.testing.assert_allclose(found.normalization.std, pixels.std(axis=(0, 2, 3)), rtol=1e-12)


@pytest.mark.data
def test_cifar100_has_statistics_of_its_own(cifar_root):
    found = prepare_examples(DataConfig(name="cifar100"), 0, str(cifar_root)).normalization
    np.testing.assert_allclose(found.mean, (0.5071, 0.4865, 0.4409), atol=5e-5)
    np.testing.assert_allclose(found.std, (0.2673, 0.2564, 0.2762), atol=5e-5)


# Defaults


def test_defaults_are_those_of_the_code_but_for_what_the_page_says():
    recipe = Recipe()
    assert (recipe.optimizer.name, recipe.optimizer.lr) == ("lion", 5e-5)
    assert (recipe.optimizer.weight_decay, recipe.optimizer.clip_norm) == (0.0, None)
    assert (recipe.schedule.name, recipe.schedule.warmup) == ("constant", 0)
    assert recipe.label_smoothing == 0.3
    assert [lr_factor(recipe.schedule, step, 100) for step in range(100)] == [1.0] * 100
    assert (recipe.budget.batch_size, recipe.augmentation, recipe.precision) == (64, Augmentation(), "auto")
    assert recipe.model.dropout == 0
    for name in ("cifar10_s-mlp_100", "cifar10_b-mlp_100"):
        read, _ = read_recipe(REPOSITORY / "experiments" / "table1" / f"{name}.toml")
        assert (read.budget.batch_size, read.label_smoothing, read.optimizer.lr) == (4096, 0.3, 5e-5)
        assert read.optimizer == recipe.optimizer and read.schedule == recipe.schedule


def test_a_cosine_moves_with_every_step():
    cosine = ScheduleConfig(name="cosine")
    factors = [lr_factor(cosine, step, 12) for step in range(12)]
    np.testing.assert_allclose(factors, [(1 + np.cos(np.pi * step / 12)) / 2 for step in range(12)], rtol=1e-12)


def test_lion_has_the_codes_momenta_and_its_decay_stays_out_of_the_sign():
    layer = nn.Linear(40, 1, bias=False).double()
    optimizer = build_optimizer(layer, OptimizerConfig(lr=0.1, weight_decay=0.5))
    expected, average = layer.weight.detach().clone(), torch.zeros(1, 40, dtype=F64)
    draw = torch.Generator().manual_seed(0)
    for _ in range(30):
        gradient = torch.randn(1, 40, generator=draw, dtype=F64)
        layer.weight.grad = gradient.clone()
        optimizer.step()
        expected = expected * (1 - 0.1 * 0.5) - 0.1 * torch.sign(0.9 * average + 0.1 * gradient)
        average = 0.99 * average + 0.01 * gradient
        torch.testing.assert_close(layer.weight.detach(), expected, **EXACT)


def test_tf32_is_left_as_it_was():
    before = torch.get_float32_matmul_precision()
    train(dataclasses.replace(RECIPE, precision="float32"), device="cpu")
    assert torch.get_float32_matmul_precision() == before == "highest"


# Checkpoints


def their_file(folder, side=2, **changes):
    """Write a B-MLP in the authors' format, as paper and code describe it, and return its tensors."""
    draw = torch.Generator().manual_seed(4)
    shapes = {
        "linear_in.weight": (5, 3 * side * side),
        "linear_in.bias": (5,),
        "linear_out.weight": (4, 5),
        "linear_out.bias": (4,),
    }
    for i in range(2):
        shapes |= {
            f"blocks.{i}.block.0.weight": (20, 5),
            f"blocks.{i}.block.0.bias": (20,),
            f"blocks.{i}.block.2.weight": (5, 20),
            f"blocks.{i}.block.2.bias": (5,),
            f"layernorms.{i}.weight": (5,),
            f"layernorms.{i}.bias": (5,),
        }
    state = {name: torch.randn(shape, generator=draw, dtype=F64) for name, shape in shapes.items()} | changes
    torch.save({name: value for name, value in state.items() if value is not None}, folder / "epoch_1")
    config = {"model": "BottleneckMLP", "architecture": "B_2-Wi_5", "normalization": "layer", "dataset": "x"}
    (folder / "config.txt").write_text(json.dumps({**config, "crop_resolution": side, "num_classes": 4}))
    return state


def test_a_checkpoint_of_the_authors_gives_its_own_logits(tmp_path):
    w = their_file(tmp_path)
    x = torch.randn(6, 3, 2, 2, generator=torch.Generator().manual_seed(1), dtype=F64)
    # Channel by channel, then row by row.
    flat = torch.stack([x[:, c, i, j] for c in range(3) for i in range(2) for j in range(2)], dim=1)
    z = flat @ w["linear_in.weight"].T + w["linear_in.bias"]
    for i in range(2):
        a = layer_norm(z, w[f"layernorms.{i}.weight"], w[f"layernorms.{i}.bias"])
        a = a @ w[f"blocks.{i}.block.0.weight"].T + w[f"blocks.{i}.block.0.bias"]
        z = (
            z
            + (a * (1 + torch.erf(a / 2**0.5)) / 2) @ w[f"blocks.{i}.block.2.weight"].T
            + w[f"blocks.{i}.block.2.bias"]
        )
    expected = z @ w["linear_out.weight"].T + w["linear_out.bias"]
    torch.testing.assert_close(load_scaling_mlps(tmp_path / "epoch_1")(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"blocks.1.block.2.weight": None}, "blocks.1.block.2.weight"),
        ({"linear_out.bias": None}, "linear_out.bias"),
        ({"layernorms.2.weight": torch.ones(5)}, "layernorms.2.weight"),
    ],
)
def test_a_checkpoint_with_a_key_too_few_or_too_many_is_refused(tmp_path, changes, named):
    their_file(tmp_path, **changes)
    with pytest.raises(InputError, match=re.escape(named)):
        load_scaling_mlps(tmp_path / "epoch_1")


# ReaL


def test_real_is_of_the_images_that_have_labels():
    dataset = dataset_of(images_of((4, 3, 2, 2)), [0, 1, 2, 3])
    model = build("B-1/Wi-8", image_size=2, num_classes=4).double()
    guesses = evaluate(model, dataset, normalization=NORMALIZATION, precision="float64").predictions.tolist()
    sets = [{guesses[0]}, {(guesses[1] + 1) % 4}, set(), {guesses[3], 0}]
    found = evaluate(model, dataset, normalization=NORMALIZATION, precision="float64", real_labels=sets)
    assert (found.real, found.n_real) == (2 / 3, 3), "not 2 of 4"


# Numbers

README_NUMBERS = {
    "B-6/Wi-512": (88.5, 71.2, 79.9, 53.2, 33.3, 38.2),
    "B-12/Wi-512": (91.4, 75.1, 84.4, 60.0, 38.0, 42.8),
    "B-6/Wi-1024": (92.5, 77.1, 86.5, 64.3, 40.0, 47.0),
    "B-12/Wi-1024": (94.2, 80.0, 89.9, 69.9, 43.2, 48.6),
}
TABLE_2 = {
    "B-6/Wi-1024": (91.5, 76.4, 85.0, 62.7, 38.7, 47.0),
    "B-12/Wi-1024": (94.2, 80.0, 89.9, 69.9, 43.3, 48.6),
}


def test_the_readmes_numbers_stand_beside_the_papers():
    shown = {tuple(row[:2]): tuple(float(cell) for cell in row[2:]) for row in table_rows() if len(row) == 8}
    for source, numbers in (("README", README_NUMBERS), ("paper", TABLE_2)):
        assert {name: shown[name, source] for name in numbers} == numbers
    ours, theirs = TABLE_2["B-6/Wi-1024"], README_NUMBERS["B-6/Wi-1024"]
    assert all(low < high for low, high in zip(ours[:5], theirs[:5], strict=True)) and ours[5] == theirs[5]
