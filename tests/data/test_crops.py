import math

import numpy as np
import pytest

from mlptheory.base.random import uniform
from mlptheory.data import random_resized_crop_boxes

# Ordinary, square crops, tiny and hopeless images, ratios that force the fallback on either side.
CASES = [
    ((32, 32), (0.08, 1.0), (3 / 4, 4 / 3)),
    ((32, 32), (0.4, 1.0), (1.0, 1.0)),
    ((8, 8), (0.02, 1.0), (0.5, 2.0)),
    ((1, 1), (0.01, 1.0), (3 / 4, 4 / 3)),
    ((20, 4), (0.9, 1.0), (1.0, 2.0)),
    ((4, 20), (0.9, 1.0), (0.5, 1.0)),
    ((4, 20), (1.0, 1.0), (0.5, 10.0)),
    ((1, 9), (1.0, 1.0), (0.01, 0.02)),
]


def scalar_box(numbers, image_size, scale, ratio):
    """Torchvision's get_params, step by step, on given uniform numbers."""
    height, width = image_size
    place, attempts = numbers[:2], numbers[2:].reshape(10, 2)
    for area_draw, ratio_draw in attempts:
        area = height * width * (scale[0] + (scale[1] - scale[0]) * area_draw)
        aspect = math.exp(math.log(ratio[0]) + (math.log(ratio[1]) - math.log(ratio[0])) * ratio_draw)
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(place[0] * (height - h + 1)), int(place[1] * (width - w + 1)), h, w
    if width / height < min(ratio):
        w = width
        h = round(w / min(ratio))
    elif width / height > max(ratio):
        h = height
        w = round(h * max(ratio))
    else:
        w, h = width, height
    w, h = max(w, 1), max(h, 1)
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize("case", CASES, ids=str)
def test_against_one_example_at_a_time(case):
    examples = np.arange(300)
    boxes = random_resized_crop_boxes(7, 2, examples, *case)
    numbers = uniform(7, "crop", 2, examples, 22)
    assert boxes.tolist() == [list(scalar_box(row, *case)) for row in numbers]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_windows_lie_inside(case):
    top, left, height, width = random_resized_crop_boxes(1, 0, np.arange(2000), *case).T
    assert min(top.min(), left.min()) >= 0 and min(height.min(), width.min()) >= 1
    assert (top + height).max() <= case[0][0] and (left + width).max() <= case[0][1]


def test_an_example_has_its_window_in_any_company():
    case = CASES[0]
    everyone = random_resized_crop_boxes(3, 1, np.arange(50), *case)
    few = np.array([41, 0, 17, 41])
    assert np.array_equal(random_resized_crop_boxes(3, 1, few, *case), everyone[few])
    for other in (random_resized_crop_boxes(4, 1, few, *case), random_resized_crop_boxes(3, 2, few, *case)):
        assert not np.array_equal(other, everyone[few])


def test_the_law_of_the_area_and_the_place():
    top, _, height, width = random_resized_crop_boxes(0, 0, np.arange(20_000), (64, 64), (0.2, 0.6), (1.0, 1.0)).T
    share = height * width / 64**2
    # Uniform on (0.2, 0.6): mean 0.4, standard deviation 0.4 / sqrt(12); five standard errors and the rounding.
    assert abs(share.mean() - 0.4) < 5 * 0.4 / math.sqrt(12 * 20_000) + 1e-3
    assert abs(share.std() - 0.4 / math.sqrt(12)) < 3e-3
    assert abs(((top + 0.5) / (64 - height + 1)).mean() - 0.5) < 5 / math.sqrt(12 * 20_000)
