"""What the measures are compared with: other libraries, and the textbook's way in torch.func."""

import contextlib
import warnings
from collections.abc import Callable
from importlib import metadata

import numpy as np
import torch
from scipy.sparse.linalg import eigsh
from torch import nn
from torch.func import functional_call, grad, jacrev, vmap
from torch.nn import functional as F

GIB = 2**30
PEERS = ("neural-tangents", "jax", "jaxlib", "nngeometry", "curvlinops-for-pytorch")
Way = Callable[[nn.Module, torch.Tensor], object]


class Unavailable(Exception):
    """A peer that is not here."""


def contraction(model: nn.Module, x: torch.Tensor, gib: float) -> torch.Tensor:
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    classes = model(x[:1]).shape[1]
    bytes_each = classes * sum(value.numel() for value in parameters.values()) * x.element_size()
    rows = max(1, min(len(x), int(gib * GIB / bytes_each)))
    blocks = x.split(rows if rows == len(x) else max(1, rows // 2))

    def jacobian(part: torch.Tensor) -> list[torch.Tensor]:
        found = vmap(jacrev(lambda p, one: functional_call(model, p, (one[None],))[0]), (None, 0))(parameters, part)
        return [rows.flatten(2) for rows in found.values()]

    kernel = x.new_empty(len(x), len(x), classes, classes)
    for i, first in enumerate(blocks):
        left = jacobian(first)
        for j, second in enumerate(blocks):
            right = left if i == j else jacobian(second)
            parts = [torch.einsum("naf,mbf->nmab", a, b) for a, b in zip(left, right, strict=True)]
            top, start = i * len(blocks[0]), j * len(blocks[0])
            kernel[top : top + len(first), start : start + len(second)] = torch.stack(parts).sum(0)
            del right
    return kernel


def neural_tangents(implementation: int) -> Way:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import jax
            import neural_tangents as nt
    except Exception as error:
        raise Unavailable(f"cannot be imported ({type(error).__name__})") from error

    def apply(parameters: list, x):
        for index, (weight, bias) in enumerate(parameters):
            x = x @ weight.T + bias
            x = jax.nn.relu(x) if index < len(parameters) - 1 else x
        return x

    kernel = jax.jit(
        nt.empirical_ntk_fn(apply, trace_axes=(), vmap_axes=0, implementation=nt.NtkImplementation(implementation)),
        static_argnums=(1,),
    )

    def way(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        layers = [layer for layer in model if isinstance(layer, nn.Linear)]
        parameters = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in layers]
        return torch.from_numpy(np.array(kernel(x.flatten(1).numpy(), None, parameters).block_until_ready()))

    return way


def nngeometry() -> Way:
    try:
        from nngeometry import GramMatrix
        from nngeometry.layercollection import LayerCollection
    except Exception as error:
        raise Unavailable(f"cannot be imported ({type(error).__name__})") from error

    def way(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        examples = torch.utils.data.TensorDataset(x, torch.zeros(len(x)))
        loader = torch.utils.data.DataLoader(examples, batch_size=len(x))
        layers = LayerCollection.from_model(model)
        gram = GramMatrix(model=model, loader=loader, layer_collection=layers, function=lambda *d: model(d[0]))
        return gram.data.permute(1, 3, 0, 2)

    return way


def curvlinops_top(model: nn.Module, x: torch.Tensor, y: torch.Tensor, k: int) -> np.ndarray:
    from curvlinops import HessianLinearOperator

    parameters = [value for value in model.parameters() if value.requires_grad]
    operator = HessianLinearOperator(
        model, nn.CrossEntropyLoss(), parameters, [(x, y)], check_deterministic=False
    ).to_scipy()
    return np.sort(eigsh(operator, k=k, which="LA", tol=1e-3, return_eigenvectors=False))[::-1]


def vmapped_norms(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def loss(p: dict[str, torch.Tensor], one: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(functional_call(model, p, (one[None],)), label[None])

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, x, y)
    return sum(value.flatten(1).square().sum(dim=1) for value in gradients.values())


def peer_versions() -> dict[str, str]:
    found = {}
    for name in PEERS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
