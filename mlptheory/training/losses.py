"""The training loss, and what counts as a hit, example by example."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from mlptheory.data import Batch


def smoothed_cross_entropy(
    logits: torch.Tensor, batch: Batch, label_smoothing: float, rows: slice = slice(None)
) -> torch.Tensor:
    """Return the training loss of each example, shape (B,), in nats.

    Cross-entropy against (1 - α) onehot(y) + α/C; under MixUp λ · CE(y) + (1 - λ) · CE(y of the partner),
    each smoothed.
    """
    loss = F.cross_entropy(logits, batch.targets[rows], label_smoothing=label_smoothing, reduction="none")
    if batch.mix is None or batch.partners is None:
        return loss
    partner = F.cross_entropy(logits, batch.partners[rows], label_smoothing=label_smoothing, reduction="none")
    mix = batch.mix[rows]
    return mix * loss + (1 - mix) * partner


def hits(logits: torch.Tensor, batch: Batch, rows: slice = slice(None)) -> torch.Tensor:
    """Return 1 for each correct example, shape (B,), under MixUp each label weighing its share."""
    best = logits.argmax(dim=1)
    correct = (best == batch.targets[rows]).to(logits.dtype)
    if batch.mix is None or batch.partners is None:
        return correct
    mix = batch.mix[rows]
    return mix * correct + (1 - mix) * (best == batch.partners[rows]).to(logits.dtype)
