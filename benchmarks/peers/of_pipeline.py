"""What the pipeline is compared with: the authors' design (Bachmann et al. 2023), by FFCV's pipeline or torch's."""

import contextlib
import math
import queue
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import torch
from lion_pytorch import Lion
from torch import nn
from torch.nn import functional as F

from mlptheory.data import Dataset, Normalization

SCALE, RATIO, ALPHA, SMOOTHING, LR = (0.08, 1.0), (3 / 4, 4 / 3), 0.8, 0.3, 5e-5
Theirs = tuple[torch.Tensor, torch.Tensor]


class Unavailable(Exception):
    """A peer that is not here."""


def ffcv_batches(
    dataset: Dataset, normalization: Normalization, batch_size: int, threads: int, device: str, folder: Path
) -> Callable[[], Iterator[Theirs]]:
    """Return epochs of FFCV's loader with the authors' operators: images, and labels beside their partners' and λ."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from ffcv import transforms
            from ffcv.fields import IntField, RGBImageField
            from ffcv.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
            from ffcv.loader import Loader, OrderOption
            from ffcv.transforms.common import Squeeze
            from ffcv.writer import DatasetWriter
    except ImportError as error:
        raise Unavailable(f"cannot be imported ({error.name})") from error
    path = folder / f"{dataset.name}.beton"
    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
    DatasetWriter(str(path), fields, num_workers=1).from_indexed_dataset(_Samples(dataset))
    side = dataset.image_shape[1]
    to_device = [] if device == "cpu" else [transforms.ToDevice(torch.device(device), non_blocking=True)]
    loader = Loader(
        str(path),
        batch_size=batch_size,
        num_workers=threads,
        order=OrderOption.QUASI_RANDOM,
        drop_last=True,
        os_cache=True,
        pipelines={
            "image": [
                RandomResizedCropRGBImageDecoder((side, side), scale=SCALE, ratio=RATIO),
                transforms.RandomHorizontalFlip(),
                transforms.ImageMixup(alpha=ALPHA, same_lambda=True),
                transforms.ToTensor(),
                *to_device,
                transforms.ToTorchImage(),
                transforms.Convert(torch.float32),
                _Normalize(normalization, device),
            ],
            "label": [
                IntDecoder(),
                transforms.LabelMixup(alpha=ALPHA, same_lambda=True),
                transforms.ToTensor(),
                *to_device,
                Squeeze(),
            ],
        },
    )

    def epoch() -> Iterator[Theirs]:
        batches = iter(loader)
        try:
            yield from batches
        finally:
            # Its thread computes with torch too. While it lives, OpenMP counts more threads than cores and lets all of
            # them sleep between two operations, the next way's as well.
            batches.close()
            while batches.is_alive():
                with contextlib.suppress(queue.Empty):
                    batches.output_queue.get(timeout=0.1)

    return epoch


class _Normalize(nn.Module):
    """torchvision's Normalize, which not every torch can import: a copy, less the mean, over the standard deviation."""

    def __init__(self, normalization: Normalization, device: str) -> None:
        super().__init__()
        for name in ("mean", "std"):
            value = 255 * torch.tensor(getattr(normalization, name), device=device)[:, None, None]
            self.register_buffer(name, value)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.clone().sub_(self.mean).div_(self.std)


class _Samples:
    """What FFCV's writer takes: images of shape (H, W, C), and labels."""

    def __init__(self, dataset: Dataset) -> None:
        self.images, self.labels = dataset.images.permute(0, 2, 3, 1).contiguous().numpy(), dataset.labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        return self.images[index], self.labels[index]


def torch_batches(
    dataset: Dataset, normalization: Normalization, batch_size: int, device: str
) -> Callable[[], Iterator[Theirs]]:
    """Return epochs of the same operators in torch alone: a sampling grid for each image crops, resizes and flips."""
    images, labels = dataset.images.to(device), dataset.labels.to(device)
    normalize = _Normalize(normalization, device)

    def epoch() -> Iterator[Theirs]:
        order = torch.randperm(len(labels), device=device)
        for chosen in order.split(batch_size)[: len(labels) // batch_size]:
            moved = _cropped_and_flipped(images[chosen].float())
            weight = torch.distributions.Beta(ALPHA, ALPHA).sample().to(device)
            mixed = (weight * moved + (1 - weight) * moved.roll(1, 0)).byte()
            own = labels[chosen].float()
            mixed_labels = torch.stack([own, own.roll(1), weight.expand(len(own))], dim=1)
            yield normalize(mixed.float()), mixed_labels

    return epoch


def _cropped_and_flipped(images: torch.Tensor) -> torch.Tensor:
    n, device = len(images), images.device
    area = SCALE[0] + (SCALE[1] - SCALE[0]) * torch.rand(n, device=device)
    low, high = map(math.log, RATIO)
    ratio = torch.exp(low + (high - low) * torch.rand(n, device=device))
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    sign = 1.0 - 2.0 * torch.randint(2, (n,), device=device)
    place_x, place_y = ((2 * torch.rand(n, device=device) - 1) * (1 - extent) for extent in (width, height))
    zero = torch.zeros_like(width)
    rows = torch.stack([sign * width, zero, place_x, zero, height, place_y], dim=1).view(n, 2, 3)
    grid = F.affine_grid(rows, images.shape, align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def authors_step(model: nn.Module) -> Callable[[Theirs], None]:
    """Return one step as the authors' training script takes it: float32, eager, Lion tensor by tensor, metrics."""
    optimizer = Lion(model.parameters(), lr=LR)
    loss_of = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)

    def step(batch: Theirs) -> None:
        images, labels = batch
        own, partners, weight = labels[:, 0].long(), labels[:, 1].long(), labels[0, 2]
        logits = model(images)
        loss = weight * loss_of(logits, own) + (1 - weight) * loss_of(logits, partners)
        best = logits.topk(5).indices
        for targets in (own, partners):
            (best == targets[:, None]).any(1).sum()
            (best[:, 0] == targets).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()

    return step


def authors_steps(epoch: Callable[[], Iterator[Theirs]], step: Callable[[Theirs], None]) -> Iterator[None]:
    """Take the steps of an epoch, one for each item."""
    with closing(epoch()) as batches:
        for batch in batches:
            step(batch)
            yield
