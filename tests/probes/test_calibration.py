"""Calibration of a small probe whose judgment is right, or is made wrong in a known way."""

import csv
import dataclasses
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from scipy import stats as scipy_stats

from mlptheory.base import InputError
from mlptheory.base.plugins import load_plugins
from mlptheory.base.random import generator
from mlptheory.probes import calibrate, probes
from mlptheory.probes import calibration as module
from mlptheory.probes.bank import run_bank
from mlptheory.trials import FolderStore, WorkerDiedError

SOURCE = '''
import dataclasses
import math

import numpy as np
import pandas as pd

from mlptheory.models import ModelConfig
from mlptheory.probes import Probe, Scenario, probes
from mlptheory.probes.probe import Column
from mlptheory.stats import Claim, decide_together, mean_estimate
from mlptheory.training import BudgetConfig, DataConfig, Recipe
from mlptheory.trials import STANDARD_OBSERVERS, Trial


def claim(name, direction):
    return Claim(
        id=name, statement=f"{name}.", source="-", estimand="mean", direction=direction, margin=0.5, unit="points",
        test="t", held_fixed=(), scope="here",
    )


@probes.register("toy", summary="three means")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Toy(Probe):
    """Three means of some runs each; `counted` more than 1 takes every run for several."""

    name = "toy"
    title = "Toy"
    question = "Is it calibrated?"
    caption = "None."

    runs: int = 4
    counted: int = 1

    def claims(self):
        return claim("rises", "greater"), claim("falls", "less"), claim("same", "equivalent")

    def references(self):
        return ()

    def trials(self):
        return ()

    def columns(self):
        return Column("run", "number"), Column("test_accuracy", "accuracy")

    def judge(self, table):
        estimates = [mean_estimate(list(table[claim.id]) * self.counted) for claim in self.claims()]
        forced = ["Runs diverged."] * 3 if table["diverged"].any() else None
        return decide_together(self.claims(), estimates, [self.runs] * 3, forced)

    def effects(self, table):
        return table

    def scenarios(self):
        return (
            Scenario(name="none", description="No effect.", parameters=(("effect", 0.0),)),
            Scenario(name="margin", description="At the margin.", parameters=(("effect", 0.5),)),
            Scenario(name="diverged", description="No estimand.", parameters=(("effect", 0.0), ("diverged", 1.0))),
        )

    def simulate(self, scenario, rng, bank=None):
        parameters = dict(scenario.parameters)
        if bank is None:
            noise = rng.normal(size=(self.runs, 3))
        else:
            accuracies = bank["test_accuracy"].to_numpy(dtype=float)
            noise = rng.choice((accuracies - accuracies.mean()) / accuracies.std(), size=(self.runs, 3))
        effects = parameters["effect"] * np.array([1, -1, 0])
        table = pd.DataFrame(effects + noise, columns=[claim.id for claim in self.claims()])
        return table.assign(diverged="diverged" in parameters)

    def truths(self, scenario, table):
        parameters = dict(scenario.parameters)
        if "diverged" in parameters:
            return dict.fromkeys(("rises", "falls", "same"), math.nan)
        return {"rises": parameters["effect"], "falls": -parameters["effect"], "same": 0.0}

    def bank_trials(self, runs):
        recipe = Recipe(
            data=DataConfig(name="digits", n=64), model=ModelConfig(name="B-1/Wi-8"),
            budget=BudgetConfig(unit="epochs", amount=1, batch_size=32),
        )
        return tuple(
            Trial(recipe=dataclasses.replace(recipe, seed=run), labels=(("run", run),), observers=STANDARD_OBSERVERS)
            for run in range(runs)
        )

    def power(self, pilot):
        return {}

    def draw(self, result):
        raise NotImplementedError
'''


REPOSITORY = Path(__file__).resolve().parents[2]
RUNS = 6


@pytest.fixture(scope="module")
def plugin(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("plugin") / "toyprobe.py"
    path.write_text(SOURCE)
    return str(path)


@pytest.fixture(scope="module")
def toy(plugin):
    load_plugins([plugin])
    del probes._entries["toy"]  # no other test's listing shows it
    return sys.modules["mlptheory_plugin_toyprobe"].Toy()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> FolderStore:
    return FolderStore(tmp_path_factory.mktemp("bank"))


@pytest.fixture(scope="module")
def found(toy, plugin, store):
    """A calibration on 60 tables, three chunks of them, by two workers."""
    return with_few_runs(toy, tables=60, bank_runs=RUNS, store=store, workers=2, plugins=[plugin], progress=False)


def with_few_runs(*args, **settings):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FEWEST_RUNS", RUNS)
        return calibrate(*args, **settings)


def rows_of(found, **where):
    return [row for row in found.rows if all(row[name] == value for name, value in where.items())]


def test_the_number_of_workers_and_what_the_store_holds_change_nothing(found, toy, plugin, store):
    files = {path: path.stat().st_mtime_ns for path in Path(store.folder).rglob("*") if path.is_file()}
    environment = dict(os.environ)
    again = with_few_runs(toy, tables=60, bank_runs=RUNS, store=store, workers=1, plugins=[plugin], progress=False)
    assert again.rows == found.rows and again.design == found.design
    assert again.bank.equals(found.bank)
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert dict(os.environ) == environment


def test_every_kind_scenario_and_claim_has_a_row_and_the_family_one(found):
    expected = [
        (kind, scenario, claim)
        for kind in ("simulated", "bank")
        for scenario in ("none", "margin", "diverged")
        for claim in ("rises", "falls", "same", module.FAMILY)
    ]
    assert [(row["kind"], row["scenario"], row["claim"]) for row in found.rows] == expected
    for row in found.rows:
        assert list(row) == [name for name, _ in module.COLUMNS]
        assert row["tables"] == 60
        if row["claim"] != module.FAMILY:
            assert row["supported"] + row["contradicted"] + row["inconclusive"] == 60


def test_rows_count_what_a_loop_counts(found, toy):
    """Of the Gaussian tables at the margin, judged again here one by one."""
    scenario = toy.scenarios()[1]
    tables = [toy.simulate(scenario, generator(0, "calibration simulated margin", index)) for index in range(60)]
    verdicts = [{verdict.id: verdict for verdict in toy.judge(table)} for table in tables]
    truths = {"rises": 0.5, "falls": -0.5, "same": 0.0}
    for claim, truth in truths.items():
        (row,) = rows_of(found, kind="simulated", scenario="margin", claim=claim)
        of_claim = [each[claim] for each in verdicts]
        assert row["truth"] == truth
        for word in ("supported", "contradicted", "inconclusive"):
            assert row[word] == sum(each.verdict == word for each in of_claim)
        assert row["coverage"] == sum(each.low <= truth <= each.high for each in of_claim) / 60
        assert row["mean_width"] == pytest.approx(sum(each.high - each.low for each in of_claim) / 60)
        if claim != "same":
            assert row["false_supported"] == row["supported"] / 60
            exact = scipy_stats.binomtest(row["contradicted"], 60).proportion_ci(0.999, "exact")
            assert row["false_contradicted_low"] == pytest.approx(exact.low)
            assert row["false_contradicted_high"] == pytest.approx(exact.high)
    (family,) = rows_of(found, kind="simulated", scenario="margin", claim=module.FAMILY)
    wrong = sum(any(each[claim].verdict != "inconclusive" for claim in ("rises", "falls")) for each in verdicts)
    assert family["false_any"] == wrong / 60


def test_what_does_not_apply_is_empty(found):
    (control,) = rows_of(found, kind="bank", scenario="none", claim="same")
    assert control["false_supported"] is None and control["zero_rejected"] is not None
    (rises,) = rows_of(found, kind="bank", scenario="none", claim="rises")
    assert rises["false_contradicted"] is None and rises["zero_rejected"] is None
    (diverged,) = rows_of(found, kind="simulated", scenario="diverged", claim="rises")
    assert diverged["truth"] is diverged["coverage"] is None and diverged["false_supported"] == 0


def test_the_bank_holds_the_runs_that_were_made(found, toy, store):
    assert len(found.bank) == RUNS and found.bank["run"].tolist() == list(range(RUNS))
    assert found.bank["test_accuracy"].nunique() > 1
    again, digest = run_bank(toy, RUNS, store=store, workers=1, progress=False)
    assert again.equals(found.bank) and digest == found.design["bank"]["digest"]
    _, shorter = run_bank(toy, RUNS - 1, store=store, workers=1, progress=False)
    assert shorter != digest


def test_a_judgment_that_takes_every_run_for_several_does_not_hold(toy, plugin):
    wrong = calibrate(
        dataclasses.replace(toy, counted=3), tables=300, bank_runs=0, workers=1, plugins=[plugin], progress=False
    )
    assert not wrong.holds and wrong.bank is None and wrong.design["bank"] is None
    (row,) = rows_of(wrong, scenario="margin", claim="rises")
    assert not row["holds"] and row["coverage_high"] < 0.95
    assert all(row["holds"] for row in rows_of(wrong, scenario="diverged"))
    lines = str(wrong).splitlines()
    assert lines[-1].endswith("lines do not hold, marked !")
    assert sum(line.startswith("! ") for line in lines) == sum(not row["holds"] for row in wrong.rows)


def test_a_right_judgment_holds(toy, plugin):
    right = calibrate(toy, tables=300, bank_runs=0, seed=1, workers=1, plugins=[plugin], progress=False)
    assert right.holds and str(right).splitlines()[-1] == "Every line holds (12 lines of 300 tables)."
    assert all(len(line) <= 110 for line in str(right).splitlines())


def test_files_hold_what_was_found_and_are_whole(found, tmp_path, monkeypatch):
    files = found.save(tmp_path / "out")
    assert sorted(files) == ["bank.csv", "calibration.csv", "calibration.json"]
    plain = json.loads(files["calibration.json"].read_text())
    assert plain["rows"] == [dict(row) for row in found.rows]
    assert plain["environment"]["versions"]["torch"] and plain["design"]["settings"] == {"runs": 4, "counted": 1}
    with files["calibration.csv"].open() as text:
        rows = list(csv.DictReader(text))
    assert len(rows) == len(found.rows) and rows[0]["claim"] == "rises"
    assert float(rows[0]["coverage_low"]) == found.rows[0]["coverage_low"]
    before = files["calibration.json"].read_bytes()
    monkeypatch.setattr("mlptheory.base.files.os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        dataclasses.replace(found, seconds=1.0).save(tmp_path / "out")
    assert files["calibration.json"].read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(files)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tables": 0}, "tables = 0"),
        ({"seed": -1}, "seed = -1"),
        ({"workers": 0}, "workers = 0"),
        ({"bank_runs": 299}, "bank_runs = 299: expected at least 300, or 0 for Gaussian tables alone"),
    ],
)
def test_bad_settings_are_named(toy, settings, message):
    with pytest.raises(InputError) as caught:
        calibrate(toy, progress=False, **settings)
    assert message in str(caught.value)


def test_a_worker_that_cannot_know_the_probe_is_named(toy):
    with pytest.raises(WorkerDiedError, match=r"the probe's file \(plugins\)"):
        calibrate(toy, tables=1, bank_runs=0, workers=1, progress=False)


@pytest.fixture(scope="module")
def commanded(plugin, tmp_path_factory):
    out = tmp_path_factory.mktemp("command") / "out"
    command = [sys.executable, "-m", "mlptheory.cli", "calibrate", "toy", "--plugin", plugin, "--out", str(out)]
    command += ["--tables", "30", "--bank-runs", "0", "--workers", "1", "--counted", "9"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return out, done


def test_the_command_writes_and_says_what_python_finds(commanded, toy, plugin):
    out, done = commanded
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    written = json.loads((out / "calibration.json").read_text())
    assert written["design"]["settings"] == {"runs": 4, "counted": 9} and written["design"]["tables"] == 30
    assert sorted(path.name for path in out.iterdir()) == ["calibration.csv", "calibration.json"]
    assert done.stdout.rstrip().endswith("lines do not hold, marked !")
    same = calibrate(
        dataclasses.replace(toy, counted=9), tables=30, bank_runs=0, workers=1, plugins=[plugin], progress=False
    )
    assert written["rows"] == [dict(row) for row in same.rows]


def test_the_command_refuses_on_one_line(refused, tmp_path):
    assert "probe = 'batchsiz': unknown; did you mean 'batchsize'?" in refused("calibrate", "batchsiz")
    assert "tables = 0" in refused("calibrate", "batchsize", "--tables", "0", "--out", str(tmp_path))


def test_the_page_of_results_shows_every_line(found):
    measured = runpy.run_path(str(REPOSITORY / "docs" / "measured.py"))
    text = measured["calibration_text"](json.loads(json.dumps(found.to_plain())))
    lines = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    assert len(lines) == len(found.rows) + 4  # two kinds, each with a heading for claims and one for the family
    (row,) = rows_of(found, kind="bank", scenario="margin", claim="rises")
    low, high = 100 * row["coverage_low"], 100 * row["coverage_high"]
    assert any(f"{100 * row['coverage']:.2f} [{low:.2f}, {high:.2f}]" in line for line in lines)
    assert f"### {RUNS} real runs, resampled" in text and found.design["bank"]["digest"][:16] in text
