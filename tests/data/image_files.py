"""Folders of image files to be converted: of mixed sizes, formats and modes, some of them broken."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

MODES = ("RGB", "RGB", "L", "P", "RGBA", "LA", "CMYK", "1", "I;16")


def make_folder(folder: Path, files: int, *, classes: int = 5, seed: int = 0, largest: int = 120) -> list[Path]:
    """Write images that only the seed decides, class by class in turn; return them in the order of their paths."""
    generator = np.random.default_rng(seed)
    made = []
    for number in range(files):
        place = folder / f"class {number % classes}"
        place.mkdir(parents=True, exist_ok=True)
        height, width = (int(side) for side in generator.integers(16, largest, 2))
        coarse = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        made.append(write_image(place / f"{number:05d}", coarse, (width, height), MODES[number % len(MODES)]))
    return sorted(made)


def write_image(stem: Path, coarse: np.ndarray, size: tuple[int, int], mode: str) -> Path:
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif mode != "RGB":
        image = image.convert(mode)
    path = stem.with_suffix(".jpg" if mode in ("L", "CMYK") or (mode == "RGB" and sum(size) % 2) else ".png")
    image.save(path)
    return path


def png_header(width: int, height: int) -> bytes:
    """Return a PNG file that promises so many pixels and holds none of them."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def break_files(paths: list[Path]) -> None:
    """Break files in turn: cut short, empty, text, a header of 3.6 billion pixels."""
    for number, path in enumerate(paths):
        content = path.read_bytes()
        broken = (content[: len(content) // 2], b"", b"no image at all\n", png_header(60_000, 60_000))
        path.write_bytes(broken[number % 4])
