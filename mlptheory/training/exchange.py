"""What the processes of a run exchange in a step: gradients, losses and hits, summed."""

from __future__ import annotations

import torch
from torch import nn

from mlptheory.training.parallel import World


class Exchange:
    """The sums of one step over the processes of a run; of a process by itself, what it noted.

    Parameters
    ----------
    model : nn.Module
        Its parameters' gradients are summed, in place.
    world : World
    """

    def __init__(self, model: nn.Module, world: World) -> None:
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._world = world
        self._seen: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._reached: list[bool] | None = None

    def note(self, loss: torch.Tensor, hits: torch.Tensor) -> None:
        """Note the loss of a backward pass and its hits, two scalars."""
        self._seen.append((loss, hits))

    def finish(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Sum gradients, losses and hits over all processes.

        Returns
        -------
        list of (loss, hits)
            Of each pass or, where there are several processes, of the step.
        """
        seen, self._seen = self._seen, []
        if self._world.size == 1:
            return seen
        some = self._parameters[0]
        figures = some.new_zeros(2, dtype=torch.promote_types(some.dtype, torch.float32))
        for loss, hits in seen:
            figures += torch.stack([loss, hits])
        self._world.add([*self._gradients(), figures])
        return [(figures[0], figures[1])]

    def _gradients(self) -> list[torch.Tensor]:
        """Return the gradients of all parameters that the loss reaches; those of a process without rows are zero."""
        if self._reached is None:
            self._reached = self._reached_anywhere()
        found = []
        for parameter, is_reached in zip(self._parameters, self._reached, strict=True):
            if parameter.grad is None and is_reached:
                parameter.grad = torch.zeros_like(parameter)
            if (parameter.grad is not None) != is_reached:
                raise RuntimeError("the loss reached a parameter that it had not in the first step of this run")
            if parameter.grad is not None:
                found.append(parameter.grad)
        return found

    def _reached_anywhere(self) -> list[bool]:
        # What the loss does not reach has no gradient rather than one of zero, as the optimizers leave it alone then.
        told = self._world.gather("".join(str(int(each.grad is not None)) for each in self._parameters))
        return [any(digit == "1" for digit in digits) for digits in zip(*told, strict=True)]
