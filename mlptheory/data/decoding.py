"""From the bytes of an image file to a square of red, green and blue: one rule for every format and mode."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Names that end so, in letters of either case, are taken for images."""

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


class UnreadableImageError(Exception):
    """An image file that cannot be decoded, with the reason on one line."""


def decode_image(content: bytes, resolution: int) -> np.ndarray:
    """Decode an image file to a square.

    The format is told by the content, whatever the name. Of several frames the first counts. Gray is repeated, a
    palette looked up, CMYK converted as Pillow does; of 12 or 16 bits per channel the higher eight are kept, and
    transparency is dropped, which leaves the color that lies below it. Neither EXIF's orientation nor a color profile
    is applied. What remains is cropped to the central square, whose side is the shorter one, and resized with Pillow's
    bilinear filter, which is antialiased. A JPEG file is decoded in full before it is made smaller.

    Parameters
    ----------
    content : bytes
        The file.
    resolution : int
        Side of the square in pixels.

    Returns
    -------
    ndarray of uint8, shape (3, resolution, resolution)

    Raises
    ------
    UnreadableImageError
        If it is no image of these formats, if it ends early or is found to be damaged, if its pixels have no stated
        range (32-bit integers and floating point), or if there are more than Pillow's bound of 89 million.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                return _channels_first(square(_to_rgb(image), resolution))
        except MemoryError:
            raise
        # Decoders raise whatever a damaged file makes of them: struct.error, IndexError, zlib.error and more.
        except Exception as error:
            raise UnreadableImageError(_reason(error, content)) from error


def resize_pixels(pixels: np.ndarray, resolution: int) -> np.ndarray:
    """Crop and resize an image that is decoded already, uint8 of shape (1 or 3, H, W), as `decode_image` does."""
    from PIL import Image

    gray = len(pixels) == 1
    image = Image.fromarray(pixels[0] if gray else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    resized = square(image, resolution)
    return np.asarray(resized)[None] if gray else _channels_first(resized)


def square(image: Image.Image, resolution: int) -> Image.Image:
    """Crop to the central square and resize it."""
    from PIL import Image

    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    # Cropped first, so that no pixel outside has a say; `resize` with a box would let the nearest ones in.
    cropped = image.crop((left, top, left + side, top + side))
    return cropped.resize((resolution, resolution), Image.Resampling.BILINEAR)


def decoder() -> dict[str, str | None]:
    """Return the versions of what decodes, which may decide a last bit."""
    from PIL import Image, features

    libraries = {name: features.version(name) for name in ("libjpeg_turbo", "jpg", "zlib", "webp", "libtiff")}
    return {"pillow": Image.__version__, **libraries}


def _to_rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        # Pillow would clip 16 bits at 255; of those in color it keeps the higher eight itself.
        return Image.fromarray((np.asarray(image) >> (_bits(image) - 8)).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise UnreadableImageError(f"pixels of mode {image.mode}, which has no stated range")
    return image.convert("RGB")


def _bits(image: Image.Image) -> int:
    """Return how many bits a gray pixel has that Pillow keeps in 16: 12 in some TIFF files."""
    bits_per_sample = 258
    return image.tag_v2.get(bits_per_sample, (16,))[0] if image.format == "TIFF" else 16


def _channels_first(image: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _reason(error: Exception, content: bytes) -> str:
    if not content:
        return "empty"
    # Pillow names the buffer, which has no name that a user knows.
    if type(error).__name__ == "UnidentifiedImageError":
        return f"no image: begins with {content[:16]!r}"
    return " ".join(str(error).split()) or type(error).__name__
