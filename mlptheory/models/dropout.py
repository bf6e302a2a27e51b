"""Dropout whose masks are keyed by (seed, step, layer) and drawn for the whole batch before it is cut up."""

from __future__ import annotations

import torch
from torch import nn

from mlptheory.base import invalid
from mlptheory.base.random import torch_generator


class KeyedDropout(nn.Module):
    r"""In training, :math:`x \odot \text{mask} / (1 - p)`; otherwise x itself.

    The mask is not drawn in the forward pass but by `set_dropout_key` (or handed in as the buffer ``mask``, from
    `dropout_masks`, for one member of an ensemble), so that the same step drops the same units whatever the
    device, the microbatches or the vectorization.

    Parameters
    ----------
    p : float
        Probability of dropping, in [0, 1).
    features : int
        Size of the last axis of the (N, features) or channel axis of the (N, features, H, W) inputs.

    Raises
    ------
    InputError
        If p is outside [0, 1).
    RuntimeError
        On a forward pass in training mode without a mask, or with one for another number of rows.

    Examples
    --------
    >>> layer = KeyedDropout(0.5, features=4)
    >>> set_dropout_key(layer, seed=0, step=0, rows=slice(0, 2), batch_size=2)
    >>> sorted(set(layer(torch.ones(2, 4)).flatten().tolist()))
    [0.0, 2.0]
    """

    def __init__(self, p: float, features: int) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise invalid("dropout", p, "a probability in [0, 1)")
        self.p = p
        self.features = features
        self.register_buffer("mask", None, persistent=False)

    def extra_repr(self) -> str:
        """Return what is printed in the parentheses."""
        return f"p={self.p}, features={self.features}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drop by the mask."""
        if not self.training or self.p == 0:
            return x
        if self.mask is None:
            raise RuntimeError("dropout in training mode needs its masks: call set_dropout_key(model, ...) every step")
        if len(self.mask) != len(x):
            raise RuntimeError(f"the dropout masks are for {len(self.mask)} rows, the input has {len(x)}")
        mask = self.mask.reshape(self.mask.shape + (1,) * (x.dim() - 2))
        return x * mask / (1 - self.p)


def dropout_masks(model: nn.Module, seed: int, step: int, rows: slice, batch_size: int) -> dict[str, torch.Tensor]:
    """Draw the masks of every `KeyedDropout` in a model.

    Each is drawn for the whole logical batch from the key (seed, "dropout", step, index of the layer), then cut
    to the rows.

    Parameters
    ----------
    model : nn.Module
        Any model that holds `KeyedDropout` layers, or none.
    seed, step : int
        The run's seed and the optimizer step.
    rows : slice
        Rows of the logical batch that the next forward pass sees.
    batch_size : int
        Rows of the logical batch.

    Returns
    -------
    dict of str to bool Tensor of shape (rows, features)
        By the buffer's name, as `torch.func.functional_call` takes it; True is kept. On the CPU. Stacked over
        seeds, they are the masks of an ensemble.
    """
    masks = {}
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, KeyedDropout)]
    for index, (name, layer) in enumerate(layers):
        generator = torch_generator(seed, "dropout", step, index)
        draw = torch.rand(batch_size, layer.features, generator=generator, dtype=torch.float32, device="cpu")
        masks[f"{name}.mask" if name else "mask"] = draw[rows] >= layer.p
    return masks


def set_dropout_key(model: nn.Module, seed: int, step: int, rows: slice, batch_size: int) -> None:
    """Set the masks of every `KeyedDropout` in a model for the next forward pass in training mode.

    The masks are those of `dropout_masks`, moved to the model's device. A model without dropout costs nothing.

    Parameters
    ----------
    model : nn.Module
        Any model that holds `KeyedDropout` layers, or none.
    seed, step : int
        The run's seed and the optimizer step.
    rows : slice
        Rows of the logical batch that the next forward pass sees.
    batch_size : int
        Rows of the logical batch.

    Examples
    --------
    Two halves of a batch drop what the whole batch drops:

    >>> layer, batch = KeyedDropout(0.5, features=3), torch.ones(4, 3)
    >>> set_dropout_key(layer, seed=0, step=7, rows=slice(0, 4), batch_size=4)
    >>> whole = layer(batch)
    >>> set_dropout_key(layer, seed=0, step=7, rows=slice(2, 4), batch_size=4)
    >>> torch.equal(layer(batch[2:]), whole[2:])
    True
    """
    for name, mask in dropout_masks(model, seed, step, rows, batch_size).items():
        path, _, _ = name.rpartition("mask")
        device = next((parameter.device for parameter in model.parameters()), mask.device)
        model.get_submodule(path.rstrip(".")).mask = mask.to(device)
