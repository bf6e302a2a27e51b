"""Networks that write checkpoints in the authors' format, and files that would call code."""

import json
import os
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F


class Expand(nn.Module):
    def __init__(self, width, expansion):
        super().__init__()
        self.block = nn.Sequential(nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width))

    def forward(self, z):
        return self.block(z)


class TheirBMLP(nn.Module):
    """A B-MLP with the keys of the authors' checkpoints, by the paper's formula."""

    def __init__(self, depth, width, expansion, inputs, classes, norm=nn.LayerNorm):
        super().__init__()
        self.linear_in = nn.Linear(inputs, width)
        self.linear_out = nn.Linear(width, classes)
        self.blocks = nn.ModuleList([Expand(width, expansion) for _ in range(depth)])
        self.layernorms = nn.ModuleList([norm(width) for _ in range(depth)])

    def forward(self, images):
        z = self.linear_in(images.reshape(len(images), -1))
        for block, norm in zip(self.blocks, self.layernorms, strict=True):
            z = z + block(norm(z))
        return self.linear_out(z)


class TheirSMLP(nn.Module):
    """An S-MLP as the authors' code has it: LayerNorm, GELU, matrix; one matrix fewer than its depth."""

    def __init__(self, depth, width, inputs, classes):
        super().__init__()
        self.linear_in = nn.Linear(inputs, width)
        self.linear_out = nn.Linear(width, classes)
        self.layers = nn.ModuleList([nn.Linear(width, width) for _ in range(depth - 1)])
        self.layernorms = nn.ModuleList([nn.LayerNorm(width) for _ in range(depth - 1)])

    def forward(self, images):
        z = self.linear_in(images.reshape(len(images), -1))
        for layer, norm in zip(self.layers, self.layernorms, strict=True):
            z = layer(F.gelu(norm(z)))
        return self.linear_out(z)


def drawn(network, dtype=torch.float32, seed=0):
    """Return a network with every parameter, also of the normalizations, drawn anew."""
    generator = torch.Generator().manual_seed(seed)
    network = network.to(dtype)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64) + 0.1)
        for parameter in network.parameters():
            parameter.sub_(0.4)
    return network.eval()


def their_config(architecture="B_2-Wi_8", crop_resolution=4, dataset="cifar10", num_classes=10, **others):
    given = {
        "model": "BottleneckMLP",
        "architecture": architecture,
        "normalization": "layer",
        "crop_resolution": crop_resolution,
        "dataset": dataset,
        "num_classes": num_classes,
    }
    return {**given, **others}


def write(folder, network, config=None, name="epoch_50_compute_0.25"):
    folder.mkdir(exist_ok=True)
    torch.save(network.state_dict(), folder / name)
    if config is not None:
        with open(folder / "config.txt", "w") as file:
            json.dump(config, file, indent=2)
    return folder / name


def images(dtype=torch.float32, shape=(3, 4, 4)):
    return torch.randn(7, *shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(dtype)


def small_network(**options):
    return drawn(TheirBMLP(**{"depth": 2, "width": 8, "expansion": 4, "inputs": 48, "classes": 10, **options}))


@pytest.fixture
def their():
    """The authors' networks and files, as these tests understand them."""
    return SimpleNamespace(
        BMLP=TheirBMLP,
        SMLP=TheirSMLP,
        drawn=drawn,
        config=their_config,
        write=write,
        images=images,
        network=small_network,
    )


class CallsCode:
    """A pickle of this runs a command when it is read: it makes the file `made`."""

    def __init__(self, made):
        self.made = made

    def __reduce__(self):
        return os.system, (f"touch '{self.made}'",)


@pytest.fixture
def trap(tmp_path):
    """What must never be unpickled; `trap.made` exists where it was."""
    return CallsCode(tmp_path / "made")
