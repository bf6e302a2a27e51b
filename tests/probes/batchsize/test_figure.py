"""The figure shows every run, in whatever design, and whatever is missing."""

import dataclasses
from types import SimpleNamespace

import matplotlib.figure
import numpy as np
import pytest

from tests.probes.batchsize.conftest import PROBE, WIDE, plant


def whole(probe):
    """Return a table with what the design measures, and nothing else."""
    table = probe.simulate(plant(), np.random.default_rng(0))
    steps = table["examples_to_target"] / table["batch_size"]
    table["steps_to_target"] = steps if probe.target_accuracy is not None else np.nan
    return table if probe.curvature_seeds else table.drop(columns="sharpness_at_target")


def draw(probe, table=None):
    table = whole(probe) if table is None else table
    figure = probe.draw(SimpleNamespace(probe=probe, table=table))
    assert isinstance(figure, matplotlib.figure.Figure)
    return [axes for axes in figure.axes if axes.get_visible()]


def dots(axes):
    return sum(
        len(line.get_xdata()) for line in axes.lines if line.get_marker() == "." and line.get_linestyle() == "None"
    )


PLAIN = dataclasses.replace(PROBE, lr_policies=("fixed",), curvature_seeds=0, target_accuracy=None)


@pytest.mark.parametrize(
    ("probe", "panels", "titles"),
    [
        (PLAIN, 1, ["fixed learning rate"]),
        (dataclasses.replace(PLAIN, lengths=(5,), seeds=1), 1, ["fixed learning rate"]),
        (dataclasses.replace(PLAIN, lr_policies=("tuned",), cnn="CNN-1/Wi-4"), 1, ["tuned learning rate"]),
        (PROBE, 4, ["fixed learning rate", "tuned learning rate"]),
    ],
    ids=["plain", "one length, one seed", "cnn", "default"],
)
def test_every_run_is_a_dot_and_every_policy_a_panel(probe, panels, titles):
    drawn = draw(probe)
    assert len(drawn) == panels
    assert [axes.get_title("left") for axes in drawn[: len(titles)]] == titles
    for axes in drawn[: len(titles)]:
        assert dots(axes) == len(probe.models) * len(probe.lengths) * 3 * len(probe.seed_list)
    assert [label.get_text() for label in drawn[0].get_xticklabels()] == ["16", "64", "256"]


def test_all_policies_and_a_cnn_have_a_place_and_one_scale():
    drawn = draw(WIDE)
    policies = [axes for axes in drawn if axes.get_title("left")]
    assert len(policies) == 4 and len({axes.get_ylim() for axes in policies}) == 1
    assert sum(dots(axes) for axes in policies) == 4 * 2 * 2 * 3 * 5


def test_the_legend_names_every_model_and_length_once():
    texts = [text.get_text() for text in draw(WIDE)[0].get_legend().get_texts()]
    assert sorted(texts) == sorted(f"{model}, {n} epochs" for model in ("B-2/Wi-64", "CNN-2/Wi-8") for n in (5, 20))


@pytest.mark.parametrize(("budget", "texts"), [("steps", ["1 step", "4 steps"]), ("compute", ["1 G MACs", "4 G MACs"])])
def test_units_are_the_budgets(budget, texts):
    probe = dataclasses.replace(PLAIN, budget=budget, lengths=(1, 4))
    found = [text.get_text() for text in draw(probe)[0].get_legend().get_texts()]
    assert found == [f"B-2/Wi-64, {text}" for text in texts]


def test_a_run_that_diverged_has_no_dot_and_nothing_at_all_is_still_a_figure():
    table = whole(PROBE)
    gone = table[(table["role"] == "run") & (table["policy"] == "fixed")].index[0]
    table.loc[gone, "test_accuracy"] = np.nan
    assert dots(draw(PROBE, table)[0]) == 2 * 3 * 5 - 1
    for name in ("test_accuracy", "sharpness_at_target", "steps_to_target"):
        table[name] = np.nan
    assert [dots(axes) for axes in draw(PROBE, table)] == [0, 0]
