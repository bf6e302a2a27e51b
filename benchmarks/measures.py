"""Measures against their peers on this machine: seconds and peak memory, one process, taking turns.

The kernel    `empirical_ntk`, full outputs, of 3072-width-width-10 with ReLU, against torch.func's vmap(jacrev) and a
              contraction, as torch's tutorial on NTKs does it, neural-tangents' three methods and nngeometry
The case      the same at 128 x 128 examples, width 512, float32 and float64: against the contraction, and against the
              bare matrix products that the structured method cannot do without, by torch.mm and nothing else
Curvature     `hessian_top_eigenvalues` against curvlinops and scipy's eigsh at the same tolerance, float64
Gradients     `per_example_gradient_norms` against vmap(grad)
The plan      `plan_ntk` against what was measured, over five sizes

Ways take turns; printed is a peer's seconds over ours as a geometric mean over the turns with its 95 % interval (t on
the logarithms), above 1 where ours is faster, and the slope of log seconds over log size. A peer that cannot be
imported or does not run is named so. The contraction takes one Jacobian for both sides, which the tutorial computes
twice, in blocks of rows where two do not fit --peer-gib. Peak memory is the high water of a process of its own
(VmHWM, Linux only) over what it held after a first run on two examples, with an allocator that hands back what is
freed, so that it is what was held at once and not what fragments; jax's own allocator is counted in it too.

    python benchmarks/measures.py [--parts kernel,case,curvature,gradients,plan] [--repeats 3] [--sizes 16,32,64,128]
        [--widths 128,256,512,1024] [--threads 2] [--json FILE]
"""

import argparse
import ctypes
import gc
import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from peers.of_measures import (
    Unavailable,
    Way,
    contraction,
    curvlinops_top,
    neural_tangents,
    nngeometry,
    peer_versions,
    vmapped_norms,
)
from scipy.stats import linregress
from torch import nn
from torch.nn import functional as F

from mlptheory.measures import empirical_ntk, hessian_top_eigenvalues, per_example_gradient_norms, plan_ntk
from mlptheory.models import build
from mlptheory.stats import mean_interval
from mlptheory.trials.environment import describe_environment

PIXELS, CLASSES, GIB = 3072, 10, 2**30
PLANNED = {
    "3072-512-512-10, 256 x 256, full": (None, 32, 256, "full", torch.float32),
    "S-6/Wi-512, 512 x 512, full": ("S-6/Wi-512", 32, 512, "full", torch.float32),
    "B-6/Wi-512, 1000 x 1000, trace": ("B-6/Wi-512", 32, 1000, "trace", torch.float32),
    "B-6/Wi-512, 1000 x 1000, sum, float64": ("B-6/Wi-512", 32, 1000, "sum", torch.float64),
    "B-12/Wi-1024 at 64 x 64, 1000 x 1000, trace": ("B-12/Wi-1024", 64, 1000, "trace", torch.float32),
}


def network(width: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(PIXELS, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, CLASSES)]
    return nn.Sequential(nn.Flatten(), *layers).to(dtype)


def images(n: int, side: int = 32, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=dtype)


def kernel_way(name: str, peer_gib: float) -> Way:
    if name == "ours":
        return lambda model, x: empirical_ntk(model, x, dtype=x.dtype)
    if name == "vmap(jacrev)":
        return partial(contraction, gib=peer_gib)
    return nngeometry() if name == "nngeometry" else neural_tangents(int(name[-1]))


KERNEL_WAYS = ("ours", "vmap(jacrev)", "neural-tangents 1", "neural-tangents 2", "neural-tangents 3", "nngeometry")


def bare_products(model: nn.Module, x: torch.Tensor, halves: bool) -> None:
    """Do the products of the structured method: forward, backward and Gram matrices.

    `halves`: of Gram matrices of gradients only output c with those from c on, as a symmetric kernel needs.
    """
    weights = [layer.weight.detach() for layer in model if isinstance(layer, nn.Linear)]
    n, inputs = len(x), [x.flatten(1)]
    for weight in weights:
        inputs.append(torch.mm(inputs[-1], weight.T))
    for values in inputs[:-1]:
        torch.mm(values, values.T)
    gradients = torch.eye(CLASSES, dtype=x.dtype).repeat_interleave(n, dim=0)
    for index in reversed(range(len(weights))):
        for c in range(CLASSES) if halves else ():
            torch.mm(gradients[c * n : (c + 1) * n], gradients[c * n :].T)
        if not halves:
            torch.mm(gradients, gradients.T)
        if index:
            gradients = torch.mm(gradients, weights[index])


def turns(ways: dict[str, Callable[[], object]], repeats: int) -> tuple[dict[str, list[float]], dict[str, object]]:
    """Return the seconds of each way, turn by turn after one that warms up, and its last result or why it has none."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    results: dict[str, object] = {}
    for turn in range(-1, repeats):
        for name in list(seconds) if turn % 2 == 0 else list(reversed(seconds)):
            results.pop(name, None)
            gc.collect()
            began = time.perf_counter()
            try:
                results[name] = ways[name]()
            except Exception as error:
                print(f"    {name}: does not run here: {type(error).__name__}: {str(error).splitlines()[0][:90]}")
                del seconds[name]
                continue
            if turn >= 0:
                seconds[name].append(time.perf_counter() - began)
    return seconds, results


def ratio(peer: Sequence[float], ours: Sequence[float]) -> list[float]:
    """Return the geometric mean of peer over ours with its 95 % interval; NaN for an interval of one turn."""
    logs = np.log(np.array(peer) / np.array(ours))
    if len(logs) < 2:
        return [math.exp(logs.mean()), math.nan, math.nan]
    found = mean_interval(logs)
    return [math.exp(found.estimate), math.exp(found.low), math.exp(found.high)]


def report(label: str, seconds: dict[str, list[float]], ours: str = "ours") -> dict:
    print(f"  {label}", flush=True)
    found = {}
    for name, took in seconds.items():
        found[name] = {"seconds": took}
        line = f"    {name:<20} {np.median(took):9.4f} s"
        if name != ours and ours in seconds:
            found[name]["ratio"] = ratio(took, seconds[ours])
            line += "   ratio {:8.2f} [{:.2f}, {:.2f}]".format(*found[name]["ratio"])
        print(line, flush=True)
    return found


def exponents(cells: dict[int, dict]) -> dict[str, list[float]]:
    """Return for each way the slope of log seconds over log size, and its standard error."""
    found = {}
    for name in dict.fromkeys(name for cell in cells.values() for name in cell):
        points = [
            (math.log(size), math.log(took))
            for size, cell in cells.items()
            for took in cell.get(name, {}).get("seconds", [])
        ]
        if len({size for size, _ in points}) > 1:
            line = linregress(*zip(*points, strict=True))
            found[name] = [float(line.slope), float(line.stderr)]
            print(f"    {name:<20} slope {line.slope:5.2f} ± {line.stderr:.2f}", flush=True)
    return found


def series(label: str, ways_at: Callable[[int], dict], sizes: Sequence[int], repeats: int) -> dict:
    cells = {size: report(f"{label} {size}", turns(ways_at(size), repeats)[0]) for size in sizes}
    return {"cells": {str(size): cell for size, cell in cells.items()}, "slope": exponents(cells)}


def high_water(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def extra_bytes(work: Callable[[], object]) -> int:
    """Return the most this process holds beyond what it has, while it works."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = high_water("VmRSS")
    work()
    return high_water("VmHWM") - before


def kernel_memory(name: str, sizes: Sequence[int], peer_gib: float, threads: int) -> dict[str, int]:
    torch.set_num_threads(threads)
    way, model = kernel_way(name, peer_gib), network(512)
    way(model, images(2))
    return {str(size): extra_bytes(partial(way, model, images(size))) for size in sizes}


def planned_model(name: str | None, side: int) -> nn.Module:
    return network(512) if name is None else build(name, image_size=side, num_classes=CLASSES, seed=0)


def planned_memory(label: str, threads: int) -> int:
    torch.set_num_threads(threads)
    name, side, n, outputs, dtype = PLANNED[label]
    model, x = planned_model(name, side), images(n, side)
    empirical_ntk(model, x[:2], outputs=outputs, dtype=dtype)
    return extra_bytes(lambda: empirical_ntk(model, x, outputs=outputs, dtype=dtype))


def in_own_process(work: Callable, *arguments):
    # Below this size glibc keeps what is freed, and the resident memory is not what is in use.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = os.environ["MALLOC_TRIM_THRESHOLD_"] = "65536"
    try:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(work, arguments)
    finally:
        del os.environ["MALLOC_MMAP_THRESHOLD_"], os.environ["MALLOC_TRIM_THRESHOLD_"]


def available(peer_gib: float) -> dict[str, Way]:
    found = {}
    for name in KERNEL_WAYS:
        try:
            found[name] = kernel_way(name, peer_gib)
        except Unavailable as error:
            print(f"    {name}: {error}")
    return found


def kernel_part(arguments: argparse.Namespace) -> dict:
    ways = available(arguments.peer_gib)

    def bound(n: int, width: int) -> dict[str, Callable]:
        model, x = network(width), images(n)
        return {name: partial(way, model, x) for name, way in ways.items()}

    sizes = [int(size) for size in arguments.sizes.split(",")]
    widths = [int(width) for width in arguments.widths.split(",")]
    by_examples = series("kernel, width 512, N =", lambda n: bound(n, 512), sizes, arguments.repeats)
    by_width = series("kernel, N = 32, width =", lambda width: bound(32, width), widths, arguments.repeats)
    memory = {}
    for name in ways:
        try:
            memory[name] = in_own_process(kernel_memory, name, sizes[:-1], arguments.peer_gib, arguments.threads)
        except Exception as error:
            print(f"    {name}: no memory measured: {type(error).__name__}")
            continue
        print(
            f"    {name:<20} peak GiB " + ", ".join(f"{n}: {b / GIB:.3f}" for n, b in memory[name].items()), flush=True
        )
    return {"by_examples": by_examples, "by_width": by_width, "peak_bytes_by_examples": memory}


def case_part(arguments: argparse.Namespace) -> dict:
    found = {}
    for dtype in (torch.float32, torch.float64):
        model, x = network(512, dtype), images(128, dtype=dtype)
        quick = {
            "ours": lambda model=model, x=x: empirical_ntk(model, x, dtype=x.dtype),
            "bare products": lambda model=model, x=x: bare_products(model, x, halves=False),
            "bare, symmetric": lambda model=model, x=x: bare_products(model, x, halves=True),
        }
        fast, results = turns(quick, 10 * arguments.repeats)
        slow, others = turns(
            {"ours": quick["ours"], "vmap(jacrev)": partial(contraction, model, x, arguments.peer_gib)},
            arguments.repeats,
        )
        ours, theirs = results["ours"], others["vmap(jacrev)"]
        label, cell = str(dtype).removeprefix("torch."), {}
        cell["products"] = report(f"the case, {label}, beside its bare products", fast)
        cell["contraction"] = report(f"the case, {label}, beside the contraction", slow)
        cell["ours_over_bare"] = {name: ratio(fast["ours"], fast[name]) for name in fast if name != "ours"}
        cell["error_over_largest"] = ((ours - theirs).abs().max() / theirs.abs().max()).item()
        cell["error_relative"] = ((ours - theirs).abs() / theirs.abs()).max().item()
        print(
            f"    ours over bare products {cell['ours_over_bare']['bare products'][0]:.2f}, over half of them ", end=""
        )
        print(f"{cell['ours_over_bare']['bare, symmetric'][0]:.2f}; largest error over the largest entry ", end="")
        print(f"{cell['error_over_largest']:.1e}, largest relative error {cell['error_relative']:.1e}", flush=True)
        found[label] = cell
        del others, results, ours, theirs
    return found


def curvature_part(arguments: argparse.Namespace) -> dict:
    x = images(256, dtype=torch.float64)
    y = torch.arange(256) % CLASSES

    def bound(width: int) -> dict[str, Callable]:
        model = network(width, torch.float64)
        loss = nn.CrossEntropyLoss()
        return {
            "ours": lambda: hessian_top_eigenvalues(model, loss, x, y, 3, tolerance=1e-3).values,
            "curvlinops + eigsh": lambda: curvlinops_top(model, x, y, 3),
        }

    _, values = turns(bound(64), 1)
    print("  top eigenvalues, width 64: " + "; ".join(f"{name} {np.round(v, 5)}" for name, v in values.items()))
    return series("curvature, 256 examples, width =", bound, (64, 128, 256), arguments.repeats)


def gradients_part(arguments: argparse.Namespace) -> dict:
    model = network(512)

    def losses(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(outputs, targets, reduction="none")

    def bound(n: int) -> dict[str, Callable]:
        x, y = images(n), torch.arange(n) % CLASSES
        return {
            "ours": lambda: per_example_gradient_norms(model, losses, x, y, dtype=torch.float32),
            "vmap(grad)": lambda: vmapped_norms(model, x, y),
        }

    _, values = turns(bound(32), 1)
    error = (values["ours"] / values["vmap(grad)"] - 1).abs().max().item()
    print(f"  gradient norms, float32: largest relative difference {error:.1e}")
    return series("gradient norms, width 512, N =", bound, (32, 64, 128, 256), arguments.repeats)


def plan_part(arguments: argparse.Namespace) -> dict:
    found = {}
    for label, (name, side, n, outputs, dtype) in PLANNED.items():
        model, x = planned_model(name, side), images(n, side)
        plan = plan_ntk(model, x, outputs=outputs, dtype=dtype)
        began = time.perf_counter()
        empirical_ntk(model, x, outputs=outputs, dtype=dtype)
        took = time.perf_counter() - began
        peak = in_own_process(planned_memory, label, arguments.threads) / GIB
        found[label] = {"seconds": [plan.seconds, took], "gib": [plan.peak_gib, peak], "chunk": plan.chunk}
        print(
            f"  {label:<45} GiB planned {plan.peak_gib:.3f}, measured {peak:.3f}, ratio {plan.peak_gib / peak:.2f}   "
            f"seconds planned {plan.seconds:.2f}, measured {took:.2f}, ratio {plan.seconds / took:.2f}",
            flush=True,
        )
    return found


PARTS = {
    "kernel": kernel_part,
    "case": case_part,
    "curvature": curvature_part,
    "gradients": gradients_part,
    "plan": plan_part,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", default="16,32,64,128")
    parser.add_argument("--widths", default="128,256,512,1024")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--peer-gib", type=float, default=10.0, help="for the Jacobians of torch.func's contraction")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found, began = {}, time.perf_counter()
    for part in arguments.parts.split(","):
        print(part, flush=True)
        found[part] = PARTS[part](arguments)
        if arguments.json is not None:
            options = {name: str(value) for name, value in vars(arguments).items() if name != "json"}
            written = {"options": options, "found": found, "seconds": time.perf_counter() - began}
            peers = {"peers": peer_versions()}
            arguments.json.write_text(json.dumps({**written, **describe_environment(), **peers}, indent=2) + "\n")
    print(f"{time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
