"""One recipe by itself: trained once, resumed, its record and weights in the folder."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch

from mlptheory.base.errors import InputError
from mlptheory.base.files import sha256
from mlptheory.models import ModelConfig, load_model, model_from_config
from mlptheory.training import BudgetConfig, DataConfig, Recipe, evaluate, prepare_examples, train
from mlptheory.trials import STANDARD_OBSERVERS, FolderStore, run_recipe, single

RECIPE = Recipe(
    data=DataConfig(n=64),
    model=ModelConfig(name="B-1/Wi-16"),
    budget=BudgetConfig(amount=2, batch_size=8),
    precision="float32",
)


def test_the_folder_gets_the_record_the_papers_numbers_and_the_weights(tmp_path):
    record = run_recipe(RECIPE, out=tmp_path, paper={"test_accuracy": 0.5}, threads=1, device="cpu", progress=False)
    shown = json.loads((tmp_path / "record.json").read_text())
    assert shown["paper"] == {"test_accuracy": 0.5}
    assert shown["digest"] == record.digest and shown["metrics"] == record.metrics
    assert FolderStore(tmp_path / "store").get(record.digest) == record
    assert not list((tmp_path / "store" / "checkpoints").iterdir())

    examples = prepare_examples(RECIPE.data, RECIPE.seed)
    model = model_from_config(RECIPE.model, image_size=8, channels=1, num_classes=10, seed=99)
    model.load_state_dict(safetensors.torch.load_file(tmp_path / "model.safetensors"))
    found = evaluate(model.eval(), examples.test, normalization=examples.normalization, precision="float32")
    assert found.top1 == record.metrics["test_accuracy"]
    assert found.loss == record.metrics["test_loss"]


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
def test_the_folder_is_a_model_that_can_be_loaded(tmp_path, precision):
    recipe = replace(RECIPE, precision=precision, model=ModelConfig(name="CNN-1/Wi-8", norm="batch"))
    record = run_recipe(recipe, out=tmp_path, threads=1, device="cpu", progress=False)
    model, examples = load_model(tmp_path), prepare_examples(recipe.data, recipe.seed)
    found = evaluate(model, examples.test, normalization=examples.normalization, precision=precision)
    assert found.top1 == record.metrics["test_accuracy"]
    about = json.loads((tmp_path / "model.json").read_text())["about"]
    assert Recipe.from_plain(about["recipe"]) == recipe and about["record"] == record.digest
    assert tuple(about["normalization"]["mean"]) == examples.normalization.mean
    shown = json.loads((tmp_path / "record.json").read_text())
    assert shown["weights_sha256"] == sha256((tmp_path / "model.safetensors").read_bytes())


def test_a_second_call_does_not_train_again(tmp_path, monkeypatch):
    first = run_recipe(RECIPE, out=tmp_path, threads=1, device="cpu", progress=False)
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").unlink()
    monkeypatch.setattr(single, "run_trial", None)
    assert run_recipe(RECIPE, out=tmp_path, threads=1, device="cpu", progress=False) == first
    assert (tmp_path / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize("changes", [{"recipe": replace(RECIPE, seed=1)}, {"threads": 2}])
def test_a_folder_that_holds_another_record_is_refused_and_left_as_it_is(tmp_path, changes):
    given = {"recipe": RECIPE, "threads": 1, "out": tmp_path, "device": "cpu", "progress": False}
    first = run_recipe(**given)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(InputError, match=f"holds another record .{first.digest[:16]}"):
        run_recipe(**{**given, **changes})
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


class Killed(Exception):
    pass


def test_the_record_names_the_weights_beside_it(tmp_path):
    run_recipe(RECIPE, out=tmp_path, threads=1, device="cpu", progress=False)
    shown = json.loads((tmp_path / "record.json").read_text())
    assert shown["weights_sha256"] == sha256((tmp_path / "model.safetensors").read_bytes())


def test_a_run_that_was_stopped_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    whole = run_recipe(RECIPE, out=tmp_path / "whole", threads=1, device="cpu", progress=False)
    checkpoint = FolderStore(tmp_path / "stopped" / "store").checkpoint_path(whole.digest)

    def stop(step: int, total: int) -> None:
        if step > 5:
            raise Killed

    with pytest.raises(Killed):
        train(RECIPE, STANDARD_OBSERVERS, device="cpu", checkpoint=checkpoint, checkpoint_every_s=0.0, on_step=stop)
    steps = []
    run_trial = single.run_trial
    monkeypatch.setattr(
        single,
        "run_trial",
        lambda task, report, follow: run_trial(task, lambda *step: (steps.append(step[0]), report(*step)), follow),
    )
    resumed = run_recipe(RECIPE, out=tmp_path / "stopped", threads=1, device="cpu", progress=False)
    assert steps == list(range(6, 17))
    assert replace(resumed, environment={}, seconds=0) == replace(whole, environment={}, seconds=0)
    ours, theirs = (safetensors.numpy.load_file(tmp_path / name / "model.safetensors") for name in ("stopped", "whole"))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    assert not checkpoint.exists()


def test_a_refused_recipe_leaves_stderr_to_the_message(tmp_path, capsys):
    recipe = replace(
        RECIPE, model=ModelConfig(name="B-1/Wi-16", norm="batch"), budget=BudgetConfig(amount=1, batch_size=1)
    )
    with pytest.raises(InputError, match="batch_size"):
        run_recipe(recipe, out=tmp_path, threads=1, device="cpu", progress=True)
    assert capsys.readouterr().err == ""


def test_weights_that_were_damaged_are_trained_again(tmp_path):
    first = run_recipe(RECIPE, out=tmp_path, threads=1, device="cpu", progress=False)
    kept = tmp_path / "store" / "weights" / f"{first.digest}.safetensors"
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.warns(UserWarning, match="damaged"):
        run_recipe(RECIPE, out=tmp_path, threads=1, device="cpu", progress=False)
    assert kept.read_bytes() == whole
    assert (tmp_path / "model.safetensors").read_bytes() == whole


CHILD = replace(RECIPE, data=DataConfig(n=80, split_seed=1), start="body", seed=3)


def _child(tmp_path, recipe=CHILD, **others):
    given = {"threads": 1, "device": "cpu", "progress": False, **others}
    run_recipe(RECIPE, out=tmp_path / "parent", threads=1, device="cpu", progress=False)
    return run_recipe(recipe, out=tmp_path / "child", parent=tmp_path / "parent", **given)


@pytest.mark.parametrize("trained", ["all", "head"])
def test_a_child_starts_from_its_parents_body(tmp_path, trained):
    recipe = replace(CHILD, trained=trained)
    record = _child(tmp_path, recipe)
    parent = safetensors.torch.load_file(tmp_path / "parent" / "model.safetensors")
    expected = train(recipe, STANDARD_OBSERVERS, device="cpu", start_weights=parent)
    found = safetensors.torch.load_file(tmp_path / "child" / "model.safetensors")
    assert all((found[name] == value).all() for name, value in expected.model.state_dict().items())
    shown = json.loads((tmp_path / "parent" / "record.json").read_text())
    assert record.trial["parents"] == [shown["digest"]]
    assert record.metrics["test_accuracy"] == expected.evaluations["test"].top1


def test_another_parent_makes_another_record(tmp_path):
    first = _child(tmp_path / "a")
    run_recipe(replace(RECIPE, seed=9), out=tmp_path / "other", threads=1, device="cpu", progress=False)
    given = {"out": tmp_path / "child", "threads": 1, "device": "cpu", "progress": False}
    assert run_recipe(CHILD, parent=tmp_path / "other", **given).digest != first.digest
    with pytest.raises(InputError, match="holds another record"):
        run_recipe(CHILD, parent=tmp_path / "a" / "parent", **given)


def test_a_parent_that_is_none_is_refused(tmp_path):
    given = {"out": tmp_path / "child", "threads": 1, "device": "cpu", "progress": False}
    with pytest.raises(InputError, match="expected a parent with 'parent' or 'body'"):
        run_recipe(CHILD, **given)
    with pytest.raises(InputError, match="expected a parent with 'parent' or 'body'"):
        run_recipe(RECIPE, parent=tmp_path, **given)
    with pytest.raises(InputError, match="expected a folder that a recipe was trained into"):
        run_recipe(CHILD, parent=tmp_path / "nowhere", **given)
    _child(tmp_path)
    weights = tmp_path / "parent" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(InputError, match="does not hold the weights of its record"):
        run_recipe(CHILD, parent=tmp_path / "parent", **given)
    (tmp_path / "parent" / "record.json").write_text("<html>")
    with pytest.raises(InputError, match="no record of a recipe"):
        run_recipe(CHILD, parent=tmp_path / "parent", **given)
