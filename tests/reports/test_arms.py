import numpy as np

from mlptheory.reports.arms import arm_table

COLUMNS = [
    {"name": "width", "role": "factor"},
    {"name": "seed"},
    {"name": "error", "role": "outcome", "unit": "%"},
    {"name": "loss", "role": "outcome"},
]


def test_mean_and_deviation_agree_with_numpy():
    values = np.array([3.25, 4.5, 9.125])
    rows = [[8, seed, value, 2 * value] for seed, value in enumerate(values.tolist())]
    arms = arm_table({"columns": COLUMNS, "rows": rows})
    expected = [f"{scale * values.mean():.1f} ± {scale * values.std(ddof=1):.1f}" for scale in (1, 2)]
    assert arms["rows"] == [[8, 3, *expected]]
    assert [column["name"] for column in arms["columns"]] == ["width", "n", "error", "loss"]


def test_a_diverged_run_drops_out_of_every_outcome():
    rows = [[8, 0, 1.0, 1.0], [8, 1, None, 100.0], [8, 2, float("nan"), 100.0], [8, 3, 1.0, 1.0]]
    assert arm_table({"columns": COLUMNS, "rows": rows})["rows"] == [[8, 2, "1.000 ± 0.000", "1.000 ± 0.000"]]


def test_an_arm_that_only_diverged_is_shown_empty():
    assert arm_table({"columns": COLUMNS, "rows": [[8, 0, None, None]]})["rows"] == [[8, 0, "–", "–"]]


def test_factors_may_be_lists_and_keep_their_order():
    rows = [[[2, 1], 0, 1.0, 1.0], [[1], 0, 2.0, 2.0], [[2, 1], 1, 1.0, 1.0]]
    assert [row[:2] for row in arm_table({"columns": COLUMNS, "rows": rows})["rows"]] == [[(2, 1), 2], [(1,), 1]]


def test_without_roles_there_is_no_table():
    assert arm_table({"columns": [{"name": "a"}, {"name": "b", "role": "factor"}], "rows": [[1, 2]]}) is None
