"""Training a model's head alone: the features it is given are computed once."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from mlptheory.base.errors import InputError
from mlptheory.data import Batch, BatchShard, Loader
from mlptheory.training.device import autocast

_AT_ONCE = 1024


class Head:
    """The function from features to logits, with a model's body held fixed.

    Parameters
    ----------
    model : nn.Module
        With a module `head` whose output, times `config.output_scale` of a built-in model, is the logits. Gradients of
        all other parameters are switched off, for good.

    Raises
    ------
    InputError
        If the model has no head.
    """

    def __init__(self, model: nn.Module) -> None:
        head = getattr(model, "head", None)
        if not isinstance(head, nn.Module):
            raise InputError(
                f"trained = 'head': expected a model with a head, {type(model).__name__} has none of that name"
            )
        self.model, self.head = model, head
        self._scale = getattr(getattr(model, "config", None), "output_scale", 1.0)
        model.requires_grad_(False)
        head.requires_grad_(True)

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits (N, C) of features (N, m)."""
        logits = self.head(features)
        return logits if self._scale == 1 else logits * self._scale

    @torch.no_grad()
    def features(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return what the head is given for images, (N, m), in evaluation mode.

        Raises
        ------
        InputError
            If the model's outputs are not those of its head.
        """
        seen: list[torch.Tensor] = []
        handle = self.head.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
        try:
            logits = self.model.eval()(inputs)
        finally:
            handle.remove()
        if len(seen) != 1 or not torch.equal(self(seen[0]), logits):
            raise InputError("trained = 'head': expected a model whose outputs are those of its head, called once")
        return seen[0]


class FeatureLoader:
    """The batches of a loader, with features of the images in their place: the same examples in the same order.

    Parameters
    ----------
    loader : Loader
        Without augmentation.
    head : Head
        Of the model that gives the features.
    precision : str
        Of the pass that computes them.
    """

    def __init__(self, loader: Loader, head: Head, precision: str) -> None:
        self._loader, self.input_shape = loader, loader.input_shape
        everyone = loader.shard(0, 1)
        everyone.shuffle, everyone.drop_last = False, False
        everyone.batch_size = min(_AT_ONCE, len(loader.dataset))
        with autocast(precision, str(loader.device)):
            self._features = torch.cat([head.features(batch.inputs) for batch in everyone.batches(epoch=0)])
        self._labels = loader.dataset.labels.to(loader.device)

    def __len__(self) -> int:
        """Batches per epoch."""
        return len(self._loader)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from batch `start` on."""
        size = self._loader.batch_size
        order = torch.from_numpy(self._loader.order(epoch)).to(self._labels.device)
        for first in range(start * size, len(self) * size, size):
            batch = order[first : first + size]
            rows = self._loader.rows(len(batch))
            examples = batch[rows]
            own = Batch(self._features[examples], self._labels[examples], None, None, examples)
            yield BatchShard(own, rows.start, len(batch))
