"""Bad input on the command line: exit code 2 and one line that names the value and what was allowed."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from mlptheory.cli import main

TINY = ["probe", "batchsize", "--n", "64", "--model", "B-1/Wi-16", "--batch-sizes", "8", "32", "--lengths", "1"]
TINY += ["--seeds", "2", "--lr-policies", "fixed", "--no-control", "--workers", "1"]
CIFAR_FILE = 30_730_000  # bytes of one binary CIFAR-10 file, from its published layout


# Bad input: exit 2, one line, the value and what was allowed


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (
            ["prob"],
            [
                "command = 'prob'",
                "did you mean 'probe'",
                "calibrate, train, reproduce, evaluate, data, report, cite",
            ],
        ),
        (["data"], ["data command", "list"]),
        (["data", "lst"], ["'lst'", "did you mean 'list'"]),
        (["data", "list", "--data-rot", "x"], ["'--data-rot'", "--data-root"]),
        (["report"], ["report = ''", "one folder"]),
        (["report", "a", "b"], ["'a b'", "one folder"]),
        (["cite", "batchsise"], ["probe = 'batchsise'", "did you mean 'batchsize'"]),
        (
            ["probe", "batchsise"],
            [
                "probe = 'batchsise'",
                "did you mean 'batchsize'",
                "augmentation, batchsize, locality, ntk, permutation, sharpness, transfer, list",
            ],
        ),
        (["probe", "list", "--json"], ["'--json'"]),
        (["evaluate"], ["evaluate = ''", "first the folder"]),
        (["evaluate", "--tta"], ["evaluate = '--tta'", "first the folder"]),
        (["evaluate", "nowhere"], ["run = 'nowhere'", "a folder that a recipe was trained into"]),
        (["evaluate", "nowhere", "--views", "0"], ["views = 0", "at least 1"]),
        (["reproduce"], ["reproduce = ''", "first a file such as"]),
        (["reproduce", "nosuch.toml"], ["file = 'nosuch.toml'", "a TOML file that exists"]),
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
        (["--lengths"], ["lengths = ()", "at least 1"]),
        (["--lengths", "0"], ["lengths = 0", "an integer of at least 1"]),
        (["--epochs", "1"], ["'--epochs'"]),
        (["--budget", "step"], ["--budget = 'step'", "did you mean 'steps'", "epochs, steps, compute"]),
        (["--lr-policies", "tuend"], ["'tuend'", "did you mean 'tuned'", "fixed, linear, sqrt, tuned"]),
        (["--lr-policies"], ["lr_policies = ()", "fixed, linear, sqrt, tuned"]),
        (["--lr-policies", "tuned", "--lr-grid", "1", "2"], ["lr_grid = (1.0, 2.0)", "at least 3 different"]),
        (["--lr-policies", "tuned", "--tuning-seeds", "0"], ["tuning_seeds = 0", "at least 1"]),
        (["--lr-policies", "tuned", "--validation", "1.5"], ["validation = 1.5", "less than 1"]),
        (["--lr-policies", "tuned", "--validation", "1197"], ["validation = 1197", "some, but not all, of the 1197"]),
        (["--cnn", "B-1/Wi-16"], ["cnn = 'B-1/Wi-16'", "CNN-{depth}/Wi-{width}"]),
        (["--model", "CNN-2/Wi-8"], ["model = 'CNN-2/Wi-8'", "an MLP"]),
        (["--target-accuracy", "1"], ["target_accuracy = 1.0", "less than 1"]),
        (["--curvature-seeds", "-1"], ["curvature_seeds = -1", "at least 0"]),
        (["--remaining-loss", "0"], ["remaining_loss = 0.0", "greater than 0"]),
        (["--pilot", "nowhere"], ["'nowhere'", "result.json is not there"]),
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
        (["--data.validation", "1197"], ["data.validation = 1197", "some, but not all, of the 1197"]),
        (["--start", "parent"], ["start = 'parent'", "expected a parent with 'parent' or 'body'"]),
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
