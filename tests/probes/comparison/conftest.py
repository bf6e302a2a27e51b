from dataclasses import dataclass

import pytest

from mlptheory.models import ModelConfig
from mlptheory.probes import Comparison, Contrast
from mlptheory.training import BudgetConfig, DataConfig, OptimizerConfig, Recipe

COMMON = {"source": "nobody", "held_fixed": ("epochs",), "scope": "digits"}


@dataclass(frozen=True, kw_only=True)
class Widths(Comparison):
    """Three widths, and contrasts in every direction, of two outcomes."""

    name = "widths"
    title = "Widths"
    question = "Is wider better?"

    seeds: int | tuple[int, ...] = 4

    def arms(self):
        names = {"narrow": "B-1/Wi-4", "middle": "B-1/Wi-8", "wide": "B-1/Wi-16"}
        return {
            arm: Recipe(
                data=DataConfig(n=60),
                model=ModelConfig(name=name),
                optimizer=OptimizerConfig(lr=1e-3),
                budget=BudgetConfig(amount=2, batch_size=20),
            )
            for arm, name in names.items()
        }

    def contrasts(self):
        return (
            Contrast(id="wider", statement="A", weights={"wide": 1, "narrow": -1}, margin=1.5, **COMMON),
            Contrast(
                id="curved",
                statement="B",
                weights={"narrow": 0.5, "middle": -1, "wide": 0.5},
                margin=2.0,
                direction="equivalent",
                **COMMON,
            ),
            Contrast(
                id="surer",
                statement="C",
                weights={"wide": 1, "middle": -1},
                outcome="test_loss",
                scale=1,
                unit="nats",
                margin=0,
                direction="less",
                **COMMON,
            ),
        )


@pytest.fixture
def widths():
    return Widths()
