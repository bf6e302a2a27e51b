"""Textures with sharp edges and Gaussian ones: covariance, kurtosis and gray levels are what was planted."""

import itertools
import math

import numpy as np
import pytest
from scipy.integrate import dblquad
from scipy.special import erf

from mlptheory.base import InputError
from mlptheory.data import edges_covariance, load
from mlptheory.data.edges import CORRELATION_LENGTHS, GAIN, GRAYS_PER_SD, SIDE

BOTH = ("edges", "edges-gaussian")


def values(name, split="train"):
    """The fields before they became gray levels, to a rounding, by class."""
    dataset = load(name, split)
    x = (dataset.images[:, 0].numpy() - 127.5) / GRAYS_PER_SD
    return {label: x[dataset.labels.numpy() == index] for index, label in enumerate(dataset.classes)}


def field_covariance(length, rows, columns):
    """Of the field that is made sharp, by a loop over ways around the torus, as a correlation."""

    def summed(rows, columns):
        turns = itertools.product(range(-4, 5), repeat=2)
        return sum(
            math.exp(-((rows + SIDE * down) ** 2 + (columns + SIDE * across) ** 2) / length**2)
            for down, across in turns
        )

    return summed(rows, columns) / summed(0, 0)


def sharpened_moment(correlation):
    """E[erf(g z / √2) erf(g z' / √2)] by integration over a plane of independent Gaussians."""
    root = math.sqrt(1 - correlation**2)

    def density(v, u):
        at, beside = erf(GAIN * u / math.sqrt(2)), erf(GAIN * (correlation * u + root * v) / math.sqrt(2))
        return at * beside * math.exp(-(u**2 + v**2) / 2) / (2 * math.pi)

    # Even in (u, v) together, so half the plane is enough.
    return 2 * dblquad(density, 0, 7, -7, 7, epsabs=1e-7)[0]


def test_the_data_are_the_same_everywhere():
    # The digests are part of every record's: a change here makes all stored results void.
    found = {name: tuple(load(name, split).digest[:16] for split in ("train", "test")) for name in BOTH}
    assert found == {
        "edges": ("90d10cd29d65ce11", "8aabf6664a47ee8b"),
        "edges-gaussian": ("944c488b9841f5b0", "88a57e4491a9c954"),
    }


@pytest.mark.parametrize("name", BOTH)
def test_classes_are_equally_many(name):
    train, test = load(name, "train"), load(name, "test")
    assert (len(train), len(test), train.image_shape) == (2**15, 2**12, (1, 8, 8))
    assert train.classes == ("short", "long") and train.labels.double().mean() == test.labels.double().mean() == 0.5


@pytest.mark.parametrize("length", CORRELATION_LENGTHS.values())
@pytest.mark.parametrize("shift", [(0, 1), (1, 1), (2, 0)])
def test_the_closed_form_is_the_integral(length, shift):
    variance = 2 / math.pi * math.asin(GAIN**2 / (1 + GAIN**2))
    expected = sharpened_moment(field_covariance(length, *shift)) / variance
    assert edges_covariance(length)[shift] == pytest.approx(expected, abs=2e-5)


def test_the_covariance_is_that_of_a_torus():
    for length in CORRELATION_LENGTHS.values():
        found = edges_covariance(length)
        assert found[0, 0] == 1 and np.array_equal(found, found.T)
        assert np.allclose(found[1:], found[:0:-1], rtol=1e-12) and np.fft.fft2(found).real.min() > 0


@pytest.mark.parametrize("name", BOTH)
def test_both_have_the_covariance_of_the_formula(name):
    for label, x in values(name).items():
        assert abs(x.mean()) < 5 * math.sqrt(edges_covariance(CORRELATION_LENGTHS[label]).sum() / x.size)
        for rows, columns in itertools.product(range(SIDE), repeat=2):
            products = (x * np.roll(x, (-rows, -columns), (1, 2))).mean(axis=(1, 2))
            expected = edges_covariance(CORRELATION_LENGTHS[label])[rows, columns]
            # Rounding adds at most a twelfth of a squared gray level to the variance.
            slack = 5 * products.std() / math.sqrt(len(products)) + 1 / (12 * GRAYS_PER_SD**2)
            assert abs(products.mean() - expected) < slack


def test_only_edges_are_far_from_gaussian():
    draws = np.random.default_rng(0).normal(size=400_000)
    planted = erf(GAIN * draws / math.sqrt(2))
    planted_kurtosis = (planted**4).mean() / (planted**2).mean() ** 2
    for label in CORRELATION_LENGTHS:
        sharp, gaussian = (values(name)[label] for name in BOTH)
        assert (sharp**4).mean() / sharp.var() ** 2 == pytest.approx(planted_kurtosis, abs=0.005)
        assert (gaussian**4).mean() / gaussian.var() ** 2 == pytest.approx(3, abs=0.03)


def test_next_to_nothing_is_clipped():
    for name, most in zip(BOTH, (0.0, 1e-4), strict=True):
        images = load(name, "train").images
        assert ((images == 0) | (images == 255)).double().mean() <= most
    # What saturates falls on gray levels, so that rounding leaves its variance alone.
    assert set(load("edges", "test").images.unique().tolist()) == set(range(94, 162))


def test_a_length_that_is_none_is_refused():
    with pytest.raises(InputError, match=r"length = 0: expected a number greater than 0"):
        edges_covariance(0)


@pytest.mark.parametrize("length", [0.7, 1.5, 8.0, 20.0, 60.0])
def test_the_way_around_the_torus_is_the_same_both_ways(length):
    found = edges_covariance(length)
    back = np.roll(found[::-1, ::-1], (1, 1), (0, 1))
    np.testing.assert_allclose(found, back, rtol=1e-12, atol=1e-12)
