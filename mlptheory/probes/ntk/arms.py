"""The trials: widths by parametrization, one factor at a time around a center, the controls, and the bank."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlptheory.models import ModelConfig
from mlptheory.training import BudgetConfig, DataConfig, Observer, OptimizerConfig, Recipe
from mlptheory.trials import STANDARD_OBSERVERS, Measurement, Trial

if TYPE_CHECKING:
    from mlptheory.probes.ntk.design import NeuralTangentKernel

BANK_SEEDS = 3_000_000
LIMITS = ("standard", "ntk")
"""Parametrizations that have kernels of infinite width."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What tells the design's cells apart.

    Attributes
    ----------
    role : str
        "center", or in what a cell departs from it: "width", "size", "rate", "optimizer", "mup", "ntk", "scale",
        "shuffled", "coordinates"; "infinite" for the kernels of infinite width.
    parametrization : str
    width : int
    n : int
    optimizer : str
    lr : float
    output_scale : float
    measured : tuple of str
        What is measured after the last step.
    is_followed : bool
        Whether the kernel is looked at after every epoch.
    steps : int or None
        Length of training; the design's epochs if None.
    """

    role: str
    parametrization: str = "standard"
    width: int
    n: int
    optimizer: str
    lr: float
    output_scale: float = 1.0
    measured: tuple[str, ...]
    is_followed: bool = False
    steps: int | None = None


def cells(probe: NeuralTangentKernel) -> tuple[Cell, ...]:
    """Return the cells that every seed runs: the center, what departs from it, and the controls."""
    center: dict[str, Any] = {
        "width": probe.center,
        "n": probe.largest,
        "optimizer": probe.optimizer,
        "lr": probe.base_lr,
        "measured": ("tangent_kernel", "weight_change"),
    }
    return tuple(Cell(**{**center, **departure}) for departure in _departures(probe))


def _departures(probe: NeuralTangentKernel) -> Iterator[dict[str, Any]]:
    everything = ("tangent_kernel", "kernel_regression", "linearized_training", "weight_change", "feature_alignment")
    yield {"role": "center", "measured": everything, "is_followed": True}
    for width in probe.widths_sorted[:-1]:
        yield {"role": "width", "width": width, "lr": probe.lr_at(width)}
    for n in probe.sizes_sorted[:-1]:
        yield {"role": "size", "n": n, "measured": ("kernel_regression",)}
    for factor in probe.lr_factors:
        yield {"role": "rate", "lr": probe.base_lr * factor, "is_followed": True}
    for name, lr in zip(probe.other_optimizers, probe.other_lrs, strict=True):
        yield {"role": "optimizer", "optimizer": name, "lr": lr, "is_followed": True}
    for width in probe.widths_sorted:
        ends = width in (probe.narrowest, probe.center)
        yield {
            "role": "ntk",
            "parametrization": "ntk",
            "width": width,
            "optimizer": "sgd",
            "lr": probe.ntk_lr,
            "measured": ("tangent_kernel", "weight_change", *(("linearized_training",) if ends else ())),
        }
    yield {"role": "mup", "parametrization": "mup", "lr": probe.lr_at(probe.narrowest), "is_followed": True}
    for parametrization in ("standard", "mup"):
        for width in probe.widths_sorted:
            yield {
                "role": "coordinates",
                "parametrization": parametrization,
                "width": width,
                "lr": probe.lr_at(probe.narrowest),
                "measured": ("coordinates",),
                "steps": probe.coordinate_steps,
            }
    if probe.control:
        for scale in probe.output_scales:
            measured = ("tangent_kernel", "linearized_training", "weight_change")
            yield {"role": "scale", "output_scale": scale, "lr": probe.lr_at_scale(scale), "measured": measured}
        yield {"role": "shuffled", "measured": ("kernel_regression",)}


def infinite_cells(probe: NeuralTangentKernel) -> tuple[Cell, ...]:
    """Return the cells of infinite width, which no seed changes: one step of a net whose kernels are not looked at."""
    return tuple(
        Cell(
            role="infinite",
            parametrization=parametrization,
            width=probe.narrowest,
            n=n,
            optimizer=probe.optimizer,
            lr=probe.lr_at(probe.narrowest),
            measured=("infinite_regression",),
            steps=1,
        )
        for parametrization in LIMITS
        for n in probe.sizes_sorted
    )


def trials(probe: NeuralTangentKernel) -> tuple[Trial, ...]:
    """Return every trial of a design; a cell's seeds beside each other, so that they can be trained together."""
    design = [_run(probe, cell, seed, seed) for cell in cells(probe) for seed in probe.seed_list]
    first = probe.seed_list[0]
    return (*design, *(_run(probe, cell, first, first) for cell in infinite_cells(probe)))


def bank(probe: NeuralTangentKernel, runs: int) -> tuple[Trial, ...]:
    """Return runs of the center, each with a seed of its own, in which everything is measured."""
    center = cells(probe)[0]
    everything = (*center.measured, "coordinates")
    cell = Cell(**{**vars(center), "measured": everything, "role": "bank"})
    return tuple(_run(probe, cell, BANK_SEEDS + run, run) for run in range(runs))


def _run(probe: NeuralTangentKernel, cell: Cell, seed: int, block: int) -> Trial:
    budget = {"amount": probe.epochs} if cell.steps is None else {"amount": cell.steps, "unit": "steps"}
    recipe = Recipe(
        data=DataConfig(
            name=probe.dataset, n=cell.n, image_size=probe.image_size, shuffle_labels=cell.role == "shuffled"
        ),
        model=ModelConfig(
            name=probe.name_at(cell.width),
            parametrization=cell.parametrization,
            output_scale=cell.output_scale,
            base_width=probe.narrowest,
        ),
        optimizer=OptimizerConfig(name=cell.optimizer, lr=cell.lr),
        budget=BudgetConfig(**budget, batch_size=probe.batch_size),
        label_smoothing=probe.label_smoothing,
        precision=probe.precision,
        seed=seed,
    )
    return Trial(
        recipe=recipe,
        observers=_observers(probe, cell),
        measures=tuple(_measurement(probe, name) for name in cell.measured),
        labels=_labels(recipe, cell, block),
    )


def _observers(probe: NeuralTangentKernel, cell: Cell) -> tuple[Observer, ...]:
    if cell.steps is not None:
        return ()
    followed = Observer(name="kernel", every="epoch", parameters=(("examples", probe.kernel_examples),))
    return (*STANDARD_OBSERVERS, *((followed,) if cell.is_followed else ()))


def _measurement(probe: NeuralTangentKernel, name: str) -> Measurement:
    of_examples = ("tangent_kernel", "feature_alignment", "coordinates")
    parameters: dict[str, Any] = {"examples": probe.kernel_examples} if name in of_examples else {}
    if name in ("kernel_regression", "infinite_regression"):
        parameters = {"test_examples": probe.test_examples}
    return Measurement(name=name, parameters=tuple(parameters.items()))


def _labels(recipe: Recipe, cell: Cell, block: int) -> tuple[tuple[str, Any], ...]:
    labels = {
        "role": cell.role,
        "parametrization": cell.parametrization,
        "dataset": recipe.data.name,
        "model": recipe.model.name,
        "width": cell.width,
        "n": cell.n,
        "optimizer": cell.optimizer,
        "lr": cell.lr,
        "output_scale": cell.output_scale,
        "block": block,
        "seed": recipe.seed,
    }
    return tuple(labels.items())
