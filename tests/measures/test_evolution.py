import copy
import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from torch import nn

from mlptheory.base import InputError
from mlptheory.measures import KernelEvolution, kernel_evolution, kernel_spectrum, kernel_velocity


def _run(outputs=None, examples=5, rank=8, steps=4):
    """Return kernels of features that drift."""
    one = (outputs,) if outputs else ()
    generator = torch.Generator().manual_seed(0)
    features, drift = (torch.randn(examples, *one, rank, generator=generator, dtype=torch.float64) for _ in range(2))
    kernels = []
    for step in range(steps):
        at = features + 0.3 * step * drift
        kernels.append(torch.einsum("iap,jbp->ijab", at, at) if outputs else at @ at.T)
    return kernels


def _as_array(kernel):
    kernel = kernel.double().numpy()
    if kernel.ndim == 2:
        return kernel
    n, _, c, _ = kernel.shape
    return np.block([[kernel[i, j] for j in range(n)] for i in range(n)]).reshape(n * c, n * c)


def _distance(a, b):
    return 1 - np.trace(a @ b.T) / math.sqrt(np.trace(a @ a.T) * np.trace(b @ b.T))


def _alignment(kernel, labels, outputs, centered):
    """Return the alignment from sums over pairs of examples, a list of labels and nothing else."""
    n, c = len(labels), outputs or max(labels) + 1
    hot = np.array([[float(label == k) for k in range(c)] for label in labels])
    center = np.eye(n) - 1 / n if centered else np.eye(n)
    hot = center @ hot
    target = np.outer(hot.flatten(), hot.flatten()) if outputs else hot @ hot.T
    center = np.kron(center, np.eye(outputs or 1))
    moved = center @ kernel @ center
    return (moved * target).sum() / (np.linalg.norm(moved) * np.linalg.norm(target))


@pytest.mark.parametrize("outputs", [None, 1, 3])
@pytest.mark.parametrize("centered", [True, False])
def test_the_record_is_what_each_kernel_gives(outputs, centered, twin):
    kernels, times = _run(outputs), [0.0, 1.0, 1.5, 4.0]
    labels = [0, 0, 0, 0, 0] if outputs == 1 else [0, 1, 2, 1, 0]
    if outputs == 1:
        targets, wanted = torch.tensor([1.0, -1.0, 2.0, 0.5, 0.0], dtype=torch.float64)[:, None], None
    else:
        targets, wanted = torch.tensor(labels), labels
    found = kernel_evolution(iter(kernels), times, targets, centered=centered, top=3)
    arrays = [_as_array(kernel) for kernel in kernels]
    twin("kernel_evolution", found.times, times, rtol=0)
    twin("kernel_evolution", found.distance_from_first, [_distance(arrays[0], array) for array in arrays])
    steps = [_distance(arrays[i], arrays[i + 1]) / (times[i + 1] - times[i]) for i in range(3)]
    twin("kernel_evolution", found.velocity, steps)
    twin("kernel_velocity", kernel_velocity(kernels, times), steps)
    if wanted:
        twin("kernel_evolution", found.label_alignment, [_alignment(a, wanted, outputs, centered) for a in arrays])
    else:
        y = targets.flatten().numpy()
        center = np.eye(5) - 0.2 if centered else np.eye(5)
        expected = []
        for array in arrays:
            moved, z = center @ array @ center, center @ y
            expected.append(z @ moved @ z / (np.linalg.norm(moved) * (z @ z)))
        twin("kernel_evolution", found.label_alignment, expected)
    spectra = [np.linalg.svd(array, compute_uv=False) for array in arrays]
    ranks = [math.exp(scipy.stats.entropy(spectrum[spectrum > 1e-10 * spectrum[0]])) for spectrum in spectra]
    twin("kernel_evolution", found.effective_rank, ranks)
    twin("kernel_evolution", found.top_eigenvalues, np.array([spectrum[:3] for spectrum in spectra]))
    assert found.distance_from_first[0] == 0 and isinstance(found, KernelEvolution)
    assert found.convention == kernel_evolution.convention


@pytest.mark.parametrize("outputs", [None, 1, 3])
def test_the_spectrum_is_that_of_the_matrix(outputs, twin):
    for kernel in _run(outputs):
        found = kernel_spectrum(kernel)
        twin("kernel_spectrum", found, scipy.linalg.eigvalsh(_as_array(kernel))[::-1].copy())
        assert found.convention == kernel_spectrum.convention
        assert found.sum().item() == pytest.approx(np.trace(_as_array(kernel)), rel=1e-12)
    one = kernel_spectrum(torch.tensor([[3.0]]))
    assert one.tolist() == [3.0] and one.dtype == torch.float64
    assert kernel_spectrum(torch.diag(torch.tensor([1.0, -2.0, 5.0]))).tolist() == [5.0, 1.0, -2.0]


def test_velocity_is_exact_where_mathematics_is():
    """Successive turns of a rank-one kernel by the angle a: the cosine is cos² a."""
    angle, kernels = 0.1, []
    for step in range(5):
        direction = torch.tensor([math.cos(step * angle), math.sin(step * angle)], dtype=torch.float64)
        kernels.append((step + 1) * torch.outer(direction, direction))
    velocity = kernel_velocity(kernels, [0, 2, 4, 6, 8])
    assert velocity.tolist() == pytest.approx([math.sin(angle) ** 2 / 2] * 4, rel=1e-12)
    assert velocity.convention == kernel_velocity.convention
    still = kernel_velocity([kernels[0]] * 3, [0.0, 1.0, 2.0])
    assert still.tolist() == [0.0, 0.0]


def test_a_kernel_of_one_record_has_no_velocity():
    found = kernel_evolution(_run(steps=1), [3.0], torch.arange(5) % 2, top=99)
    assert found.velocity.shape == (0,) and found.distance_from_first.tolist() == [0.0]
    assert found.top_eigenvalues.shape == (1, 5)


def test_rounding_of_a_rank_deficient_kernel_is_no_rank():
    """Rank 2 of 30: with every eigenvalue counted, those of float32's rounding would add to the entropy."""
    features = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    kernel, labels = features @ features.T, torch.arange(30) % 3
    found = kernel_evolution([kernel], [0.0], labels)
    values = np.linalg.svd(features.double().numpy(), compute_uv=False) ** 2
    assert found.effective_rank.item() == pytest.approx(math.exp(scipy.stats.entropy(values)), rel=1e-5)
    shifted = kernel.double() - 1e-5 * torch.eye(30, dtype=torch.float64)
    with pytest.raises(InputError, match=r"kernels\[0\]: expected a positive semidefinite kernel"):
        kernel_evolution([shifted], [0.0], labels)
    allowed = kernel_evolution([shifted], [0.0], labels, rank_tolerance=1e-4)
    assert allowed.effective_rank.item() == pytest.approx(found.effective_rank.item(), rel=1e-5)


def test_training_turns_the_tangent_kernel_to_the_labels():
    """A planted truth: features that matter are learned, from kernels by loops over single gradients."""
    torch.manual_seed(0)
    inputs = torch.randn(12, 6, dtype=torch.float64)
    labels = (inputs[:, 0] * inputs[:, 1] > 0).long()
    model = nn.Sequential(nn.Linear(6, 30), nn.Tanh(), nn.Linear(30, 1)).double()
    with torch.no_grad():
        model[2].weight *= 0.1

    def kernel():
        rows = []
        for one in inputs:
            gradients = torch.autograd.grad(copied(one[None]).sum(), list(copied.parameters()))
            rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
        rows = torch.stack(rows)
        return rows @ rows.T

    kernels, optimizer = [], torch.optim.SGD(model.parameters(), lr=0.2)
    for step in range(201):
        if step % 50 == 0:
            copied = copy.deepcopy(model)
            kernels.append(kernel())
        loss = nn.functional.mse_loss(model(inputs)[:, 0], 2.0 * labels - 1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = kernel_evolution(kernels, range(0, 201, 50), labels)
    assert found.label_alignment[-1] > 1.3 * found.label_alignment[0]
    assert found.distance_from_first[-1] > 0.01
    assert (found.velocity > 0).all()


_GOOD = {"kernels": [torch.eye(3)] * 2, "times": [0.0, 1.0]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"times": [0.0, 0.0]}, r"times = \[0.0, 0.0\]: expected finite numbers, each larger than the one before"),
        ({"times": [1.0, 0.0]}, "times = "),
        ({"times": [0.0, math.nan]}, r"times = \[0.0, nan\]"),
        ({"times": [0.0, math.inf]}, "times = "),
        ({"times": []}, "times: expected at least"),
        ({"times": [0.0, 1.0, 2.0]}, "kernels: expected one for each of 3 times, found 2"),
        ({"kernels": [torch.eye(3)] * 3}, "kernels: expected one for each of 2 times, found more"),
        ({"kernels": []}, "kernels: expected one for each of 2 times, found 0"),
        ({"kernels": [torch.eye(3), torch.eye(2)]}, r"kernels\[1\]: expected shape \(3, 3\) as of the first"),
        ({"kernels": [torch.eye(3), torch.eye(3) / 0]}, r"kernels\[1\]: entry \(0, 0\) is not finite"),
        ({"kernels": [torch.eye(3), torch.zeros(3, 3)]}, r"kernels\[1\]: expected a kernel that is not 0"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        kernel_velocity(**{**_GOOD, **arguments})
    with pytest.raises(InputError, match=message):
        kernel_evolution(**{**_GOOD, **arguments}, labels=torch.tensor([0, 1, 0]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": torch.tensor([0, 1])}, "labels: expected a tensor of one label for each of 3"),
        ({"labels": torch.tensor([1, 1, 1])}, "labels: expected labels that differ"),
        ({"top": 0}, "top = 0"),
        ({"rank_tolerance": -1.0}, "rank_tolerance = -1.0"),
        ({"kernels": [-torch.eye(3)] * 2}, r"kernels\[0\]: expected a positive semidefinite kernel"),
        ({"kernels": [torch.ones(3, 3)] * 2}, r"kernels\[0\]: expected a kernel that tells examples apart"),
    ],
)
def test_what_cannot_be_recorded_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        kernel_evolution(**{**_GOOD, "labels": torch.tensor([0, 1, 0]), **arguments})


def test_two_records_are_the_least_for_a_velocity():
    with pytest.raises(InputError, match="times: expected at least 2, found 1"):
        kernel_velocity([torch.eye(3)], [0.0])
    with pytest.raises(InputError, match=r"kernel: expected shape \(N, N\)"):
        kernel_spectrum(torch.ones(2, 3))


@pytest.mark.cuda
@pytest.mark.parametrize("outputs", [None, 3])
def test_the_device_changes_rounding_only(outputs):
    kernels, labels = _run(outputs), torch.tensor([0, 1, 2, 1, 0])
    here = kernel_evolution(kernels, range(4), labels)
    there = kernel_evolution([kernel.cuda() for kernel in kernels], range(4), labels)
    for name in ("distance_from_first", "velocity", "label_alignment", "effective_rank", "top_eigenvalues"):
        torch.testing.assert_close(getattr(there, name), getattr(here, name), rtol=1e-9, atol=1e-9)
