"""The control with a known effect: theory computed anew, the committed runs, and the page that quotes both."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / "experiments" / "controls"
RECORD = json.loads((FOLDER / "teacher.json").read_text(encoding="utf-8"))
PAGE = (REPOSITORY / "docs" / "probes" / "controls.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(FOLDER / "teacher.py"))


def close(found, recorded):
    if isinstance(recorded, dict):
        assert found.keys() == recorded.keys()
        for name, value in recorded.items():
            close(found[name], value)
    else:
        np.testing.assert_allclose(found, recorded, rtol=1e-6)


def test_the_predictions_are_what_the_theory_comes_to(script):
    predicted = script["predictions"]()
    close(predicted, RECORD["predictions"])
    # Of the leading order's -1, all corrections together leave less than 0.03 per doubling.
    assert abs(predicted["slope_closure"] + 1) < 0.015 and abs(predicted["slope_these_data"] + 1) < 0.03


def test_chains_that_only_know_the_problem_agree_with_the_closure(script):
    theory = script["Theory"]()
    for size, (mean, error) in RECORD["simulation"].items():
        closure = theory.closure(int(size)) / theory.leading(int(size))
        assert abs(mean - closure) < 0.01 and error < 0.005
        assert f"{mean:.3f} ± {error:.3f}" in " ".join(PAGE.split()) and f"{closure:.3f}" in PAGE
    mean, _ = theory.simulate(256, chains=60)
    # 60 chains with a standard deviation of 0.35 each, looked at 5 times; a factor of 2 is 10 standard errors away.
    assert abs(mean - theory.closure(256) / theory.leading(256)) < 0.2


def test_the_summary_follows_from_the_runs_and_agrees_with_theory(script):
    runs = np.array(RECORD["runs"])
    assert runs.shape == (RECORD["seeds"], len(RECORD["batch_sizes"])) == (64, 3)
    close(script["summary"](runs, RECORD["predictions"]), RECORD["summary"])
    _, low, high = RECORD["summary"]["slope"]
    assert low < RECORD["predictions"]["slope_these_data"] < high
    assert all(low < 1 < high for _, low, high in RECORD["summary"]["over_these_data"])


def test_the_trainer_still_does_what_was_recorded(script):
    """The runs' order, start and steps are a seed's, so they come out again to rounding."""
    seeds, size = range(4), RECORD["batch_sizes"].index(256)
    again = [script["run"](seed, 256) for seed in seeds]
    np.testing.assert_allclose(again, [RECORD["runs"][seed][size] for seed in seeds], rtol=1e-3)


def test_the_page_quotes_the_record():
    predicted, summary = RECORD["predictions"], RECORD["summary"]
    for index, size in enumerate(RECORD["batch_sizes"]):
        line = next(line for line in PAGE.splitlines() if line.startswith(f"| {size} |"))
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        for cell, name in zip(cells[2:5], ("leading", "closure", "these_data"), strict=True):
            assert float(cell) == pytest.approx(predicted[name][index], abs=0.5001 * 10 ** -len(cell.split(".")[1]))
        for cell, name in zip(cells[5:], ("over_leading", "over_these_data"), strict=True):
            mean, low, high = summary[name][index]
            assert cell == f"{mean:.3f} [{low:.3f}, {high:.3f}]"
    mean, low, high = summary["slope"]
    quoted = [
        f"{mean:.3f} [{low:.3f}, {high:.3f}]",
        f"| closure | {predicted['slope_closure']:.3f} |",
        f"| closure, these data | {predicted['slope_these_data']:.3f} |",
        "is {:.2f}, {:.2f} and {:.2f}".format(*summary["sd_log2"]),
        f"slope is {summary['sd_slope']:.2f}",
        f"v = {predicted['mean_variance']:.4f}$ and $\\operatorname{{tr}} H = {predicted['trace']:.3f}$",
        f"{predicted['test_over_population']:.4f}",
        f"one {predicted['eigenvalues'][0]:.3f}",
        f"16 from {predicted['eigenvalues'][1]:.3f} to {predicted['eigenvalues'][-1]:.3f}",
        f"{predicted['data_term'] * 1e5:.1f}",
    ]
    page = re.sub(r"\s+", " ", PAGE.replace("−", "-"))
    assert [text for text in quoted if text not in page] == []
