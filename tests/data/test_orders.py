import numpy as np
import pytest

from mlptheory.base.random import generator, uniform
from mlptheory.data import quasi_random_order, random_order
from mlptheory.data.orders import BLOCK, WINDOW


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 47, 48, 49, 97, 96, 1009])
@pytest.mark.parametrize(("block", "window"), [(16, 3), (16, 1), (1, 4), (5, 1000)])
def test_a_permutation_whose_examples_stay_in_their_window(n, block, window):
    order = quasi_random_order(3, 2, n, block, window)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))
    # The blocks' own order, written down one example after another, tells each block's place.
    blocks = np.argsort(generator(3, "order of blocks", 2).random(-(-n // block)))
    places = [example for each in blocks for example in range(each * block, min((each + 1) * block, n))]
    begins = {int(each): places.index(each * block) for each in blocks}
    for position, example in enumerate(order.tolist()):
        assert abs(position - begins[example // block]) < block * window
    first = 0
    windows = np.array_split(blocks, -(-len(blocks) // window))
    assert len(windows) == 1 or min(map(len, windows)) >= window // 2
    for some in windows:
        part = [example for each in some for example in range(n)[each * block :][:block]]
        assert sorted(part) == sorted(order[first : first + len(part)].tolist())
        first += len(part)


@pytest.mark.parametrize("order", [random_order, lambda *key: quasi_random_order(*key, block=4, window=5)])
def test_keyed_by_seed_and_epoch(order):
    found = {tuple(order(seed, epoch, 100).tolist()) for seed in range(3) for epoch in range(3)}
    assert len(found) == 9
    assert np.array_equal(order(1, 2, 100), order(1, 2, 100))


def test_the_random_order_is_the_one_drawn_at_once(monkeypatch):
    whole = np.argsort(uniform(5, "order", 1, np.arange(1000), 1)[:, 0], kind="stable")
    monkeypatch.setattr("mlptheory.data.orders._AT_ONCE", 7)
    assert np.array_equal(random_order(5, 1, 1000), whole)


def test_every_pair_can_meet_in_a_batch():
    n, size = 12, 4
    met = np.zeros((n, n), dtype=bool)
    for epoch in range(300):
        order = quasi_random_order(0, epoch, n, block=2, window=3)
        for batch in order.reshape(-1, size):
            met[np.ix_(batch, batch)] = True
    assert met.all()


def test_companions_of_ones_own_block_are_as_many_as_stated():
    n, block, window, size = 64 * 40, 8, 40, 32
    same = []
    for epoch in range(60):
        batches = quasi_random_order(0, epoch, n, block, window).reshape(-1, size) // block
        same.append((batches[:, :, None] == batches[:, None, :]).sum() / n - 1)
    expected = (size - 1) * (block - 1) / (block * window - 1)
    error = np.std(same, ddof=1) / np.sqrt(len(same))
    assert abs(np.mean(same) - expected) < 5 * error
    assert error < expected / 30


def test_a_sorted_file_is_mixed_to_its_last_batch():
    """One more example than a window: its last batch would be of one class if windows were filled one by one."""
    n = BLOCK * WINDOW + 1
    labels = np.arange(n) * 1000 // n
    mixed = labels[quasi_random_order(0, 0, n)]
    batches = [mixed[first : first + 256] for first in range(0, n, 256)]
    assert min(len(set(batch.tolist())) for batch in batches if len(batch) == 256) > 180


def test_up_to_one_window_every_place_is_as_likely_for_every_example():
    n, epochs = 10, 4000
    places = np.zeros((n, n))
    for epoch in range(epochs):
        places[np.arange(n), quasi_random_order(0, epoch, n, block=4, window=3)] += 1
    # Of n^2 cells, each binomial: 5 standard deviations.
    assert np.abs(places / epochs - 1 / n).max() < 5 * np.sqrt((1 / n) * (1 - 1 / n) / epochs)
