import torch

from mlptheory.data import pixel_permutation


def test_a_permutation_fixed_by_seed_and_size():
    first = pixel_permutation(0, (3, 8, 8))
    assert torch.equal(first.sort().values, torch.arange(192))
    assert torch.equal(first, pixel_permutation(0, (3, 8, 8)))
    assert not torch.equal(first, pixel_permutation(1, (3, 8, 8)))
    # Fixed points of a uniform permutation: 1 expected; an order that stayed local would have many.
    assert int((first == torch.arange(192)).sum()) < 8
