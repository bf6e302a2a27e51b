"""The convex control: softmax regression."""

from __future__ import annotations

import math

import torch

from mlptheory.models.config import ModelConfig
from mlptheory.models.layers import dense
from mlptheory.models.module import ImageModel
from mlptheory.models.names import ParsedName


class Linear(ImageModel):
    r"""Logits that are affine in the pixels, without a hidden layer.

    .. math:: f(x) = W \operatorname{vec}(x) + b

    with vec in (C, H, W) order. Its cross-entropy is convex, so where it ends does not hang on where it starts; it
    starts like the head of any other model. muP is refused, as there is no width that grows.

    Parameters
    ----------
    config : ModelConfig
        Of the name "Linear".
    input_shape : tuple of int
        (C, H, W).
    num_classes : int
        Number of logits.
    seed : int or None
        Of the initialization; None leaves it to `initialize`.

    Examples
    --------
    >>> model = Linear(ModelConfig(name="Linear"), (1, 4, 4), 2, seed=0)
    >>> list(model.intermediates(torch.zeros(3, 1, 4, 4)))
    ['logits']
    """

    family = "Linear"
    first_layer = "head"

    def __init__(
        self, config: ModelConfig, input_shape: tuple[int, int, int], num_classes: int, *, seed: int | None = 0
    ) -> None:
        super().__init__(config, input_shape, num_classes)
        fan_in = math.prod(self.input_shape)
        self.head = dense(fan_in, num_classes, "output", self.config.parametrization, self.width_ratio)
        self._initialize_from(seed)

    def _run(self, x: torch.Tensor, record: dict[str, torch.Tensor] | None) -> torch.Tensor:
        self._check_input(x)
        logits = self._scale_logits(self.head(x.flatten(1)))
        if record is not None:
            record["logits"] = logits
        return logits


def build_linear(
    parsed: ParsedName, config: ModelConfig, input_shape: tuple[int, int, int], num_classes: int
) -> Linear:
    """Build a softmax regression whose parameters are not drawn yet."""
    return Linear(config, input_shape, num_classes, seed=None)
