"""The command line: what it prints, what it refuses, in how many lines and with which exit code."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from mlptheory import __version__
from mlptheory.cli import main

TINY = ["probe", "batchsize", "--n", "64", "--model", "B-1/Wi-16", "--batch-sizes", "8", "32", "--epochs", "1"]
TINY += ["--seeds", "2", "--no-control", "--workers", "1"]
CIFAR_FILE = 30_730_000  # bytes of one binary CIFAR-10 file, from its published layout


@pytest.fixture(autouse=True)
def _warnings_are_shown_as_before(monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)


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


@pytest.fixture
def refused(capsys):
    """Run a command that must be refused: exit 2, one line on stderr, nothing on stdout; return the line."""

    def run(*args: str) -> str:
        code = main(list(args))
        shown = capsys.readouterr()
        assert code == 2, shown
        assert shown.out == ""
        assert shown.err.startswith("mlptheory: ") and shown.err.endswith("\n")
        assert shown.err.count("\n") == 1 and "\r" not in shown.err, shown.err
        assert "Traceback" not in shown.err
        return shown.err

    return run


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
        ["train", "--help"],
        ["data", "--help"],
        ["data", "list", "--help"],
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
    for option in ("--dataset", "--batch-sizes", "--seeds", "--margin", "--out", "--workers", "--plugin", "--json"):
        assert option in page


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mlptheory {__version__}\n"


def test_probe_list_names_every_probe_with_its_question(capsys):
    assert main(["probe", "list"]) == 0
    assert capsys.readouterr().out.startswith("batchsize      Do larger batches generalize better")


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


# Bad input: exit 2, one line, the value and what was allowed


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["prob"], ["command = 'prob'", "did you mean 'probe'", "probe, train, data, report, cite"]),
        (["data"], ["data command", "list"]),
        (["data", "lst"], ["'lst'", "did you mean 'list'"]),
        (["data", "list", "--data-rot", "x"], ["'--data-rot'", "--data-root"]),
        (["report"], ["report = ''", "one folder"]),
        (["report", "a", "b"], ["'a b'", "one folder"]),
        (["cite", "batchsise"], ["probe = 'batchsise'", "did you mean 'batchsize'"]),
        (["probe", "batchsise"], ["probe = 'batchsise'", "did you mean 'batchsize'", "allowed: batchsize, list"]),
        (["probe", "list", "--json"], ["'--json'"]),
        (["train", "nosuch.toml"], ["recipe = 'nosuch.toml'", "a TOML file that exists"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0] in ("prob", "data", "report", "cite") else None,
)
def test_unknown_commands_and_names(refused, args, parts):
    message = refused(*args)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["--dataset", "cifer10"], ["dataset = 'cifer10'", "did you mean 'cifar10'", "digits, cifar10, cifar100"]),
        (["--model", "B-3-Wi-256"], ["model = 'B-3-Wi-256'", "did you mean 'B-3/Wi-256'", "B-{depth}/Wi-{width}"]),
        (["--model", "Q-3/Wi-256"], ["model = 'Q-3/Wi-256'", "unknown family 'Q'", "B-{depth}/Wi-{width}"]),
        (["--model", "B-0/Wi-16"], ["'B-0/Wi-16'"]),
        (["--batchsizes", "8"], ["'--batchsizes'", "did you mean --batch-sizes"]),
        (["--optimizer", "adam"], ["--optimizer = 'adam'", "did you mean 'adamw'", "lion, adamw, sgd"]),
        (["--precision", "float16"], ["--precision = 'float16'", "float32, bfloat16, float64"]),
        (["--optimizer", "sgd"], ["lr = None", "a number greater than 0", "sgd"]),
        (["--batch-sizes", "0", "8"], ["batch_sizes = 0", "an integer of at least 1"]),
        (["--batch-sizes", "-1", "8"], ["batch_sizes = -1", "an integer of at least 1"]),
        (["--batch-sizes", "8", "65"], ["batch_size = 65", "at most 64, the size of the training set"]),
        (["--batch-sizes", "8"], ["batch_sizes = (8,)", "at least 2 different"]),
        (["--batch-sizes", "8", "8"], ["batch_sizes = (8, 8)", "at least 2 different"]),
        (["--batch-sizes", "8", "x"], ["--batch-sizes = '8 x'", "INT"]),
        (["--batch-sizes"], ["batch_sizes = ()", "at least 2 different"]),
        (["--epochs"], ["epochs = ()", "at least 1"]),
        (["--epochs", "0"], ["epochs = 0", "an integer of at least 1"]),
        (["--seeds"], ["seeds = ()", "at least one seed"]),
        (["--seeds", "0"], ["seeds = 0", "at least 1"]),
        (["--seeds", "1", "1"], ["seeds = (1, 1)", "all different"]),
        (["--seeds", "-1", "2"], ["seeds = -1", "at least 0"]),
        (["--lr", "-0.1"], ["lr = -0.1", "greater than 0"]),
        (["--lr", "nan"], ["lr = nan", "greater than 0"]),
        (["--lr", "fast"], ["--lr = 'fast'", "FLOAT"]),
        (["--margin", "-1"], ["margin = -1.0", "at least 0"]),
        (["--label-smoothing", "2"], ["label_smoothing = 2.0", "at most 1"]),
        (["--n", "0"], ["n = 0", "an integer of at least 1"]),
        (["--n", "5000"], ["n = 5000", "at most the 1197 training examples"]),
        (["--workers", "0"], ["workers = 0", "an integer of at least 1"]),
        (["--workers", "-3"], ["workers = -3", "an integer of at least 1"]),
        (["--device", "tpu"], ["device = 'tpu'", "allowed: cpu"]),
        (["--plugin", "nosuch.py"], ["plugin = 'nosuch.py'", "a Python file that exists"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("--") else None,
)
def test_a_probes_bad_settings_are_refused_before_anything_is_written(refused, tmp_path, args, parts):
    out = tmp_path / "out"
    message = refused(*TINY, "--out", str(out), *args)
    for part in parts:
        assert part in message
    assert not (out / "design.json").exists()
    assert not list(out.rglob("records/*"))


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["--data.name", "cifer10"], ["dataset = 'cifer10'", "did you mean 'cifar10'"]),
        (["--model.name", "B3"], ["model = 'B3'", "B-{depth}/Wi-{width}"]),
        (["--model.norm", "batsh"], ["--model.norm = 'batsh'", "did you mean 'batch'", "layer, batch, none"]),
        (["--optimizer.lr", "-1"], ["optimizer.lr = -1.0", "greater than 0"]),
        (["--lr", "1"], ["'--lr'", "did you mean --optimizer.lr"]),
        (["--budget.batch-size", "0"], ["budget.batch_size = 0", "at least 1"]),
        (["--budget.batch-size", "-1"], ["budget.batch_size = -1", "at least 1"]),
        (["--budget.batch-size", "1198"], ["batch_size = 1198", "at most 1197"]),
        (["--data.validation", "1197"], ["data.validation = 1197", "fewer than the 1197"]),
        (["--start", "parent"], ["start = 'parent'", "expected a first parent"]),
        (["--threads", "0"], ["threads = 0", "at least 1"]),
        (["--device", "tpu"], ["device = 'tpu'", "allowed: cpu"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("--") else None,
)
def test_a_recipes_bad_settings_are_refused(refused, tmp_path, args, parts):
    message = refused("train", "--out", str(tmp_path / "out"), *args)
    for part in parts:
        assert part in message
    assert not (tmp_path / "out" / "record.json").exists()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[recipe\n", ["expected TOML"]),
        ("[paper]\n", ["expected a [recipe] table"]),
        ("[recipe]\nsede = 1\n", ["'sede'", "did you mean 'seed'"]),
        ("[recipe.optimizer]\nlr = -1\n", ["optimizer.lr = -1.0", "greater than 0"]),
        ("[recipe.optimizer]\nlr = 'fast'\n", ["recipe.optimizer.lr = 'fast'", "a number"]),
    ],
)
def test_a_recipe_files_faults_are_named(refused, tmp_path, text, parts):
    file = tmp_path / "recipe.toml"
    file.write_text(text)
    message = refused("train", str(file), "--out", str(tmp_path / "out"))
    for part in parts:
        assert part in message


@pytest.mark.parametrize("command", [TINY, ["train"]], ids=["probe", "train"])
def test_an_unwritable_folder_is_named_with_the_systems_reason(refused, tmp_path, command):
    (tmp_path / "file").write_text("")
    out = str(tmp_path / "file" / "out")
    message = refused(*command, "--out", out)
    assert f"out = {out!r}" in message and "a folder that can be written" in message and "Not a directory" in message


def test_a_plugin_that_fails_is_named_with_its_error(refused, tmp_path):
    plugin = tmp_path / "cli_failing.py"
    plugin.write_text("raise RuntimeError('two\\nlines')\n")
    message = refused(*TINY, "--plugin", str(plugin))
    assert "cli_failing.py" in message and "RuntimeError: two lines" in message


# Datasets that are missing or damaged


def cifar(tmp_path: Path, form: str, content: bytes, size: int) -> Path:
    """Make a data root with one file of CIFAR-10, `content` and then zeros up to `size`, taking no room on disk."""
    folder, file = {
        "binary": ("cifar-10-batches-bin", "data_batch_1.bin"),
        "python": ("cifar-10-batches-py", "data_batch_1"),
    }[form]
    path = tmp_path / "data" / folder / file
    path.parent.mkdir(parents=True)
    with path.open("wb") as handle:
        handle.write(content)
        handle.truncate(size)
    return path


def on_cifar(path: Path, out: Path) -> list[str]:
    return [*TINY, "--dataset", "cifar10", "--data-root", str(path.parent.parent), "--out", str(out)]


def test_a_missing_dataset_tells_where_it_looked_and_what_to_type(refused, tmp_path, monkeypatch):
    monkeypatch.setenv("MLPTHEORY_DATA", str(tmp_path / "elsewhere"))
    message = refused(
        *TINY, "--dataset", "cifar100", "--data-root", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")
    )
    assert "dataset = 'cifar100'" in message
    assert f"--data-root ({tmp_path / 'nowhere'})" in message
    assert f"$MLPTHEORY_DATA ({tmp_path / 'elsewhere'})" in message
    assert "the cache folder (" in message
    assert "pass --data-root FOLDER" in message and "set MLPTHEORY_DATA=FOLDER" in message


@pytest.mark.parametrize("found", [0, 1000, CIFAR_FILE - 1, CIFAR_FILE + 1])
def test_a_binary_file_of_another_size_is_named_with_both_sizes(refused, tmp_path, found):
    path = cifar(tmp_path, "binary", b"", found)
    message = refused(*on_cifar(path, tmp_path / "out"))
    assert f"{path}: expected {CIFAR_FILE} bytes, found {found}" in message


def test_a_binary_file_with_impossible_labels_is_named(refused, tmp_path):
    path = cifar(tmp_path, "binary", b"\xff", CIFAR_FILE)
    assert f"{path}: expected labels from 0 to 9, found 255" in refused(*on_cifar(path, tmp_path / "out"))


def test_a_file_missing_from_its_folder_is_named(refused, tmp_path):
    path = cifar(tmp_path, "binary", b"", CIFAR_FILE)
    assert f"{path.with_name('data_batch_2.bin')}: missing" in refused(*on_cifar(path, tmp_path / "out"))


@pytest.mark.parametrize("found", [10, 90_000_000], ids=["truncated", "oversized"])
def test_a_python_file_of_an_impossible_size_is_named_with_both_sizes(refused, tmp_path, found):
    path = cifar(tmp_path, "python", b"", found)
    message = refused(*on_cifar(path, tmp_path / "out"))
    assert f"{path}: expected " in message and f"found {found}" in message


def test_a_garbled_python_file_is_named(refused, tmp_path):
    path = cifar(tmp_path, "python", b"\x80\x02}q\x00garbled", 31_000_000)
    message = refused(*on_cifar(path, tmp_path / "out"))
    assert f"{path}: " in message and "bytes" in message and "31000000" in message


class _Calls:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_that_calls_code_is_refused_and_not_executed(refused, tmp_path):
    harmed = tmp_path / "harmed"
    content = pickle.dumps(_Calls(harmed), protocol=2)
    pickle.loads(content)
    assert harmed.exists(), "the pickle does call code where it is let"
    harmed.unlink()
    path = cifar(tmp_path, "python", content, 31_000_000)
    message = refused(*on_cifar(path, tmp_path / "out"))
    assert f"{path}: refused, as it calls " in message
    assert not harmed.exists()


def test_data_list_names_a_damaged_file_and_goes_on(tmp_path, capsys):
    path = cifar(tmp_path, "binary", b"", 10)
    assert main(["data", "list", "--data-root", str(tmp_path / "data")]) == 0
    assert f"{path}: expected {CIFAR_FILE} bytes, found 10" in capsys.readouterr().out


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
