"""A store that is larger than the memory, streamed for an epoch: images/s beside resident images, and what it takes.

Writes a store of 64x64x3 images of random bytes, class by class as a converted class folder is; streams one epoch in
the quasi-random order, with crops and flips and without; and does the same with the first of the images kept in
memory. Each measurement is a process of its own, which begins with none of the file in the system's cache. Memory is
the largest seen at any batch: RssAnon is the process's own, VmRSS counts what it maps too. The store is removed.

    python benchmarks/streaming.py [FOLDER] [--images 1000000] [--resident 100000] [--most 1000000] [--threads 2]
        [--json FILE]
"""

import argparse
import dataclasses
import json
import math
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from mlptheory.data import Augmentation, Loader, StoreWriter, channel_statistics, open_store
from mlptheory.data.image_source import gathered
from mlptheory.data.store import IMAGES
from mlptheory.trials.environment import describe_environment

SHAPE, CLASSES, AT_ONCE, BATCH = (3, 64, 64), 1000, 8192, 1024
AUGMENTATIONS = {"plain": None, "crop and flip": Augmentation(crop_scale=(0.08, 1.0), flip=True)}


def write_store(path: Path, images: int) -> None:
    bits = np.random.Generator(np.random.SFC64(0))
    labels = np.arange(images) * CLASSES // images
    classes = [str(label) for label in range(CLASSES)]
    with StoreWriter(path, classes=classes, name="synthetic", split="train", source="random bytes") as writer:
        for first in tqdm(range(0, images, AT_ONCE), desc="writing", unit="part"):
            part = labels[first : first + AT_ONCE]
            pixels = np.frombuffer(bits.bytes(len(part) * math.prod(SHAPE)), dtype=np.uint8)
            writer.append(pixels.reshape(-1, *SHAPE), part)
        writer.finish()


def forget(path: Path) -> None:
    """Take a file out of the system's cache, as far as it is asked nicely."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def memory_mib() -> dict[str, float]:
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile", "VmRSS")}


def epoch(loader: Loader) -> Iterator[int]:
    for batch in loader.batches(0):
        yield len(batch.targets)


def measure(path: Path, augmentation: str, resident: int | None, most_images: int, threads: int) -> dict[str, object]:
    torch.set_num_threads(threads)
    dataset = open_store(path)
    before = memory_mib()
    if resident is not None:
        first = slice(0, resident)
        # A copy: what is only looked at would be read from the file.
        images = gathered(dataset.images[first])
        dataset = dataclasses.replace(dataset, images=images, labels=dataset.labels[first])
    loader = Loader(
        dataset,
        batch_size=BATCH,
        augmentation=AUGMENTATIONS[augmentation],
        normalization=channel_statistics(dataset),
        order="quasi-random",
    )
    if resident is None:
        forget(path / IMAGES)
    began, cpu, seen, most = time.perf_counter(), time.process_time(), 0, before
    for size in epoch(loader):
        seen += size
        now = memory_mib()
        most = {name: max(now[name], most[name]) for name in now}
        if seen >= most_images:
            break
    seconds = time.perf_counter() - began
    return {
        "images": seen,
        "seconds": seconds,
        "images_per_second": seen / seconds,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mib": most,
        "load_average": os.getloadavg()[0],
    }


def read_alone(path: Path, threads: int) -> dict[str, float]:
    """Return the rate at which the images come from the disk in the same order, with nothing done to them."""
    torch.set_num_threads(threads)
    dataset = open_store(path)
    order = Loader(dataset, batch_size=BATCH, order="quasi-random").order(0)
    forget(path / IMAGES)
    began = time.perf_counter()
    for _ in dataset.images.batches(np.split(order, range(BATCH, len(order), BATCH))):
        pass
    seconds = time.perf_counter() - began
    return {"images_per_second": len(order) / seconds, "load_average": os.getloadavg()[0]}


def run(folder: Path, images: int, resident: int, most: int, threads: int) -> dict[str, object]:
    path = folder / "train.store"
    began = time.perf_counter()
    write_store(path, images)
    found: dict[str, object] = {"writing_seconds": time.perf_counter() - began}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        found["read alone"] = pool.apply(read_alone, (path, threads))
        print(f"read alone: {found['read alone']['images_per_second']:,.0f} images/s", flush=True)
        for augmentation in AUGMENTATIONS:
            for name, kept in (("streamed", None), ("resident", min(resident, images))):
                seen = pool.apply(
                    measure, (path, augmentation, kept, most if AUGMENTATIONS[augmentation] else images, threads)
                )
                found[f"{name}, {augmentation}"] = seen
                print(
                    f"{name}, {augmentation}: {seen['images_per_second']:,.0f} images/s, "
                    f"peak RssAnon {seen['peak_mib']['RssAnon']:,.0f} MiB, VmRSS {seen['peak_mib']['VmRSS']:,.0f} MiB "
                    f"(load {seen['load_average']:.1f})",
                    flush=True,
                )
        pool.close()
        pool.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--resident", type=int, default=100_000)
    parser.add_argument("--most", type=int, help="images of the epoch with crops and flips; all if left out")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    options = {name: getattr(arguments, name) for name in ("images", "resident", "most", "threads")}
    options["most"] = options["most"] or arguments.images
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        found = run(Path(folder), **options)
    if arguments.json is not None:
        written = {"options": {**options, "batch": BATCH}, "found": found, "date": time.strftime("%Y-%m-%d")}
        arguments.json.write_text(json.dumps({**written, **describe_environment()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
