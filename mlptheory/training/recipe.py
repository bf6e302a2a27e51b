"""A recipe: everything that decides what a trained model is, and nothing else. Imports no torch."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from mlptheory.base.configuration import (
    from_plain,
    require_boolean,
    require_choice,
    require_integer,
    require_number,
    to_plain,
)
from mlptheory.base.errors import InputError, invalid, unknown_name
from mlptheory.data import Augmentation
from mlptheory.models import ModelConfig

DEFAULT_BETAS = {"lion": (0.9, 0.99), "adamw": (0.9, 0.999)}
"""Decays of the moments, where a recipe does not say."""

LOSSES = ("cross_entropy", "squared_error")
"""What a model can be trained on and evaluated by."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which examples a model is trained on.

    Attributes
    ----------
    name : str
        A registered dataset.
    n : int or None
        Number of training examples, a nested subset proportional per class; all of them if None.
    image_size : int or None
        Side in pixels that images are resized to, antialiased; their own if None.
    validation : int or float
        Examples carved out of the training set, stratified, before `n` is taken: how many or, below 1, which share.
    split_seed : int
        Decides the validation examples and the subset; separate from the recipe's seed.
    label_noise : float
        Share of training labels replaced by a different one, drawn uniformly.
    shuffle_labels : bool
        Permute the training labels among the examples, so that they say nothing of the images (a check for leaks).
    pixel_permutation : int or None
        Seed of a fixed permutation of the input's pixels and channels; none if None.
    permute : {"after", "before"}
        Whether the permutation comes after the augmentation or before it.
    order : {"random", "quasi-random"}
        Of the examples of an epoch: uniformly random, or in windows of blocks, for images that are read from a file.
    """

    name: str = "digits"
    n: int | None = None
    image_size: int | None = None
    validation: int | float = 0
    split_seed: int = 0
    label_noise: float = 0.0
    shuffle_labels: bool = False
    pixel_permutation: int | None = None
    permute: Literal["after", "before"] = "after"
    order: Literal["random", "quasi-random"] = "random"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise invalid("data.name", self.name, "a name of a registered dataset")
        if self.n is not None:
            require_integer("data.n", self.n, 1)
        if self.image_size is not None:
            require_integer("data.image_size", self.image_size, 1)
        if isinstance(self.validation, float):
            require_number("data.validation", self.validation, 0, 1, high_open=True)
        else:
            require_integer("data.validation", self.validation, 0)
        require_integer("data.split_seed", self.split_seed, 0)
        require_number("data.label_noise", self.label_noise, 0, 1)
        require_boolean("data.shuffle_labels", self.shuffle_labels)
        if self.pixel_permutation is not None:
            require_integer("data.pixel_permutation", self.pixel_permutation, 0)
        require_choice("data.permute", self.permute, ("after", "before"))
        require_choice("data.order", self.order, ("random", "quasi-random"))


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How weights move, given gradients.

    Attributes
    ----------
    name : {"lion", "adamw", "sgd"}
        Lion (Chen et al. 2023), AdamW (Loshchilov & Hutter 2019) or SGD with momentum.
    lr : float
        Peak learning rate.
    betas : tuple of two floats or None
        Moment decay of Lion and AdamW; (0.9, 0.99) and (0.9, 0.999) if None.
    momentum : float
        Of SGD.
    weight_decay : float
        Decoupled, for every optimizer: each step also takes lr · weight_decay of every weight off.
    clip_norm : float or None
        The gradient is scaled down to this Euclidean norm over all weights; no clipping if None.
    head_lr : float or None
        Peak learning rate of the head, the last layer; `lr` if None.
    """

    name: Literal["lion", "adamw", "sgd"] = "lion"
    lr: float = 5e-5
    betas: tuple[float, float] | None = None
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip_norm: float | None = None
    head_lr: float | None = None

    def __post_init__(self) -> None:
        require_choice("optimizer.name", self.name, ("lion", "adamw", "sgd"))
        require_number("optimizer.lr", self.lr, 0, low_open=True)
        if self.betas is not None:
            if not isinstance(self.betas, (tuple, list)) or len(self.betas) != 2:
                raise invalid("optimizer.betas", self.betas, "two numbers of at least 0 and less than 1")
            for beta in self.betas:
                require_number("optimizer.betas", beta, 0, 1, high_open=True)
        require_number("optimizer.momentum", self.momentum, 0, 1, high_open=True)
        require_number("optimizer.weight_decay", self.weight_decay, 0)
        if self.clip_norm is not None:
            require_number("optimizer.clip_norm", self.clip_norm, 0, low_open=True)
        if self.head_lr is not None:
            require_number("optimizer.head_lr", self.head_lr, 0, low_open=True)


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """How long to train, and in what portions.

    Attributes
    ----------
    amount : int
        How many of the unit.
    unit : {"epochs", "steps", "compute"}
        Passes over the data, optimizer steps, or 10^9 multiply-accumulates of the paper's compute, 3 · MACs of a
        forward pass · examples seen, to the nearest step.
    batch_size : int
        Examples per optimizer step.
    microbatch : int or None
        Examples per backward pass; gradients add up to the whole batch's. The whole batch if None.
    drop_last : bool
        Leave out an epoch's last batch where it is smaller.
    """

    amount: int = 10
    unit: Literal["epochs", "steps", "compute"] = "epochs"
    batch_size: int = 64
    microbatch: int | None = None
    drop_last: bool = False

    def __post_init__(self) -> None:
        require_choice("budget.unit", self.unit, ("epochs", "steps", "compute"))
        require_integer("budget.amount", self.amount, 1)
        require_integer("budget.batch_size", self.batch_size, 1)
        if self.microbatch is not None:
            require_integer("budget.microbatch", self.microbatch, 1)
        require_boolean("budget.drop_last", self.drop_last)


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate moves over the run, step by step.

    Attributes
    ----------
    name : {"constant", "cosine"}
        Constant at the peak, or half a cosine from the peak to 0 at the end of the run.
    warmup : int
        Steps of linear warm-up, from peak / warmup to the peak.
    """

    name: Literal["constant", "cosine"] = "constant"
    warmup: int = 0

    def __post_init__(self) -> None:
        require_choice("schedule.name", self.name, ("constant", "cosine"))
        require_integer("schedule.warmup", self.warmup, 0)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run.

    Attributes
    ----------
    data : DataConfig
        Which examples.
    model : ModelConfig
        Which function.
    augmentation : mlptheory.data.Augmentation
        What is done to each batch.
    optimizer : OptimizerConfig
        How weights move.
    budget : BudgetConfig
        How long, in what portions.
    schedule : ScheduleConfig
        How the learning rate moves.
    loss : {"cross_entropy", "squared_error"}
        Of an example: cross-entropy in nats, or 1/2 Σ_c (f_c - y_c)² of logits f and the smoothed one-hot label y.
    label_smoothing : float
        Share α of the target's mass spread evenly over all classes.
    precision : {"auto", "float32", "bfloat16", "float64"}
        bfloat16 is autocast over float32 weights; auto takes it where the device has it in hardware.
    start : {"initialization", "parent", "body"}
        Weights drawn from the seed; those of the trial's first parent; or those but for the head, which is drawn.
    trained : {"all", "head"}
        Which weights move. With "head" the head is trained on features that are computed once: a linear probe.
    seed : int
        Decides initialization, order, augmentation, dropout and label noise.

    Examples
    --------
    >>> recipe = Recipe(optimizer=OptimizerConfig(lr=1e-4))
    >>> Recipe.from_plain(recipe.to_plain()) == recipe
    True
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augmentation: Augmentation = field(default_factory=Augmentation)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    loss: Literal["cross_entropy", "squared_error"] = "cross_entropy"
    label_smoothing: float = 0.3
    precision: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    start: Literal["initialization", "parent", "body"] = "initialization"
    trained: Literal["all", "head"] = "all"
    seed: int = 0

    def __post_init__(self) -> None:
        for part in fields(self):
            kind = part.default_factory
            if isinstance(kind, type) and not isinstance(getattr(self, part.name), kind):
                raise invalid(part.name, getattr(self, part.name), f"a {kind.__name__}")
        require_choice("loss", self.loss, LOSSES)
        require_number("label_smoothing", self.label_smoothing, 0, 1)
        require_choice("precision", self.precision, ("auto", "float32", "bfloat16", "float64"))
        require_choice("start", self.start, ("initialization", "parent", "body"))
        require_choice("trained", self.trained, ("all", "head"))
        if self.trained == "head" and self.augmentation != Augmentation():
            raise invalid("augmentation", self.augmentation, "none where only the head is trained, on fixed features")
        require_integer("seed", self.seed, 0)
        if self.trained == "head" and self.budget.unit == "compute":
            raise invalid("budget.unit", "compute", "'epochs' or 'steps' where only the head is trained")
        accumulates = self.budget.microbatch is not None and self.budget.microbatch < self.budget.batch_size
        if accumulates and self.model.norm == "batch":
            raise invalid(
                "budget.microbatch",
                self.budget.microbatch,
                "nothing, as batch normalization sees the whole batch and accumulated gradients would differ",
            )

    def to_plain(self) -> dict[str, Any]:
        """Return the recipe as dictionaries, lists and scalars."""
        return to_plain(self)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Recipe:
        """Build a recipe from plain data; raise `InputError` on unknown names and wrong types."""
        return from_plain(cls, plain, "recipe")


def read_recipe(path: str | Path) -> tuple[Recipe, dict[str, Any]]:
    """Read a recipe file: TOML with the tables ``[recipe]`` and, where a paper is reproduced, ``[paper]``.

    Returns
    -------
    recipe : Recipe
    paper : dict
        Whatever ``[paper]`` holds; empty without it.

    Raises
    ------
    InputError
        If the file is missing, is no TOML, or holds a name or value that a recipe does not have.
    """
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise invalid("recipe", str(path), "a TOML file that exists") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"recipe = {str(path)!r}: expected TOML: {error}") from error
    for name in tables:
        if name not in ("recipe", "paper"):
            raise unknown_name(f"recipe {str(path)!r}, table", name, ("recipe", "paper"))
    if "recipe" not in tables:
        raise InputError(f"recipe = {str(path)!r}: expected a [recipe] table")
    return Recipe.from_plain(tables["recipe"]), tables.get("paper", {})
