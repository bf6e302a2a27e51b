"""Every recipe can be read, every committed result carries its evidence, and the docs say what was measured."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pandas as pd
import pytest

from mlptheory.base.configuration import from_plain, to_plain
from mlptheory.probes import probes
from mlptheory.probes.calibration import FAMILY
from mlptheory.probes.result import load_result
from mlptheory.stats import proportion_interval
from mlptheory.training import Recipe, read_recipe
from mlptheory.trials.record import Record, unpack_predictions

REPOSITORY = Path(__file__).resolve().parents[1]
EXPERIMENTS = REPOSITORY / "experiments"
MEASURED = runpy.run_path(str(REPOSITORY / "docs" / "measured.py"))


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.rglob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_can_be_read_and_names_its_source(path):
    recipe, paper = read_recipe(path)
    assert isinstance(recipe, Recipe)
    assert paper["source"] and paper["bibtex_key"] and paper["test_accuracy_percent"] > 0
    head = path.read_text().split("[recipe]")[0]
    assert all(word in head for word in ("Command", "Paper", "Time", "arXiv", str(paper["test_accuracy_percent"])))


@pytest.mark.parametrize("name", MEASURED["records"]())
def test_every_record_is_of_the_recipe_beside_it(name):
    record = MEASURED["records"]()[name]
    recipe, paper = read_recipe(EXPERIMENTS / name)
    recorded = from_plain(Recipe, record["trial"]["recipe"], "recipe")
    assert recorded == recipe and record["paper"] == paper
    assert record["environment"]["versions"]["torch"] and record["environment"]["hardware"]["processor"]
    assert record["data_digest"] and record["seconds"] > 0
    fields = {key: value for key, value in record.items() if key not in ("schema", "paper")}
    assert len(unpack_predictions(Record(**fields).predictions)) == 10_000


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


def test_the_page_of_results_is_what_the_records_say():
    assert MEASURED["PAGE"].read_text(encoding="utf-8") == MEASURED["page"](), "run python docs/measured.py"


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
