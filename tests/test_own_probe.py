"""The documented example of a probe of one's own, used as its reader would: from a folder outside the package."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "dropout.py"
SMALL = ("--n", "60", "--epochs", "2", "--seeds", "3")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with nothing but the example."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copy(EXAMPLE, folder / "dropout.py")
    return folder


@pytest.fixture(scope="module")
def mlptheory(home):
    def run(*arguments):
        command = [sys.executable, "-m", "mlptheory", *arguments, "--plugin", "dropout.py"]
        done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def ran(mlptheory):
    return mlptheory("probe", "dropout", *SMALL, "--out", "out")


def test_the_example_is_short():
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) < 60


def test_it_is_run_judged_and_reported(ran, home):
    assert "Dropout raises the accuracy." in ran and "report: out/report.html" in ran
    result = json.loads((home / "out" / "result.json").read_text(encoding="utf-8"))
    assert [verdict["id"] for verdict in result["verdicts"]] == ["better", "surer"]
    assert all(verdict["n"] == 3 for verdict in result["verdicts"])
    assert len(result["table"]["rows"]) == 6
    page = (home / "out" / "report.html").read_text(encoding="utf-8")
    assert "Dropout on few images" in page and "<svg" in page


def test_its_store_is_used_again(ran, mlptheory, home):
    plan = mlptheory("probe", "dropout", *SMALL, "--out", "out", "--plan-only")
    assert "6 (6 finished)" in plan
    before = (home / "out" / "result.json").read_bytes()
    (home / "out" / "result.json").unlink()
    mlptheory("probe", "dropout", *SMALL, "--out", "out")
    again = (home / "out" / "result.json").read_bytes()
    parts = [{k: v for k, v in json.loads(text).items() if k != "timing"} for text in (before, again)]
    assert parts[0] == parts[1]


def test_its_report_is_written_again(ran, mlptheory, home):
    page = (home / "out" / "report.html").read_bytes()
    (home / "out" / "report.html").unlink()
    mlptheory("report", "out")
    assert (home / "out" / "report.html").read_bytes() == page


def test_it_is_listed_and_cited(mlptheory):
    assert "dropout        Does dropout help an MLP that sees few images?" in mlptheory("probe", "list")
    assert "Chen2023" in mlptheory("cite", "dropout")


def test_its_verdicts_are_calibrated(mlptheory, home):
    shown = mlptheory("calibrate", "dropout", "--tables", "60", "--bank-runs", "0", "--out", "calibration")
    assert "Every line holds" in shown
    rows = json.loads((home / "calibration" / "calibration.json").read_text(encoding="utf-8"))["rows"]
    strong = {row["claim"]: row for row in rows if row["scenario"] == "strong"}
    assert strong["better"]["supported"] == strong["surer"]["supported"] == 60


@pytest.mark.slow
def test_its_verdicts_are_calibrated_on_a_bank_of_real_runs(mlptheory, home):
    shown = mlptheory(
        "calibrate", "dropout", *SMALL, "--tables", "60", "--bank-runs", "300", "--out", "calibrated-on-runs"
    )
    assert "bank, strong" in shown
    assert len((home / "calibrated-on-runs" / "bank.csv").read_text(encoding="utf-8").splitlines()) == 301
