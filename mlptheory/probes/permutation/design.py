"""The design: its settings, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from mlptheory.base.configuration import require_boolean, require_choice, require_integer, require_number
from mlptheory.base.errors import invalid
from mlptheory.data import Augmentation
from mlptheory.models import parse_name
from mlptheory.models.names import RESNETS
from mlptheory.probes.folder import FolderProbe
from mlptheory.probes.permutation.columns import COLUMNS
from mlptheory.probes.probe import Column
from mlptheory.probes.settings import default_lr, require_seeds, seeds_listed
from mlptheory.training import OptimizerConfig

if TYPE_CHECKING:
    pass

PLAIN, PERMUTED = "plain", "permuted"
AUGMENTED, AFTER, BEFORE = "augmented", "augment-then-permute", "permute-then-augment"
DENSE_FAMILIES = ("S", "B", "MLP", "Linear")
EXACT_OPTIMIZERS = (
    OptimizerConfig(name="sgd", lr=0.05, momentum=0.9, weight_decay=0.1),
    OptimizerConfig(name="adamw", lr=1e-3, weight_decay=0.1),
    OptimizerConfig(name="lion", lr=1e-3, weight_decay=0.1),
)
"""Of the exact runs: learning rates at which rounding does not grow, all with weight decay."""
EXACT_N, EXACT_BATCH_SIZE = 512, 64
"""Training examples, at most, and batch size of the exact runs."""
CALIBRATION_EFFECT = 2.0
"""The smallest effect of interest in a calibration, where a design has none."""


@dataclass(frozen=True, kw_only=True)
class Permutation(FolderProbe):
    r"""Test whether an MLP knows which pixel is where, exactly and in test accuracy.

    Exactly: an MLP is trained on images and, in lockstep, on the images permuted by P, from the same weights with the
    first layer's columns moved by P. In exact arithmetic the two stay one trajectory, for every optimizer. A third run,
    its columns moved by another permutation, must leave them.

    In test accuracy: for every seed an MLP and a baseline that has locality are trained on images and on images
    permuted by a P of that seed, from an initialization of their own. For the MLP both have one law, so that this is an
    A/A test of everything between the settings and the verdict. With augmentation the order matters: permuting what is
    augmented is one law again, augmenting what is permuted moves pixels that are no neighbors.

    A seed is the unit of analysis. Seeds give t intervals. All claims are judged together, at 95 % after Holm's
    correction.

    Parameters
    ----------
    dataset : str
        A registered dataset.
    model : str
        Name of an MLP: "B-6/Wi-256", "S-6/Wi-1024", ...
    baseline : str
        Name of a model that has locality: "CNN-3/Wi-32", "ResNet-18", ...
    augmentation : Augmentation
        Of the augmented runs and of the exact ones; must move pixels.
    baseline_augmented : bool
        Also train the baseline with augmentation, in both orders; reported, part of no claim.
    seeds : int or tuple of int
        How many (0, 1, ...), or which.
    n : int or None
        Training examples, a nested subset proportional per class; all of them if None.
    image_size : int or None
        Side in pixels that images are resized to; their own if None. With it, what is permuted before the augmentation
        is permuted before the resizing, and what the order is worth stays open.
    batch_size, epochs : int
        Of all runs but the exact ones.
    optimizer : {"lion", "adamw", "sgd"}
        Of all runs but the exact ones, with a constant learning rate.
    lr, baseline_lr : float or None
        Learning rates. If None, the paper's 5e-5 at its width of 1024, carried to this width w as 5e-5 · 1024 / w (μP's
        rule for Lion and Adam: Yang et al. 2022), w being the channels of a CNN's last block; SGD and models whose name
        tells no width have no such default.
    weight_decay : float
        Decoupled: lr · weight_decay a step.
    label_smoothing : float
        Of all runs; the paper's 0.3.
    exact_models : tuple of str
        MLPs of the exact runs.
    exact_steps : int
        Steps of each exact run.
    exact_seeds : int
        How many of the seeds, the first, have exact runs.
    margin : float
        Margin of equivalence, in percentage points of test accuracy.
    effect : float
        Smallest fall of interest δ, in percentage points of test accuracy.
    control : bool
        Also run the MLP on shuffled labels, where chance is all that may be reached.
    shuffles : int
        Shuffles of the labels for each seed.
    precision : {"auto", "float32", "bfloat16", "float64"}
        Of all runs but the exact ones; auto is bfloat16 where the device has it in hardware.

    Raises
    ------
    InputError
        For a setting that cannot be used.

    Examples
    --------
    >>> probe = Permutation(seeds=3, exact_seeds=2, control=False)
    >>> len(probe.trials())  # 7 runs for each seed; 2 models with 3 optimizers, and Lion step by step, on two seeds
    37
    >>> probe.claims()[0].source
    'Bachmann et al. 2023, Section 1'
    """

    name: ClassVar[str] = "permutation"
    title: ClassVar[str] = "Permutation"
    question: ClassVar[str] = "Does an MLP know which pixel is where?"
    caption: ClassVar[str] = (
        "Left: test accuracy, a dot a run, with the mean and its 95 % t interval over seeds; filled on images as they "
        "are, open on permuted ones. Middle: what permuting takes away, without and with augmentation, and what the "
        "order is worth, augment-then-permute less permute-then-augment; a dot a block, 95 % t intervals corrected for "
        "nothing; the band is the margin of equivalence, the dashed line δ. Right: largest deviation in any step of "
        "runs on permuted images from the run on the images, a dot a seed; filled, of weights and logits with the "
        "first layer's columns moved by the permutation; open, of weights with columns moved by another one. What does "
        "not deviate stands at 1e-16; the dashed line is what the claim allows."
    )

    dataset: str = "digits"
    model: str = "B-2/Wi-64"
    baseline: str = "CNN-1/Wi-32"
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(
            crop_scale=(0.6, 1.0), crop_ratio=(1.0, 1.0), shift=1, mixup=0.2, mixup_per="example"
        )
    )
    baseline_augmented: bool = False
    seeds: int | tuple[int, ...] = 10
    n: int | None = 500
    image_size: int | None = None
    batch_size: int = 50
    epochs: int = 40
    optimizer: Literal["lion", "adamw", "sgd"] = "lion"
    lr: float | None = None
    baseline_lr: float | None = None
    weight_decay: float = 0.0
    label_smoothing: float = 0.3
    exact_models: tuple[str, ...] = ("S-2/Wi-32", "B-1/Wi-32")
    exact_steps: int = 200
    exact_seeds: int = 6
    margin: float = 2.0
    effect: float = 2.0
    control: bool = True
    shuffles: int = 2
    precision: Literal["auto", "float32", "bfloat16", "float64"] = "auto"

    def __post_init__(self) -> None:
        from mlptheory.data import datasets

        datasets.summary(self.dataset)
        require_seeds(self.seeds)
        require_choice("optimizer", self.optimizer, ("lion", "adamw", "sgd"))
        require_choice("precision", self.precision, ("auto", "float32", "bfloat16", "float64"))
        self._check_augmentation()
        self._check_models()
        for argument in ("n", "image_size"):
            if getattr(self, argument) is not None:
                require_integer(argument, getattr(self, argument), 1)
        for argument in ("batch_size", "epochs", "exact_steps", "shuffles"):
            require_integer(argument, getattr(self, argument), 1)
        require_integer("exact_seeds", self.exact_seeds, 1)
        if self.exact_seeds > len(self.seed_list):
            raise invalid("exact_seeds", self.exact_seeds, f"at most the {len(self.seed_list)} seeds")
        require_number("weight_decay", self.weight_decay, 0)
        require_number("label_smoothing", self.label_smoothing, 0, 1)
        require_number("margin", self.margin, 0, 100, low_open=True)
        require_number("effect", self.effect, 0, 100)
        require_boolean("control", self.control)
        require_boolean("baseline_augmented", self.baseline_augmented)

    def _check_augmentation(self) -> None:
        if not isinstance(self.augmentation, Augmentation):
            raise invalid("augmentation", self.augmentation, "an Augmentation")
        if not self.augmentation.moves_pixels:
            raise invalid(
                "augmentation", self.augmentation, "crops, flips or shifts, whose order with a permutation matters"
            )

    def _check_models(self) -> None:
        if parse_name(self.model).family in ("CNN", *RESNETS):
            raise invalid("model", self.model, "an MLP; a model that has locality goes beside it, as baseline")
        if parse_name(self.baseline).family in DENSE_FAMILIES:
            raise invalid("baseline", self.baseline, "a model that has locality, such as CNN-2/Wi-16")
        models = self.exact_models
        if not isinstance(models, tuple) or not models or len(set(models)) != len(models):
            raise invalid("exact_models", models, "names of MLPs, each once")
        for name in models:
            if parse_name(name).family in ("CNN", *RESNETS):
                raise invalid("exact_models", name, "an MLP, whose first layer is dense")
        for argument, arm in (("lr", "mlp"), ("baseline_lr", "baseline")):
            given, name = getattr(self, argument), self.models[arm]
            if given is not None:
                require_number(argument, given, 0, low_open=True)
            elif self.optimizer == "sgd" or default_lr(name) is None:
                raise invalid(argument, None, f"a number greater than 0, as {self.optimizer} on {name} has no default")

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds, one a block."""
        return seeds_listed(self.seeds)

    @property
    def exact_seed_list(self) -> tuple[int, ...]:
        """The seeds that have exact runs."""
        return self.seed_list[: self.exact_seeds]

    @property
    def models(self) -> dict[str, str]:
        """The models by arm."""
        return {"mlp": self.model, "baseline": self.baseline}

    @property
    def order_mixed_with(self) -> str | None:
        """What else the two orders differ in, as a sentence; None if in nothing."""
        if self.image_size is None:
            return None
        return (
            f"Images are resized to {self.image_size} pixels, which permuting before the augmentation comes before as "
            "well: the difference is not the augmentation's alone. Without image_size it is."
        )

    def base_lr(self, arm: str) -> float:
        """Return the learning rate of an arm."""
        given = self.lr if arm == "mlp" else self.baseline_lr
        return float(given) if given is not None else default_lr(self.models[arm])

    def treatments(self, arm: str) -> tuple[str, ...]:
        """Return what an arm is trained on."""
        with_augmentation = arm == "mlp" or self.baseline_augmented
        return (PLAIN, PERMUTED, *((AUGMENTED, AFTER, BEFORE) if with_augmentation else ()))

    def with_every_claim(self) -> Permutation:
        """Return the same design with what it lacks for every claim: an effect of interest, the control."""
        return replace(self, effect=self.effect or CALIBRATION_EFFECT, control=True)

    def columns(self) -> tuple[Column, ...]:
        """Return the documented columns of the table."""
        return COLUMNS
