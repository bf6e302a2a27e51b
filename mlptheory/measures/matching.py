r"""Weight matching: the order of one net's hidden units in which its weights are closest to another net's."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mlptheory.base.configuration import require_integer
from mlptheory.base.errors import InputError
from mlptheory.measures.convention import convention
from mlptheory.measures.hidden_units import Groups, group_size, hidden_groups, permute_hidden_units

_CONVENTION = (
    "minimizes the Euclidean distance of all parameters (weights, biases, scales and shifts; no running statistics), "
    "by coordinate descent over groups of units, exact in each; new unit i is old unit permutation[i]"
)
_LEAST_GAIN = 1e-12
_Orders = dict[str, np.ndarray]


@dataclass(frozen=True)
class HiddenUnitMatching:
    """A net with its hidden units in the order of another net's.

    Attributes
    ----------
    model : nn.Module
        The second model, permuted: a copy of its own that computes the same function.
    permutations : dict of str to Tensor of int64
        As `permute_hidden_units` takes them: unit i of the copy is unit ``permutation[i]`` of the second model.
    distance_before, distance : float
        ‖θ_A - θ_B‖ over all parameters, before and after.
    sweeps : int
        Passes over all groups, the last of which changed nothing if converged.
    converged : bool
        Whether no group can be improved by itself; another start may still end closer.
    convention : str
        What was computed.
    """

    model: nn.Module
    permutations: dict[str, torch.Tensor]
    distance_before: float
    distance: float
    sweeps: int
    converged: bool
    convention: str = _CONVENTION


@convention(_CONVENTION)
def match_hidden_units(model_a: nn.Module, model_b: nn.Module, *, max_sweeps: int = 100) -> HiddenUnitMatching:
    r"""Permute the hidden units of a net so that its weights come as close as possible to another net's.

    .. math:: \min_\pi \|\theta_A - \pi(\theta_B)\|^2 \quad \Leftrightarrow \quad
              \max_\pi \langle \theta_A, \pi(\theta_B) \rangle

    Weight matching of Ainsworth, Hayase & Srinivasa (2023), "Git Re-Basin": with all other groups of units held, the
    best permutation of one is a linear assignment, solved exactly; group after group from input to head, until none
    gets closer. The joint problem is NP-hard and what is found a local optimum. Two starts are tried, and the closer
    end is kept: the order that the units have, and one where each group is matched by what it shares with the inputs,
    the outputs and groups before it. The result is therefore never farther than before, and a permuted copy of a net
    is put in order exactly, if no two units of a group have the same incoming weights and bias.

    Where a stream's permutation acts on both sides of one matrix (S-MLP with skips), its step is no linear assignment:
    it is linearized there, and taken only if the distance falls.

    Parameters
    ----------
    model_a : nn.Module
        S-MLP, B-MLP, MLP, or an nn.Sequential of dense layers, elementwise activations, dropout, LayerNorm and
        BatchNorm1d.
    model_b : nn.Module
        Of the same architecture. Both are left as they are.
    max_sweeps : int
        Stop, not converged, after as many passes from a start.

    Returns
    -------
    HiddenUnitMatching

    Raises
    ------
    InputError
        If hidden units of such a model are not known, the models' parameters differ in name or shape, or one is not
        finite.

    Notes
    -----
    A sweep costs the products of all weight matrices with each other, in float64 on the CPU, and an assignment of m
    units O(m³) at worst.

    Examples
    --------
    >>> a = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    >>> b = permute_hidden_units(a, {"0": torch.tensor([2, 0, 3, 1])})
    >>> matching = match_hidden_units(a, b)
    >>> matching.permutations["0"], matching.distance
    (tensor([1, 3, 0, 2]), 0.0)
    """
    require_integer("max_sweeps", max_sweeps, 1)
    groups = hidden_groups(model_a)
    a, b = _parameters("model_a", model_a), _parameters("model_b", model_b)
    _check_same_architecture(groups, hidden_groups(model_b), a, b)
    problem = _Problem(groups, a, b)
    as_they_are = {group: np.arange(group_size(a, members)) for group, members in groups.items()}
    ends = [problem.descend(start, max_sweeps) for start in (as_they_are, problem.matched_in_turn())]
    orders, sweeps, converged = max(ends, key=lambda end: problem.similarity(end[0], a))
    permutations = {group: torch.from_numpy(order) for group, order in orders.items()}
    return HiddenUnitMatching(
        model=permute_hidden_units(model_b, permutations),
        permutations=permutations,
        distance_before=problem.distance(as_they_are),
        distance=problem.distance(orders),
        sweeps=sweeps,
        converged=converged,
    )


class _Problem:
    """Two nets' parameters, and which axes of them may be permuted."""

    def __init__(self, groups: Groups, a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
        self.a, self.b = a, b
        self.members = {group: [(n, axis) for n, axis in members if n in a] for group, members in groups.items()}
        self.axes = {name: [] for name in a}
        for group, members in self.members.items():
            for name, axis in members:
                self.axes[name].append((axis, group))

    def permuted(self, name: str, orders: _Orders, but_axis: int | None = None) -> np.ndarray:
        """Return a parameter of the second net in the given orders, but for one axis."""
        value = self.b[name]
        for axis, group in self.axes[name]:
            if axis != but_axis:
                value = value.take(orders[group], axis)
        return value

    def similarity(self, orders: _Orders, names: Iterable[str]) -> float:
        """Return the inner product of the two nets' parameters."""
        return math.fsum(float(np.vdot(self.a[name], self.permuted(name, orders))) for name in names)

    def distance(self, orders: _Orders) -> float:
        """Return the Euclidean distance of the two nets' parameters."""
        return math.sqrt(
            math.fsum(float(np.square(self.a[name] - self.permuted(name, orders)).sum()) for name in self.a)
        )

    def matched_in_turn(self) -> _Orders:
        """Match group after group by those axes alone whose other axes are fixed or matched."""
        orders: _Orders = {}
        for group in self.members:
            known = [
                (name, axis)
                for name, axis in self.members[group]
                if all(other in orders for other_axis, other in self.axes[name] if other_axis != axis)
            ]
            orders[group] = self._assigned(known, orders)
        return orders

    def descend(self, start: _Orders, max_sweeps: int) -> tuple[_Orders, int, bool]:
        """Return orders in which no group can be improved by itself, the sweeps taken, and whether it came to that."""
        orders = dict(start)
        for sweep in range(1, max_sweeps + 1):
            if not any([self._improve(group, orders) for group in self.members]):
                return orders, sweep, True
        return orders, max_sweeps, False

    def _improve(self, group: str, orders: _Orders) -> bool:
        members = self.members[group]
        names = {name for name, _ in members}
        tried = {**orders, group: self._assigned(members, orders)}
        before, after = self.similarity(orders, names), self.similarity(tried, names)
        scale = sum(float(np.square(self.a[name]).sum() + np.square(self.b[name]).sum()) for name in names)
        better = after - before > _LEAST_GAIN * scale
        if better:
            orders[group] = tried[group]
        return better

    def _assigned(self, members: list[tuple[str, int]], orders: _Orders) -> np.ndarray:
        """Return the order with the largest sum of products, unit by unit, over some axes."""
        from scipy.optimize import linear_sum_assignment

        products = 0.0
        for name, axis in members:
            ours, theirs = self.a[name], self.permuted(name, orders, but_axis=axis)
            rows = [np.moveaxis(value, axis, 0).reshape(value.shape[axis], -1) for value in (ours, theirs)]
            products = products + rows[0] @ rows[1].T
        return linear_sum_assignment(products, maximize=True)[1]


def _parameters(argument: str, model: nn.Module) -> dict[str, np.ndarray]:
    values = {name: value.detach().cpu().double().numpy() for name, value in model.named_parameters()}
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise InputError(f"{argument}: {name} is not finite")
    return values


def _check_same_architecture(
    groups: Groups, others: Groups, a: dict[str, np.ndarray], b: dict[str, np.ndarray]
) -> None:
    for name in [*a, *b]:
        shapes = tuple(side[name].shape if name in side else None for side in (a, b))
        if shapes[0] != shapes[1]:
            raise InputError(f"model_a, model_b: expected the same shape of {name!r} in both, found {shapes}")
    if groups != others:
        raise InputError("model_a, model_b: expected the same architecture, found hidden units that are used otherwise")
