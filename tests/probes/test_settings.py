"""What claims say of the settings."""

import pytest

from mlptheory.data import Augmentation
from mlptheory.probes.settings import augmentation_text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "no augmentation"),
        ({"flip": True}, "random crops, flips or shifts"),
        ({"mixup": 0.8}, "MixUp 0.8, λ drawn per batch"),
        ({"shift": 1, "as_noise": True}, "Gaussian noise with the second moment of random crops, flips or shifts"),
    ],
)
def test_augmentation_is_said_in_words(values, text):
    assert augmentation_text(Augmentation(**values)) == text
