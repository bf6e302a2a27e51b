"""A kept run evaluated again gives its record's figures, and refuses what is not that run."""

from dataclasses import replace

import pytest

from mlptheory.base.errors import InputError
from mlptheory.data import datasets, load
from mlptheory.models import ModelConfig
from mlptheory.training import BudgetConfig, DataConfig, Recipe, TestTimeAugmentation, evaluate, prepare_examples, train
from mlptheory.trials import Measurement, Schedule, Trial, evaluate_run, run_recipe
from mlptheory.trials.record import unpack_predictions
from mlptheory.trials.run import Task, run_trial

RECIPE = Recipe(
    data=DataConfig(n=128, validation=50, image_size=6),
    model=ModelConfig(name="B-1/Wi-16"),
    budget=BudgetConfig(amount=2, batch_size=8),
    precision="float32",
)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    return folder, run_recipe(RECIPE, out=folder, threads=1, device="cpu", progress=False)


@pytest.mark.parametrize("split", ["test", "validation"])
def test_it_gives_the_records_figures(kept, split):
    folder, record = kept
    found = evaluate_run(folder, split=split, device="cpu")
    assert found["top1"] == record.metrics[f"{split}_accuracy"]
    assert found["loss"] == record.metrics[f"{split}_loss"]
    assert found["n"] == {"test": 600, "validation": 50}[split]
    assert found["record"] == record.digest and found["tta"] is None and found["real"] is None


def test_views_and_reassessed_labels_are_those_of_evaluate(kept):
    views = TestTimeAugmentation(views=3, flip=True, average="softmax", seed=2)
    labels = [{1, 2}, set()] * 300
    found = evaluate_run(kept[0], tta=views, real_labels=labels, device="cpu", progress=False)
    examples = prepare_examples(RECIPE.data, 0)
    expected = evaluate(
        train(RECIPE, device="cpu").model,
        examples.test,
        normalization=examples.normalization,
        image_size=6,
        tta=views,
        real_labels=labels,
    )
    assert [found[name] for name in ("loss", "top1", "real", "n_real")] == [
        expected.loss,
        expected.top1,
        expected.real,
        300,
    ]
    assert found["tta"] == {
        "views": 3,
        "crop_scale": (0.4, 1.0),
        "crop_ratio": (1.0, 1.0),
        "flip": True,
        "average": "softmax",
        "seed": 2,
    }


def test_what_is_not_there_is_refused(kept, tmp_path):
    with pytest.raises(InputError, match=r"run = .*expected a folder that a recipe was trained into"):
        evaluate_run(tmp_path)
    with pytest.raises(InputError, match="split = 'train'"):
        evaluate_run(kept[0], split="train")
    run_recipe(replace(RECIPE, data=DataConfig(n=64)), out=tmp_path, threads=1, device="cpu", progress=False)
    with pytest.raises(InputError, match="carves no validation set out"):
        evaluate_run(tmp_path, split="validation")


def test_a_test_set_with_sets_of_labels_gives_real_accuracy(tmp_path):
    """In the record, under views, and evaluated again; the digest of the data sees the sets."""
    labels = [{label} if label % 2 else set() for label in load("digits", "test").labels.tolist()]

    @datasets.register("reassessed")
    def reassessed(split, root):
        digits = load("digits", split)
        return replace(digits, label_sets=tuple(map(frozenset, labels))) if split == "test" else digits

    recipe = replace(RECIPE, data=replace(RECIPE.data, name="reassessed", validation=0))
    views = Measurement(name="test_time_augmentation", parameters=(("views", 2),))
    plain = outcome(replace(recipe, data=replace(recipe.data, name="digits")), views)
    record = outcome(recipe, views)
    assert {name: record.metrics[name] for name in plain.metrics} == plain.metrics
    assert set(record.metrics) - set(plain.metrics) == {"real_accuracy", "tta_real_accuracy"}
    assert record.data_digest != plain.data_digest
    guesses = unpack_predictions(record.predictions).tolist()
    hits = [guess in right for guess, right in zip(guesses, labels, strict=True) if right]
    assert record.metrics["real_accuracy"] == sum(hits) / len(hits)
    run_recipe(recipe, out=tmp_path, threads=1, device="cpu", progress=False)
    found = evaluate_run(tmp_path, device="cpu")
    assert (found["real"], found["n_real"]) == (record.metrics["real_accuracy"], len(hits))


def outcome(recipe, *measures):
    """Run a trial in this process, which knows what the test registered."""
    task = Task(
        trial=Trial(recipe=recipe, measures=measures),
        digest="none",
        parent_digests=(),
        parent_weights=(),
        schedule=Schedule(device="cpu", threads=1, precision="float32", groups=()),
        data_root=None,
        checkpoint=None,
        keep_weights=False,
    )
    return run_trial(task)[0]
