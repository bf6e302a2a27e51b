"""What a loader yields: inputs and targets of one logical batch, or of one process's rows of it."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Batch(NamedTuple):
    """One logical batch: what the optimizer sees in one step, before any cut into parts.

    Attributes
    ----------
    inputs : Tensor of float, shape (B, C, H, W)
        Normalized, augmented, mixed, permuted.
    targets : Tensor of int64, shape (B,)
        Labels.
    partners : Tensor of int64, shape (B,), or None
        Labels of the examples that were mixed in; None without MixUp.
    mix : Tensor of float, shape (B,), or None
        Weight of the example itself; its partner has the rest.
    examples : Tensor of int64, shape (B,)
        Indices in the dataset.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    partners: torch.Tensor | None
    mix: torch.Tensor | None
    examples: torch.Tensor

    @property
    def first(self) -> int:
        """Position of the first row in the logical batch."""
        return 0

    @property
    def logical_size(self) -> int:
        """Rows of the logical batch."""
        return len(self.targets)


class BatchShard(Batch):
    """One process's rows of a logical batch.

    Parameters
    ----------
    rows : Batch
        They alone.
    first : int
        Position of the first of them in the logical batch.
    logical_size : int
        Rows of the logical batch.
    """

    def __new__(cls, rows: Batch, first: int, logical_size: int) -> BatchShard:
        """Say of rows where they belong."""
        shard = super().__new__(cls, *rows)
        shard._first, shard._logical_size = first, logical_size
        return shard

    @property
    def first(self) -> int:
        """Position of the first row in the logical batch."""
        return self._first

    @property
    def logical_size(self) -> int:
        """Rows of the logical batch."""
        return self._logical_size
