"""What is compared at one accuracy, and what examples are worth, against loops and planted lines."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from mlptheory.probes.augmentation.matched import matched_difference, worth_in_examples

SIZES = (100, 200, 400, 800)


def test_lines_without_noise_give_the_difference_of_the_lines():
    """One arm has y = 3 - 2 a, the other y = 1 + a, over different accuracies."""
    first, second = np.array([[0.3, 0.5, 0.8]] * 4), np.array([[0.2, 0.4, 0.6]] * 4)
    found = matched_difference((first, second), (3 - 2 * first, 1 + second))
    assert found.accuracy == pytest.approx(0.45)
    assert found.differences == pytest.approx([(3 - 0.9) - 1.45] * 4)


def by_hand(accuracy, outcome, at):
    """Return by loops what the delta method gives each block, with numpy.interp for the line itself."""
    line, means = accuracy.mean(axis=0), outcome.mean(axis=0)
    for left in range(len(line) - 1):
        if line[left] <= at <= line[left + 1]:
            break
    slope = (means[left + 1] - means[left]) / (line[left + 1] - line[left])
    t = (at - line[left]) / (line[left + 1] - line[left])
    blocks = []
    for a, y in zip(accuracy, outcome, strict=True):
        own = (1 - t) * a[left] + t * a[left + 1]
        blocks.append((1 - t) * y[left] + t * y[left + 1] - slope * (own - at))
    assert np.mean(blocks) == pytest.approx(np.interp(at, line, means))
    return np.array(blocks)


def test_noisy_blocks_are_the_delta_methods_and_average_to_the_lines():
    rng = np.random.default_rng(0)
    accuracy = tuple(
        np.array(mean) + rng.normal(0, 0.01, (6, 4)) for mean in ([0.3, 0.4, 0.5, 0.7], [0.2, 0.3, 0.5, 0.6])
    )
    outcome = tuple(rng.normal(0, 1, (6, 4)) for _ in range(2))
    found = matched_difference(accuracy, outcome)
    low = max(each.mean(axis=0)[0] for each in accuracy)
    high = min(each.mean(axis=0)[-1] for each in accuracy)
    assert found.accuracy == pytest.approx((low + high) / 2)
    expected = [by_hand(*pair, found.accuracy) for pair in zip(accuracy, outcome, strict=True)]
    assert found.differences == pytest.approx(expected[0] - expected[1])


def test_noise_of_the_accuracy_is_in_the_interval():
    """Of 300 studies with noise in the accuracy alone, the t intervals cover the lines' difference as often as said."""
    rng = np.random.default_rng(1)
    first, second = np.array([0.30, 0.36, 0.42]), np.array([0.33, 0.39, 0.45])
    covered, widths = 0, []
    for _ in range(300):
        accuracy = tuple(mean + rng.normal(0, 0.01, (6, 3)) for mean in (first, second))
        # The outcome is a line over the true accuracy: what noise there is comes from matching.
        outcome = tuple(np.tile(slope * mean, (6, 1)) for slope, mean in ((10.0, first), (-10.0, second)))
        found = matched_difference(accuracy, outcome)
        interval = scipy_stats.ttest_1samp(found.differences, 0).confidence_interval(0.95)
        covered += interval.low <= 20 * found.accuracy <= interval.high
        widths.append(interval.high - interval.low)
    assert 0.92 <= covered / 300 <= 0.985 and min(widths) > 0.01


def test_what_cannot_be_matched_is_said():
    flat, rising = np.array([[0.5, 0.5]] * 3), np.array([[0.2, 0.6]] * 3)
    above = rising + 0.5
    assert "does not rise" in matched_difference((rising, flat), (rising, rising))
    assert "No accuracy is reached by both" in matched_difference((above, rising), (rising, rising))
    missing = np.where(np.arange(3)[:, None] < 2, np.nan, rising)
    assert "Fewer than two" in matched_difference((rising, rising), (missing, rising))


def test_a_block_that_lacks_something_is_left_out_and_marked():
    rng = np.random.default_rng(2)
    accuracy = np.array([0.2, 0.4, 0.6]) + rng.normal(0, 0.01, (5, 3))
    outcome = rng.normal(0, 1, (5, 3))
    outcome[3, 0] = np.nan
    kept = [0, 1, 2, 4]
    found = matched_difference((accuracy, accuracy), (outcome, 2 * outcome))
    again = matched_difference((accuracy[kept],) * 2, (outcome[kept], 2 * outcome[kept]))
    assert np.isnan(found.differences[3]) and found.differences[kept] == pytest.approx(again.differences)


def test_worth_inverts_a_logarithmic_line():
    """The reference rises by 10 points a doubling: 5 points more are worth a factor of the root of 2."""
    reference = np.array([[0.2, 0.3, 0.4, 0.5]] * 3) + np.array([[-0.01], [0.0], [0.01]])
    worth = worth_in_examples(reference, reference[:, 1] + 0.05, SIZES, 200)
    assert worth.value == pytest.approx(200 * (math.sqrt(2) - 1), abs=0.5)
    # All blocks lead by the same, so that the set is a point of the grid, or lies between two.
    assert worth.low < worth.value < worth.high and worth.high - worth.low < 5


def test_the_set_has_every_size_that_a_paired_t_test_keeps():
    rng = np.random.default_rng(3)
    reference = np.array([0.2, 0.3, 0.4, 0.5]) + rng.normal(0, 0.02, (6, 4))
    arm = 0.37 + rng.normal(0, 0.02, 6)
    worth = worth_in_examples(reference, arm, SIZES, 100)
    kept = []
    for size in range(100, 801):
        at = [np.interp(math.log(size), np.log(SIZES), row) for row in reference]
        if scipy_stats.ttest_rel(arm, at).pvalue >= 0.05:
            kept.append(size - 100)
    assert worth.low == pytest.approx(min(kept), abs=8) and worth.high == pytest.approx(max(kept), abs=8)


@pytest.mark.parametrize(
    ("accuracy", "low", "high"), [(0.7, 700, math.inf), (0.1, -math.inf, 0)], ids=["beyond the end", "before the start"]
)
def test_where_the_reference_ends_there_is_one_bound(accuracy, low, high):
    reference = np.array([0.2, 0.3, 0.4, 0.5]) + np.random.default_rng(4).normal(0, 0.001, (5, 4))
    worth = worth_in_examples(reference, np.full(5, accuracy), SIZES, 100)
    assert math.isnan(worth.value)
    assert worth.low == pytest.approx(low, rel=1e-6) and worth.high == pytest.approx(high, abs=1e-6)


def test_a_set_that_reaches_the_end_has_no_upper_bound():
    rng = np.random.default_rng(5)
    reference = np.array([0.2, 0.3, 0.4, 0.5]) + rng.normal(0, 0.03, (5, 4))
    worth = worth_in_examples(reference, 0.49 + rng.normal(0, 0.03, 5), SIZES, 100)
    assert worth.high == math.inf and 0 < worth.low < 700


@pytest.mark.parametrize(
    ("line", "accuracy", "low", "high"),
    [
        # Falls through 0.4 halfway from 10 to 20 in the logarithm, rises through it a third of the way from 20 to 40.
        ((0.5, 0.3, 0.6), 0.4, 10 * 2**0.5, 20 * 2 ** (1 / 3)),
        # Behind at first, ahead at last: the one crossing is on the way down, three quarters from 20 to 40.
        ((0.5, 0.6, 0.4), 0.45, 20 * 2**0.75, 20 * 2**0.75),
    ],
    ids=["falls and rises", "falls at last"],
)
def test_a_reference_that_falls_is_crossed_where_it_is(line, accuracy, low, high):
    """All blocks lead by the same, so that the set is the crossings, which lie between points of the grid."""
    reference = np.array([line] * 3) + np.array([[-0.01], [0.0], [0.01]])
    worth = worth_in_examples(reference, accuracy + np.array([-0.01, 0.0, 0.01]), (10, 20, 40), 10)
    assert (worth.low + 10, worth.high + 10) == pytest.approx((low, high), rel=0.01)


def test_the_set_covers_the_truth_as_often_as_it_says():
    rng, covered = np.random.default_rng(6), 0
    for _ in range(200):
        shared = rng.normal(0, 0.02, (5, 1))
        reference = np.array([0.2, 0.3, 0.4, 0.5]) + shared + rng.normal(0, 0.02, (5, 4))
        arm = 0.35 + shared[:, 0] + rng.normal(0, 0.02, 5)
        worth = worth_in_examples(reference, arm, SIZES, 100, points=60)
        covered += worth.low - 8 <= 200 * math.sqrt(2) - 100 <= worth.high + 8
    assert covered / 200 >= 0.91


def test_fewer_than_two_whole_blocks_have_no_worth():
    worth = worth_in_examples(np.array([[0.2, 0.3], [np.nan, 0.3]]), np.array([0.2, 0.3]), (10, 20), 10)
    assert math.isnan(worth.value) and math.isnan(worth.low) and math.isnan(worth.high)
