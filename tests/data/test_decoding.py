import io
import struct
import warnings

import numpy as np
import pytest
from PIL import Image

from mlptheory.data.decoding import UnreadableImageError, decode_image, resize_pixels
from tests.data.image_files import png_header

GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (40, 40, 3), dtype=np.uint8)


def encoded(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def decoded(image, resolution=40, kind="PNG", **options):
    return decode_image(encoded(image, kind, **options), resolution)


def channels_first(array):
    return array.transpose(2, 0, 1)


def test_an_image_of_the_right_size_comes_as_it_is():
    found = decoded(Image.fromarray(PIXELS))
    assert np.array_equal(found, channels_first(PIXELS)) and found.dtype == np.uint8 and found.flags.c_contiguous


@pytest.mark.parametrize(("size", "box"), [((70, 41), (14, 0, 55, 41)), ((41, 70), (0, 14, 41, 55))])
def test_the_central_square_is_resized_by_an_antialiased_triangle(size, box):
    """Beside the filter written out: weights of a triangle as wide as the scale, rows and columns each for itself."""
    image = Image.fromarray(GENERATOR.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    left, top, right, bottom = box
    square = np.asarray(image)[top:bottom, left:right].astype(float)
    scale = 41 / 16
    centers = scale * (np.arange(16) + 0.5)
    weights = np.maximum(0, 1 - np.abs(np.arange(41) + 0.5 - centers[:, None]) / scale)
    weights /= weights.sum(axis=1, keepdims=True)
    exact = np.einsum("ia,jb,abc->cij", weights, weights, square)
    # Pillow rounds to bytes after each of the two directions.
    assert np.abs(decoded(image, 16) - exact).max() <= 1.01


def test_nothing_outside_the_square_has_a_say():
    one, other = (np.full((40, 60, 3), fill, dtype=np.uint8) for fill in (0, 255))
    one[:, 10:50] = other[:, 10:50] = PIXELS
    assert np.array_equal(decoded(Image.fromarray(one), 10), decoded(Image.fromarray(other), 10))


def test_a_jpeg_is_decoded_in_full_before_it_is_made_smaller():
    content = encoded(Image.fromarray(GENERATOR.integers(0, 256, (256, 256, 3), dtype=np.uint8)), "JPEG")
    with Image.open(io.BytesIO(content)) as image:
        whole = np.asarray(image.convert("RGB").resize((16, 16), Image.Resampling.BILINEAR))
    with Image.open(io.BytesIO(content)) as image:
        image.draft("RGB", (16, 16))
        draft = np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR))
    assert (draft != whole).any(), "a draft would be quicker, and another picture"
    assert np.array_equal(decode_image(content, 16), channels_first(whole))


def test_modes():
    gray = PIXELS[..., 0]
    three = np.stack([gray] * 3)
    assert np.array_equal(decoded(Image.fromarray(gray)), three)
    assert np.array_equal(decoded(Image.fromarray(gray > 100)), 255 * (three > 100))
    deep = gray.astype(np.uint16) * 256 + 255 - gray
    assert np.array_equal(decoded(Image.fromarray(deep)), three), "the higher eight bits"
    few = Image.fromarray(PIXELS).quantize(7)
    assert np.array_equal(decoded(few), channels_first(np.asarray(few.convert("RGB"))))
    cyan = Image.new("CMYK", (40, 40), (255, 0, 0, 0))
    assert decoded(cyan, kind="TIFF")[:, 0, 0].tolist() == [0, 255, 255]


def test_twelve_bits_and_sixteen_of_other_formats():
    """Files written by hand: of 2x2 pixels, 12 bits packed in TIFF, two bytes each in PGM."""
    tags = [(256, 2), (257, 2), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 2), (279, 6)]
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags)
    tiff = struct.pack("<2sHI", b"II", 42, 16) + bytes.fromhex("fff80301247f0000") + struct.pack("<H", 9) + entries
    assert decode_image(tiff + bytes(4), 2)[0].tolist() == [[0xFF, 0x80], [0x01, 0x47]]
    pgm = b"P5 2 2 65535\n" + bytes.fromhex("ffff 80ff 0100 47f0")
    assert decode_image(pgm, 2)[2].tolist() == [[0xFF, 0x80], [0x01, 0x47]]


def test_transparency_leaves_the_color_below():
    seen = Image.fromarray(np.dstack([PIXELS, np.zeros((40, 40), dtype=np.uint8)]))
    assert np.array_equal(decoded(seen), channels_first(PIXELS))


def test_orientation_is_left_alone():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert np.array_equal(decoded(Image.fromarray(PIXELS), exif=exif), channels_first(PIXELS))


def test_the_first_of_several_frames_counts_and_the_name_does_not():
    frames = [Image.fromarray(PIXELS[..., :1].repeat(3, axis=2) // (number + 1)) for number in range(3)]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(decode_image(content, 40), channels_first(np.asarray(frames[0])))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "^empty$"),
        (b"GIF89a", "."),
        (b"some text", "^no image: begins with b'some text'$"),
        (encoded(Image.fromarray(PIXELS), "JPEG")[:-30], "truncated"),
        (encoded(Image.fromarray(PIXELS))[:-3000], "truncated"),
        (png_header(60_000, 60_000), "decompression bomb"),
        (png_header(9_500, 9_500), "decompression bomb"),
        (png_header(10, 10), "."),
        (encoded(Image.fromarray(np.ones((8, 8), dtype=np.float32)), "TIFF"), "^pixels of mode F"),
        (encoded(Image.fromarray(np.ones((8, 8), dtype=np.int32)), "TIFF"), "^pixels of mode I,"),
    ],
)
def test_unreadable(content, reason):
    with pytest.raises(UnreadableImageError, match=reason) as error:
        decode_image(content, 8)
    assert "\n" not in str(error.value) and "0x" not in str(error.value)


def test_a_damaged_checksum_is_seen():
    content = bytearray(encoded(Image.fromarray(PIXELS)))
    content[200] ^= 1
    with pytest.raises(UnreadableImageError):
        decode_image(bytes(content), 8)


def test_warnings_of_decoders_are_no_errors():
    """Of Pillow's warnings only that of a bomb makes an image unreadable."""
    content = encoded(Image.fromarray(PIXELS).quantize(9), "PNG", transparency=bytes(9))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_image(content, 8).shape == (3, 8, 8)


def test_images_that_are_decoded_already_are_resized_alike():
    assert np.array_equal(resize_pixels(channels_first(PIXELS), 12), decoded(Image.fromarray(PIXELS), 12))
    gray = resize_pixels(PIXELS[None, ..., 0], 12)
    assert gray.shape == (1, 12, 12) and np.array_equal(gray, decoded(Image.fromarray(PIXELS[..., 0]), 12)[:1])
