"""MLPs of every kind whose hidden units may be permuted."""

import torch

from mlptheory.measures.hidden_units import group_size, hidden_groups
from mlptheory.models import build

MLPS = {
    "S": ("S-3/Wi-6", {}),
    "S, batch": ("S-2/Wi-6", {"norm": "batch"}),
    "S, bare": ("S-2/Wi-6", {"norm": "none"}),
    "S, skip": ("S-2/Wi-6", {"skip": True}),
    "S, authors": ("S-3/Wi-6", {"variant": "authors"}),
    "S, authors, one block less than one": ("S-1/Wi-6", {"variant": "authors"}),
    "S, NTK, dropout": ("S-2/Wi-6", {"parametrization": "ntk", "dropout": 0.5}),
    "MLP": ("MLP-3/Wi-6", {"activation": "tanh"}),
    "MLP, batch": ("MLP-2/Wi-6", {"norm": "batch"}),
    "MLP, bare": ("MLP-3/Wi-6", {"norm": "none", "dropout": 0.5}),
    "MLP, one layer": ("MLP-1/Wi-6", {}),
    "B": ("B-2/Wi-5/E-2", {}),
    "B, batch": ("B-2/Wi-5/E-2", {"norm": "batch"}),
    "B, no skip": ("B-2/Wi-5/E-2", {"skip": False}),
    "B, muP": ("B-1/Wi-4", {"parametrization": "mup", "base_width": 2}),
}


def mlp(name, seed=0):
    """A net none of whose units are like another, running statistics included."""
    size, options = MLPS[name]
    model = build(size, image_size=3, channels=2, num_classes=4, seed=seed, **options).double().eval()
    generator = torch.Generator().manual_seed(100 + seed)
    with torch.no_grad():
        for value in [*model.parameters(), *model.buffers()]:
            if value.is_floating_point():
                value += 0.3 * torch.rand(value.shape, generator=generator, dtype=value.dtype)
    return model


def random_permutations(model, seed):
    generator, state = torch.Generator().manual_seed(seed), model.state_dict()
    return {
        group: torch.randperm(group_size(state, members), generator=generator)
        for group, members in hidden_groups(model).items()
    }
