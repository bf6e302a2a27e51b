"""Verdicts on tables whose truth is known, and what stops a claim."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from mlptheory.probes.sharpness import claims as named
from mlptheory.probes.sharpness.cells import Cells, change
from mlptheory.probes.sharpness.evidence import gather
from tests.probes.sharpness.conftest import PROBE, judged, quiet

EDGES = {named.EDGE_GD: "gd", named.EDGE_MOMENTUM: "momentum", named.EDGE_ADAM: "adam"}


@pytest.mark.parametrize(("claim", "arm"), EDGES.items())
def test_an_edge_on_its_threshold_is_supported_and_one_off_it_contradicted(claim, arm):
    assert judged(PROBE, quiet(PROBE))[claim].verdict == "supported"
    for effect in (2.0, -2.0):
        found = judged(PROBE, quiet(PROBE, **{arm: effect}))
        assert found[claim].verdict == "contradicted"
        assert found[claim].effect == pytest.approx(effect * 0.25, abs=1e-3)
        assert all(found[other].verdict == "supported" for other in EDGES if other != claim)


def test_where_most_runs_never_reach_the_threshold_nothing_hovers():
    table = quiet(PROBE, gd=-2.0, reached=0.0)
    verdict = judged(PROBE, table)[named.EDGE_GD]
    assert verdict.verdict == "inconclusive" and "Only 0 of 5 runs reached the threshold" in verdict.reason
    rows = np.flatnonzero(table["arm"] == "gd")
    table.loc[rows[:2], "edge_highest"] = 0.0
    assert "Only 2 of 5" in judged(PROBE, table)[named.EDGE_GD].reason
    table.loc[rows[:3], "edge_highest"] = 0.0
    assert judged(PROBE, table)[named.EDGE_GD].verdict == "contradicted"


def test_a_run_of_unknown_height_is_not_taken_to_have_reached():
    table = quiet(PROBE)
    rows = np.flatnonzero(table["arm"] == "gd")
    table.loc[rows[:3], "edge_highest"] = np.nan
    assert "Only 2 of 5 runs reached" in judged(PROBE, table)[named.EDGE_GD].reason
    table.loc[rows[:2], "edge_highest"] = 0.1
    assert judged(PROBE, table)[named.EDGE_GD].verdict == "supported"
    table["edge_highest"] = np.nan
    for lost in (table, table.drop(columns=["edge_highest"])):
        verdict = judged(PROBE, lost)[named.EDGE_GD]
        assert verdict.verdict == "inconclusive" and "Of no run is it known" in verdict.reason


def test_flows_at_the_edge_of_their_step_decide_nothing():
    flows = {named.SHARPENING, named.WIDER, named.DEEPER}
    table = quiet(PROBE, sharpening=4.0, wider=4.0, deeper=4.0)
    table["sharpening_sharpness"] = np.where(table["role"] == "flow", 40 * 2**-0.26, np.nan)
    assert all(judged(PROBE, table)[claim].verdict == "supported" for claim in flows)
    deep = (table["depth"] == 3) & (table["block"] < 2)
    table.loc[deep, "sharpening_sharpness"] = 40 * 2**-0.24
    found = judged(PROBE, table)
    assert "2 of 15 flows came to the edge of their step, 2/η = 40" in found[named.DEEPER].reason
    assert found[named.DEEPER].verdict == "inconclusive"
    assert all(found[claim].verdict == "supported" for claim in flows - {named.DEEPER})


@pytest.mark.parametrize(
    ("claim", "parameter", "verdicts"),
    [
        (named.SHARPENING, "sharpening", ("supported", "contradicted")),
        (named.WIDER, "wider", ("supported", "contradicted")),
        (named.DEEPER, "deeper", ("supported", "contradicted")),
        (named.BELOW, "below", ("supported", "contradicted")),
        (named.SAME_FUNCTION, "exact", ("supported", "contradicted")),
        (named.SAME_ADAPTIVE, "exact", ("supported", "contradicted")),
    ],
)
def test_claims_follow_their_effects(claim, parameter, verdicts):
    found = [judged(PROBE, quiet(PROBE, **{parameter: effect}))[claim].verdict for effect in (2.0, 0.0)]
    assert tuple(found) == verdicts


def test_predictions_follow_kendalls_tau():
    probe = dataclasses.replace(PROBE, seeds=24)
    for parameter, claim in (("predicts", named.PREDICTS), ("adaptive", named.ADAPTIVE_PREDICTS)):
        assert judged(probe, quiet(probe, **{parameter: 4.0}))[claim].verdict == "supported"
        assert judged(probe, quiet(probe, **{parameter: -2.0}))[claim].verdict == "contradicted"
    many = dataclasses.replace(PROBE, seeds=60)
    assert judged(many, quiet(many))[named.RESCALED].verdict == "supported"
    assert judged(many, quiet(many, rescaled=3.0))[named.RESCALED].verdict == "contradicted"


def test_tau_is_scipys_and_its_error_no_smaller_than_with_one_more_block_of_none():
    table = quiet(PROBE, predicts=2.0)
    taus = []
    for seed in PROBE.seed_list:
        rows = table[(table["role"] == "batch") & (table["block"] == seed)]
        taus.append(stats.kendalltau(rows["sharpness_at_target"], rows["gap_at_target"]).statistic)
    evidence = gather(PROBE, Cells(PROBE, table), named.PREDICTS)
    with_zero = np.array([*taus, 0.0])
    assert evidence.n == 5 and f"{np.mean(taus):+.2f}" in evidence.note
    assert evidence.estimate.estimate == pytest.approx(np.mean(taus), abs=1e-12)
    assert evidence.estimate.standard_error == pytest.approx(
        max(np.std(taus, ddof=1) / np.sqrt(5), with_zero.std(ddof=1) / np.sqrt(6)), abs=1e-12
    )


def test_seeds_that_all_have_no_correlation_are_not_certain():
    probe = dataclasses.replace(PROBE, batch_sizes=(8, 16, 32, 64), seeds=3)
    table = quiet(probe)
    rows = table["role"] == "batch"
    table.loc[rows, "sharpness_at_target"] = table.loc[rows, "batch_size"].astype(float)
    table.loc[rows, "gap_at_target"] = table.loc[rows, "batch_size"].map({8: 2.0, 16: 4.0, 32: 1.0, 64: 3.0})
    evidence = gather(probe, Cells(probe, table), named.PREDICTS)
    assert evidence.estimate.estimate == 0
    assert evidence.estimate.standard_error == pytest.approx(1 / 4)
    assert judged(probe, table)[named.PREDICTS].verdict == "inconclusive"


def test_rescaled_sharpness_is_the_mean_over_draws():
    table = quiet(PROBE, rescaled=2.0)
    rows = table[(table["role"] == "batch") & (table["block"] == 0)]
    draws = [
        stats.kendalltau(np.log2(rows["sharpness_at_target"]) + rows[f"rescaling_{draw}"], rows["gap_at_target"])
        for draw in range(8)
    ]
    found = Cells(PROBE, table).rescaled_tau("gap_at_target")[0]
    assert found == pytest.approx(np.mean([draw.statistic for draw in draws]), abs=1e-12)


def test_a_hump_over_the_width_is_no_fall():
    table = quiet(PROBE, wider=2.0)
    middle = (table["role"] == "flow") & (table["width"] == 16)
    table.loc[middle, "sharpening"] -= 1.5
    verdict = judged(PROBE, table)[named.WIDER]
    assert verdict.verdict == "contradicted"  # the line rises now
    table = quiet(PROBE, wider=2.0)
    middle = (table["role"] == "flow") & (table["width"] == 32) & (table["depth"] == 2)
    table.loc[middle, "sharpening"] -= 1.5
    verdict = judged(PROBE, table)[named.WIDER]
    assert verdict.verdict == "inconclusive" and "width 32 beats the largest" in verdict.reason


def test_the_change_is_the_lines_over_the_logarithm():
    values = np.array([[1.0, 2.0, 3.0]])
    slope = np.polyfit(np.log2([16, 32, 128]), values[0], 1)[0]
    assert change(values, (16, 32, 128))[0] == pytest.approx(3 * slope, abs=1e-12)


@pytest.mark.parametrize(
    ("role", "claims"),
    [
        ("edge", {named.EDGE_GD, named.EDGE_MOMENTUM, named.EDGE_ADAM, named.BELOW}),
        ("flow", {named.SHARPENING, named.WIDER, named.DEEPER}),
        (
            "batch",
            {named.PREDICTS, named.ADAPTIVE_PREDICTS, named.RESCALED, named.SAME_FUNCTION, named.SAME_ADAPTIVE},
        ),
    ],
)
def test_a_diverged_or_missing_run_stops_what_rests_on_its_part(role, claims):
    table = quiet(PROBE)
    rows = (table["role"] == role) & (table["block"] == 2)
    outcomes = [name for name in table if table[name].dtype == float]
    lost = table.copy()
    lost.loc[rows, outcomes] = np.nan
    for diverged, words in ((False, "1 of 5 blocks lack an outcome"), (True, "runs diverged")):
        lost.loc[rows, "diverged"] = diverged
        found = judged(PROBE, lost)
        assert {name for name, verdict in found.items() if words in verdict.reason} == claims
        assert all(found[name].verdict == "inconclusive" for name in claims)


def test_nothing_of_an_outcome_is_no_verdict():
    table = quiet(PROBE).drop(columns=["sharpening"])
    assert judged(PROBE, table)[named.SHARPENING].verdict == "inconclusive"
