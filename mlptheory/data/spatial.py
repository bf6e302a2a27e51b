"""The random operators of a batch: crop and resize, then flip, then shift, as one pair of matrices per image."""

from __future__ import annotations

import copy
from functools import cached_property

import numpy as np
import torch

from mlptheory.base.random import uniform
from mlptheory.data.augmentation import Augmentation
from mlptheory.data.crops import random_resized_crop_boxes
from mlptheory.data.operators import crop_resize_matrix, resize_matrix, shift_matrix, taps_in_a_row
from mlptheory.data.resampling import Taps
from mlptheory.data.sending import sent

# Above this, matrices of all windows would cost more memory than they save time.
_BANK_BYTES = 128 * 2**20
# Of windows that are tabulated at a time.
_NUMBERS = 2**20


class RandomOperators:
    """Draw operators keyed by (seed, epoch, example), for images of one size.

    Parameters
    ----------
    augmentation : Augmentation
        What is drawn.
    size_in, size_out : tuple (H, W)
        Of the dataset's images and of the network's.
    seed : int
        Of the run.
    device : torch.device
        Where the matrices are wanted.
    dtype : torch.dtype
        Of the matrices.
    sparse : bool
        Whether `draw` returns their few numbers (`Taps`).
    """

    def __init__(
        self,
        augmentation: Augmentation,
        size_in: tuple[int, int],
        size_out: tuple[int, int],
        *,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
        sparse: bool = False,
    ) -> None:
        self.augmentation = augmentation
        self.size_in, self.size_out = size_in, size_out
        self.seed = seed
        arguments = {"device": device, "dtype": dtype}
        cropped = augmentation.crop_scale is not None
        self._rows = _Axis(size_in[0], size_out[0], cropped, False, augmentation, **arguments)
        self._columns = _Axis(size_in[1], size_out[1], cropped, augmentation.flip, augmentation, **arguments)
        self.sparse = sparse

    def reseeded(self, seed: int) -> RandomOperators:
        """Return the same operators under another seed, sharing their tables."""
        other = copy.copy(self)
        other.seed = seed
        return other

    def draw(self, epoch: int, examples: np.ndarray) -> tuple[torch.Tensor | Taps | None, torch.Tensor | Taps | None]:
        """Return the matrices for rows and columns of each example.

        Parameters
        ----------
        epoch : int
            Of the training.
        examples : ndarray of int, shape (B,)
            Indices.

        Returns
        -------
        rows, columns : Tensor, shape (B or 1, h, H) and (B or 1, w, W), or None
            None stands for the identity. Where `sparse`, as `Taps`.
        """
        augmentation = self.augmentation
        boxes = flips = shifts = None
        if augmentation.crop_scale is not None:
            boxes = random_resized_crop_boxes(
                self.seed, epoch, examples, self.size_in, augmentation.crop_scale, augmentation.crop_ratio
            )
        if augmentation.flip:
            flips = uniform(self.seed, "flip", epoch, examples, 1)[:, 0] < 0.5
        if augmentation.shift:
            draws = uniform(self.seed, "shift", epoch, examples, 2)
            shifts = np.floor(draws * (2 * augmentation.shift + 1)).astype(np.int64) - augmentation.shift
        rows, columns = (None, None) if boxes is None else (boxes[:, 0::2], boxes[:, 1::2])
        down, right = (None, None) if shifts is None else shifts.T
        if self.sparse:
            return self._rows.taps(rows, None, down), self._columns.taps(columns, flips, right)
        return self._rows.matrices(rows, None, down), self._columns.matrices(columns, flips, right)


class _Axis:
    """The matrices of one axis, tabulated where there are few of them: fetching one is cheaper than building it."""

    def __init__(
        self,
        size_in: int,
        size_out: int,
        cropped: bool,
        flipped: bool,
        augmentation: Augmentation,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.size_in, self.size_out = size_in, size_out
        self.cropped, self.flipped = cropped, flipped
        self.augmentation = augmentation
        self.device, self.dtype = device, dtype

    def matrices(
        self, windows: np.ndarray | None, flips: np.ndarray | None, shifts: np.ndarray | None
    ) -> torch.Tensor | None:
        matrices = self._crop_and_flip(windows, flips)
        if shifts is None:
            return matrices
        moved = self._fetch(self._shift_bank, shifts + self.augmentation.shift)
        return moved if matrices is None else moved @ matrices

    def _crop_and_flip(self, windows: np.ndarray | None, flips: np.ndarray | None) -> torch.Tensor | None:
        if windows is None and flips is None:
            return None if self.size_in == self.size_out else self._bank[:1]
        if windows is None or self._tabulated:
            return self._fetch(self._bank, self._places(windows, flips))
        starts, lengths = windows.T
        matrices = crop_resize_matrix(
            sent(starts.copy(), self.device),
            sent(lengths.copy(), self.device),
            self.size_in,
            self.size_out,
            dtype=self.dtype,
        )
        if flips is None:
            return matrices
        return torch.where(sent(flips, self.device)[:, None, None], matrices.flip(1), matrices)

    def taps(self, windows: np.ndarray | None, flips: np.ndarray | None, shifts: np.ndarray | None) -> Taps | None:
        """Return what `matrices` returns, by the numbers that are not 0."""
        found = None
        if windows is not None and not self._has_room_for_taps:
            found = self._taps_of(*(torch.from_numpy(own.copy()) for own in windows.T))
            found = found if flips is None else found.flipped_where(torch.from_numpy(flips))
        elif windows is not None or flips is not None:
            found = self._tap_bank.select(sent(self._places(windows, flips), self.device))
        elif self.size_in != self.size_out or shifts is not None:
            found = self._tap_bank.select(torch.zeros(1, dtype=torch.int64, device="cpu"))
        if shifts is not None:
            found = found.shifted(sent(shifts.copy(), self.device), self.augmentation.shift_mode == "cyclic")
        return found

    def _taps_of(self, starts: torch.Tensor, lengths: torch.Tensor) -> Taps:
        return Taps.of_windows(starts, lengths, self.size_in, self.size_out)

    def _places(self, windows: np.ndarray | None, flips: np.ndarray | None) -> np.ndarray:
        """Return the positions in a table of windows and flips."""
        flip = 0 if flips is None else flips.astype(np.int64)
        return flip if windows is None else flip * self._window_count + self._window_index[tuple(windows.T)]

    def _fetch(self, bank: torch.Tensor, indices: np.ndarray) -> torch.Tensor:
        return bank.index_select(0, sent(np.asarray(indices), self.device))

    @property
    def _window_count(self) -> int:
        return self.size_in * (self.size_in + 1) // 2 if self.cropped else 1

    @property
    def _tabulated(self) -> bool:
        size = self._window_count * (1 + self.flipped) * self.size_in * self.size_out * self.dtype.itemsize
        return size <= _BANK_BYTES

    @property
    def _has_room_for_taps(self) -> bool:
        # And where they begin.
        in_a_row = 1 + taps_in_a_row(self.size_in, self.size_out)
        return 4 * self._window_count * (1 + self.flipped) * self.size_out * in_a_row <= _BANK_BYTES

    @cached_property
    def _window_index(self) -> np.ndarray:
        """Position in the table of each window, by (start, length)."""
        index = np.full((self.size_in, self.size_in + 1), -1)
        starts, lengths = self._windows
        index[starts, lengths] = np.arange(len(starts))
        return index

    @property
    def _windows(self) -> tuple[np.ndarray, np.ndarray]:
        starts, lengths = np.mgrid[: self.size_in, 1 : self.size_in + 1]
        inside = starts + lengths <= self.size_in
        return starts[inside], lengths[inside]

    @cached_property
    def _bank(self) -> torch.Tensor:
        if self.cropped:
            starts, lengths = (torch.from_numpy(values) for values in self._windows)
            bank = crop_resize_matrix(starts, lengths, self.size_in, self.size_out, dtype=self.dtype)
        else:
            bank = resize_matrix(self.size_in, self.size_out, dtype=self.dtype)[None]
        return (torch.cat([bank, bank.flip(1)]) if self.flipped else bank).to(self.device)

    @cached_property
    def _tap_bank(self) -> Taps:
        windows = self._windows if self.cropped else (np.zeros(1, dtype=np.int64), np.array([self.size_in]))
        at_a_time = max(1, _NUMBERS // (self.size_out * taps_in_a_row(self.size_in, self.size_out)))
        some = (torch.from_numpy(values).split(at_a_time) for values in windows)
        parts = [self._taps_of(*part) for part in zip(*some, strict=True)]
        parts += [part.flipped() for part in parts] if self.flipped else []
        return Taps(*(torch.cat(own) for own in zip(*parts, strict=True)))

    @cached_property
    def _shift_bank(self) -> torch.Tensor:
        reach, mode = self.augmentation.shift, self.augmentation.shift_mode
        return torch.stack(
            [shift_matrix(offset, self.size_out, mode, self.dtype) for offset in range(-reach, reach + 1)]
        ).to(self.device)
