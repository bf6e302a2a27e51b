"""Optimizers and the learning rate over a run.

Single runs use the field's own implementations: lion-pytorch's Lion (its arithmetic, `mlptheory.training.lion`),
torch's AdamW and SGD. Weight decay is
decoupled for all three: at learning rate η and decay λ a step first multiplies every weight by 1 - ηλ. Where
the parametrization gives a parameter its own multiple of the learning rate, its decay per step stays ηλ; a head with a
learning rate η' of its own decays by η'λ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from mlptheory.base.errors import InputError
from mlptheory.training.copies import WeightCopies
from mlptheory.training.lion import BlockedLion
from mlptheory.training.recipe import DEFAULT_BETAS, OptimizerConfig, ScheduleConfig


def build_optimizer(
    model: nn.Module,
    config: OptimizerConfig,
    multipliers: Mapping[str, float] | None = None,
    copies: WeightCopies | None = None,
) -> torch.optim.Optimizer:
    """Build the optimizer of a recipe over a model's trainable parameters.

    Parameters
    ----------
    model : nn.Module
    config : OptimizerConfig
    multipliers : mapping of parameter name to float, optional
        Multiples of the learning rate, 1 where absent (μP); the head's own learning rate comes on top.
    copies : WeightCopies, optional
        What Lion takes gradients from and keeps up to date; the other optimizers know nothing of them.

    Returns
    -------
    torch.optim.Optimizer
        Its groups carry "lr_multiplier" and, for SGD, "decoupled_decay".

    Raises
    ------
    InputError
        If the head has a learning rate of its own and the model no head.
    """
    head = {id(parameter) for parameter in _head(model).parameters()} if config.head_lr is not None else set()
    by_factors: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            multiplier = 1.0 if multipliers is None else multipliers.get(name, 1.0)
            own = config.head_lr / config.lr if id(parameter) in head else 1.0
            by_factors.setdefault((multiplier, own), []).append(parameter)
    groups = [
        {
            "params": parameters,
            "lr": config.lr * multiplier * own,
            "weight_decay": config.weight_decay / multiplier,
            "lr_multiplier": multiplier * own,
        }
        for (multiplier, own), parameters in by_factors.items()
    ]
    if config.name == "sgd":
        return DecoupledSGD(groups, lr=config.lr, momentum=config.momentum)
    betas = config.betas or DEFAULT_BETAS[config.name]
    if config.name == "lion":
        return BlockedLion(groups, lr=config.lr, betas=betas, copies=copies)
    return torch.optim.AdamW(groups, lr=config.lr, betas=betas)


def _head(model: nn.Module) -> nn.Module:
    head = getattr(model, "head", None)
    if not isinstance(head, nn.Module):
        raise InputError(
            f"optimizer.head_lr: expected a model with a head, {type(model).__name__} has none of that name"
        )
    return head


class DecoupledSGD(torch.optim.SGD):
    """SGD with momentum whose weight decay acts on the weights and stays out of the momentum."""

    def __init__(self, groups: list[dict], *, lr: float, momentum: float) -> None:
        groups = [{**group, "decoupled_decay": group["weight_decay"], "weight_decay": 0.0} for group in groups]
        super().__init__(groups, lr=lr, momentum=momentum)

    @torch.no_grad()
    def step(self, closure=None):
        """Shrink the weights, then take SGD's step."""
        for group in self.param_groups:
            if group["decoupled_decay"]:
                with_gradients = [parameter for parameter in group["params"] if parameter.grad is not None]
                torch._foreach_mul_(with_gradients, 1.0 - group["lr"] * group["decoupled_decay"])
        return super().step(closure)


def lr_factor(schedule: ScheduleConfig, step: int, total_steps: int) -> float:
    """Return the learning rate of a step as a multiple of its peak.

    Parameters
    ----------
    schedule : ScheduleConfig
    step : int
        Steps taken before this one, from 0 to `total_steps` - 1.
    total_steps : int
        Length of the run.

    Returns
    -------
    float
        min(1, (step + 1) / warmup) during warm-up; afterwards 1, or (1 + cos(π s / S)) / 2 for the cosine with
        s the steps since the warm-up's end and S the steps from there to the run's end.

    Examples
    --------
    >>> cosine = ScheduleConfig(name="cosine", warmup=2)
    >>> [round(lr_factor(cosine, step, 6), 3) for step in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if step < schedule.warmup:
        return (step + 1) / schedule.warmup
    if schedule.name == "constant":
        return 1.0
    after, length = step - schedule.warmup, max(1, total_steps - schedule.warmup)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, after / length)))


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its multiple of `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_multiplier"]
