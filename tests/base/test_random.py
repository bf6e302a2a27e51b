import random

import numpy as np
import pytest
import torch
from scipy import stats

from mlptheory.base.random import generator, key, philox4x32, torch_generator, uniform


@pytest.mark.parametrize(
    ("counter", "key_words", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter, key_words, expected):
    words = philox4x32(np.array([counter], dtype=np.uint64), key_words)[0]
    assert " ".join(f"{int(word):08x}" for word in words) == expected


def scalar_philox(counter: list[int], key_words: list[int]) -> list[int]:
    """The generator in Python's integers, one counter at a time."""
    c, k = list(counter), list(key_words)
    for _ in range(10):
        first, second = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [
            (second >> 32) ^ c[1] ^ k[0],
            second & 0xFFFFFFFF,
            (first >> 32) ^ c[3] ^ k[1],
            first & 0xFFFFFFFF,
        ]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def test_philox_agrees_with_a_scalar_twin():
    rng = np.random.default_rng(0)
    counters = rng.integers(0, 2**32, size=(20, 4), dtype=np.uint64)
    key_words = (0xDEADBEEF, 0x12345678)
    together = philox4x32(counters, key_words)
    for counter, words in zip(counters, together, strict=True):
        assert words.tolist() == scalar_philox([int(word) for word in counter], list(key_words))


def test_uniform_draws_are_those_of_its_counters():
    hashed = key(5, "augmentation")
    (drawn,) = uniform(5, "augmentation", 3, np.array([2**33 + 7]), 6)
    words = [
        word for block in range(2) for word in scalar_philox([7, 2, 3, block], [hashed & 0xFFFFFFFF, hashed >> 32])
    ]
    assert drawn.tolist() == [(word + 0.5) / 2**32 for word in words[:6]]


def test_an_example_draws_the_same_in_any_company():
    everybody = uniform(0, "augmentation", 2, np.arange(100), 8)
    some = np.array([41, 3, 3, 99])
    assert (uniform(0, "augmentation", 2, some, 8) == everybody[some]).all()
    assert (uniform(0, "augmentation", 2, np.arange(100), 3) == everybody[:, :3]).all()
    assert (uniform(0, "augmentation", 2, np.arange(100), 4, first=4) == everybody[:, 4:]).all()


def test_first_draw_must_begin_a_block():
    with pytest.raises(ValueError, match="first = 2: expected a multiple of 4"):
        uniform(0, "augmentation", 0, np.arange(3), 4, first=2)


@pytest.mark.parametrize("other", [(1, "a", 0), (0, "b", 0), (0, "a", 1)])
def test_seed_purpose_and_epoch_each_change_every_draw(other):
    base = uniform(0, "a", 0, np.arange(500), 4)
    assert (uniform(*other, np.arange(500), 4) != base).mean() > 0.99
    assert abs(np.corrcoef(uniform(*other, np.arange(500), 4).ravel(), base.ravel())[0, 1]) < 0.1


def test_draws_are_uniform_and_within_the_open_interval():
    drawn = uniform(0, "augmentation", 0, np.arange(5000), 4)
    assert drawn.min() > 0 and drawn.max() < 1
    assert stats.kstest(drawn.ravel(), "uniform").pvalue > 1e-3


def test_keys_tell_apart_what_would_read_the_same_when_joined():
    keys = {key(1, "a", 12), key(11, "a", 2), key(1, "a", 1, 2), key(1, "a1", 2), key(1, "a"), key(2, "a")}
    assert len(keys) == 6
    assert all(0 <= value < 2**64 for value in keys)


def test_a_key_is_the_same_on_every_machine_and_in_every_process():
    # Records are named and resumed by these: a change of this number is a change of every run.
    assert key(0, "order", 1) == 7636051531545546627


def test_generators_repeat_and_differ_by_what_they_belong_to():
    assert (generator(0, "order", 4).permutation(50) == generator(0, "order", 4).permutation(50)).all()
    assert (generator(0, "order", 4).permutation(50) != generator(0, "order", 5).permutation(50)).any()
    assert torch.equal(
        torch.rand(9, generator=torch_generator(3, "x")), torch.rand(9, generator=torch_generator(3, "x"))
    )
    assert not torch.equal(
        torch.rand(9, generator=torch_generator(3, "x")), torch.rand(9, generator=torch_generator(4, "x"))
    )


def test_global_generators_are_left_alone():
    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    before = states()
    uniform(0, "a", 0, np.arange(10), 4)
    generator(0, "a").random(10)
    torch.rand(10, generator=torch_generator(0, "a"))
    assert states() == before


def test_no_examples_have_no_draws():
    assert uniform(0, "order", 0, np.arange(0), 3).shape == (0, 3)
