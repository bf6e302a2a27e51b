"""Every recipe can be read, every committed result carries its evidence, and the docs say what was measured."""

from __future__ import annotations

import contextlib
import json
import math
import queue
import re
import runpy
import statistics
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from mlptheory.base.configuration import from_plain, to_plain
from mlptheory.probes import probes
from mlptheory.probes.calibration import FAMILY
from mlptheory.probes.result import load_result
from mlptheory.reports import bibtex
from mlptheory.reproductions import miniature, read_reproduction, reproduce
from mlptheory.reproductions.results import results_path, write_results
from mlptheory.stats import proportion_interval
from mlptheory.training import Recipe
from mlptheory.trials import executor
from mlptheory.trials.record import Record, unpack_predictions

REPOSITORY = Path(__file__).resolve().parents[1]
EXPERIMENTS = REPOSITORY / "experiments"
MEASURED = runpy.run_path(str(REPOSITORY / "docs" / "measured.py"))
REPRODUCED = runpy.run_path(str(REPOSITORY / "docs" / "reproduced.py"))
FILES = sorted(EXPERIMENTS.rglob("*.toml"))
RECORDS = REPRODUCED["reproduction_records"](EXPERIMENTS)


def _name(path):
    return path.relative_to(EXPERIMENTS).with_suffix("").as_posix()


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_every_file_can_be_read_and_its_head_says_what_it_is(path):
    reproduction = read_reproduction(path)
    assert reproduction.name == _name(path) and reproduction.source
    assert f"{{{reproduction.bibtex_key}," in bibtex([reproduction.bibtex_key])
    head = [line for line in path.read_text(encoding="utf-8").split("\n[")[0].splitlines() if line.startswith("#")]
    text = " ".join(" ".join(line.removeprefix("#") for line in head).split())
    assert all(f" {word} " in text for word in ("Paper", "Time", "Hardware")) and "arXiv 2306.13575v3" in text
    assert f"Command mlptheory reproduce experiments/{reproduction.name}.toml --data-root DATA" in " ".join(
        text.split()
    )
    for number in reproduction.numbers:
        assert re.search(rf"(?<![\d.]){re.escape(str(number.percent))}(?![\d])", text), number
    assert all(len(line) <= 120 for line in head)


SIZES = {"cifar10": 50_000, "cifar100": 50_000, "stl10": 5_000, "tinyimagenet": 100_000, "imagenet": 1_281_167}
SIZES["imagenet21k"] = 11_801_680
"""Training images of the whole sets."""


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_no_batch_is_larger_than_its_training_set(path):
    """A run that is refused for it would be so only once its data are there; a miniature has batches of its own."""
    for trial in read_reproduction(path).trials():
        for each in trial.with_ancestors():
            data = each.recipe.data
            assert each.recipe.budget.batch_size <= (data.n or SIZES[data.name]) <= SIZES[data.name]


def _with_defaults(written: dict) -> dict:
    """Return what a record says of its file, with the defaults of fields that recipes have got since it was written."""
    recipes = {name: written[name] for name in ("recipe", "downstream") if written[name] is not None}
    complete = {name: to_plain(from_plain(Recipe, recipe, name)) for name, recipe in recipes.items()}
    return json.loads(json.dumps({**written, **complete}))


@pytest.mark.parametrize("name", RECORDS)
def test_every_record_is_of_its_file_and_its_numbers_follow_from_its_runs(name):
    record = RECORDS[name]
    reproduction = read_reproduction(EXPERIMENTS / f"{record['reproduction']['name']}.toml")
    datasets = tuple(record["reproduction"]["datasets"])
    numbers = tuple(number for number in reproduction.numbers if number.dataset in datasets)
    reproduction = replace(reproduction, datasets=datasets, numbers=numbers)
    assert _with_defaults(record["reproduction"]) == json.loads(json.dumps(to_plain(reproduction)))
    runs = [(run["labels"], _record(run["record"])) for run in record["runs"]]
    ancestors = {each["digest"]: _record(each) for each in record["ancestors"]}
    trials = reproduction.trials(len({labels["seed"] for labels, _ in runs}))
    assert [labels for labels, _ in runs] == [dict(trial.labels) for trial in trials]
    for trial, (_, run) in zip(trials, runs, strict=True):
        assert from_plain(Recipe, run.trial["recipe"], "recipe") == trial.recipe
        assert [from_plain(Recipe, ancestors[parent].trial["recipe"], "recipe") for parent in run.trial["parents"]] == [
            parent.recipe for parent in trial.parents
        ]
    for run in (*(run for _, run in runs), *ancestors.values()):
        assert run.environment["versions"]["torch"] and run.environment["hardware"]["processor"]
        assert run.data_digest and run.seconds > 0
        assert len(unpack_predictions(run.predictions)) == 10_000
    for row in record["numbers"]:
        metric = {"test": "test_accuracy", "tta": "tta_accuracy"}[row["quantity"]]
        cell = [(path, row[path]) for path, _ in reproduction.grid]
        values = [100 * run.metrics[metric] for labels, run in runs if all(labels[path] == at for path, at in cell)]
        assert row["measured"] == pytest.approx(statistics.fmean(values), rel=1e-12) and row["n"] == len(values)
        if len(values) > 1:
            half = scipy.stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
            assert [row["low"], row["high"]] == pytest.approx(
                [row["measured"] - half, row["measured"] + half], rel=1e-9
            )


def _record(plain):
    history = tuple(tuple(row) for row in plain["history"])
    return Record(**{name: value for name, value in plain.items() if name != "schema"} | {"history": history})


def _miniature_parameters():
    """Return every file; the first of each folder and form is run every day, the others are slow together."""
    seen, found = set(), []
    for path in FILES:
        reproduction = read_reproduction(path)
        family = (path.parent, reproduction.downstream is None, reproduction.tta is None)
        found.append(pytest.param(path, marks=[pytest.mark.slow] if family in seen else [], id=_name(path)))
        seen.add(family)
    return found


class _Here:
    """Stands for a pool of workers: what is handed in is done at once, in this process."""

    def submit(self, work, *arguments):
        future = Future()
        future.set_result(work(*arguments))
        return future


@pytest.fixture
def no_workers(monkeypatch):
    """Spare each of many runs the start of a process; tests/reproductions has some that start theirs."""
    news = queue.SimpleQueue()
    monkeypatch.setattr(executor, "_pool", lambda *_: contextlib.nullcontext((_Here(), news)))
    monkeypatch.setattr(executor, "_progress_queue", news)


@pytest.mark.parametrize("path", _miniature_parameters())
def test_every_miniature_runs(path, no_workers):
    full = read_reproduction(path)
    small = miniature(full)
    found = reproduce(small, workers=1, threads=1, device="cpu", progress=False)
    points = math.prod(min(2, len(values)) for _, values in full.grid)
    assert len(found.runs) == points and not any(record.diverged for _, record in found.runs)
    assert set(found.table["quantity"]) == ({"test"} if full.tta is None else {"test", "tta"})
    assert found.table["measured"].between(0, 100).all() and found.table["paper"].isna().all()
    assert len(found.pictures) == (0 if full.picture_units is None else points)
    for (trial, record), whole in zip(found.runs, [full.trials()[0]] * points, strict=True):
        recipe, big = trial.recipe, whole.recipe
        for field in ("augmentation", "schedule", "label_smoothing", "start", "trained"):
            assert getattr(recipe, field) == getattr(big, field), field
        assert recipe.optimizer == big.optimizer and recipe.model.norm == big.model.norm
        assert len(record.trial["parents"]) == len(whole.parents)


@pytest.mark.parametrize("folder", MEASURED["results"]())
def test_every_verdict_follows_from_its_table(folder):
    """Judged again by the code as it stands, the committed table gives the committed verdicts."""
    result = load_result(EXPERIMENTS / folder)
    assert isinstance(result.probe, probes[result.design["probe"]])
    again = result.probe.judge(result.table)
    for old, new in zip(result.verdicts, again, strict=True):
        assert (old.id, old.verdict, old.n) == (new.id, new.verdict, new.n)
        assert (old.effect, old.low, old.high) == pytest.approx((new.effect, new.low, new.high), rel=1e-9)
    first = result.design["trials"]
    assert result.table["digest"].tolist()[: len(first)] == first
    later = result.probe.follow_up(result.table.iloc[: len(first)])
    labels = pd.DataFrame([dict(trial.labels) for trial in (*result.probe.trials(), *later)])
    found = result.table[labels.columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, labels, check_dtype=False)
    assert json.loads((EXPERIMENTS / folder / "result.json").read_text())["environment"]["versions"]["torch"]


@pytest.mark.parametrize("folder", MEASURED["calibrations"]())
def test_every_calibration_is_of_the_probe_as_it_stands_and_follows_from_its_counts(folder):
    calibration = MEASURED["calibrations"]()[folder]
    design, rows = calibration["design"], calibration["rows"]
    probe = from_plain(probes[design["probe"]], design["settings"], design["probe"])
    assert design["claims"] == [to_plain(claim) for claim in probe.claims()]
    assert design["scenarios"] == [to_plain(scenario) for scenario in probe.scenarios()]
    assert design["tables"] >= 5000 and design["bank"]["runs"] >= 300
    bank = (EXPERIMENTS / folder / "bank.csv").read_text(encoding="utf-8").splitlines()
    assert len(bank) == 1 + design["bank"]["runs"]
    names = [claim.id for claim in probe.claims()]
    expected = [
        (kind, scenario.name, name)
        for kind in ("simulated", "bank")
        for scenario in probe.scenarios()
        for name in (*names, FAMILY)
    ]
    assert [(row["kind"], row["scenario"], row["claim"]) for row in rows] == expected
    for row in rows:
        holds = True
        for name in ("false_supported", "false_contradicted", "false_any", "zero_rejected", "coverage"):
            if row[name] is None:
                continue
            n = row["intervals"] if name in ("coverage", "zero_rejected") else row["tables"]
            again = proportion_interval(round(row[name] * n), n, 0.999)
            assert (row[name], row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx(
                (again.share, again.low, again.high), rel=1e-9
            )
            holds = holds and (again.high >= 0.95 if name == "coverage" else again.low <= 0.05)
        assert row["holds"] == holds


def test_the_pages_of_results_are_what_the_records_say():
    assert MEASURED["PAGE"].read_text(encoding="utf-8") == MEASURED["page"](), "run python docs/measured.py"
    written = MEASURED["REPRODUCED"].read_text(encoding="utf-8")
    assert written == REPRODUCED["reproductions_text"](EXPERIMENTS), "run python docs/measured.py"
    assert MEASURED["PERFORMANCE"].read_text(encoding="utf-8") == MEASURED["performance"](), (
        "run python docs/measured.py"
    )


def test_the_page_on_performance_says_what_a_gpu_was_measured_to_do():
    record = json.loads((REPOSITORY / "benchmarks" / "pipeline.json").read_text(encoding="utf-8"))
    record["cifar10"] = {"epochs": 100, "seconds": 7.2, "seconds_of_5000": 360.0}
    record["cases"][0]["share_of_peak"] = 0.3125
    text = MEASURED["performance_text"](record)
    assert "100 epochs took 7.2 s, so 5,000 take 6.0 minutes." in text and "31.2 % of the device's peak." in text


DIVERGING = """
[recipe.data]
name = "digits"
n = 100

[recipe.model]
name = "B-1/Wi-16"

[recipe.optimizer]
name = "sgd"
lr = 1e30

[recipe.budget]
amount = 7
unit = "UNIT"
batch_size = 50

[paper]
source = "A table"
bibtex_key = "Bachmann2023"
test_accuracy_percent = 50
"""


@pytest.mark.parametrize("unit", ["epochs", "steps"])
def test_the_page_tells_what_diverged_from_what_was_not_run(tmp_path, no_workers, unit):
    experiments = tmp_path / "experiments"
    (experiments / "table1").mkdir(parents=True)
    file = experiments / "table1" / "row.toml"
    file.write_text(DIVERGING.replace("UNIT", unit))
    page = REPRODUCED["reproductions_text"]
    assert re.search(r"`row` +\| digits +\| accuracy +\| not run +\| +\| 50.0", page(experiments))
    (experiments / "unfinished" / "table1").mkdir(parents=True)
    left = experiments / "unfinished" / "table1" / "row.jsonl"
    rows = [(0, 0, "test_accuracy", 0.1), (4, 2, "test_accuracy", 0.25), (6, 3, "test_accuracy", None)]
    columns = ("step", "epoch", "quantity", "value")
    lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in rows]
    left.write_text("\n".join(lines))
    taken = {"epochs": "2 of 7 epochs", "steps": "4 steps"}[unit]
    assert f"25.00 after {taken}, unfinished" in page(experiments)
    left.write_text("")
    assert "not run to its first look at the test set" in page(experiments)
    left.unlink()
    found = reproduce(read_reproduction(file), workers=1, threads=1, device="cpu", progress=False)
    write_results(results_path(file, found.reproduction, out=tmp_path), found)
    text = page(experiments)
    assert re.search(r"`row` +\| digits +\| accuracy +\| diverged +\| +\| 50.0", text) and "not run " not in text
    assert "Diverged, and in no mean: digits, seed 0." in text


@pytest.mark.parametrize("folder", ["digits_false-effect", "digits_false-effect_pilot"])
def test_the_probes_page_quotes_the_false_effect(folder):
    result = load_result(EXPERIMENTS / "batchsize" / folder)
    page = (REPOSITORY / "docs" / "probes" / "batchsize.md").read_text(encoding="utf-8")
    section = page.split("## A false effect")[1].split("\n## ")[0]
    means = result.effects.set_index(["policy", "quantity"])["mean"]
    for policy, verdict in zip(("fixed", "tuned"), result.verdicts, strict=False):
        at = [f"{means[policy, f'test accuracy at batch size {size} (%)']:.2f}" for size in (16, 64, 256)]
        effect, low, high = (f"{value:+.2f}".replace("-", "−") for value in (verdict.effect, verdict.low, verdict.high))
        change = f"{effect} [{low}, {high}] at {100 * verdict.level:g} %"
        assert f"| {policy} | {' | '.join(at)} | {change} | {verdict.verdict} |" in section
    if folder.endswith("pilot"):
        return
    control = next(verdict for verdict in result.verdicts if verdict.id == "a-a-control")
    effect, low, high = (f"{value:+.2f}".replace("-", "−") for value in (control.effect, control.low, control.high))
    assert f"A/A shows {effect} [{low}, {high}]" in section
    fixed = result.effects[result.effects["policy"] == "fixed"].set_index("quantity")
    hump = -fixed.loc["batch size 256 less 64 (points)", ["mean", "high", "low"]].astype(float)
    assert f"{hump['mean']:.2f} points [{hump['high']:.2f}, {hump['low']:.2f}]" in " ".join(section.split())
    rates = [means["tuned", f"tuned learning rate at batch size {size}"] for size in (16, 64, 256)]
    written = r"$5 \cdot 10^{-5}$, $4 \cdot 10^{-4}$ and $1.6 \cdot 10^{-3}$"
    assert rates == pytest.approx([5e-5, 4e-4, 1.6e-3]) and written in section


def test_the_page_quotes_the_verdicts_on_cifar10():
    page = (REPOSITORY / "docs" / "probes" / "batchsize.md").read_text(encoding="utf-8").replace("−", "-")
    page = page[page.index("## On CIFAR-10") :]
    main = load_result(EXPERIMENTS / "batchsize" / "cifar10_b-3_wi-256").verdicts
    cnn = load_result(EXPERIMENTS / "batchsize" / "cifar10_cnn").verdicts
    quoted = [verdict for verdict in main if verdict.direction == "greater"]
    quoted += [verdict for verdict in (*main, *cnn) if verdict.id in ("a-a-control", "opposite-to-cnn")]
    assert len(quoted) == 8
    for verdict in quoted:
        assert f"{verdict.effect:+.2f}" in page and f"[{verdict.low:+.2f}, {verdict.high:+.2f}]" in page, verdict.id
        assert verdict.verdict in page


@pytest.mark.parametrize(
    ("folder", "title"), [("digits", "## On the digits"), ("cifar100_to_cifar10", "## From CIFAR-100 to CIFAR-10")]
)
def test_the_page_quotes_the_verdicts_on_transfer(folder, title):
    page = (REPOSITORY / "docs" / "probes" / "transfer.md").read_text(encoding="utf-8").replace("−", "-")
    section = page.split(title)[1].split("\n## ")[0]
    verdicts = load_result(EXPERIMENTS / "transfer" / folder).verdicts
    quoted = [line for line in section.splitlines() if "% |" in line]
    assert len(quoted) == len(verdicts) == 11
    for verdict, line in zip(verdicts, quoted, strict=True):
        level = f"{100 * verdict.level:.4g} %"
        interval = f"{verdict.effect:+.2f} [{verdict.low:+.2f}, {verdict.high:+.2f}] at {level}"
        assert f"| {interval} | {verdict.verdict} |" in line, verdict.id


def test_the_page_quotes_what_the_probes_rate_does():
    page = (REPOSITORY / "docs" / "probes" / "transfer.md").read_text(encoding="utf-8").replace("−", "-")
    page = " ".join(page.split())
    rows = json.loads((EXPERIMENTS / "transfer" / "probing_rate.json").read_text(encoding="utf-8"))
    for row in rows:
        lead = np.subtract(row["pretrained"], row["untrained"])
        half = scipy.stats.t.ppf(0.975, len(lead) - 1) * lead.std(ddof=1) / math.sqrt(len(lead))
        found = (row["lead"]["mean"], row["lead"]["low"], row["lead"]["high"])
        assert found == pytest.approx((lead.mean(), lead.mean() - half, lead.mean() + half), rel=1e-9)
        mean, low, high = (f"{value:+.1f}" for value in found)
        assert f"{mean} [{low}, {high}]" in page and f"{row['probing_lr']:g}" in page
    best = [max(np.mean(row[body]) for row in rows) for body in ("pretrained", "untrained")]
    assert all(f"both bodies reach {value:.1f} %" in page for value in best)


def test_the_page_quotes_transfer_in_small():
    page = (REPOSITORY / "docs" / "transfer.md").read_text(encoding="utf-8").split("## In small")[1]
    quoted = re.findall(r"\(`(\w+)`\) \| (\S.*?\]) \| (\S.*?\])? ?\|", page)
    assert len(quoted) >= 4
    for name, plain, views in quoted:
        rows = {row["quantity"]: row for row in RECORDS[f"transfer/{name}"]["numbers"]}
        for quantity, text in (("test", plain), ("tta", views)):
            if text:
                row = rows.pop(quantity)
                assert text == f"{row['measured']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        assert not rows
    for row in RECORDS["transfer/scratch_longer"]["numbers"]:
        assert f"{row['measured']:.2f} %" in page
