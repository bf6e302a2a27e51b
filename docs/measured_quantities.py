"""What records say of the measures themselves: on trained nets, beside their limits, beside their peers."""

from __future__ import annotations

from typing import Any

from mlptheory.reports import markdown_table

_ENDS = {
    "test_accuracy": "test accuracy (%)",
    "label_alignment": "label alignment of the kernel",
    "kernel_distance": "distance of the kernel from the first",
    "effective_rank": "effective rank of the kernel",
    "hessian_top": "largest Hessian eigenvalues",
}


def measures_text(record: dict[str, Any]) -> str:
    """Return what the measures say of trained nets, as Markdown."""
    arms, steps, n, recipe = record["arms"], record["steps"], record["n"], record["recipe"]
    last = {arm: found["summary"] for arm, found in arms.items()}

    def row(quantity: str, label: str) -> list[str]:
        cells = []
        for summary in last.values():
            value = summary[quantity]
            if quantity == "hessian_top":
                cells.append("; ".join(map(_mean_of, value)))
            elif quantity == "test_accuracy":
                cells.append(_mean_of([100 * each for each in value]))
            else:
                cells.append(f"{_mean_of(value[0])} → {_mean_of(value[-1])}")
        return [label, *cells]

    rows = [row(quantity, label) for quantity, label in _ENDS.items()]
    noise = ["noise scale of each net (examples)"]
    noise += ["; ".join(_noise(net) for net in found["nets"]) for found in arms.values()]
    along = [
        [step, *(_mean_of(found["label_alignment"][index]) for found in last.values())]
        for index, step in enumerate(steps)
    ]
    tests = [
        [
            name,
            test["more_local_is"],
            *(f"{_mean_of(of[name]['difference'])}, p = {number(of[name]['p'])}" for of in all_),
        ]
        for name, test in arms["plain"]["tests"].items()
        if (all_ := [found["tests"] for found in arms.values()])
    ]
    return "\n".join(
        [
            f"{recipe['model']['name']} on {n['training']:,} images of CIFAR-10, {recipe['budget']['amount']} "
            f"{recipe['budget']['unit']}, {recipe['optimizer']['name']} at {number(recipe['optimizer']['lr'])}, "
            f"batches of {recipe['budget']['batch_size']}; {n['nets of an arm']} nets of each arm, which differ in the "
            "seed. Means, and 95 % t intervals over the nets in brackets; arrows go from the first step to the last. "
            f"The kernel is the trace kernel of {n['kernel']} test images, centered for the alignment; Hessian of "
            f"{n['hessian']} and noise of {n['noise']:,} training images.\n",
            markdown_table([*rows, noise], ["quantity", *arms]),
            "Label alignment of the kernel along training:\n",
            markdown_table(along, ["step", *arms]),
            "First-layer filters: the mean over a net's filters less that of the reference, and the one-sided p-value "
            "over nets for filters more local than the reference. The Gaussian reference has the filters' mean and "
            "covariance.\n",
            markdown_table(tests, ["statistic", "more local is", *arms]),
            "```{figure} ../experiments/measures/cifar10_filters.png\n"
            ":alt: First-layer filters at initialization, without and with augmentation\n:width: 100%\n```\n",
            f"On {machine(record['environment'])}. Data {record['data_digest'][:16]}.\n",
        ]
    )


def _mean_of(interval: list[float]) -> str:
    mean, low, high = interval
    return f"{number(mean)} [{number(low)}, {number(high)}]"


def _noise(net: dict[str, Any]) -> str:
    low, high = (float(end) for end in net["noise_scale_95"])
    return f"{float(net['noise_scale']):.0f} [{low:.0f}, {high:.0f}]"


def infinite_width_text(record: dict[str, Any]) -> str:
    """Return how kernels of finite nets tend to their limits, as Markdown."""
    draws = [cell["draws"] for cell in record["cells"].values()]
    widths = sorted({int(name.split()[-1]) for name in record["cells"]})
    rows = []
    for model, kernels in record["summary"].items():
        for kernel, found in kernels.items():
            worst = max(found["z"], key=abs)
            slopes = [f"{s[0]:.3f} [{s[1]:.3f}, {s[2]:.3f}]" for s in found["slopes"].values()]
            rows.append([model, kernel, f"{worst:.2f}", f"{100 * max(found['relative_standard_error']):.2f}", *slopes])
    first = next(iter(next(iter(record["summary"].values())).values()))
    names = ["model", "kernel", "worst entry (standard errors)", "largest standard error (%)"]
    return "\n".join(
        [
            f"{min(draws)} to {max(draws):,} draws of nets of each width, {widths[0]} to {widths[-1]}. The mean "
            "kernel, extrapolated to infinite width, less the infinite kernel, in standard errors of the worst of its "
            "six entries; and the slope of a single net's root-mean-square error in the width, with 95 % intervals.\n",
            markdown_table(rows, [*names, *(f"slope {name}" for name in first["slopes"])]),
            f"Seed {record['seed']}; on {machine(record['environment'])}. Data {record['data_digest'][:16]}.\n",
        ]
    )


_SERIES = {
    "kernel, 3072-512-512-10, full, by examples": ("kernel", "by_examples"),
    "kernel of 32 examples, by width": ("kernel", "by_width"),
    "largest Hessian eigenvalues of 256 examples, by width": ("curvature",),
    "norms of single gradients, by examples": ("gradients",),
}


def cost_text(record: dict[str, Any]) -> str:
    """Return what a benchmark of the measures found, as Markdown."""
    found, parts = record["found"], []
    parts.append(
        "Seconds of a peer over ours, taking turns in one process: geometric mean and 95 % interval, above 1 where "
        "ours is faster; then the slope of log seconds over log size.\n"
    )
    for label, path in _SERIES.items():
        series = found[path[0]] if len(path) == 1 else found[path[0]][path[1]]
        sizes, ways = list(series["cells"]), list(series["slope"])
        rows = [
            [way, *(_ratio(series["cells"][size].get(way)) for size in sizes), f"{series['slope'][way][0]:.2f}"]
            for way in ways
        ]
        parts += [f"### {label[0].upper()}{label[1:]}\n", markdown_table(rows, ["", *sizes, "slope"])]
    rows = [
        [
            dtype,
            _ratio(cell["contraction"]["vmap(jacrev)"]),
            *(f"{cell['ours_over_bare'][name][0]:.2f}" for name in ("bare products", "bare, symmetric")),
            f"{cell['error_over_largest']:.1e}",
        ]
        for dtype, cell in found["case"].items()
    ]
    columns = ["", "vmap(jacrev) over ours", "ours over all bare products", "over half of them", "error"]
    parts += [
        "### The kernel of 128 images beside the products it cannot do without\n",
        "3072-512-512-10, all pairs of outputs. The bare products are those of the forward pass, of the backward pass "
        "of every output, and the Gram matrices; of a symmetric kernel half of the pairs of outputs would do, and are "
        "what ours computes. The error is the largest difference from the contraction, over the largest entry.\n",
        markdown_table(rows, columns),
        "### What was planned, and what it took\n",
        markdown_table(
            [
                [case, *(f"{value:.3f}" for value in cell["gib"]), *(f"{value:.2f}" for value in cell["seconds"])]
                for case, cell in found["plan"].items()
            ],
            ["kernel", "GiB planned", "GiB measured", "seconds planned", "seconds measured"],
        ),
        f"{record['options']['threads']} threads on {machine(record)}; "
        + ", ".join(f"{name} {version}" for name, version in record["peers"].items())
        + ".\n",
    ]
    return "\n".join(parts)


def _ratio(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return "–"
    if "ratio" not in cell:
        return f"{min(cell['seconds']):.4f} s"
    return "{:.1f} [{:.1f}, {:.1f}]".format(*cell["ratio"])


def machine(environment: dict[str, Any]) -> str:
    """Return the hardware and torch of a record, or of several."""
    if "several" in environment:
        return " and ".join(machine(each) for each in environment["several"])
    hardware, versions = environment["hardware"], environment["versions"]
    return f"{hardware['processor']}, {hardware['cores']} cores; torch {versions['torch']}"


def number(value: float | None) -> str:
    """Return four digits, or that there is none."""
    return "none" if value is None else f"{value:.4g}"
