"""Infinite-width kernels of S-6 and B-6 against kernels of finite nets at initialization.

Command   python experiments/infinite_width/monte_carlo.py     writes monte_carlo.json, beside this file or as --out;
          cells (a model and a width) that are in that file already are not drawn again, but go on where they have
          fewer draws than are wanted
Theory    Jacot, Gabriel & Hongler 2018: a net's kernel at initialization is off the limit by about width^-1/2, its mean
          over initializations by about 1/width
Time      see "seconds" of each cell; about two hours of one core in all

Of each draw, in float32: the tangent kernel of the one logit (over the width m in the standard parametrization), from
what each layer takes and the logit's derivative in what it gives; the NNGP kernel given the body, σ_w² h·h'/m + σ_b²,
with h what the head takes. No measure of the package has a part in these. Means of the draws are fitted by
c0 + c1/m + c2/m², each weighted by its standard error; c0 is held to the infinite kernel, with errors of an entry
(i, j) relative to √(K_ii K_jj). The error of a single net is that of the whole matrix in Frobenius norm, bias included;
its slope is fitted twice, from width 256 and from 512 on, as the bias, which falls faster, steepens it at small widths.

Chosen here: three images of digits at 4 × 4 pixels, standardized by one mean and deviation; widths; draws of each.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from mlptheory.base.files import canonical_json, write_atomically
from mlptheory.base.random import torch_generator
from mlptheory.data import load
from mlptheory.measures import infinite_kernels
from mlptheory.models import build
from mlptheory.trials import describe_environment

WIDTHS = (64, 128, 256, 512, 1024, 2048)
DRAWS = {
    "S-6 relu ntk": (20_000, 62_000, 8_000, 33_000, 1_500, 400),
    "S-6 gelu ntk": (18_000, 56_000, 8_000, 30_000, 1_500, 400),
    "S-6 relu standard": (15_000, 46_000, 8_000, 24_000, 1_500, 400),
    "S-6 gelu standard": (10_000, 31_000, 8_000, 16_000, 1_500, 400),
    "B-6 relu ntk": (3_600, 8_800, 5_000, 2_900, 600, 150),
    "B-6 gelu ntk": (3_600, 8_800, 5_000, 2_900, 600, 150),
    "B-6 relu standard": (2_000, 5_000, 5_000, 1_700, 1_500, 400),
    "B-6 gelu standard": (4_000, 10_000, 10_000, 10_000, 6_000, 1_600),
}
SLOPES_FROM = (256, 512)
IMAGES = (0, 1, 2)
SEED = 0
_DRAWS_AT_ONCE = 200


def inputs() -> torch.Tensor:
    """Return the images at half their resolution, (3, 1, 4, 4)."""
    images = torch.nn.functional.avg_pool2d(load("digits", "train").images.float(), 2)
    return ((images - images.mean()) / images.std())[list(IMAGES)]


def kernels(model: torch.nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the tangent kernel of a model's one logit, and its NNGP kernel given the body, (N, N)."""
    seen: dict[torch.nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}

    def keep(module: torch.nn.Module, given: tuple[torch.Tensor], output: torch.Tensor) -> None:
        seen[module] = (given[0].detach(), output)

    layers = [module for module in model.modules() if isinstance(module, torch.nn.LayerNorm) or hasattr(module, "rule")]
    hooks = [layer.register_forward_hook(keep) for layer in layers]
    logits = model(x)
    for hook in hooks:
        hook.remove()
    arrived = torch.autograd.grad(logits.sum(), [seen[layer][1] for layer in layers])
    tangent = torch.zeros(len(x), len(x), dtype=torch.float64)
    for layer, derivative in zip(layers, arrived, strict=True):
        given, output = seen[layer]
        if isinstance(layer, torch.nn.LayerNorm):
            # At scale 1 and shift 0 the output is what the scale multiplies.
            tangent += gram(derivative * output.detach()) + gram(derivative)
        else:
            covariance = layer.rule.weight_scale**2 * gram(given) + layer.rule.bias_scale**2
            tangent += covariance * gram(derivative)
    body, width = gram(seen[model.head][0]) / model.parsed.width, model.parsed.width
    is_ntk = model.config.parametrization == "ntk"
    return (tangent, body + 0.01) if is_ntk else (tangent / width, (body + 1 / width) / 3)


def gram(rows: torch.Tensor) -> torch.Tensor:
    """Return dot products of rows, in float64."""
    return rows.double() @ rows.double().T


def infinite(model: str, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the limits that the kernels of draws are held to."""
    family, activation, parametrization = model.split()
    limit = infinite_kernels(f"{family}/Wi-1", x, parametrization=parametrization, activation=activation)
    return {"ntk": limit.ntk if parametrization == "ntk" else limit.ntk_per_width, "nngp": limit.nngp}


def sums(model: str, width: int, first: int, last: int) -> tuple[float, dict[str, np.ndarray]]:
    """Return seconds, and sums over some draws of a kernel's entries e, e² and of its squared error q, q²."""
    torch.set_num_threads(1)
    began, x = time.perf_counter(), inputs()
    family, activation, parametrization = model.split()
    net = build(
        f"{family}/Wi-{width}",
        image_size=4,
        channels=1,
        num_classes=1,
        activation=activation,
        parametrization=parametrization,
    )
    limits = infinite(model, x)
    i, j = torch.triu_indices(len(x), len(x)).unbind()
    found: dict[str, list[np.ndarray]] = {name: [] for name in limits}
    for draw in range(first, last):
        net.initialize(torch_generator(SEED, "monte carlo", width, draw))
        for name, kernel in zip(("ntk", "nngp"), kernels(net, x), strict=True):
            entries = kernel[i, j].numpy()
            squared = ((kernel - limits[name]).square().sum() / limits[name].square().sum()).item()
            found[name].append(np.concatenate([entries, entries**2, [squared, squared**2]]))
    return time.perf_counter() - began, {name: np.sum(rows, axis=0) for name, rows in found.items()}


def cell(draws: int, parts: list[tuple[float, dict[str, np.ndarray]]]) -> dict[str, object]:
    """Return what the kernels of all draws of a model at one width come to."""
    result: dict[str, object] = {"draws": draws, "seconds": sum(seconds for seconds, _ in parts)}
    for name in ("ntk", "nngp"):
        means = sum(part[name] for _, part in parts) / draws
        entries, squares, (error, error_square) = *np.split(means[:-2], 2), means[-2:]
        result[name] = {
            "mean": entries.tolist(),
            "standard_error": np.sqrt((squares - entries**2) / (draws - 1)).tolist(),
            "rms_error": math.sqrt(error),
            "rms_standard_error": math.sqrt((error_square - error**2) / (draws - 1) / (4 * error)),
        }
    return result


def drawn(cell: dict) -> tuple[float, dict[str, np.ndarray]]:
    """Return seconds and the sums that a cell was made of."""
    draws, found = cell["draws"], {}
    for name in ("ntk", "nngp"):
        part = cell[name]
        entries, error = np.array(part["mean"]), part["rms_error"] ** 2
        squares = np.array(part["standard_error"]) ** 2 * (draws - 1) + entries**2
        error_square = part["rms_standard_error"] ** 2 * (draws - 1) * 4 * error + error**2
        found[name] = draws * np.concatenate([entries, squares, [error, error_square]])
    return cell["seconds"], found


def fit(design: np.ndarray, values: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return coefficients of weighted least squares, their standard errors, and the chi-squared of the rest."""
    weighted = design / errors[:, None]
    covariance = np.linalg.inv(weighted.T @ weighted)
    coefficients = covariance @ weighted.T @ (values / errors)
    rest = (values - design @ coefficients) / errors
    return coefficients, np.sqrt(np.diag(covariance)), float(rest @ rest)


def summary(cells: dict[int, dict], limit: torch.Tensor, name: str) -> dict[str, object]:
    """Return the means extrapolated to infinite width beside the limit, and the slope of the error of one net."""
    widths = np.array(sorted(cells), dtype=float)
    parts = [cells[int(width)][name] for width in widths]
    means, errors = (np.array([part[key] for part in parts]) for key in ("mean", "standard_error"))
    rms, rms_errors = (np.array([part[key] for part in parts]) for key in ("rms_error", "rms_standard_error"))
    logs, slopes = np.stack([widths**0, np.log(widths)], axis=1), {}
    for first in SLOPES_FROM:
        wide = widths >= first
        line, line_errors, _ = fit(logs[wide], np.log(rms[wide]), (rms_errors / rms)[wide])
        slopes[f"from {first}"] = [float(line[1] + sign * 1.96 * line_errors[1]) for sign in (0, -1, 1)]
    fits = [fit(widths[:, None] ** -np.arange(3.0), *column) for column in zip(means.T, errors.T, strict=True)]
    i, j = np.triu_indices(len(limit))
    true, scale = limit.numpy()[i, j], np.sqrt(np.diag(limit)[i] * np.diag(limit)[j])
    found, found_errors = (np.array([one[which][0] for one in fits]) for which in (0, 1))
    return {
        "infinite": true.tolist(),
        "extrapolated": found.tolist(),
        "standard_error": found_errors.tolist(),
        "relative_standard_error": (found_errors / scale).tolist(),
        "z": ((found - true) / found_errors).tolist(),
        "chi_squared": [one[2] for one in fits],
        "degrees_of_freedom": len(widths) - 3,
        "slopes": slopes,
    }


def summaries(cells: dict[str, dict]) -> dict[str, dict]:
    """Return a summary of each model and kernel with enough widths."""
    x, found = inputs(), {}
    for model in DRAWS:
        drawn = {int(key.split()[-1]): value for key, value in cells.items() if key.startswith(model + " ")}
        if len(drawn) > 3 and sum(width >= max(SLOPES_FROM) for width in drawn) > 1:
            found[model] = {name: summary(drawn, limit, name) for name, limit in infinite(model, x).items()}
    return found


def main() -> None:
    """Draw the cells that are missing, and write all after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--draws", type=int, nargs="+", help="of each width; by default as many as the model needs")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--workers", type=int, default=1, help="processes, of one thread each")
    chosen = parser.parse_args()
    cells = json.loads(chosen.out.read_text())["cells"] if chosen.out.exists() else {}
    wanted = {
        f"{model} {width}": (model, width, draws)
        for model, usual in DRAWS.items()
        for width, draws in zip(chosen.widths, chosen.draws or usual, strict=True)
    }
    there = {key: cells[key]["draws"] if key in cells else 0 for key in wanted}
    missing = {key: task for key, task in wanted.items() if there[key] < task[-1]}
    parts = {key: [drawn(cells[key])] if key in cells else [] for key in missing}
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(chosen.workers, mp_context=context) as pool,
        tqdm(
            total=sum(draws - there[key] for key, (*_, draws) in missing.items()), unit="draw", mininterval=10
        ) as progress,
    ):
        running = {}
        for key, (model, width, draws) in missing.items():
            for first in range(there[key], draws, _DRAWS_AT_ONCE):
                last = min(first + _DRAWS_AT_ONCE, draws)
                running[pool.submit(sums, model, width, first, last)] = (key, last - first)
        left = {key: draws - there[key] for key, (*_, draws) in missing.items()}
        for done in as_completed(running):
            key, number = running.pop(done)
            parts[key].append(done.result())
            left[key] -= number
            progress.update(number)
            if left[key] == 0:
                cells[key] = cell(missing[key][-1], parts.pop(key))
                write(chosen.out, cells)


def write(path: Path, cells: dict[str, dict]) -> None:
    """Write cells, what they come to, and where they were drawn."""
    result = {
        "images": list(IMAGES),
        "data_digest": load("digits", "train").digest,
        "seed": SEED,
        "cells": cells,
        "summary": summaries(cells),
        "environment": describe_environment(),
    }
    write_atomically(path, canonical_json(result).encode())


if __name__ == "__main__":
    main()
