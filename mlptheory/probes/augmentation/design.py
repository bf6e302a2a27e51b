"""The design: its settings, and what follows from them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mlptheory import data
from mlptheory.base.configuration import require_boolean, require_choice, require_integer, require_number
from mlptheory.base.errors import invalid
from mlptheory.models import parse_name
from mlptheory.models.names import RESNETS
from mlptheory.probes.augmentation.columns import COLUMNS
from mlptheory.probes.folder import FolderProbe
from mlptheory.probes.probe import Column
from mlptheory.probes.settings import default_lr, require_distinct, require_seeds, seeds_listed

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.scenario import Scenario
    from mlptheory.trials import Trial

NONE = "none"
CALIBRATION_BASELINE, CALIBRATION_MARGIN = "CNN-2/Wi-16", 2.0
"""What calibration adds to a design without them."""


@dataclass(frozen=True, kw_only=True)
class Augmentation(FolderProbe):
    r"""Test what augmentation gives an MLP, and what of it is a spatial prior and not more samples.

    Nets are trained without augmentation, with each of its operators and with all of them, the former and the latter
    at every training-set size, an MLP beside a convolutional baseline, at equal epochs and at learning rates that are
    tuned alike for every arm and model at the largest size. At the largest size stand beside them: operators that are
    orthogonal maps, as they are and conjugated by a permutation of the pixels, which are as many samples without the
    space; Gaussian noise with the second moment of what the augmentation does to images; and training on shuffled
    labels, after which nearest neighbors tell what the features are worth. A seed is the unit of analysis: one number
    of it for each claim, such as the accuracy of its net with augmentation less that of its net without. Seeds give t
    intervals. All claims are judged together, at 95 % after Holm's correction.

    Parameters
    ----------
    dataset : str
        A registered dataset.
    model : str
        Name of an MLP: "B-3/Wi-256", "S-6/Wi-1024", ...
    baseline : str or None
        A convolutional model, "CNN-3/Wi-32", trained with and without augmentation; none if None.
    sizes : tuple of int
        Training examples: nested subsets proportional per class, at least two, each at least twice the one before.
    flip : bool
        Whether augmentation mirrors left and right; mirrored digits are other digits.
    crop_scale : tuple of two floats or None
        Share of the area that random resized crops cover, lowest and highest; no crops if None.
    crop_ratio : tuple of two floats
        Width over height of the crops.
    mixup : float
        Parameter a of the Beta(a, a) law of MixUp's weight, drawn per example; 0 for no MixUp.
    shift : int
        Of the orthogonal arm: cyclic shifts by -shift to shift pixels along each axis, with flips where there are any.
    epochs : int
        Of every run but those on shuffled labels.
    shuffled_epochs : int or None
        Of the runs on shuffled labels, which take longer to fit; `epochs` if None.
    batch_size : int
        Examples per optimizer step.
    optimizer : {"lion", "adamw", "sgd"}
        With a constant learning rate.
    lr : float or None
        What the grid multiplies. If None, the paper's 5e-5 at its width of 1024, carried to this width w as
        5e-5 · 1024 / w (μP's rule for Lion and Adam: Yang et al. 2022); SGD has no such default.
    baseline_lr : float or None
        The baseline's; if None, 5e-5 · 1024 / w with w the channels of its last block, which no paper states.
    lr_grid : tuple of float
        Multiples that tuning tries for every arm and model; a single one is taken as it is, and nothing is tuned.
    tuning_seeds : int
        Runs for each point of the grid, with seeds of their own.
    validation : int or float
        Examples held out for tuning, how many or which share; held out of every run where there is tuning.
    weight_decay : float
        Decoupled: lr · weight_decay a step.
    label_smoothing : float
        Of all runs; the paper's 0.3.
    seeds : int or tuple of int
        How many (0, 1, ...), or which. A seed is a block: its runs share initialization and data order's key.
    margin : float
        Smallest effect of interest δ, in percentage points of test accuracy.
    log_odds_margin : float
        Smallest effect of interest for differences of log-odds of test accuracies.
    invariance_margin : float
        Smallest effect of interest for differences of the natural logarithm of the invariance error.
    share_margin : float
        Smallest effect of interest for the local share of the first layer's change, in percentage points.
    control : bool
        Also run the controls: pixels permuted after the augmentation, which no MLP can notice (exact null), and
        shuffled labels without augmentation (chance is all that may be reached).
    control_runs : int
        Permuted nets for each seed, of the exact null.
    shuffles : int
        Shuffles of the labels for each seed, of the control without augmentation.
    precision : {"auto", "float32", "bfloat16", "float64"}
        Of training; auto is bfloat16 where the device has it in hardware.

    Raises
    ------
    InputError
        For a setting that cannot be used.

    Examples
    --------
    >>> probe = Augmentation(flip=True, lr_grid=(1.0,), seeds=3, control=False)
    >>> probe.arms
    ('none', 'flip', 'crop', 'flip+crop', 'mixup', 'flip+crop+mixup')
    >>> probe.orthogonal, probe.noise
    ('flip+shift', 'flip+crop as noise')
    >>> probe.claims()[0].source
    'Bachmann et al. 2023, Table 1'
    """

    name: ClassVar[str] = "augmentation"
    title: ClassVar[str] = "Augmentation as a spatial prior"
    question: ClassVar[str] = "What does augmentation give an MLP, and is it more than samples?"
    caption: ClassVar[str] = (
        "Left: test accuracy over the size of the training set, lines through the means over seeds, dashed and open "
        "without augmentation; dots are single runs, bars 95 % t intervals of the means; lines stand a little aside of "
        "each other. Middle: test accuracy of the MLP at the largest size, by arm, a dot a seed; dotted the mean "
        "without augmentation, green what an arm is set beside. Right: invariance error of the MLP's logits over its "
        "test accuracy, a dot a run, lines through the means of the sizes; dotted the accuracy at which they are "
        "compared."
    )

    dataset: str = "digits"
    model: str = "B-2/Wi-64"
    baseline: str | None = "CNN-2/Wi-16"
    sizes: tuple[int, ...] = (10, 20, 40)
    flip: bool = False
    crop_scale: tuple[float, float] | None = (0.6, 1.0)
    crop_ratio: tuple[float, float] = (1.0, 1.0)
    mixup: float = 0.8
    shift: int = 1
    epochs: int = 50
    shuffled_epochs: int | None = 100
    batch_size: int = 10
    optimizer: Literal["lion", "adamw", "sgd"] = "lion"
    lr: float | None = None
    baseline_lr: float | None = None
    lr_grid: tuple[float, ...] = (0.0625, 0.25, 1.0, 4.0, 16.0)
    tuning_seeds: int = 2
    validation: int | float = 0.2
    weight_decay: float = 0.0
    label_smoothing: float = 0.3
    seeds: int | tuple[int, ...] = 12
    margin: float = 2.0
    log_odds_margin: float = 0.1
    invariance_margin: float = 0.1
    share_margin: float = 1.0
    control: bool = True
    control_runs: int = 2
    shuffles: int = 1
    precision: Literal["auto", "float32", "bfloat16", "float64"] = "auto"

    def __post_init__(self) -> None:
        data.datasets.summary(self.dataset)
        require_distinct("sizes", self.sizes, at_least=2)
        for small, large in itertools.pairwise(self.ordered_sizes):
            if large < 2 * small:
                raise invalid("sizes", self.sizes, "sizes of which each is at least twice the one before")
        require_seeds(self.seeds)
        require_choice("optimizer", self.optimizer, ("lion", "adamw", "sgd"))
        require_choice("precision", self.precision, ("auto", "float32", "bfloat16", "float64"))
        self._check_operators()
        self._check_models()
        self._check_tuning()
        for argument in ("epochs", "batch_size", "control_runs", "shuffles"):
            require_integer(argument, getattr(self, argument), 1)
        if self.shuffled_epochs is not None:
            require_integer("shuffled_epochs", self.shuffled_epochs, 1)
        if self.batch_size > self.ordered_sizes[0]:
            raise invalid("batch_size", self.batch_size, f"at most the smallest size, {self.ordered_sizes[0]}")
        require_number("weight_decay", self.weight_decay, 0)
        require_number("label_smoothing", self.label_smoothing, 0, 1)
        require_boolean("control", self.control)
        require_number("margin", self.margin, 0, 100, low_open=self.control)
        for argument in ("log_odds_margin", "invariance_margin"):
            require_number(argument, getattr(self, argument), 0)
        require_number("share_margin", self.share_margin, 0, 100)

    def _check_operators(self) -> None:
        require_boolean("flip", self.flip)
        require_integer("shift", self.shift, 1)
        if not self.flip and self.crop_scale is None:
            raise invalid("crop_scale", None, "two positive numbers, lowest and highest, where nothing is mirrored")
        # Ranges are the augmentation's own to check.
        self.augmentation(self.full)

    def _check_models(self) -> None:
        if parse_name(self.model).family in ("CNN", "Linear", *RESNETS):
            raise invalid("model", self.model, "an MLP with a hidden layer")
        if self.baseline is not None and parse_name(self.baseline).family != "CNN":
            raise invalid("baseline", self.baseline, "a convolutional model, CNN-{depth}/Wi-{width}")
        given = {"mlp": ("lr", self.lr), "cnn": ("baseline_lr", self.baseline_lr)}
        for learner, name in self.models.items():
            argument, lr = given[learner]
            if lr is not None:
                require_number(argument, lr, 0, low_open=True)
            elif self.optimizer == "sgd" or parse_name(name).width is None:
                raise invalid(argument, lr, f"a number greater than 0, as {self.optimizer} on {name} has no default")

    def _check_tuning(self) -> None:
        grid = self.lr_grid
        if not isinstance(grid, tuple) or len(grid) in (0, 2) or len(set(grid)) != len(grid):
            raise invalid("lr_grid", grid, "one multiple of the learning rate, or at least 3 different ones")
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
    def ordered_sizes(self) -> tuple[int, ...]:
        """The sizes of the training set, smallest first."""
        return tuple(sorted(self.sizes))

    @property
    def largest(self) -> int:
        """The largest training set, at which learning rates are tuned and most arms are trained."""
        return self.ordered_sizes[-1]

    @property
    def models(self) -> dict[str, str]:
        """The models by learner: "mlp" and, where there is one, "cnn"."""
        return {"mlp": self.model, **({"cnn": self.baseline} if self.baseline else {})}

    @property
    def is_tuned(self) -> bool:
        """Whether there is a learning rate to choose."""
        return len(self.lr_grid) > 1

    @property
    def spatial(self) -> str:
        """The arm of all operators that move pixels of one image."""
        return "+".join(["flip"] * self.flip + ["crop"] * (self.crop_scale is not None))

    @property
    def full(self) -> str:
        """The arm of all operators."""
        return f"{self.spatial}+mixup" if self.mixup else self.spatial

    @property
    def orthogonal(self) -> str:
        """The arm of operators that are orthogonal maps: cyclic shifts and, where there are any, flips."""
        return "flip+shift" if self.flip else "shift"

    @property
    def conjugated(self) -> str:
        """The arm of the same operators, conjugated by a permutation of the pixels."""
        return f"{self.orthogonal} conjugated"

    @property
    def noise(self) -> str:
        """The arm of Gaussian noise with the second moment of what the spatial arm does."""
        return f"{self.spatial} as noise"

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms without any augmentation, with one operator, and with several."""
        single = ["flip"] * self.flip + ["crop"] * (self.crop_scale is not None)
        return tuple(dict.fromkeys((NONE, *single, self.spatial, *(["mixup"] if self.mixup else []), self.full)))

    def arms_of(self, learner: str) -> tuple[str, ...]:
        """Return the arms of a learner at the largest size."""
        if learner == "cnn":
            return (NONE, self.full)
        return (*self.arms, self.orthogonal, self.conjugated, self.noise)

    def augmentation(self, arm: str) -> data.Augmentation:
        """Return what an arm does to the training images."""
        operators = arm.split()[0].split("+")
        crops = {"crop_scale": self.crop_scale, "crop_ratio": self.crop_ratio} if "crop" in operators else {}
        shifts = {"shift": self.shift, "shift_mode": "cyclic"} if "shift" in operators else {}
        mixes = {"mixup": float(self.mixup), "mixup_per": "example"} if "mixup" in operators else {}
        noise = {"as_noise": True} if arm == self.noise else {}
        return data.Augmentation(flip="flip" in operators, **crops, **shifts, **mixes, **noise)

    def base_lr(self, learner: str) -> float:
        """Return the learning rate that a learner's grid multiplies."""
        given = self.lr if learner == "mlp" else self.baseline_lr
        if given is not None:
            return float(given)
        return default_lr(self.models[learner])

    def with_every_claim(self) -> Augmentation:
        """Return the same design with what it lacks for every claim: a baseline, margins, controls."""
        return replace(
            self,
            baseline=self.baseline or CALIBRATION_BASELINE,
            baseline_lr=self.baseline_lr or (self.base_lr("mlp") if self.optimizer == "sgd" else None),
            margin=self.margin or CALIBRATION_MARGIN,
            control=True,
        )

    def trials(self) -> tuple[Trial, ...]:
        """Return the tuning runs; all others where nothing is tuned."""
        from mlptheory.probes.augmentation.arms import first_stage

        return first_stage(self)

    def follow_up(self, table: pd.DataFrame | None) -> tuple[Trial, ...]:
        """Return the runs at the learning rates that tuning chose; stand-ins for them without a table."""
        from mlptheory.probes.augmentation.arms import second_stage

        return second_stage(self, table)

    def columns(self) -> tuple[Column, ...]:
        """Return the documented columns of the table."""
        return COLUMNS

    def derived(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the gap between training and test accuracy."""
        train, test = row.get("train_accuracy"), row.get("test_accuracy")
        return {} if train is None or test is None else {"gap": 100 * (train - test)}

    def truths(self, scenario: Scenario, table: pd.DataFrame) -> dict[str, float]:
        """Return every claim's estimand in a scenario, at the learning rates that the table's tuning chose."""
        from mlptheory.probes.augmentation.simulation import truths

        return truths(self, scenario, table)
