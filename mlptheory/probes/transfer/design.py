"""The design: its settings, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from mlptheory.base.configuration import require_boolean, require_choice, require_integer, require_number
from mlptheory.base.errors import InputError, invalid
from mlptheory.data import Augmentation
from mlptheory.models import parse_name
from mlptheory.probes.folder import FolderProbe
from mlptheory.probes.probe import Column
from mlptheory.probes.settings import require_distinct, require_seeds, seeds_listed, width_lr
from mlptheory.probes.transfer.columns import COLUMNS

if TYPE_CHECKING:
    from mlptheory.probes.probe import Prepared
    from mlptheory.trials.store import Store

ARMS = ("augmented", "plain")
CALIBRATION_MARGIN = 2.0
"""The margin of a calibration, where a design has none."""


@dataclass(frozen=True, kw_only=True)
class Transfer(FolderProbe):
    r"""Test what pretraining on one dataset is worth on another, and what in the pretraining makes it so.

    For every seed an MLP is pretrained on the source once with and once without augmentation, at every batch size and
    length. Each pretrained body goes to the target in two ways: under a linear probe, and fine-tuned, the latter also
    judged by test-time augmentation. Beside them stand training from scratch on the target for as many steps as
    fine-tuning takes, and probes of bodies that could have learned nothing of use. A seed is the unit of analysis: one
    number of it for each claim, such as the accuracy of its fine-tuned nets, mean over arms, batch sizes and lengths,
    less that of its run from scratch. Seeds give t intervals. All claims are judged together, at 95 % after Holm's
    correction.

    Parameters
    ----------
    source, target : str
        Registered datasets whose images have one number of channels and, after `image_size`, one size. That they do is
        checked by `plan` and `run`, which read them, before anything is trained.
    model : str
        Name of an MLP: "B-6/Wi-256", "S-6/Wi-1024", ...
    batch_sizes : tuple of int
        Of pretraining; at least two.
    lengths : tuple of int
        Epochs of pretraining; every batch size at each.
    augmentation : mlptheory.data.Augmentation
        Of the augmented arm's pretraining; the plain arm has none. MixUp's weight is drawn per example by default, so
        that it does not depend on the batch size.
    seeds : int or tuple of int
        How many (0, 1, ...), or which.
    source_n, target_n : int or None
        Training examples, nested subsets proportional per class; all of them if None.
    image_size : int or None
        Side in pixels that the images of both datasets are resized to; their own if None.
    optimizer : {"lion", "adamw", "sgd"}
        Of pretraining and of training from scratch, with a constant learning rate.
    lr : float or None
        Theirs. If None, the paper's 5e-5 at its width of 1024, carried to this width w as 5e-5 · 1024 / w (μP's rule
        for Lion and Adam: Yang et al. 2022); SGD has no such default.
    weight_decay : float
        Decoupled, of pretraining and of training from scratch: lr · weight_decay a step.
    finetuning_epochs, finetuning_batch_size : int
        Of fine-tuning, and of training from scratch.
    finetuning_lr, finetuning_head_lr : float
        Of body and head, by SGD with momentum 0.9; the paper's 0.001 and 0.01.
    finetuning_augmentation : mlptheory.data.Augmentation
        Of fine-tuning and of training from scratch, whatever the arm.
    probing_epochs, probing_batch_size : int
        Of the linear probe.
    probing_lr : float
        Of the linear probe, by Lion. The paper's 1e-5 belongs to 50 epochs of tens of thousands of examples; after the
        few hundred steps of the default it would have moved next to nothing.
    tta_views : int
        Crops of each test image that test-time augmentation averages the logits over.
    tta_crop_scale : tuple of two floats
        Share of the area that its crops cover.
    tta_flip : bool
        Whether it also mirrors.
    label_smoothing : float
        Of all runs; the paper's 0.3.
    margin : float
        Smallest effect of interest δ, in percentage points of test accuracy.
    control : bool
        Also run the controls: A/A (bodies of one arm labeled as two), and fine-tuning on shuffled target labels (chance
        is all that may be reached).
    control_runs : int
        Runs of each label and seed in A/A.
    shuffles : int
        Shuffles of the target's labels for each seed.
    precision : {"auto", "float32", "bfloat16", "float64"}
        Of training; auto is bfloat16 where the device has it in hardware.

    Raises
    ------
    InputError
        For a setting that cannot be used.

    Examples
    --------
    >>> probe = Transfer(batch_sizes=(16, 64), lengths=(2,), seeds=3, control=False)
    >>> len(probe.trials())  # 12 bodies, 12 probes, 12 fine-tuned; from scratch, untrained and mislabeled for each seed
    51
    >>> probe.claims()[0].source
    'Bachmann et al. 2023, Section 4.3: Table 2 beside Table 1'
    """

    name: ClassVar[str] = "transfer"
    title: ClassVar[str] = "Transfer"
    question: ClassVar[str] = "Does pretraining transfer, and what of it helps?"
    caption: ClassVar[str] = (
        "Test accuracy on the target over the batch size of pretraining: of a linear probe (left) and fine-tuned "
        "(middle). A line a pretraining length and arm, dashed without augmentation, through the means over seeds; "
        "dots are single runs, bars 95 % t intervals of the means; lines stand a little aside of each other. Gray: "
        "means of what the pretrained bodies must beat. Right: means over batch sizes and lengths, a dot a seed, with "
        "the 95 % t interval over seeds; filled with augmentation in pretraining, open without, gray without "
        "pretraining or at one batch size and length alone."
    )

    source: str = "digits-0-4"
    target: str = "digits-5-9"
    model: str = "B-2/Wi-64"
    batch_sizes: tuple[int, ...] = (16, 64, 256)
    lengths: tuple[int, ...] = (5, 20)
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(
            crop_scale=(0.6, 1.0), crop_ratio=(1.0, 1.0), mixup=0.8, mixup_per="example"
        )
    )
    seeds: int | tuple[int, ...] = 8
    source_n: int | None = None
    target_n: int | None = 50
    image_size: int | None = None
    optimizer: Literal["lion", "adamw", "sgd"] = "lion"
    lr: float | None = None
    weight_decay: float = 0.0
    finetuning_epochs: int = 50
    finetuning_batch_size: int = 25
    finetuning_lr: float = 0.001
    finetuning_head_lr: float = 0.01
    finetuning_augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(crop_scale=(0.6, 1.0), crop_ratio=(1.0, 1.0))
    )
    probing_epochs: int = 200
    probing_batch_size: int = 25
    probing_lr: float = 1e-3
    tta_views: int = 20
    tta_crop_scale: tuple[float, float] = (0.6, 1.0)
    tta_flip: bool = False
    label_smoothing: float = 0.3
    margin: float = 2.0
    control: bool = True
    control_runs: int = 2
    shuffles: int = 8
    precision: Literal["auto", "float32", "bfloat16", "float64"] = "auto"

    def __post_init__(self) -> None:
        from mlptheory.data import datasets

        for name in (self.source, self.target):
            datasets.summary(name)
        if self.source == self.target:
            raise invalid("target", self.target, "another dataset than the source")
        require_distinct("batch_sizes", self.batch_sizes, at_least=2)
        require_distinct("lengths", self.lengths, at_least=1)
        require_seeds(self.seeds)
        require_choice("optimizer", self.optimizer, ("lion", "adamw", "sgd"))
        require_choice("precision", self.precision, ("auto", "float32", "bfloat16", "float64"))
        self._check_augmentation()
        self._check_model()
        for argument in ("source_n", "target_n", "image_size"):
            if getattr(self, argument) is not None:
                require_integer(argument, getattr(self, argument), 1)
        for argument in (
            "finetuning_epochs",
            "finetuning_batch_size",
            "probing_epochs",
            "probing_batch_size",
            "tta_views",
            "control_runs",
            "shuffles",
        ):
            require_integer(argument, getattr(self, argument), 1)
        for argument in ("finetuning_lr", "finetuning_head_lr", "probing_lr"):
            require_number(argument, getattr(self, argument), 0, low_open=True)
        require_number("weight_decay", self.weight_decay, 0)
        require_number("label_smoothing", self.label_smoothing, 0, 1)
        require_boolean("control", self.control)
        require_number("margin", self.margin, 0, 100, low_open=self.control)

    def _check_augmentation(self) -> None:
        for argument in ("augmentation", "finetuning_augmentation"):
            if not isinstance(getattr(self, argument), Augmentation):
                raise invalid(argument, getattr(self, argument), "an Augmentation")
        if not self.augmentation.moves_pixels and not self.augmentation.mixup:
            raise invalid(
                "augmentation", self.augmentation, "crops, flips, shifts or MixUp, which one arm goes without"
            )
        require_boolean("tta_flip", self.tta_flip)
        if self.tta_crop_scale is None:
            raise invalid("tta_crop_scale", None, "two positive numbers, lowest and highest, at most 1")
        try:
            Augmentation(crop_scale=self.tta_crop_scale)
        except ValueError as error:
            raise invalid(
                "tta_crop_scale", self.tta_crop_scale, "two positive numbers, lowest and highest, at most 1"
            ) from error

    def _check_model(self) -> None:
        parsed = parse_name(self.model)
        if parsed.family == "CNN":
            raise invalid("model", self.model, "an MLP")
        if self.lr is not None:
            require_number("lr", self.lr, 0, low_open=True)
        elif self.optimizer == "sgd" or parsed.width is None:
            raise invalid("lr", None, f"a number greater than 0, as {self.optimizer} on {self.model} has no default")

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds, one a block."""
        return seeds_listed(self.seeds)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The batch sizes of pretraining, smallest first."""
        return tuple(sorted(self.batch_sizes))

    @property
    def middle(self) -> int:
        """The batch size at which pretraining is set beside no pretraining of use, and that of the controls."""
        return self.sizes[len(self.sizes) // 2]

    @property
    def base_lr(self) -> float:
        """The learning rate of pretraining and of training from scratch."""
        return float(self.lr) if self.lr is not None else width_lr(parse_name(self.model).width)

    def with_every_claim(self) -> Transfer:
        """Return the same design with what it lacks for every claim: a second length, a margin, controls."""
        return replace(
            self,
            lengths=self.lengths if len(self.lengths) > 1 else (*self.lengths, 4 * self.lengths[0]),
            margin=self.margin or CALIBRATION_MARGIN,
            control=True,
        )

    def columns(self) -> tuple[Column, ...]:
        """Return the documented columns of the table."""
        return COLUMNS

    def _prepare(self, store: Store, data_root: str | None, device: str | None) -> Prepared:
        # Otherwise the first fine-tuning would find it, when all pretraining is done.
        self._require_one_shape(data_root)
        return super()._prepare(store, data_root, device)

    def _require_one_shape(self, data_root: str | None) -> None:
        from mlptheory.training import DataConfig, prepare_examples

        shapes = []
        for name, n in ((self.source, self.source_n), (self.target, self.target_n)):
            examples = prepare_examples(DataConfig(name=name, n=n, image_size=self.image_size), 0, data_root)
            size = examples.image_size
            shapes.append(f"{examples.train.image_shape[0]}x{size}x{size}")
        if shapes[0] != shapes[1]:
            raise InputError(
                f"target = {self.target!r}: expected images of the shape of {self.source!r}, {shapes[0]}, found "
                f"{shapes[1]}; image_size resizes both"
            )
