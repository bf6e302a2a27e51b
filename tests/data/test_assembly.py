import pytest
import torch

from mlptheory.data import assembly
from mlptheory.data.assembly import made_in_parts, mixed


@pytest.mark.parametrize("members", [1, 2, 3])
@pytest.mark.parametrize("at_once", [1, 2, 4, 5, 100])
@pytest.mark.parametrize("has_weights", [True, False])
def test_parts_have_the_bits_of_the_whole(members, at_once, has_weights, monkeypatch):
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(5 * members, 3, 7, 5, generator=draw)
    weights = torch.rand(5 * members, generator=draw) if has_weights else None
    monkeypatch.setattr(assembly, "_NUMBERS", at_once * images[0].numel())
    asked = []

    def make(rows):
        asked.append(rows)
        return images[rows].clone()

    found = made_in_parts(make, images.shape, weights, members)
    assert torch.equal(found, images if weights is None else mixed(images, weights, members))
    assert torch.equal(torch.cat([images[rows] for rows in asked]), images)
    assert max(rows.stop - rows.start for rows in asked) == min(at_once, 5)


def test_each_image_is_mixed_with_the_one_before_it_in_its_member():
    images = torch.arange(6.0)[:, None, None, None]
    weights = torch.full((6,), 0.25)
    assert mixed(images, weights, members=2).flatten().tolist() == [1.5, 0.25, 1.25, 4.5, 3.25, 4.25]
