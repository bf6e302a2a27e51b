"""The command line: what it prints, what it refuses, in how many lines and with which exit code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlptheory import __version__
from mlptheory.cli import main

TINY = ["probe", "batchsize", "--n", "64", "--model", "B-1/Wi-16", "--batch-sizes", "8", "32", "--lengths", "1"]
TINY += ["--seeds", "2", "--lr-policies", "fixed", "--no-control", "--workers", "1"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of one tiny probe that has run."""
    out = tmp_path_factory.mktemp("finished") / "out"
    done = subprocess.run(
        [sys.executable, "-m", "mlptheory.cli", *TINY, "--out", str(out)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert str(out / "report.html") in done.stdout
    return out


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def comparable(folder: Path) -> dict:
    payload = json.loads((folder / "result.json").read_text())
    del payload["environment"], payload["timing"]
    return payload


# Pages and lists


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--help"],
        ["-h"],
        ["probe", "--help"],
        ["probe", "-h"],
        ["probe", "batchsize", "--help"],
        ["calibrate", "--help"],
        ["calibrate", "batchsize", "--help"],
        ["train", "--help"],
        ["evaluate", "--help"],
        ["evaluate", "folder", "--help"],
        ["data", "--help"],
        ["data", "list", "--help"],
        ["data", "convert", "--help"],
        ["report", "--help"],
        ["cite", "--help"],
    ],
    ids=" ".join,
)
def test_help_pages(args, capsys):
    try:
        code = main(args)
    except SystemExit as left:
        code = left.code
    shown = capsys.readouterr()
    assert code == 0
    assert shown.out.startswith("usage: mlptheory")
    assert shown.err == ""


def test_help_of_a_probe_lists_its_settings_and_how_it_is_run(capsys):
    with pytest.raises(SystemExit):
        main(["probe", "batchsize", "--help"])
    page = capsys.readouterr().out
    for option in (
        "--dataset",
        "--batch-sizes",
        "--lengths",
        "--lr-policies",
        "--cnn",
        "--seeds",
        "--margin",
        "--out",
        "--workers",
        "--plugin",
        "--json",
    ):
        assert option in page


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mlptheory {__version__}\n"


def test_probe_list_names_every_probe_with_its_question(capsys):
    assert main(["probe", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = ["augmentation", "batchsize", "locality", "ntk", "permutation", "sharpness", "transfer"]
    assert [line.split()[0] for line in lines] == names
    assert lines[1].startswith("batchsize      Do larger batches generalize better")


def test_probe_list_shows_a_plugins_probe(tmp_path, capsys):
    plugin = tmp_path / "cli_listed.py"
    plugin.write_text(
        "from mlptheory.probes.registry import probes\n"
        "@probes.register('cli-listed', summary='A question of my own?', replace=True)\n"
        "class Own: pass\n"
    )
    from mlptheory.probes.registry import probes

    try:
        assert main(["probe", "list", "--plugin", str(plugin)]) == 0
        assert "cli-listed     A question of my own?" in capsys.readouterr().out
    finally:
        probes._entries.pop("cli-listed", None)


def test_data_list_tells_what_is_there_and_where_it_looked(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLPTHEORY_DATA", str(tmp_path / "environment"))
    assert main(["data", "list", "--data-root", str(tmp_path / "root")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["digits", "cifar10", "cifar100"]
    assert "1197 training images of 1x8x8" in lines[0]
    assert "not found" in lines[1] and "not found" in lines[2]
    listed = [line.split()[0] for line in lines]
    assert listed[-5:-1] == ["imagenet", "imagenet21k", "store:NAME", "beton:NAME"]
    places = f"--data-root ({tmp_path / 'root'}), $MLPTHEORY_DATA ({tmp_path / 'environment'}), the cache folder ("
    assert lines[-1].startswith(f"looked in: {places}")


def test_cite_is_bibtex_of_the_package_and_of_what_a_probe_rests_on(capsys):
    assert main(["cite"]) == 0
    alone = capsys.readouterr().out
    assert alone.startswith("@software{mlptheory,") and alone.count("@") == 1
    assert main(["cite", "batchsize"]) == 0
    both = capsys.readouterr().out
    assert both.startswith(alone.rstrip())
    for key in ("Bachmann2023", "Shallue2019", "Keskar2017", "Chen2023"):
        assert f"{{{key}," in both


# A finished probe


def test_a_probe_leaves_everything_a_paper_needs(finished):
    names = {path.name for path in finished.iterdir()}
    assert names >= {
        "result.json",
        "table.csv",
        "history.csv",
        "figure.pdf",
        "figure.png",
        "report.html",
        "references.bib",
        "design.json",
        "store",
    }
    assert not list(finished.rglob("*.part"))
    assert len(list((finished / "store" / "records").iterdir())) == 4


def test_plan_only_prints_the_plan_and_writes_nothing(tmp_path, capsys):
    assert main([*TINY, "--plan-only", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "4 (0 finished)" in shown and "digest" in shown
    assert not (tmp_path / "out").exists()


def test_json_is_one_document_on_stdout(copy, capsys):
    before = comparable(copy)
    assert main([*TINY, "--json", "--out", str(copy)]) == 0
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert document["digest"] == before["design"]["digest"]
    assert document["verdicts"] == before["verdicts"]
    assert document["files"]["result.json"] == str(copy / "result.json")
    assert all(Path(path).is_file() for path in document["files"].values())
    assert "Plan:" in shown.err
    assert comparable(copy) == before, "nothing was left to run, so nothing may have changed"


def test_an_output_folder_that_holds_another_design_is_left_alone(refused, copy):
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    message = refused(*TINY, "--seeds", "3", "--out", str(copy))
    assert str(copy) in message and "holds another design (seeds = 2 there, 3 here)" in message
    assert before == {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}


@pytest.mark.filterwarnings("default")
def test_a_damaged_record_is_named_set_aside_and_computed_again(copy, finished, capsys):
    first = min((copy / "store" / "records").iterdir())
    first.write_text(first.read_text()[:100])
    damaged = first.read_bytes()
    assert main([*TINY, "--out", str(copy)]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "note:" in line]
    assert len(notes) == 1
    assert notes[0].startswith(f"mlptheory: note: record {first.name}: damaged (")
    assert "set aside" in notes[0] and "computed again" in notes[0]
    assert first.with_name(first.name + ".damaged").read_bytes() == damaged
    assert comparable(copy) == comparable(finished)


def test_report_writes_the_same_page_again(copy, capsys):
    page = (copy / "report.html").read_bytes()
    (copy / "report.html").unlink()
    assert main(["report", str(copy)]) == 0
    shown = capsys.readouterr().out
    assert (copy / "report.html").read_bytes() == page
    assert str(copy / "report.html") in shown
    assert "Larger batches reach" in " ".join(shown.split())


def test_report_without_a_result_says_so(refused, tmp_path):
    message = refused("report", str(tmp_path))
    assert str(tmp_path) in message and "result.json is not there" in message


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: '{"schema": 999}',
        lambda text: '{"schema": 1}',
        lambda text: text.replace('"design"', '"desing"', 1),
        lambda text: text.replace('"seeds": 2', '"seeds": 0', 1),
        lambda text: text.replace('"table": {', '"table": [], "_": {', 1),
        lambda text: text.replace('"probe": "batchsize"', '"probe": "batchsise"', 1),
    ],
    ids=["half", "empty", "list", "schema", "keys", "misspelt", "seeds", "table", "probe"],
)
def test_report_of_a_damaged_result_names_the_file_or_the_fault(refused, copy, damage):
    path = copy / "result.json"
    path.write_text(damage(path.read_text()))
    message = refused("report", str(copy))
    assert "expected" in message or "unknown" in message


# One recipe


TRAIN = ["train", "--data.n", "64", "--model.name", "B-1/Wi-16", "--budget.amount", "1", "--threads", "1"]


def test_train_shows_accuracy_beside_the_papers_numbers(tmp_path, capsys):
    file = tmp_path / "recipe.toml"
    file.write_text(
        '[recipe]\nseed = 3\n[recipe.data]\nn = 64\n[recipe.model]\nname = "B-1/Wi-16"\n'
        "[recipe.budget]\namount = 1\n[paper]\ntest_accuracy = 0.5\n"
    )
    out = tmp_path / "out"
    assert main(["train", str(file), "--threads", "1", "--out", str(out), "--budget.batch-size", "32"]) == 0
    shown = capsys.readouterr().out
    record = json.loads((out / "record.json").read_text())
    assert record["trial"]["recipe"]["seed"] == 3
    assert record["trial"]["recipe"]["budget"]["batch_size"] == 32
    assert record["paper"] == {"test_accuracy": 0.5}
    assert f"test_accuracy                  {100 * record['metrics']['test_accuracy']:.2f} %" in shown
    assert "paper, test_accuracy" in shown and "0.5" in shown


def test_train_json_is_one_document_on_stdout(tmp_path, capsys):
    assert main([*TRAIN, "--json", "--out", str(tmp_path / "out")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["record"]["metrics"]["steps"] == 1


def test_train_tells_where_a_run_diverged(tmp_path, capsys):
    args = [*TRAIN, "--optimizer.name", "sgd", "--optimizer.lr", "1e30", "--budget.batch-size", "8"]
    assert main([*args, "--model.norm", "none", "--budget.amount", "3", "--out", str(tmp_path / "out")]) == 0
    assert "diverged at step" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "record.json").read_text())["diverged"]["epoch"] == 0


def test_a_child_is_trained_from_a_folder_and_evaluated_on_views(tmp_path, capsys):
    parent, child = str(tmp_path / "parent"), str(tmp_path / "child")
    assert main([*TRAIN, "--out", parent]) == 0
    moved = ["--start", "body", "--optimizer.name", "sgd", "--optimizer.head-lr", "0.1", "--data.split-seed", "1"]
    assert main([*TRAIN, *moved, "--parent", parent, "--out", child]) == 0
    held = json.loads((tmp_path / "child" / "record.json").read_text())
    assert held["trial"]["parents"] == [json.loads((tmp_path / "parent" / "record.json").read_text())["digest"]]
    capsys.readouterr()
    assert main(["evaluate", child]) == 0
    plain = capsys.readouterr().out
    assert f"top1       {100 * held['metrics']['test_accuracy']:.2f} %" in plain and "images as they are" in plain
    real = tmp_path / "real.json"
    real.write_text(json.dumps([[0, 1]] * 600))
    options = ["--tta", "--views", "2", "--flip", "--average", "softmax", "--real", str(real)]
    assert main(["evaluate", child, *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tta"]["views"] == 2 and found["tta"]["flip"] and found["n_real"] == 600
    assert main(["evaluate", child, *options]) == 0
    assert "2 views, mean softmax" in capsys.readouterr().out


# The installed command itself


def test_the_console_script_refuses_in_one_line(tmp_path):
    script = Path(sys.executable).with_name("mlptheory")
    if not script.is_file():
        pytest.skip("the console script is not beside this Python: the package is not installed here")
    done = subprocess.run([script, *TINY, "--dataset", "cifer10"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1 and "did you mean 'cifar10'" in done.stderr
    assert not list(tmp_path.iterdir())
