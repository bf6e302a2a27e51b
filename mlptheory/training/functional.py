"""The optimizers over stacked weights: one step for all members, each at its own learning rate.

The arithmetic is that of `mlptheory.training.optimizers`, operation by operation, on matrices of shape (M, P).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mlptheory.training.optimizers import DEFAULT_BETAS
from mlptheory.training.recipe import OptimizerConfig
from mlptheory.training.stack import Stack

ADAMW_EPSILON = 1e-8
_MOMENTS = {"lion": ("exp_avg",), "adamw": ("exp_avg", "exp_avg_sq"), "sgd": ("momentum_buffer",)}


class StackedOptimizer:
    """Lion, AdamW, or SGD with momentum and decoupled decay, over the rows of a stack.

    Parameters
    ----------
    stack : Stack
        Its weights are updated in place.
    config : OptimizerConfig
        Of all members, but for the learning rate.
    lrs : sequence of float
        Peak learning rate of each member.
    """

    def __init__(self, stack: Stack, config: OptimizerConfig, lrs: Sequence[float]) -> None:
        self.stack, self.config = stack, config
        self.steps = 0
        self.lrs = torch.tensor(lrs, dtype=stack.weights.dtype, device=stack.weights.device)[:, None]
        names = _MOMENTS[config.name] if config.name != "sgd" or config.momentum else ()
        self.moments = {name: torch.zeros_like(stack.weights) for name in names}
        # Fresh memory of this size is given back to the system at every step, and that costs more than the sums do.
        self._gradients, self._scratch = torch.empty_like(stack.weights), torch.empty_like(stack.weights)

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
        self.stack.write(self._gradients, gradients)
        if self.config.clip_norm is not None:
            # As torch.nn.utils.clip_grad_norm_, member by member.
            norms = torch.linalg.vector_norm(self._gradients, dim=1, keepdim=True)
            self._gradients.mul_((self.config.clip_norm / (norms + 1e-6)).clamp_(max=1.0))
        if self.config.weight_decay:
            self.stack.weights.mul_(1.0 - self.lrs * factor * self.config.weight_decay)
        self.steps += 1
        update = {"lion": self._lion, "adamw": self._adamw, "sgd": self._sgd}[self.config.name]()
        for columns, multiplier in self.stack.groups:
            self.stack.weights[:, columns].addcmul_(update[:, columns], self.lrs * -(factor * multiplier))
        if self.config.name == "lion":
            self.moments["exp_avg"].lerp_(self._gradients, 1.0 - self._betas[1])

    @property
    def _betas(self) -> tuple[float, float]:
        return self.config.betas or DEFAULT_BETAS[self.config.name]

    def _lion(self) -> torch.Tensor:
        beta1 = self._betas[0]
        return torch.lerp(self.moments["exp_avg"], self._gradients, 1.0 - beta1, out=self._scratch).sgn_()

    def _adamw(self) -> torch.Tensor:
        beta1, beta2 = self._betas
        mean, square = self.moments["exp_avg"], self.moments["exp_avg_sq"]
        mean.lerp_(self._gradients, 1.0 - beta1)
        square.mul_(beta2).addcmul_(self._gradients, self._gradients, value=1.0 - beta2)
        torch.sqrt(square, out=self._scratch)
        self._scratch.div_((1.0 - beta2**self.steps) ** 0.5).add_(ADAMW_EPSILON)
        return torch.div(mean, self._scratch, out=self._scratch).div_(1.0 - beta1**self.steps)

    def _sgd(self) -> torch.Tensor:
        if not self.config.momentum:
            return self._gradients
        return self.moments["momentum_buffer"].mul_(self.config.momentum).add_(self._gradients)

    def write_into(self, optimizer: torch.optim.Optimizer, parameters: Mapping[str, torch.Tensor], member: int) -> None:
        """Give torch's own optimizer of one member's parameters the state it would have had."""
        if not self.steps:
            return
        views = {name: self.stack.views(moment[member]) for name, moment in self.moments.items()}
        for path, parameter in parameters.items():
            state = optimizer.state[parameter]
            if self.config.name == "adamw":
                state["step"] = torch.tensor(float(self.steps))
            state.update({name: by_path[path].clone() for name, by_path in views.items()})

    def state(self) -> dict[str, Any]:
        """Return everything that decides the next steps, but for the weights."""
        return {"steps": self.steps, "moments": self.moments}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state that `state` returned."""
        self.steps = state["steps"]
        for name, moment in self.moments.items():
            moment.copy_(state["moments"][name])
