"""The design: its settings, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from mlptheory.base.configuration import require_boolean, require_choice, require_integer, require_number
from mlptheory.base.errors import invalid
from mlptheory.models import parse_name
from mlptheory.probes.folder import FolderProbe
from mlptheory.probes.probe import Column
from mlptheory.probes.settings import require_distinct, require_seeds, seeds_listed
from mlptheory.probes.sharpness.columns import COLUMNS

GD, MOMENTUM, ADAM, SMALL_STEP = "gd", "momentum", "adam", "small-step"
EDGE_ARMS = (GD, MOMENTUM, ADAM)
FEWEST_LOOKS = 6
"""So that the last third has two."""


@dataclass(frozen=True, kw_only=True)
class Sharpness(FolderProbe):
    r"""Test whether full-batch training sits at the edge of stability, and whether sharpness predicts generalization.

    Three parts, each with one run for each arm and seed:

    edge
        Full-batch training past the point where sharpness, the largest eigenvalue λ of the Hessian of the training
        objective, reaches the threshold of stability: 2/η of gradient descent, (2 + 2β)/η of Polyak momentum, and of
        Adam, in the preconditioned Hessian, (2 + 2β₁)/((1 - β₁)η). Statistic: the mean of log2(λ/threshold) over the
        last third of the looks.
    flow
        Gradient descent at steps so small that the edge is not reached, over widths and depths. Statistic: log2 of λ
        when the training loss is at a given value over λ at initialization.
    batch
        Mini-batch SGD at one learning rate and several batch sizes, each until the training loss is first at a given
        value. Statistic: Kendall's τ over the batch sizes of one seed, between sharpness and generalization gap.

    A seed is the unit of analysis. All claims are judged together, at 95 % after Holm's correction.

    Parameters
    ----------
    dataset : str
        A registered dataset.
    model : str
        "MLP-{depth}/Wi-{width}" or "S-{depth}/Wi-{width}", of all parts, without normalization; the flows depart from
        its width and depth. The batch part has ReLU, so that layers can be rescaled.
    activation : {"tanh", "relu", "gelu"}
        Of edge and flow.
    n : int
        Training examples of all parts, the full batch.
    label_noise : float
        Share of wrong training labels, in the edge part: a task that is soon fitted ends before the edge.
    gd_lr, momentum_lr, adam_lr, small_lr : float
        Of the edge part; the last is the control's, too small to reach the edge.
    momentum : float
        Polyak's β.
    adam_betas : tuple of two floats
        Adam's decays.
    edge_steps, every : int
        Length of the edge part, and the spacing of its looks.
    widths, depths : tuple of int
        Of the flows, at least two each, the model's own among them.
    flow_lr : float
    flow_steps : int
    flow_loss : float
        Of the flows: training loss (half the summed squared error) at which sharpness is compared.
    batch_sizes : tuple of int
        At least four.
    batch_lr : float
    batch_steps : int
    batch_loss : float
        Of the batch part: training loss (cross-entropy, in nats) at which runs are compared.
    edge_margin : float
        δ of hovering, in log2 of sharpness over threshold.
    sharpening_margin : float
        δ of sharpening and of its change over widths and depths, in log2 of sharpness.
    tau_margin : float
        δ of Kendall's τ.
    seeds : int or tuple of int
        How many (0, 1, ...), or which.
    image_size : int or None
        Side in pixels that images are resized to; their own if None.
    control : bool
        Also run the control below the edge, and judge what rescaling does.
    precision : {"float32", "float64"}
        Of training. Eigenvalues are computed in float64 where the device has it.

    Raises
    ------
    InputError
        For a setting that cannot be used.

    Examples
    --------
    >>> probe = Sharpness(seeds=3)
    >>> len(probe.trials())  # four arms, five nets, six batch sizes; three seeds
    45
    >>> probe.claims()[0].source
    'Cohen et al. 2021, Fig. 1'
    """

    name: ClassVar[str] = "sharpness"
    title: ClassVar[str] = "Sharpness"
    question: ClassVar[str] = "Does training sit at the edge of stability, and does sharpness predict generalization?"
    caption: ClassVar[str] = (
        "Top left: full-batch training, log2 of sharpness (to Adam preconditioned) over the optimizer's threshold of "
        "stability, a line a run; gray band ±δ. Top right: log2 of sharpness at the target loss over that at "
        "initialization, gradient descent below the edge, over widths and depths. Bottom left: sharpness of nets "
        "trained with several batch sizes when the training loss is at its target, and after one of the rescalings "
        "that leave the functions as they are. Dots are single nets, markers means over seeds with 95 % t intervals. "
        "Bottom right: the generalization gap of the same nets over sharpness, the nets of a seed joined."
    )

    dataset: str = "digits"
    model: str = "MLP-2/Wi-32"
    activation: Literal["tanh", "relu", "gelu"] = "tanh"
    n: int = 400
    label_noise: float = 0.2
    gd_lr: float = 0.15
    momentum_lr: float = 0.2
    adam_lr: float = 0.004
    small_lr: float = 0.02
    momentum: float = 0.9
    adam_betas: tuple[float, float] = (0.9, 0.999)
    edge_steps: int = 600
    every: int = 25
    widths: tuple[int, ...] = (16, 32, 64)
    depths: tuple[int, ...] = (1, 2, 3)
    flow_lr: float = 0.05
    flow_steps: int = 1400
    flow_loss: float = 0.09
    batch_sizes: tuple[int, ...] = (8, 16, 32, 64, 128, 400)
    batch_lr: float = 0.1
    batch_steps: int = 1000
    batch_loss: float = 0.05
    edge_margin: float = 0.25
    sharpening_margin: float = 0.25
    tau_margin: float = 0.2
    seeds: int | tuple[int, ...] = 8
    image_size: int | None = None
    control: bool = True
    precision: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        from mlptheory.data import datasets

        datasets.summary(self.dataset)
        self._check_model()
        require_integer("n", self.n, 2)
        require_number("label_noise", self.label_noise, 0, 1)
        self._check_optimizers()
        for argument in ("edge_steps", "every", "flow_steps", "batch_steps"):
            require_integer(argument, getattr(self, argument), 1)
        if self.edge_steps // self.every < FEWEST_LOOKS:
            allowed = f"at most {self.edge_steps // FEWEST_LOOKS}, for {FEWEST_LOOKS} looks in {self.edge_steps} steps"
            raise invalid("every", self.every, allowed)
        require_distinct("batch_sizes", self.batch_sizes, at_least=4)
        if max(self.batch_sizes) > self.n:
            raise invalid("batch_sizes", self.batch_sizes, f"at most {self.n}, the training examples")
        for argument in ("flow_loss", "batch_loss", "edge_margin", "sharpening_margin"):
            require_number(argument, getattr(self, argument), 0, low_open=True)
        require_number("tau_margin", self.tau_margin, 0, 1, low_open=True, high_open=True)
        require_seeds(self.seeds)
        if self.image_size is not None:
            require_integer("image_size", self.image_size, 1)
        require_boolean("control", self.control)
        require_choice("precision", self.precision, ("float32", "float64"))

    def _check_model(self) -> None:
        parsed = parse_name(self.model)
        if parsed.family not in ("MLP", "S"):
            raise invalid("model", self.model, "MLP-{depth}/Wi-{width} or S-{depth}/Wi-{width}")
        require_choice("activation", self.activation, ("tanh", "relu", "gelu"))
        for argument, own in (("widths", parsed.width), ("depths", parsed.depth)):
            values = getattr(self, argument)
            require_distinct(argument, values, at_least=2)
            if own not in values:
                raise invalid(argument, values, f"{own} among them, that of {self.model}")

    def _check_optimizers(self) -> None:
        for argument in ("gd_lr", "momentum_lr", "adam_lr", "small_lr", "flow_lr", "batch_lr"):
            require_number(argument, getattr(self, argument), 0, low_open=True)
        if self.small_lr >= self.gd_lr:
            raise invalid("small_lr", self.small_lr, f"less than gd_lr, {self.gd_lr}")
        require_number("momentum", self.momentum, 0, 1, low_open=True, high_open=True)
        if not isinstance(self.adam_betas, tuple) or len(self.adam_betas) != 2:
            raise invalid("adam_betas", self.adam_betas, "two numbers of at least 0 and less than 1")
        for beta in self.adam_betas:
            require_number("adam_betas", beta, 0, 1, high_open=True)

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds, one a block."""
        return seeds_listed(self.seeds)

    @property
    def width(self) -> int:
        """The model's own width."""
        return int(parse_name(self.model).width or 0)

    @property
    def depth(self) -> int:
        """The model's own depth."""
        return int(parse_name(self.model).depth or 0)

    @property
    def widths_sorted(self) -> tuple[int, ...]:
        """The flows' widths, smallest first."""
        return tuple(sorted(self.widths))

    @property
    def depths_sorted(self) -> tuple[int, ...]:
        """The flows' depths, smallest first."""
        return tuple(sorted(self.depths))

    @property
    def batches_sorted(self) -> tuple[int, ...]:
        """The batch sizes, smallest first."""
        return tuple(sorted(self.batch_sizes))

    def with_every_claim(self) -> Sharpness:
        """Return the same design with what it lacks for every claim: controls."""
        return replace(self, control=True)

    def columns(self) -> tuple[Column, ...]:
        """Return the documented columns of the table."""
        return COLUMNS
