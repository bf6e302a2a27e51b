import dataclasses
import json

import pytest

from mlptheory.base import InputError
from mlptheory.data import Augmentation


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"crop_scale": (0.0, 1.0)}, "crop_scale = "),
        ({"crop_scale": (0.5, 1.1)}, "crop_scale = .*at most 1"),
        ({"crop_scale": (0.9, 0.5)}, "crop_scale = .*lowest and highest"),
        ({"crop_scale": 0.5}, "crop_scale = 0.5"),
        ({"crop_scale": ("a", "b")}, "crop_scale = "),
        ({"crop_ratio": (0.0, 1.0)}, "crop_ratio = "),
        ({"crop_ratio": (1.0, float("inf"))}, "crop_ratio = "),
        ({"flip": 1}, "flip = 1"),
        ({"shift": -1}, "shift = -1"),
        ({"shift": 1.5}, "shift = 1.5"),
        ({"shift_mode": "zeros"}, "shift_mode = 'zeros': unknown; did you mean 'zero'"),
        ({"mixup": -0.1}, "mixup = -0.1"),
        ({"mixup": float("nan")}, "mixup = nan"),
        ({"mixup_per": "exmple"}, "mixup_per = 'exmple': unknown; did you mean 'example'"),
        ({"as_noise": 1, "flip": True}, "as_noise = 1: expected True or False"),
        ({"as_noise": True}, "as_noise = True: expected False where no crop, flip or shift"),
        ({"as_noise": True, "mixup": 0.5}, "as_noise = True: expected False where no crop, flip or shift"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(InputError, match=message):
        Augmentation(**values)


def test_goes_to_json_and_back():
    augmentation = Augmentation(crop_scale=(0.08, 1), flip=True, shift=2, shift_mode="cyclic", mixup=0.8, as_noise=True)
    assert Augmentation(**json.loads(json.dumps(dataclasses.asdict(augmentation)))) == augmentation


@pytest.mark.parametrize("values", [{}, {"mixup": 0.8}])
def test_nothing_moves_by_default(values):
    assert not Augmentation(**values).moves_pixels
    assert Augmentation(**values, shift=1).moves_pixels
