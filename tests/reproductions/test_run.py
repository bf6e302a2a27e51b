"""What a file asks for is run once, found again, and told with the paper's number beside it."""

import json
import statistics
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from mlptheory.base.errors import InputError
from mlptheory.cli import main
from mlptheory.reproductions import miniature, read_reproduction, reproduce
from mlptheory.reproductions.results import require_no_better, results_path, write_results
from mlptheory.training import train
from mlptheory.trials import FolderStore, executor

HERE = {"workers": 1, "threads": 1, "device": "cpu", "progress": False}


def test_a_run_from_scratch_is_that_of_train_for_every_seed(file_of, scratch):
    full = read_reproduction(file_of(scratch))
    found = reproduce(full, seeds=2, **HERE)
    values = []
    for (trial, record), seed in zip(found.runs, (3, 4), strict=True):
        assert trial.recipe.seed == seed and dict(trial.labels) == {"dataset": "digits", "seed": seed}
        alone = train(trial.recipe, device="cpu").evaluations["test"].top1
        assert record.metrics["test_accuracy"] == alone
        values.append(100 * alone)
    row = found.table.iloc[0]
    assert row["measured"] == pytest.approx(statistics.fmean(values), rel=1e-12)
    # The 97.5 % point of t with one degree of freedom is 12.7062.
    assert row["high"] - row["measured"] == pytest.approx(12.7062 * statistics.stdev(values) / 2**0.5, rel=1e-5)
    assert (row["n"], row["paper"], row["spread"]) == (2, 50.0, 0.5)
    # 2 epochs of 100 images; B-1/Wi-16 of 64 pixels has 64 * 16 + 2 * 4 * 16**2 + 16 * 10 weights.
    assert row["compute"] * 1e15 == pytest.approx(3 * 200 * (64 * 16 + 2 * 4 * 16**2 + 16 * 10), rel=1e-12)


def test_what_is_pretrained_is_shared_and_every_cell_is_measured(file_of, transfer, tmp_path):
    full = read_reproduction(file_of(transfer))
    store = FolderStore(tmp_path / "store")
    found = reproduce(full, store=store, datasets=("digits-5-9",), **HERE)
    assert len(found.runs) == 4 and len(found.ancestors) == 2
    assert [record.trial["recipe"]["budget"]["amount"] for record in found.ancestors] == [1, 2]
    table = found.table
    assert list(table["quantity"]) == ["test", "tta"] * 4 and set(table["dataset"]) == {"digits-5-9"}
    assert table.groupby("pretraining.budget.amount")["compute"].first().pipe(lambda each: each[2] / each[1]) == 2
    for trial, record in found.runs:
        assert trial.recipe.model == trial.parents[0].recipe.model
        assert record.trial["parents"] == [found.ancestors[trial.parents[0].recipe.budget.amount - 1].digest]
    assert [number.quantity for number in found.not_measured()] == ["real"]
    assert "not run: digits-5-9, real; paper 60.0 %" in found.describe()
    json.dumps(found.to_plain())


def test_what_the_store_holds_is_not_run_again(file_of, scratch, tmp_path, monkeypatch):
    full, store = read_reproduction(file_of(scratch)), FolderStore(tmp_path / "store")
    first = reproduce(full, store=store, **HERE)

    def no_pool(*_):
        raise AssertionError("a worker was started")

    monkeypatch.setattr(executor, "_pool", no_pool)
    assert reproduce(full, store=store, **HERE).to_plain() == first.to_plain()
    with pytest.raises(AssertionError, match="a worker was started"):
        reproduce(full, store=store, seeds=2, **HERE)


def test_every_run_leaves_its_history_as_lines(file_of, transfer, tmp_path):
    full = read_reproduction(file_of(transfer, **{'lr" = [1e-4, 1e-3]': 'lr" = [1e-4]'}))
    found = reproduce(full, datasets=("digits-5-9",), logs=tmp_path / "logs", log="tensorboard", **HERE)
    records = [*(record for _, record in found.runs), *found.ancestors]
    assert len(records) == 4 and len(list((tmp_path / "logs").iterdir())) == 4
    for record in records:
        folder = tmp_path / "logs" / record.digest[:16]
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert {row.pop("trial") for row in rows} == {record.digest}
        assert [tuple(row.values()) for row in rows] == list(record.history)
        assert list((folder / "tensorboard").glob("events.out.tfevents.*"))
    with pytest.raises(InputError, match="log = 'tensorbord': unknown; did you mean 'tensorboard'"):
        reproduce(full, log="tensorbord", **HERE)
    with pytest.raises(InputError, match="logs = None: expected a folder, as log = 'tensorboard'"):
        reproduce(full, log="tensorboard", **HERE)


def test_members_of_an_ensemble_leave_theirs_at_the_end(file_of, scratch, tmp_path):
    found = reproduce(read_reproduction(file_of(scratch)), seeds=3, logs=tmp_path, **HERE)
    for _, record in found.runs:
        assert "ensemble" in record.trial["execution"]
        lines = (tmp_path / record.digest[:16] / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["value"] for line in lines] == [value for *_, value in record.history]


def test_pictures_are_of_the_trained_filters(file_of, scratch):
    found = reproduce(read_reproduction(file_of(scratch, **{"[paper]": "[picture]\nunits = 4\n[paper]"})), **HERE)
    weights = train(found.runs[0][0].recipe, device="cpu").model.embedding.weight
    ((label, picture),) = found.pictures.items()
    assert label == "digits, seed 3"
    np.testing.assert_array_equal(picture, weights.detach().double().reshape(16, 8, 8)[:4].numpy())
    assert found.figure().axes[0].get_title("left") == label


def test_what_diverged_counts_as_a_seed_and_has_no_number(file_of, scratch, tmp_path):
    optimizer = '[recipe.optimizer]\nname = "sgd"\nlr = 1e30\n[recipe.budget]'
    file = file_of(scratch, **{"[recipe.budget]": optimizer})
    found = reproduce(read_reproduction(file), seeds=2, **HERE)
    lines = ["A table", "diverged: digits, seed 3, at step 1", "diverged: digits, seed 4, at step 1"]
    assert found.table.empty and found.describe().splitlines() == [*lines, "not run: digits, test; paper 50.0 %"]
    path = results_path(file, found.reproduction, out=tmp_path)
    write_results(path, found)
    require_no_better(path, 2)
    with pytest.raises(InputError, match="seeds = 1: expected at least 2"):
        require_no_better(path, 1)


def test_the_order_in_which_datasets_are_named_makes_no_other_record(file_of, transfer, tmp_path):
    three = {'["digits-5-9", "digits"]': '["digits-5-9", "digits", "digits-0-4"]'}
    file = file_of(transfer, **three)
    named = [("digits", "digits-5-9"), ("digits-5-9", "digits")]
    paths = {results_path(file, read_reproduction(file), out=tmp_path, datasets=each) for each in named}
    assert [path.name for path in paths] == ["row.digits-5-9_digits.json"]


def test_unknown_datasets_and_runs_that_cannot_be(file_of, transfer):
    full = read_reproduction(file_of(transfer))
    with pytest.raises(InputError, match=r"datasets = 'digit': unknown; did you mean 'digits'"):
        reproduce(full, datasets=("digit",), **HERE)
    with pytest.raises(InputError, match="seeds = 0"):
        reproduce(full, seeds=0, **HERE)
    with pytest.raises(InputError, match="workers = 0"):
        reproduce(full, **{**HERE, "workers": 0})
    with pytest.raises(InputError, match="threads = 0"):
        reproduce(full, **{**HERE, "threads": 0})


def test_the_command_writes_the_record_where_results_are(file_of, scratch, tmp_path, capsys, monkeypatch):
    file, out = file_of(scratch), str(tmp_path / "out")
    assert main(["reproduce", str(file), "--out", out, "--threads", "1", "--device", "cpu", "--seeds", "2"]) == 0
    path = tmp_path / "experiments" / "results" / "table1" / "row.json"
    written = json.loads(path.read_text())
    said = capsys.readouterr().out
    assert "A table" in said and f"record: {path}" in said and "paper (%)" in said
    assert [run["labels"]["seed"] for run in written["runs"]] == [3, 4] and written["numbers"][0]["n"] == 2
    before = path.read_bytes()
    assert main(["reproduce", str(file), "--out", out, "--threads", "1", "--device", "cpu"]) == 2
    assert "seeds = 1: expected at least 2" in capsys.readouterr().err and path.read_bytes() == before
    path.write_text("{}")
    assert main(["reproduce", str(file), "--out", out, "--seeds", "2"]) == 2
    assert "expected the record of a reproduction, or no such file" in capsys.readouterr().err


def test_the_command_in_miniature_writes_no_result(file_of, transfer, tmp_path, capsys):
    file, out = file_of(transfer), tmp_path / "out"
    arguments = ["reproduce", str(file), "--miniature", "--out", str(out), "--device", "cpu", "--json"]
    assert main(arguments) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads((out / "miniature" / "table1" / "row.json").read_text())
    assert shown["reproduction"]["numbers"] == [] and not (tmp_path / "experiments" / "results").exists()
    assert main([*arguments, "--datasets", "digits"]) == 2
    assert "none with --miniature" in capsys.readouterr().err


def test_a_part_of_the_datasets_has_a_record_of_its_own(file_of, transfer, tmp_path, capsys):
    file = file_of(transfer, **{'amount" = [1, 2]': 'amount" = [1]'})
    out = str(tmp_path / "out")
    assert main(["reproduce", str(file), "--out", out, "--device", "cpu", "--datasets", "digits"]) == 0
    (path,) = (tmp_path / "experiments" / "results").rglob("*.json")
    assert path.name == "row.digits.json"
    assert "40.5" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["--miniature"]])
def test_the_command_needs_a_file(arguments, capsys):
    assert main(["reproduce", *arguments]) == 2
    assert "first a file such as" in capsys.readouterr().err


def test_a_miniature_keeps_what_is_not_size(file_of, transfer):
    full = read_reproduction(file_of(transfer, **{'"B-1/Wi-16"': '"B-12/Wi-1024/E-2"\nnorm = "batch"'}))
    small = miniature(full)
    assert small.recipe.model.name == "B-2/Wi-32/E-2" and small.recipe.model.norm == "batch"
    assert small.recipe.optimizer == full.recipe.optimizer and small.datasets == ("digits-5-9",)
    assert small.grid == (("pretraining.budget.amount", (1, 2)), ("downstream.optimizer.lr", (1e-4, 1e-3)))


def test_the_command_says_nothing_but_its_progress(file_of, transfer, tmp_path):
    """A bar over views, made in a worker that ends at once, left a semaphore and a warning about it."""
    command = [sys.executable, "-m", "mlptheory", "reproduce", str(file_of(transfer)), "--miniature", "--device", "cpu"]
    ended = subprocess.run([*command, "--out", str(tmp_path / "out")], capture_output=True, text=True, check=True)
    said = [line for line in ended.stderr.replace("\r", "\n").splitlines() if line.strip() and "%|" not in line]
    assert said == []


def test_there_is_no_interval_where_a_run_is_missing(file_of, scratch):
    found = reproduce(read_reproduction(file_of(scratch)), seeds=3, **HERE)
    trial, record = found.runs[2]
    gone = replace(record, metrics={}, diverged={"step": 1, "epoch": 0})
    whole, rest = found.table.iloc[0], replace(found, runs=(*found.runs[:2], (trial, gone))).table.iloc[0]
    assert whole["n"] == 3 and whole["low"] < whole["measured"] < whole["high"]
    assert rest["n"] == 2 and rest["low"] is None and rest["high"] is None
