"""One recipe trained on images and on permuted images, in lockstep, from weights that are moved accordingly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn

from mlptheory.base.configuration import require_integer
from mlptheory.base.errors import InputError, invalid
from mlptheory.data import Batch
from mlptheory.data.permutation import pixel_permutation
from mlptheory.training.device import autocast, default_device, resolve_precision
from mlptheory.training.examples import Examples, prepare_examples
from mlptheory.training.loop import Run
from mlptheory.training.recipe import Recipe


@dataclass(frozen=True)
class PermutedDeviation:
    """How far a run on permuted images is from the run on the images, after each step.

    Attributes
    ----------
    weights : ndarray of float64, shape (steps,)
        Largest absolute deviation of any weight, the first layer's columns moved back.
    logits : ndarray of float64, shape (steps,)
        Largest absolute deviation of any logit of the first training batch, in evaluation mode.
    flips : ndarray of int64, shape (steps,), or None
        Weights whose update, the step without its decay, has another sign; None but for Lion, whose updates are signs.
    coordinates : int
        Weights of the model: what `flips` of a step are out of.
    """

    weights: np.ndarray
    logits: np.ndarray
    flips: np.ndarray | None
    coordinates: int


@dataclass(frozen=True)
class PermutedTraining:
    """What `train_permuted` saw.

    Attributes
    ----------
    transported : PermutedDeviation
        Of the run whose first layer was moved by the permutation of its images.
    wrong : PermutedDeviation or None
        Of the run whose first layer was moved by another permutation; moved back by that one, so that its weights
        deviate by 0 before the first step.
    precision : str
        The precision that the recipe's came to on this device.
    """

    transported: PermutedDeviation
    wrong: PermutedDeviation | None
    precision: str


def train_permuted(
    recipe: Recipe,
    *,
    permutation: int = 0,
    wrong: int | None = None,
    equalized: bool = False,
    examples: Examples | None = None,
    data_root: str | None = None,
    device: str | None = None,
) -> PermutedTraining:
    r"""Train on images and on permuted images in lockstep; return the deviation of the two after every step.

    .. math:: \operatorname{train}(W_0 P^\top, P X) = \operatorname{train}(W_0, X)\, P^\top, \qquad
              (P x)_i = x_{\pi(i)}

    with :math:`W_0` the weight of the first, dense layer. It holds exactly for every optimizer that treats all
    coordinates alike (SGD, AdamW, Lion, decoupled weight decay and clipping included), for images that are normalized,
    augmented, mixed and then permuted; in floating point up to the order of summation. Deviations are maxima
    over coordinates, nothing is averaged.

    Parameters
    ----------
    recipe : Recipe
        Of an MLP, without a permutation. Its budget is the number of steps.
    permutation : int
        Seed of :math:`\pi`, as `mlptheory.data.Loader` draws it.
    wrong : int, optional
        Seed of another permutation: a further run sees the images permuted by :math:`\pi` and has its first layer moved
        by this one, which must fail.
    equalized : bool
        Whether weights and optimizer state are made equal again after every step, so that each step is compared by
        itself. Otherwise the runs are left to themselves.
    examples : Examples, optional
        As `prepare_examples` returns them for the recipe; prepared here if None.
    data_root : str, optional
        Where official dataset files are looked for first.
    device : str, optional
        The best that torch finds, if None.

    Returns
    -------
    PermutedTraining

    Raises
    ------
    InputError
        If the model has no dense first layer of its own, the recipe permutes pixels, starts from a parent or trains
        only the head, or the wrong permutation is the right one.

    Notes
    -----
    A weight whose gradient is zero whatever the images, such as the bias before batch normalization, gets its sign
    under Lion from rounding alone, and the runs part there.

    References
    ----------
    Bachmann et al. 2023, Section 1: an MLP does not know which pixel is where.

    Examples
    --------
    >>> from mlptheory.models import ModelConfig
    >>> from mlptheory.training import BudgetConfig, OptimizerConfig, Recipe, train_permuted
    >>> recipe = Recipe(
    ...     model=ModelConfig(name="S-1/Wi-16"),
    ...     optimizer=OptimizerConfig(name="lion", lr=1e-3, weight_decay=0.1),
    ...     budget=BudgetConfig(amount=10, unit="steps"),
    ...     precision="float64",
    ... )
    >>> found = train_permuted(recipe, permutation=0, wrong=1, device="cpu")
    >>> bool(found.transported.weights.max() < 1e-9), int(found.transported.flips.sum())
    (True, 0)
    >>> bool(found.wrong.weights.max() > 1e-3)
    True
    """
    _check(recipe, permutation, wrong)
    device = device or default_device()
    precision = resolve_precision(recipe.precision, device)
    examples = examples or prepare_examples(recipe.data, recipe.seed, data_root)
    with autocast("float32", device):
        reference = _Lane(Run(recipe, examples, device, precision))
        moves = {"transported": permutation, **({} if wrong is None else {"wrong": wrong})}
        lanes = {name: reference.moved(permutation, by) for name, by in moves.items()}
        _run_in_lockstep(reference, list(lanes.values()), equalized)
        found = {name: lane.deviation() for name, lane in lanes.items()}
    return PermutedTraining(found["transported"], found.get("wrong"), precision)


def _check(recipe: Recipe, permutation: int, wrong: int | None) -> None:
    if recipe.data.pixel_permutation is not None:
        raise invalid("data.pixel_permutation", recipe.data.pixel_permutation, "None, as the permutation is given")
    if recipe.start != "initialization":
        raise invalid("start", recipe.start, "'initialization'")
    if recipe.trained != "all":
        raise invalid("trained", recipe.trained, "'all'")
    require_integer("permutation", permutation, 0)
    if wrong is not None:
        require_integer("wrong", wrong, 0)
        if wrong == permutation:
            raise invalid("wrong", wrong, "the seed of another permutation")


@dataclass
class _Lane:
    """A run beside others, and what became of it: a permuted one compares itself with the reference."""

    run: Run
    columns: torch.Tensor | None = None
    weights: list[torch.Tensor] = field(default_factory=list)
    logits: list[torch.Tensor] = field(default_factory=list)
    flips: list[torch.Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        model = self.run.model
        name = getattr(model, "first_layer", None)
        self.first = None if name is None else getattr(model.get_submodule(name), "weight", None)
        if self.first is None or self.first.dim() != 2:
            raise InputError(
                f"model = {self.run.recipe.model.name!r}: expected an MLP, whose first layer is dense, as no weights "
                "of another one see permuted images as its own see the images"
            )
        self.fixed = next(iter(self.run.loader.batches(0))).inputs

    def moved(self, permutation: int, by: int) -> _Lane:
        """Return a lane on permuted images whose first layer starts as this one's, its columns moved."""
        run, model = self.run, self.run.model
        recipe = replace(run.recipe, data=replace(run.recipe.data, pixel_permutation=permutation, permute="after"))
        columns = pixel_permutation(by, run.loader.input_shape).to(run.device)
        weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        weights[f"{model.first_layer}.weight"] = self.first.detach()[:, columns]
        return _Lane(Run(recipe, run.examples, run.device, run.precision, weights), columns)

    @torch.no_grad()
    def signs(self, before: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return the signs of the last update of every weight, without what its decay took."""
        steps = dict(zip(map(id, self.run.model.parameters()), before, strict=True))
        found = {}
        for group in self.run.optimizer.param_groups:
            kept = 1.0 - group["lr"] * group["weight_decay"]
            for parameter in group["params"]:
                found[id(parameter)] = torch.sign(parameter - steps[id(parameter)] * kept)
        return [self.back(parameter, found[id(parameter)]) for parameter in self.run.model.parameters()]

    def back(self, parameter: nn.Parameter, value: torch.Tensor) -> torch.Tensor:
        """Return what belongs to a parameter in the reference's order of columns."""
        if parameter is not self.first or self.columns is None:
            return value
        return value[:, self.columns.argsort()]

    def there(self, parameter: nn.Parameter, value: torch.Tensor) -> torch.Tensor:
        """Return what belongs to a reference's parameter in this lane's order of columns."""
        moves = parameter is self.first and value.shape == parameter.shape
        return value[:, self.columns] if moves else value.clone()

    @torch.no_grad()
    def snapshot(self) -> list[torch.Tensor]:
        """Return the weights as they stand."""
        return [parameter.detach().clone() for parameter in self.run.model.parameters()]

    @torch.no_grad()
    def answers(self) -> torch.Tensor:
        """Return the logits of the fixed batch in evaluation mode."""
        self.run.model.eval()
        return self.run.model(self.fixed)

    @torch.no_grad()
    def compare(self, reference: _Lane, answers: torch.Tensor, signs: Sequence[torch.Tensor] | None, before) -> None:
        """Write down how far this lane is from the reference."""
        own = [self.back(parameter, parameter) for parameter in self.run.model.parameters()]
        gaps = [(mine - other).abs().max() for mine, other in zip(own, reference.run.model.parameters(), strict=True)]
        self.weights.append(torch.stack(gaps).max())
        self.logits.append((self.answers() - answers).abs().max())
        if signs is not None:
            pairs = zip(self.signs(before), signs, strict=True)
            self.flips.append(torch.stack([(mine != other).sum() for mine, other in pairs]).sum())

    @torch.no_grad()
    def equalize(self, reference: _Lane) -> None:
        """Make weights, buffers and optimizer state the reference's, columns moved."""
        source, own = reference.run, self.run
        own.model.load_state_dict(source.model.state_dict())
        for theirs, mine in zip(source.model.parameters(), own.model.parameters(), strict=True):
            mine.copy_(self.there(mine, theirs))
            state = source.optimizer.state[theirs]
            own.optimizer.state[mine] = {
                name: self.there(mine, value) if isinstance(value, torch.Tensor) else value
                for name, value in state.items()
            }

    def deviation(self) -> PermutedDeviation:
        """Return what was written down."""
        weights, logits = (torch.stack(values).double().cpu().numpy() for values in (self.weights, self.logits))
        flips = torch.stack(self.flips).cpu().numpy() if self.flips else None
        return PermutedDeviation(weights, logits, flips, sum(p.numel() for p in self.run.model.parameters()))


def _run_in_lockstep(reference: _Lane, lanes: Sequence[_Lane], equalized: bool) -> None:
    """Take every step of the recipe in all lanes, and compare them with the reference after each."""
    everyone = [reference, *lanes]
    while not reference.run.is_finished:
        epoch = reference.run.epoch
        for batches in zip(*(lane.run.loader.batches(epoch) for lane in everyone), strict=True):
            _step(reference, lanes, batches, equalized)
            if reference.run.is_finished:
                break
        for lane in everyone:
            lane.run.close_epoch()


def _step(reference: _Lane, lanes: Sequence[_Lane], batches: Sequence[Batch], equalized: bool) -> None:
    everyone = [reference, *lanes]
    signs_matter = reference.run.recipe.optimizer.name == "lion"
    before = [lane.snapshot() if signs_matter else [] for lane in everyone]
    for lane, batch in zip(everyone, batches, strict=True):
        lane.run.take_step(batch)
    answers = reference.answers()
    signs = reference.signs(before[0]) if signs_matter else None
    for lane, own_before in zip(lanes, before[1:], strict=True):
        lane.compare(reference, answers, signs, own_before)
        if equalized:
            lane.equalize(reference)
