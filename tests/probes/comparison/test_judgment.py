import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mlptheory.base import InputError
from mlptheory.probes import Scenario

ARMS = ("narrow", "middle", "wide")


def _table(widths, accuracy, loss, diverged=()):
    rows = []
    for (place, arm), seed in product(enumerate(ARMS), widths.seed_list):
        row = widths.seed_list.index(seed)
        bad = (arm, seed) in diverged
        rows.append(
            {
                "arm": arm,
                "seed": seed,
                "test_accuracy": math.nan if bad else accuracy[row][place],
                "test_loss": math.nan if bad else loss[row][place],
                "diverged": bad,
            }
        )
    return pd.DataFrame(rows).sample(frac=1, random_state=3)


ACCURACY = [[0.50, 0.52, 0.58], [0.51, 0.54, 0.60], [0.49, 0.53, 0.56], [0.50, 0.55, 0.59]]
LOSS = [[2.0, 1.0, 0.7], [2.1, 1.2, 0.8], [2.3, 1.1, 0.8], [2.2, 1.3, 0.7]]


def test_verdicts_are_t_intervals_of_per_seed_contrasts_in_any_order_of_rows(widths):
    verdicts = {verdict.id: verdict for verdict in widths.judge(_table(widths, ACCURACY, LOSS))}
    wider = [100 * (row[2] - row[0]) for row in ACCURACY]
    curved = [100 * (0.5 * row[0] - row[1] + 0.5 * row[2]) for row in ACCURACY]
    surer = [row[2] - row[1] for row in LOSS]
    for name, values in (("wider", wider), ("curved", curved), ("surer", surer)):
        verdict = verdicts[name]
        mean, error = np.mean(values), np.std(values, ddof=1) / 2
        half = stats.t.ppf(0.5 + verdict.level / 2, 3) * error
        assert verdict.effect == pytest.approx(mean) and verdict.n == 4
        assert (verdict.low, verdict.high) == pytest.approx((mean - half, mean + half))
    assert verdicts["wider"].verdict == verdicts["surer"].verdict == "supported"
    assert "Means: wide 58.25, narrow 50." in verdicts["wider"].reason


def test_runs_that_diverged_force_what_they_are_part_of_and_nothing_else(widths):
    table = _table(widths, ACCURACY, LOSS, diverged={("narrow", 2)})
    verdicts = {verdict.id: verdict for verdict in widths.judge(table)}
    assert verdicts["wider"].verdict == "inconclusive" and "1 of 8 runs diverged" in verdicts["wider"].reason
    assert "1 of 12 runs diverged" in verdicts["curved"].reason
    assert verdicts["surer"].verdict == "supported"


def test_a_missing_outcome_is_no_selection(widths):
    table = _table(widths, ACCURACY, LOSS)
    table.loc[(table["arm"] == "wide") & (table["seed"] == 1), "test_loss"] = math.nan
    verdicts = {verdict.id: verdict for verdict in widths.judge(table)}
    assert verdicts["surer"].verdict == "inconclusive" and "1 of 4 blocks lack" in verdicts["surer"].reason
    assert verdicts["wider"].verdict == "supported"


def test_effects_show_every_arm_and_every_contrast(widths):
    effects = widths.effects(_table(widths, ACCURACY, LOSS)).set_index(["arm", "quantity"])
    assert effects.loc[("wide", "test accuracy"), "mean"] == pytest.approx(0.5825)
    row = effects.loc[("", "wider: wide − narrow (percentage points)")]
    assert row["mean"] == pytest.approx(8.25) and row["n"] == row["runs"] == 4
    assert math.isnan(effects.loc[("wide", "train loss"), "mean"])


PLANTED = {
    "none": (0, 0, 0),
    "margin": (1.5, 2.0, -1.0),
    "lower margin": (-1.5, -2.0, 1.0),
    "twice": (3.0, 4.0, -2.0),
    "reversed": (-3.0, -4.0, 2.0),
}


@pytest.mark.parametrize("name", PLANTED)
def test_simulated_tables_have_the_planted_contrasts(widths, name):
    scenario = next(each for each in widths.scenarios() if each.name == name)
    truths = widths.truths(scenario, pd.DataFrame())
    assert [truths[key] for key in ("wider", "curved", "surer")] == pytest.approx(PLANTED[name])
    rng = np.random.default_rng(5)
    found = [widths.judge(widths.simulate(scenario, rng)) for _ in range(300)]
    for place, key in enumerate(("wider", "curved", "surer")):
        effects = np.array([verdicts[place].effect for verdicts in found])
        error = effects.std(ddof=1) / math.sqrt(len(effects))
        assert abs(effects.mean() - truths[key]) < 4 * error


def test_a_bank_gives_its_noise(widths):
    values = np.array([0.1, 0.4, 0.7, 0.2, 0.6, 0.55, 0.3, 0.35, 0.9, 0.8, 0.15, 0.5, 0.45])
    bank = pd.DataFrame({"test_accuracy": values, "test_loss": 10 * values})
    scenario = Scenario(name="none", description="-")
    table = widths.simulate(scenario, np.random.default_rng(0), bank)
    departures = sorted(values - values.mean())
    for column, scale in (("test_accuracy", 1), ("test_loss", 10)):
        drawn = table[column].to_numpy() / scale
        assert len(set(drawn.round(12))) == 12
        assert all(min(abs(each - other) for other in departures) < 1e-12 for each in drawn)


def test_scenarios_spread_and_diverge_as_they_say(widths):
    rng = np.random.default_rng(1)

    def losses(parameter, value, tables):
        scenario = Scenario(name="x", description="-", parameters=((parameter, value),))
        found = pd.concat([widths.simulate(scenario, rng).assign(table=table) for table in range(tables)])
        return found, found.pivot(index=["table", "seed"], columns="arm", values="test_loss")

    _, fanning = losses("fanning", 4.0, tables=200)
    spreads = [(fanning[arm] - fanning["middle"]).std() for arm in ("wide", "narrow")]
    assert spreads[0] / spreads[1] == pytest.approx(math.sqrt(17 / 2), rel=0.15)
    table, loss = losses("diverged", 0.25, tables=100)
    assert 0.2 < table.diverged.mean() < 0.3
    assert (table.test_accuracy.isna() == table.diverged).all()
    assert loss.isna().to_numpy().mean() == table.diverged.mean()


def test_power_counts_seeds_and_refuses_another_probes_pilot(widths):
    told = widths.power(None)
    assert "with 4 seeds" in told["wider"] and "±δ" in told["curved"]

    class Other:
        name = "other"

    class Pilot:
        probe = Other()

    with pytest.raises(InputError, match="expected a result of widths, found one of other"):
        widths.power(Pilot())
