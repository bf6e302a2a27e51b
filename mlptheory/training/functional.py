"""The optimizers over stacked weights: one step for all members, each at its own learning rate.

The arithmetic is that of `mlptheory.training.optimizers`, on arrays of shape (M, ...).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mlptheory.training.recipe import DEFAULT_BETAS, OptimizerConfig
from mlptheory.training.stack import Stack

ADAMW_EPSILON = 1e-8
_MOMENTS = {"lion": ("exp_avg",), "adamw": ("exp_avg", "exp_avg_sq"), "sgd": ("momentum_buffer",)}


@dataclass(frozen=True)
class _Part:
    """One parameter of all members, its moments, and -lr of each member at the peak, shaped to go with them."""

    weights: torch.Tensor
    moments: tuple[torch.Tensor, ...]
    scratch: torch.Tensor
    rates: torch.Tensor


class StackedOptimizer:
    """Lion, AdamW, or SGD with momentum and decoupled decay, over the rows of a stack.

    One parameter after another, so that what is worked on stays in the cache, and without fresh memory.

    Parameters
    ----------
    stack : Stack
        Its weights are updated in place.
    config : OptimizerConfig
        Of all members, but for the learning rate.
    lrs : sequence of float
        Peak learning rate of each member.
    multipliers : mapping of parameter name to float
        Multiples of the learning rate.
    """

    def __init__(
        self, stack: Stack, config: OptimizerConfig, lrs: Sequence[float], multipliers: Mapping[str, float]
    ) -> None:
        self.stack, self.config = stack, config
        self.steps = 0
        names = _MOMENTS[config.name] if config.name != "sgd" or config.momentum else ()
        self.moments = {name: torch.zeros_like(stack.weights) for name in names}
        self._update = {"lion": self._lion, "adamw": self._adamw, "sgd": self._sgd}[config.name]
        self._peaks = torch.tensor(lrs, dtype=stack.weights.dtype, device=stack.weights.device)
        moments = [stack.views(moment) for moment in self.moments.values()]
        weights = stack.views(stack.weights)
        scratch = stack.weights.new_empty(len(lrs) * max(view[0].numel() for view in weights.values()))
        self._parts = {
            name: _Part(
                weights=view,
                moments=tuple(by_name[name] for by_name in moments),
                scratch=scratch[: view.numel()].as_strided(view.shape, _packed(view)),
                rates=_along(self._peaks, view) * -multipliers[name],
            )
            for name, view in weights.items()
        }

    @torch.no_grad()
    def step(self, gradients: Mapping[str, torch.Tensor], factor: float) -> None:
        """Take one step.

        Parameters
        ----------
        gradients : mapping of str to Tensor of shape (M, ...)
            Of each parameter.
        factor : float
            The learning rates as a multiple of their peak.
        """
        self.steps += 1
        if self.config.clip_norm is not None:
            gradients = _clipped(gradients, self.config.clip_norm)
        if self.config.weight_decay:
            self.stack.weights.mul_(1.0 - self._peaks[:, None] * (factor * self.config.weight_decay))
        for name, gradient in gradients.items():
            self._update(self._parts[name], gradient, factor)

    @property
    def _betas(self) -> tuple[float, float]:
        return self.config.betas or DEFAULT_BETAS[self.config.name]

    def _lion(self, part: _Part, gradient: torch.Tensor, factor: float) -> None:
        beta1, beta2 = self._betas
        (mean,) = part.moments
        direction = torch.lerp(mean, gradient, 1.0 - beta1, out=part.scratch).sgn_()
        part.weights.addcmul_(direction, part.rates * factor)
        mean.lerp_(gradient, 1.0 - beta2)

    def _adamw(self, part: _Part, gradient: torch.Tensor, factor: float) -> None:
        beta1, beta2 = self._betas
        mean, square = part.moments
        mean.lerp_(gradient, 1.0 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
        scale = torch.sqrt(square, out=part.scratch).div_((1.0 - beta2**self.steps) ** 0.5).add_(ADAMW_EPSILON)
        direction = torch.div(mean, scale, out=part.scratch)
        part.weights.addcmul_(direction, part.rates * (factor / (1.0 - beta1**self.steps)))

    def _sgd(self, part: _Part, gradient: torch.Tensor, factor: float) -> None:
        for momentum in part.moments:
            gradient = momentum.mul_(self.config.momentum).add_(gradient)
        part.weights.addcmul_(gradient, part.rates * factor)

    def write_into(self, optimizer: torch.optim.Optimizer, parameters: Mapping[str, torch.Tensor], member: int) -> None:
        """Give torch's own optimizer of one member's parameters the state it would have had."""
        if not self.steps or not self.moments:
            return
        views = {name: self.stack.views(moment[member]) for name, moment in self.moments.items()}
        names = {parameter: name for name, parameter in parameters.items()}
        for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
            state = optimizer.state[parameter]
            if self.config.name == "adamw":
                state["step"] = torch.tensor(float(self.steps))
            state.update({name: by_path[names[parameter]].clone() for name, by_path in views.items()})

    def state(self) -> dict[str, Any]:
        """Return everything that decides the next steps, but for the weights."""
        return {"steps": self.steps, "moments": self.moments}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state that `state` returned."""
        self.steps = state["steps"]
        for name, moment in self.moments.items():
            moment.copy_(state["moments"][name])


def _along(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Shape one value a member, (M,), to go with an array (M, ...)."""
    return values.view(-1, *[1] * (like.dim() - 1))


def _packed(view: torch.Tensor) -> tuple[int, ...]:
    """Return the strides that an array has in the order of a view's memory, without its gaps."""
    return torch.empty_like(view, memory_format=torch.preserve_format, device="meta").stride()


def _clipped(gradients: Mapping[str, torch.Tensor], largest: float) -> dict[str, torch.Tensor]:
    """Scale each member's gradients as torch.nn.utils.clip_grad_norm_ does."""
    arrays = [each if each.dim() > 1 else each[:, None] for each in gradients.values()]
    norms = [torch.linalg.vector_norm(each, dim=tuple(range(1, each.dim()))) for each in arrays]
    total = torch.linalg.vector_norm(torch.stack(norms), dim=0)
    factors = (largest / (total + 1e-6)).clamp_(max=1.0)
    return {name: each * _along(factors, each) for name, each in gradients.items()}
