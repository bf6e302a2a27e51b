import math

import pytest

from mlptheory.reports.numbers import cell_text, column_texts, decimals_for, effect_text, p_text, signed


@pytest.mark.parametrize(
    ("spread", "decimals"), [(0.62, 2), (0.062, 3), (6.2, 1), (62.0, 0), (1.0, 1), (0.0, 3), (math.nan, 3)]
)
def test_two_significant_digits_of_the_spread(spread, decimals):
    assert decimals_for(spread) == decimals


def test_effect_and_interval_share_their_decimals():
    assert effect_text(-3.42134, -4.0591, -2.7802) == ("−3.42", "[−4.06, −2.78]")
    assert effect_text(1.0, 1.0, 1.0) == ("+1.000", "[+1.000, +1.000]")


def test_a_rounded_zero_has_no_sign():
    assert signed(-0.0004, 3) == "0.000"
    assert signed(0.0006, 3) == "+0.001"


@pytest.mark.parametrize("missing", [None, math.nan, math.inf, True, "0.1"])
def test_what_is_no_finite_number_is_a_dash(missing):
    assert p_text(missing) == "–"
    assert signed(missing, 2) == "–"


def test_p_values_never_read_zero():
    assert p_text(0.0) == p_text(0.00099) == "< 0.001"
    assert p_text(0.001) == "0.001"


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.5, "−0.5"), (-3, "−3"), (12345.6, "12346"), (1e9, "1e+09"), ([64, 256], "64, 256"), (False, "no"), ("x", "x")],
)
def test_cells(value, text):
    assert cell_text(value) == text


def test_a_column_of_floats_shares_decimals_and_leaves_the_rest():
    assert column_texts([1.5, -0.25, None, 3]) == ["1.50", "−0.25", "–", "3"]
    assert column_texts([1e-9, 1.5]) == ["1e-09", "1.5"]
    assert column_texts([]) == []
