"""The design: its settings, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mlptheory.base.configuration import require_boolean, require_choice, require_integer, require_number
from mlptheory.base.errors import invalid
from mlptheory.data import Augmentation
from mlptheory.models import parse_name
from mlptheory.probes.batchsize.columns import COLUMNS
from mlptheory.probes.folder import FolderProbe
from mlptheory.probes.probe import Column
from mlptheory.probes.settings import default_lr, require_distinct, require_seeds, seeds_listed

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.scenario import Scenario
    from mlptheory.stats import Verdict
    from mlptheory.trials import Trial

TUNED = "tuned"
POLICIES = ("fixed", "linear", "sqrt", TUNED)
UNITS = {"epochs": "epochs", "steps": "steps", "compute": "G MACs"}
CALIBRATION_CNN, CALIBRATION_TARGET, CALIBRATION_MARGIN = "CNN-2/Wi-16", 0.9, 1.0
"""What calibration adds to a design without them."""


@dataclass(frozen=True, kw_only=True)
class BatchSize(FolderProbe):
    r"""Test what the batch size does to an MLP: to its accuracy, its sharpness and the steps it needs.

    One run for each learning-rate policy, batch size, training length and seed. The main estimand is, for one seed,
    the change in test accuracy from the smallest to the largest batch that a straight line over :math:`\log_2 B` fits,

    .. math:: \hat\Delta_s = (x_k - x_1) \frac{\sum_i (x_i - \bar x)\, y_{s,i}}{\sum_i (x_i - \bar x)^2},
              \qquad x_i = \log_2 B_i,

    averaged over the lengths; seeds give its t interval. All claims are judged together, at 95 % after Holm's
    correction.

    Parameters
    ----------
    dataset : str
        A registered dataset.
    model : str
        Name of an MLP: "B-3/Wi-256", "S-6/Wi-1024", ...
    cnn : str or None
        A convolutional control, "CNN-3/Wi-8", trained in the same design; none if None.
    batch_sizes : tuple of int
        At least two.
    budget : {"epochs", "steps", "compute"}
        What is equal between batch sizes: passes over the data, optimizer steps, or compute in 10^9 MACs (the paper's
        C = 3 · MACs · examples, so that an MLP and a CNN are compared at equal cost).
    lengths : tuple of int
        Training lengths, in units of the budget; every batch size at each.
    seeds : int or tuple of int
        How many (0, 1, ...), or which. A seed is a block: its runs share initialization and data order's key.
    n : int or None
        Training examples, a nested subset proportional per class; all of them if None.
    label_noise : float
        Share of training labels replaced by a different one.
    augmentation : mlptheory.data.Augmentation
        Of every run. MixUp's weight is drawn per example by default, so that it does not depend on the batch size.
    optimizer : {"lion", "adamw", "sgd"}
        With a constant learning rate.
    lr : float or None
        Of the smallest batch size, and of all under "fixed". If None, the paper's 5e-5 at its width of 1024, carried to
        this width w as 5e-5 · 1024 / w (μP's rule for Lion and Adam: Yang et al. 2022); SGD has no such default.
    cnn_lr : float or None
        The CNN's; if None, 5e-5 · 1024 / w with w the channels of its last block, which no paper states.
    lr_policies : tuple of {"fixed", "linear", "sqrt", "tuned"}
        How the learning rate goes with the batch size: not at all; by the rule η ∝ B or η ∝ √B from the smallest batch
        size on; or chosen for each model, batch size and length from `lr_grid`.
    lr_grid : tuple of float
        Multiples of `lr` that tuning tries; by default two octaves apart, so that a tuned learning rate may be an
        octave off the best.
    tuning_seeds : int
        Runs for each point of the grid, with seeds of their own.
    validation : int or float
        Examples held out for tuning, how many or which share; held out of every run where anything is tuned.
    weight_decay : float
        Decoupled: lr · weight_decay a step.
    label_smoothing : float
        The paper's 0.3.
    target_accuracy : float or None
        Test accuracy, as a share, to which steps are counted; none if None.
    curvature_seeds : int
        On how many of the seeds sharpness and noise scale are measured, at the longest length, where the learning rate
        is not tuned; 0 for none.
    remaining_loss : float
        Where sharpness is compared between batch sizes: at the training loss that leaves this share of the way from the
        loss of chance to the smallest that smoothed labels allow.
    margin : float
        Smallest effect of interest δ, in percentage points of test accuracy.
    control : bool
        Also run the controls: A/A (runs of one batch size labeled as several), shuffled labels (chance is all that
        may be reached), and a task where the effect of the noise scale is known.
    precision : {"auto", "float32", "bfloat16", "float64"}
        Of training; auto is bfloat16 where the device has it in hardware.

    Raises
    ------
    InputError
        For a setting that cannot be used.

    Examples
    --------
    >>> probe = BatchSize(batch_sizes=(32, 128), lengths=(2,), seeds=3, lr_policies=("fixed",), control=False)
    >>> len(probe.trials())
    6
    >>> probe.claims()[0].source
    'Bachmann et al. 2023, Fig. 4'
    """

    name: ClassVar[str] = "batchsize"
    title: ClassVar[str] = "Batch size and generalization"
    question: ClassVar[str] = "Do larger batches generalize better, and does it survive tuning?"
    caption: ClassVar[str] = (
        "Test accuracy after the last step over batch size, a panel for each learning-rate policy. A line a training "
        "length, through the means over seeds, dashed for the CNN; dots are single runs, bars 95 % t intervals of the "
        "means; lengths stand a little aside of each other. Below, where measured: the largest eigenvalue of the "
        "training objective's Hessian at equal training loss, and the steps to the target accuracy."
    )

    dataset: str = "digits"
    model: str = "B-2/Wi-64"
    cnn: str | None = None
    batch_sizes: tuple[int, ...] = (16, 64, 256)
    budget: Literal["epochs", "steps", "compute"] = "epochs"
    lengths: tuple[int, ...] = (5, 20)
    seeds: int | tuple[int, ...] = 8
    n: int | None = None
    label_noise: float = 0.0
    augmentation: Augmentation = field(default_factory=lambda: Augmentation(mixup_per="example"))
    optimizer: Literal["lion", "adamw", "sgd"] = "lion"
    lr: float | None = None
    cnn_lr: float | None = None
    lr_policies: tuple[Literal["fixed", "linear", "sqrt", "tuned"], ...] = ("fixed", "tuned")
    lr_grid: tuple[float, ...] = (0.015625, 0.0625, 0.25, 1.0, 4.0, 16.0)
    tuning_seeds: int = 2
    validation: int | float = 0.2
    weight_decay: float = 0.0
    label_smoothing: float = 0.3
    target_accuracy: float | None = 0.9
    curvature_seeds: int = 5
    remaining_loss: float = 0.1
    margin: float = 1.0
    control: bool = True
    precision: Literal["auto", "float32", "bfloat16", "float64"] = "auto"

    def __post_init__(self) -> None:
        from mlptheory.data import datasets

        datasets.summary(self.dataset)
        require_distinct("batch_sizes", self.batch_sizes, at_least=2)
        require_choice("budget", self.budget, tuple(UNITS))
        require_distinct("lengths", self.lengths, at_least=1)
        require_seeds(self.seeds)
        require_choice("optimizer", self.optimizer, ("lion", "adamw", "sgd"))
        require_choice("precision", self.precision, ("auto", "float32", "bfloat16", "float64"))
        if not isinstance(self.augmentation, Augmentation):
            raise invalid("augmentation", self.augmentation, "an Augmentation")
        self._check_learning_rates()
        if self.n is not None:
            require_integer("n", self.n, 1)
        require_number("label_noise", self.label_noise, 0, 1)
        require_number("weight_decay", self.weight_decay, 0)
        require_number("label_smoothing", self.label_smoothing, 0, 1)
        if self.target_accuracy is not None:
            require_number("target_accuracy", self.target_accuracy, 0, 1, low_open=True, high_open=True)
        require_integer("curvature_seeds", self.curvature_seeds, 0)
        require_number("remaining_loss", self.remaining_loss, 0, 1, low_open=True, high_open=True)
        require_number("margin", self.margin, 0, 100)
        require_boolean("control", self.control)
        if self.control:
            require_number("margin", self.margin, 0, 100, low_open=True)

    def _check_learning_rates(self) -> None:
        for argument, name, lr in (("lr", self.model, self.lr), ("cnn_lr", self.cnn, self.cnn_lr)):
            if lr is not None:
                require_number(argument, lr, 0, low_open=True)
            if name is None:
                continue
            known = parse_name(name).width is not None
            if lr is None and (self.optimizer == "sgd" or not known):
                raise invalid(argument, lr, f"a number greater than 0, as {self.optimizer} on {name} has no default")
        if parse_name(self.model).family == "CNN":
            raise invalid("model", self.model, "an MLP; a convolutional model goes beside it, as cnn")
        if self.cnn is not None and parse_name(self.cnn).family != "CNN":
            raise invalid("cnn", self.cnn, "a convolutional model, CNN-{depth}/Wi-{width}")
        policies = self.lr_policies
        if not isinstance(policies, tuple) or not policies or len(set(policies)) != len(policies):
            raise invalid("lr_policies", policies, f"some of {', '.join(POLICIES)}, each once")
        for policy in policies:
            require_choice("lr_policies", policy, POLICIES)
        if TUNED not in policies:
            return
        grid = self.lr_grid
        if not isinstance(grid, tuple) or len(grid) < 3 or len(set(grid)) != len(grid):
            raise invalid("lr_grid", grid, "at least 3 different multiples of the learning rate")
        for multiple in grid:
            require_number("lr_grid", multiple, 0, low_open=True)
        require_integer("tuning_seeds", self.tuning_seeds, 1)
        if isinstance(self.validation, float):
            require_number("validation", self.validation, 0, 1, low_open=True, high_open=True)
        else:
            require_integer("validation", self.validation, 1)

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds, one a block."""
        return seeds_listed(self.seeds)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The batch sizes, smallest first."""
        return tuple(sorted(self.batch_sizes))

    @property
    def curvature_seed_list(self) -> tuple[int, ...]:
        """The seeds on which curvature is measured."""
        return self.seed_list[: self.curvature_seeds]

    @property
    def plain_policies(self) -> tuple[str, ...]:
        """The policies that are rules, not chosen by tuning."""
        return tuple(policy for policy in self.lr_policies if policy != TUNED)

    @property
    def main_policy(self) -> str:
        """The policy of the claims that are judged at one: tuned where there is tuning."""
        return TUNED if TUNED in self.lr_policies else self.lr_policies[0]

    @property
    def models(self) -> dict[str, str]:
        """The models by arm: "mlp" and, where there is one, "cnn"."""
        return {"mlp": self.model, **({"cnn": self.cnn} if self.cnn else {})}

    def base_lr(self, arm: str) -> float:
        """Return the learning rate of an arm's smallest batch size, of which the grid's are multiples."""
        given, name = (self.lr, self.model) if arm == "mlp" else (self.cnn_lr, self.cnn)
        if given is not None:
            return float(given)
        return default_lr(name)

    def rule_lr(self, arm: str, policy: str, batch_size: int) -> float:
        """Return the learning rate that a rule gives a batch size."""
        power = {"fixed": 0.0, "linear": 1.0, "sqrt": 0.5}[policy]
        return self.base_lr(arm) * (batch_size / self.sizes[0]) ** power

    def with_every_claim(self) -> BatchSize:
        """Return the same design with what it lacks for every claim: policies, lengths, a CNN, a target, controls."""
        cnn = self.cnn or CALIBRATION_CNN
        known = self.optimizer != "sgd" and parse_name(cnn).width is not None
        return replace(
            self,
            cnn=cnn,
            cnn_lr=self.cnn_lr if self.cnn_lr is not None or known else self.base_lr("mlp"),
            lengths=self.lengths if len(self.lengths) > 1 else (*self.lengths, 4 * self.lengths[0]),
            lr_policies=tuple(dict.fromkeys((*self.lr_policies, "fixed", TUNED))),
            target_accuracy=self.target_accuracy or CALIBRATION_TARGET,
            curvature_seeds=self.curvature_seeds or len(self.seed_list),
            margin=self.margin or CALIBRATION_MARGIN,
            control=True,
        )

    def trials(self) -> tuple[Trial, ...]:
        """Return the runs at rules, the tuning runs and the controls'."""
        from mlptheory.probes.batchsize.arms import first_stage

        return first_stage(self)

    def follow_up(self, table: pd.DataFrame | None) -> tuple[Trial, ...]:
        """Return the runs at the learning rates that tuning chose; stand-ins for them without a table."""
        from mlptheory.probes.batchsize.arms import second_stage

        return second_stage(self, table)

    def columns(self) -> tuple[Column, ...]:
        """Return the documented columns of the table."""
        return COLUMNS

    def derived(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return how far decay went, and the examples that were seen when the target was reached."""
        found = {}
        if row.get("steps") is not None:
            found["decay_per_run"] = row["lr"] * row["weight_decay"] * row["steps"]
        if row.get("steps_to_target") is not None:
            n, size = row["train_examples"], row["trained_batch_size"]
            # The last batch of an epoch is what is left, so steps times batch size would count large batches too high.
            epochs, rest = divmod(row["steps_to_target"], math.ceil(n / size))
            found["examples_to_target"] = epochs * n + min(rest * size, n)
        return found

    def judge(self, table: pd.DataFrame) -> tuple[Verdict, ...]:
        """Return the verdicts; a pure function of the table."""
        from mlptheory.probes.batchsize.judgment import judge

        return judge(self, table)

    def truths(self, scenario: Scenario, table: pd.DataFrame) -> dict[str, float]:
        """Return every claim's estimand in a scenario, at the learning rates that the table's tuning chose."""
        from mlptheory.probes.batchsize.simulation import truths

        return truths(self, scenario, table)
