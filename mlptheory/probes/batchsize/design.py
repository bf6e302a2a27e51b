"""The design: settings, claims and trials. Imports no torch and no pandas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from mlptheory.base.configuration import require_choice, require_integer, require_number
from mlptheory.base.errors import invalid
from mlptheory.models import ModelConfig, parse_name
from mlptheory.probes.batchsize.columns import COLUMNS
from mlptheory.probes.probe import Column, Probe
from mlptheory.stats import Claim
from mlptheory.training import BudgetConfig, DataConfig, OptimizerConfig, Recipe
from mlptheory.trials import STANDARD_OBSERVERS, Trial

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

    from mlptheory.probes.result import Result
    from mlptheory.stats import Verdict

MAIN, EVERY_LENGTH, CONTROL = "larger-batches-better", "at-every-length", "a-a-control"
OPTIMIZER_REFERENCES = {"lion": ("Chen2023",), "adamw": ("Loshchilov2019",), "sgd": ()}
DATA_REFERENCES = {
    "digits": ("Alpaydin1998", "Pedregosa2011"),
    "cifar10": ("Krizhevsky2009",),
    "cifar100": ("Krizhevsky2009",),
}
PAPER_LR, PAPER_WIDTH = 5e-5, 1024
CONTROL_SEEDS = 1_000_000
"""First seed of the control's runs, out of the way of the design's own."""


@dataclass(frozen=True, kw_only=True)
class BatchSize(Probe):
    r"""Test whether MLPs trained with larger batches reach a higher test accuracy at equal epochs.

    One run for each batch size, training length and seed. The claim's estimand is, for one seed, the change in test
    accuracy from the smallest to the largest batch that a straight line over :math:`\log_2 B` fits,

    .. math:: \hat\Delta_s = (x_k - x_1) \frac{\sum_i (x_i - \bar x)\, y_{s,i}}{\sum_i (x_i - \bar x)^2},
              \qquad x_i = \log_2 B_i,

    averaged over the lengths; seeds give its t interval. The learning rate is the same for every batch size: the
    verdict is about equal epochs *at equal learning rate*, not about tuned ones.

    Parameters
    ----------
    dataset : str
        A registered dataset.
    model : str
        Name of an MLP: "B-3/Wi-256", "S-6/Wi-1024", ...
    batch_sizes : tuple of int
        At least two.
    epochs : tuple of int
        Training lengths; at every batch size each.
    seeds : int or tuple of int
        How many (0, 1, ...), or which. A seed is a block: its runs share initialization and data order's key.
    n : int or None
        Training examples, a nested subset proportional per class; all of them if None.
    optimizer : {"lion", "adamw", "sgd"}
        With a constant learning rate.
    lr : float or None
        Of every run. If None, the paper's 5e-5 at its width of 1024, carried to this width w as 5e-5 · 1024 / w
        (μP's rule for Lion and Adam: Yang et al. 2022); SGD has no such default.
    weight_decay : float
        Decoupled: lr · weight_decay a step.
    label_smoothing : float
        The paper's 0.3.
    margin : float
        Smallest effect of interest δ, in percentage points of test accuracy.
    control : bool
        Also run the A/A control: as many runs as the shortest length has, all at the middle batch size with
        seeds of their own, labelled as if they were the arms, and judged alike.
    precision : {"auto", "float32", "bfloat16", "float64"}
        Of training; auto is bfloat16 where the device has it in hardware.

    Raises
    ------
    InputError
        For a setting that cannot be used.

    Examples
    --------
    >>> probe = BatchSize(batch_sizes=(32, 128), epochs=(2,), seeds=3, control=False)
    >>> len(probe.trials())
    6
    >>> probe.claims()[0].source
    'Bachmann et al. 2023, Fig. 4'
    """

    name: ClassVar[str] = "batchsize"
    title: ClassVar[str] = "Batch size and generalization"
    question: ClassVar[str] = "Do larger batches generalize better at equal epochs?"
    caption: ClassVar[str] = (
        "Test accuracy after the last step over batch size. A line a training length, through the means over seeds; "
        "dots are single runs, bars 95 % t intervals of the means; lengths stand a little aside of each other."
    )

    dataset: str = "digits"
    model: str = "B-2/Wi-64"
    batch_sizes: tuple[int, ...] = (16, 64, 256)
    epochs: tuple[int, ...] = (5, 20)
    seeds: int | tuple[int, ...] = 5
    n: int | None = None
    optimizer: Literal["lion", "adamw", "sgd"] = "lion"
    lr: float | None = None
    weight_decay: float = 0.0
    label_smoothing: float = 0.3
    margin: float = 1.0
    control: bool = True
    precision: Literal["auto", "float32", "bfloat16", "float64"] = "auto"

    def __post_init__(self) -> None:
        from mlptheory.data import datasets

        datasets.summary(self.dataset)
        parsed = parse_name(self.model)
        _require_distinct("batch_sizes", self.batch_sizes, at_least=2)
        _require_distinct("epochs", self.epochs, at_least=1)
        for seed in _require_seeds(self.seeds):
            require_integer("seeds", seed, 0)
            if seed >= CONTROL_SEEDS:
                raise invalid("seeds", seed, f"seeds below {CONTROL_SEEDS}, where the control's begin")
        if self.lr is not None:
            require_number("lr", self.lr, 0, low_open=True)
        elif self.optimizer == "sgd" or parsed.width is None:
            raise invalid("lr", self.lr, f"a number greater than 0, as {self.optimizer} on {self.model} has no default")
        require_choice("optimizer", self.optimizer, ("lion", "adamw", "sgd"))
        require_choice("precision", self.precision, ("auto", "float32", "bfloat16", "float64"))
        require_number("weight_decay", self.weight_decay, 0)
        require_number("label_smoothing", self.label_smoothing, 0, 1)
        require_number("margin", self.margin, 0, 100)
        if self.control:
            require_number("margin", self.margin, 0, 100, low_open=True)

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds, one a block."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    @property
    def lr_used(self) -> float:
        """The learning rate of every run."""
        return self.lr if self.lr is not None else PAPER_LR * PAPER_WIDTH / parse_name(self.model).width

    def references(self) -> tuple[str, ...]:
        """Return the BibTeX keys of the claim and its context, the optimizer, the data and the software."""
        return (
            "Bachmann2023",
            "Keskar2017",
            "Shallue2019",
            *OPTIMIZER_REFERENCES[self.optimizer],
            *(("Yang2022",) if self.lr is None else ()),
            *DATA_REFERENCES.get(self.dataset, ()),
            "Paszke2019",
            "mlptheory",
        )

    def held_fixed(self) -> tuple[str, ...]:
        """Return what is the same in all arms."""
        return (
            "epochs (so smaller batches take more steps)",
            f"learning rate {self.lr_used:.3g}, constant, not tuned per batch size",
            f"optimizer {self.optimizer}, weight decay {self.weight_decay:g}, label smoothing {self.label_smoothing:g}",
            "initialization and the order's key within a seed",
            "data, split and test set",
            "no augmentation",
        )

    def claims(self) -> tuple[Claim, ...]:
        """Return the main claim, the one about every length where there are several, and the control."""
        scope = (
            f"{self.model} from scratch on {self.dataset}"
            + (f" ({self.n} examples)" if self.n else "")
            + f", {self.optimizer} at lr {self.lr_used:.3g}, batches {_span(self.batch_sizes)}, "
            + f"{_span(self.epochs)} epochs"
        )
        common = {
            "source": "Bachmann et al. 2023, Fig. 4",
            "bibtex_key": "Bachmann2023",
            "margin": self.margin,
            "unit": "percentage points",
            "held_fixed": self.held_fixed(),
            "scope": scope,
        }
        change = "fitted change in test accuracy from the smallest to the largest batch (line over log2 batch size)"
        claims = [
            Claim(
                id=MAIN,
                statement="Larger batches reach a higher test accuracy at equal epochs.",
                estimand=f"{change}, mean over lengths; these data, new seeds",
                direction="greater",
                test="95 % t interval of the per-seed change; not supported where a smaller batch beats the largest",
                **common,
            )
        ]
        if len(self.epochs) > 1:
            claims.append(
                Claim(
                    id=EVERY_LENGTH,
                    statement="Larger batches are better at every training length.",
                    estimand=f"smallest over lengths of the {change}; these data, new seeds",
                    direction="greater",
                    test=f"95 % t intervals, simultaneous over {len(self.epochs)} lengths (Bonferroni), the smallest "
                    "of their ends; not supported where a smaller batch beats the largest at some length",
                    **common,
                )
            )
        if self.control:
            claims.append(
                Claim(
                    id=CONTROL,
                    statement="Control: runs of one batch size, labelled as several, show no change.",
                    estimand=f"{change}, of labels that mean nothing; these data, new seeds",
                    direction="equivalent",
                    test="95 % t interval of the per-block change must lie within ±δ",
                    **{**common, "source": "A/A control", "bibtex_key": None},
                )
            )
        return tuple(claims)

    def trials(self) -> tuple[Trial, ...]:
        """Return one trial for each length, batch size and seed, then the control's."""
        arms = [
            self._trial("arm", batch_size, batch_size, epochs, seed, seed)
            for epochs in self.epochs
            for batch_size in self.batch_sizes
            for seed in self.seed_list
        ]
        return (*arms, *(self._control_trials() if self.control else ()))

    def _control_trials(self) -> Iterator[Trial]:
        middle = sorted(self.batch_sizes)[len(self.batch_sizes) // 2]
        cells = [(block, label) for block in self.seed_list for label in self.batch_sizes]
        for index, (block, label) in enumerate(cells):
            yield self._trial("control", label, middle, min(self.epochs), CONTROL_SEEDS + index, block)

    def _trial(self, role: str, label: int, batch_size: int, epochs: int, seed: int, block: int) -> Trial:
        recipe = Recipe(
            data=DataConfig(name=self.dataset, n=self.n),
            model=ModelConfig(name=self.model),
            optimizer=OptimizerConfig(name=self.optimizer, lr=self.lr_used, weight_decay=self.weight_decay),
            budget=BudgetConfig(amount=epochs, batch_size=batch_size),
            label_smoothing=self.label_smoothing,
            precision=self.precision,
            seed=seed,
        )
        labels = {
            "role": role,
            "batch_size": label,
            "trained_batch_size": batch_size,
            "epochs": epochs,
            "block": block,
            "seed": seed,
        }
        return Trial(recipe=recipe, observers=STANDARD_OBSERVERS, labels=tuple(labels.items()))

    def columns(self) -> tuple[Column, ...]:
        """Return the documented columns of the table."""
        return COLUMNS

    def judge(self, table: pd.DataFrame) -> tuple[Verdict, ...]:
        """Return the verdicts; a pure function of the table."""
        from mlptheory.probes.batchsize.judgment import judge

        return judge(self, table)

    def effects(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the mean accuracy of every arm and the change of every length, with 95 % t intervals."""
        from mlptheory.probes.batchsize.judgment import effects

        return effects(self, table)

    def power(self, pilot: Result | None) -> dict[str, str]:
        """Return what this many seeds can show, in a pilot's spread or in units of the spread."""
        from mlptheory.probes.batchsize.power import power

        return power(self, pilot)

    def simulate(
        self, effect: float, rng: np.random.Generator, *, spread: float = 1.0, hump: float = 0.0
    ) -> pd.DataFrame:
        """Return a table as the trials might give it; see `mlptheory.probes.batchsize.simulation.simulate`."""
        from mlptheory.probes.batchsize.simulation import simulate

        return simulate(self, effect, rng, spread=spread, hump=hump)

    def draw(self, result: Result) -> Figure:
        """Draw test accuracy over batch size: a line a length through the means, bars their 95 % t intervals."""
        from mlptheory.probes.batchsize.figure import draw

        return draw(self, result)


def _span(values: tuple[int, ...]) -> str:
    return ", ".join(str(value) for value in sorted(values))


def _require_distinct(argument: str, values: tuple[int, ...], at_least: int) -> None:
    if not isinstance(values, tuple) or len(values) < at_least or len(set(values)) != len(values):
        raise invalid(argument, values, f"at least {at_least} different whole numbers")
    for value in values:
        require_integer(argument, value, 1)


def _require_seeds(seeds: int | tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(seeds, bool) or (isinstance(seeds, int) and seeds < 1):
        raise invalid("seeds", seeds, "how many (at least 1), or which")
    if isinstance(seeds, int):
        return tuple(range(seeds))
    if not isinstance(seeds, tuple) or not seeds or len(set(seeds)) != len(seeds):
        raise invalid("seeds", seeds, "at least one seed, all different")
    return seeds
