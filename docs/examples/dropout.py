"""Does dropout help an MLP that sees few images? A probe of one's own, in a file of its own."""

from dataclasses import dataclass

from mlptheory.models import ModelConfig
from mlptheory.probes import Comparison, Contrast, probes
from mlptheory.training import BudgetConfig, DataConfig, OptimizerConfig, Recipe


@probes.register("dropout", summary="Does dropout help an MLP that sees few images?")
@dataclass(frozen=True, kw_only=True)
class Dropout(Comparison):
    """Does dropout help an MLP that sees few images?

    Attributes
    ----------
    dataset : str
        A registered data set.
    n : int
        Training images.
    rate : float
        Probability that a hidden unit is dropped.
    epochs : int
        Passes over the training images.
    margin : float
        Smallest effect of interest, in percentage points.
    """

    name = "dropout"
    title = "Dropout on few images"
    question = "Does dropout help an MLP that sees few images?"

    dataset: str = "digits"
    n: int = 200
    rate: float = 0.5
    epochs: int = 40
    margin: float = 1.0

    def arms(self):
        """Return the same recipe without and with dropout."""
        common = {
            "data": DataConfig(name=self.dataset, n=self.n),
            "optimizer": OptimizerConfig(name="lion", lr=8e-4),
            "budget": BudgetConfig(amount=self.epochs, batch_size=32),
        }
        rates = {"plain": 0.0, "dropout": self.rate}
        return {arm: Recipe(model=ModelConfig(name="B-2/Wi-64", dropout=rate), **common) for arm, rate in rates.items()}

    def contrasts(self):
        """Return the claims."""
        weights = {"dropout": 1, "plain": -1}
        common = {"source": "Srivastava et al. 2014", "weights": weights, "held_fixed": ("epochs", "learning rate")}
        common["scope"] = f"B-2/Wi-64 on {self.n} images of {self.dataset}"
        better = Contrast(id="better", statement="Dropout raises the accuracy.", margin=self.margin, **common)
        loss = {"outcome": "test_loss", "scale": 1, "unit": "nats", "direction": "less", "margin": 0.05}
        return better, Contrast(id="surer", statement="Dropout lowers the test loss.", **loss, **common)
