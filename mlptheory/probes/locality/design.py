"""The design: its settings, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from mlptheory.base.configuration import require_boolean, require_choice, require_integer, require_number
from mlptheory.base.errors import invalid
from mlptheory.data import Augmentation
from mlptheory.models import parse_name
from mlptheory.probes.folder import FolderProbe
from mlptheory.probes.locality.columns import COLUMNS
from mlptheory.probes.probe import Column
from mlptheory.probes.settings import require_distinct, require_seeds, seeds_listed, width_lr

if TYPE_CHECKING:
    from mlptheory.probes.probe import Prepared
    from mlptheory.trials.store import Store

ARMS = ("augmented", "plain")
CONTROL_DATASETS = ("edges", "edges-gaussian")
OPTIMIZERS = ("lion", "adamw", "sgd")
MARGINS = {"local_share": 1.0, "ipr": 5.0, "spread": 2.0}
"""Smallest effects of interest, where a design names none, in the statistics' units."""
SMALLEST_WINDOW = 2
"""What a quarter of the side is rounded up to, where a design names no window."""


@dataclass(frozen=True, kw_only=True)
class Locality(FolderProbe):
    r"""Test whether training makes an MLP's first-layer filters local, and whether data or augmentation do it.

    One net for each cell and seed. The cells depart in one factor at a time from a center, the largest training set at
    the base length with the base optimizer and no weight decay: smaller training sets, at as many epochs and the
    smallest also at as many steps; longer training; weight decay; other optimizers. Each is trained with and without
    augmentation. A seed is the unit of analysis, and its nets share their initialization: one number of it for each
    claim, of means over a net's filters. Seeds give t intervals. All claims are judged together, at 95 % after Holm's
    correction.

    One statistic, named before anything runs, is what all claims are about, as statistics can disagree; greater is
    more local, whichever it is:

    ``local_share``
        :func:`mlptheory.measures.local_norm_share` in percent.
    ``ipr``
        :func:`mlptheory.measures.inverse_participation_ratio`, in percent of that of the net's W₀.
    ``spread``
        :func:`mlptheory.measures.spatial_spread`, in percent of that of the net's W₀, and negated.

    Parameters
    ----------
    dataset : str
        A registered dataset.
    model : str
        Name of an MLP: "B-3/Wi-256", "S-3/Wi-256", ...
    sizes : tuple of int
        Training examples, at least two sizes, nested subsets proportional per class; the largest is the center's.
    epochs, long_epochs : int
        Of the center, and of the cells that train longer. Larger training sets take more steps in as many epochs.
    batch_size : int
        Of all cells.
    augmentation : Augmentation
        Of the augmented arm; the plain arm has none.
    weight_decay : float
        Of the cells with decay, decoupled: lr · weight_decay a step. All others have none.
    optimizer : {"lion", "adamw", "sgd"}
        Of all cells but those of other optimizers, with a constant learning rate.
    lr : float or None
        Its learning rate. If None, the paper's 5e-5 at its width of 1024, carried to this width w as 5e-5 · 1024 / w
        (μP's rule for Lion and Adam: Yang et al. 2022); SGD has no such default.
    other_optimizers : tuple of str
        To compare with, at the center's other settings; may be empty.
    other_lrs : tuple of float
        Their learning rates, in that order.
    statistic : {"local_share", "ipr", "spread"}
        What the claims are about; the others are shown beside.
    of : {"change", "weights"}
        Whether of W − W₀ or of W, which initial noise dominates where training is short.
    window : int or None
        Side of the local share's window in pixels, less than the image's; a quarter of that, at least 2, if None.
    seeds : int or tuple of int
        How many (0, 1, ...), or which.
    image_size : int or None
        Side in pixels that images are resized to; their own if None.
    label_smoothing : float
        Of all cells; the paper's 0.3.
    margin : float or None
        Smallest effect of interest δ, in the statistic's unit: percentage points of the squared norm for the local
        share, percent of W₀'s value for the others. 1, 5 and 2 for local share, ipr and spread, if None.
    control : bool
        Also run the positive control: textures with sharp edges, whose filters are known to become local, beside
        Gaussian ones of the same covariance.
    precision : {"auto", "float32", "bfloat16", "float64"}
        Of training; auto is bfloat16 where the device has it in hardware. The control is in float32 at least.

    Raises
    ------
    InputError
        For a setting that cannot be used.

    Examples
    --------
    >>> probe = Locality(sizes=(100, 1000), other_optimizers=(), other_lrs=(), seeds=3, control=False)
    >>> len(probe.trials())  # center, two of fewer data, longer, decay; two arms; three seeds
    30
    >>> probe.claims()[0].source
    'Bachmann et al. 2023, Appendix C, Figs. 10 and 11'
    """

    name: ClassVar[str] = "locality"
    title: ClassVar[str] = "Locality"
    question: ClassVar[str] = "Do first-layer filters become local, and what makes them so?"
    caption: ClassVar[str] = (
        "How local first-layer filters are, by the design's statistic, higher for more local. Left: over the training-"
        "set size at equal epochs; lines through the means over seeds, with augmentation solid, without dashed; dots "
        "are single nets, bars 95 % t intervals of the means; lines stand a little aside of each other. Dotted and "
        "dash-dotted in an arm's color: means of its nets' references. Gray: W before training. Middle: the center "
        "(the largest training set) and what departs from it in one factor; filled with augmentation, open without. "
        "Right: the control's nets on textures with sharp edges and on Gaussian ones of the same covariance, on a "
        "torus and so at a level of their own; gray their references, Gaussian surrogates first."
    )

    dataset: str = "digits"
    model: str = "B-1/Wi-64"
    sizes: tuple[int, ...] = (75, 300, 1197)
    epochs: int = 20
    long_epochs: int = 60
    batch_size: int = 32
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(crop_scale=(0.5, 1.0), crop_ratio=(1.0, 1.0), shift=1)
    )
    weight_decay: float = 1.0
    optimizer: Literal["lion", "adamw", "sgd"] = "lion"
    lr: float | None = None
    other_optimizers: tuple[str, ...] = ("adamw", "sgd")
    other_lrs: tuple[float, ...] = (0.003, 0.05)
    statistic: Literal["local_share", "ipr", "spread"] = "local_share"
    of: Literal["change", "weights"] = "change"
    window: int | None = None
    seeds: int | tuple[int, ...] = 8
    image_size: int | None = None
    label_smoothing: float = 0.3
    margin: float | None = None
    control: bool = True
    precision: Literal["auto", "float32", "bfloat16", "float64"] = "auto"

    def __post_init__(self) -> None:
        from mlptheory.data import datasets

        datasets.summary(self.dataset)
        require_distinct("sizes", self.sizes, at_least=2)
        for argument in ("epochs", "long_epochs", "batch_size"):
            require_integer(argument, getattr(self, argument), 1)
        if self.long_epochs <= self.epochs:
            raise invalid("long_epochs", self.long_epochs, f"more than epochs, {self.epochs}")
        if self.batch_size > min(self.sizes):
            raise invalid("batch_size", self.batch_size, f"at most {min(self.sizes)}, the smallest training set")
        self._check_augmentation()
        self._check_optimizers()
        require_choice("statistic", self.statistic, tuple(MARGINS))
        require_choice("of", self.of, ("change", "weights"))
        require_choice("precision", self.precision, ("auto", "float32", "bfloat16", "float64"))
        require_seeds(self.seeds)
        for argument in ("window", "image_size"):
            if getattr(self, argument) is not None:
                require_integer(argument, getattr(self, argument), 1)
        require_number("label_smoothing", self.label_smoothing, 0, 1)
        if self.margin is not None:
            require_number("margin", self.margin, 0, low_open=True)
        require_boolean("control", self.control)

    def _check_augmentation(self) -> None:
        if not isinstance(self.augmentation, Augmentation):
            raise invalid("augmentation", self.augmentation, "an Augmentation")
        if not self.augmentation.moves_pixels and not self.augmentation.mixup:
            raise invalid(
                "augmentation", self.augmentation, "crops, flips, shifts or MixUp, which one arm goes without"
            )

    def _check_optimizers(self) -> None:
        parsed = parse_name(self.model)
        if parsed.family == "CNN":
            raise invalid("model", self.model, "an MLP")
        require_choice("optimizer", self.optimizer, OPTIMIZERS)
        if self.lr is not None:
            require_number("lr", self.lr, 0, low_open=True)
        elif self.optimizer == "sgd" or parsed.width is None:
            raise invalid("lr", None, f"a number greater than 0, as {self.optimizer} on {self.model} has no default")
        require_number("weight_decay", self.weight_decay, 0, low_open=True)
        for name in self.other_optimizers:
            require_choice("other_optimizers", name, OPTIMIZERS)
        if len({self.optimizer, *self.other_optimizers}) != 1 + len(self.other_optimizers):
            raise invalid("other_optimizers", self.other_optimizers, f"different ones, and not {self.optimizer}")
        if len(self.other_lrs) != len(self.other_optimizers):
            raise invalid("other_lrs", self.other_lrs, f"{len(self.other_optimizers)}, one for each other optimizer")
        for lr in self.other_lrs:
            require_number("other_lrs", lr, 0, low_open=True)

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds, one a block."""
        return seeds_listed(self.seeds)

    @property
    def sizes_sorted(self) -> tuple[int, ...]:
        """The training-set sizes, smallest first."""
        return tuple(sorted(self.sizes))

    @property
    def largest(self) -> int:
        """The training-set size of the center."""
        return self.sizes_sorted[-1]

    @property
    def smallest(self) -> int:
        """The smallest training-set size."""
        return self.sizes_sorted[0]

    @property
    def base_lr(self) -> float:
        """The learning rate of all cells but those of other optimizers."""
        return float(self.lr) if self.lr is not None else width_lr(parse_name(self.model).width)

    @property
    def delta(self) -> float:
        """The margin, the statistic's own where none is given."""
        return MARGINS[self.statistic] if self.margin is None else float(self.margin)

    def with_every_claim(self) -> Locality:
        """Return the same design with what it lacks for every claim: controls."""
        return replace(self, control=True)

    def columns(self) -> tuple[Column, ...]:
        """Return the documented columns of the table."""
        return COLUMNS

    def _prepare(self, store: Store, data_root: str | None, device: str | None) -> Prepared:
        # Otherwise the first measurement would find it, when a net is trained.
        self._require_window(data_root)
        return super()._prepare(store, data_root, device)

    def _require_window(self, data_root: str | None) -> None:
        from mlptheory.training import DataConfig, prepare_examples

        data = DataConfig(name=self.dataset, n=self.smallest, image_size=self.image_size)
        side = prepare_examples(data, 0, data_root).image_size
        window = SMALLEST_WINDOW if self.window is None else self.window
        # All of a filter is in a window as large as the image: claims would be judged on the last bits of 100 %.
        too_large = window >= side if self.statistic == "local_share" else window > side
        if not too_large:
            return
        if self.window is None:
            raise invalid("image_size", side, f"room for the smallest window, {window} pixels, and more")
        allowed = "less than" if self.statistic == "local_share" else "at most"
        raise invalid("window", window, f"{allowed} {side}, the side of the images")
