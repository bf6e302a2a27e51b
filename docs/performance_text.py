"""The page on performance, written from the record of benchmarks/pipeline.py."""

from __future__ import annotations

import statistics
from typing import Any

from measured_quantities import machine

from mlptheory.reports import markdown_table

HEAD = """\
# Performance

What a training step costs, beside the authors' design and beside the matrix products that it cannot do without.
`benchmarks/pipeline.py` measures it, all ways in one process, taking turns; this page is written from its record
`benchmarks/pipeline.json` by `python docs/measured.py`.

## How to read it

- *ours* is the whole pipeline: images that lie in memory as bytes, random resized crop, flip, MixUp, normalization, and
  the step, matrix products in bfloat16. *step alone* is the same step on a batch that is ready.
- *authors, FFCV* is the design of the paper's own code: FFCV's pipeline with its operators, float32, eager,
  lion-pytorch tensor by tensor, one `.item()` a step. *authors, torch* is that with torch's operators in FFCV's place.
- *optimizer* is the optimizer's step alone, on gradients that are there: for each weight it reads and writes a
  weight and a mean in float32, and reads a gradient and writes a copy in bfloat16, 20 bytes in all.
- *products* are the matrix products of the forward and the backward pass and nothing else, of operands that lie ready
  and in order. No step can be faster than those in its precision.
- A ratio is one of seconds per step in the same round: its median, and the lowest and highest in brackets. Above 1 the
  second is faster. Seconds and GFLOP/s are medians; GFLOP/s counts the products alone, whatever else is done.
- Images and labels are random, the classes {classes:,}. Absolute figures are this machine's; ratios of memory to
  arithmetic differ between machines, and so do the ratios here.

## What is done

On a CPU, in code that is compiled on the machine it runs on (`mlptheory.base.native`):

- Lion takes each number of a parameter through all its operations at once (`mlptheory.training.lion`), equal to
  lion-pytorch's bit for bit. It runs at the memory's bandwidth.
- Images in float32 are moved by the few numbers that a row of a crop's matrix has, two where they keep their size,
  normalized and mixed on the way (`mlptheory.data.resampling`).
- In bfloat16 a weight's gradient is the product of a transposed copy (`mlptheory.models.bfloat16`), which sums in
  another order than autocast's: few entries, less than one in 1,000, have another last bit. Only the copy is compiled.

The compiler is `cc`, or what `$CC` says; it takes a second, once, and what it makes is kept in the platform's cache
folder. Without a compiler (`CC=` says so), on other systems than Linux, and wherever compiled code would round Lion
otherwise than torch does, torch's operations do the same, to the last bit, more slowly. The environment of a record
says which compiler there was.

Everywhere, and without changing a bit:

- In bfloat16 the weights are cast once, where they are written, and gradients not at all until they are used
  (`mlptheory.training.copies`).
- A CPU run keeps the memory it frees (`mlptheory.base.memory`).
- No step waits for the device: losses and hits are summed there and read once an epoch.

MixUp's cross-entropy takes one softmax and one gradient for both labels (`mlptheory.training.losses`).

Steps are taken eagerly on every device. Batches of resident images are made between the steps on a CPU, where both
would use the same cores; on a GPU they are drawn on the CPU and sent without waiting while the step before is under
way, and applied on the device. Images that are read from a file are read ahead by a thread, on every device.

One thing to know where torch shares a process with other threads that compute, such as a loader of FFCV that is still
open: OpenMP then counts more threads than cores and lets all of them sleep between two operations, which a step of many
small ones feels most. The benchmark ends each way's threads before the next has its turn.

"""


def performance_text(record: dict[str, Any]) -> str:
    """Return the page."""
    options = record["options"]
    parts = [HEAD.format(classes=record["classes"])]
    parts += [_case(case) for case in record["cases"]]
    if "cifar10" in record:
        found = record["cifar10"]
        parts.append(
            f"## CIFAR-10\n\nB-6/Wi-1024 at 64 x 64: {found['epochs']} epochs took {found['seconds']:.1f} s, so 5,000 "
            f"take {found['seconds_of_5000'] / 60:.1f} minutes.\n"
        )
    peers = ", ".join(f"{name} {version}" for name, version in record["peers"].items() if version is not None)
    parts.append(
        f"{options['rounds']} rounds of {' and '.join(str(case['steps']) for case in record['cases'])} steps, "
        f"{options['threads']} threads, {options['device']}, "
        f"load average before the run {record['load']:.1f}, "
        f"on {machine(record)}{'; ' + peers if peers else '; ffcv is not there'}. {record['date']}.\n"
    )
    return "\n".join(parts)


def _case(case: dict[str, Any]) -> str:
    rows = []
    for way, seconds in case["seconds"].items():
        middle = statistics.median(seconds)
        per_second = case["batch_size"] / middle
        rates = [f"{per_second:,.0f}", f"{case['flops'] / middle / 1e9:,.0f}"] if way != "optimizer" else ["", ""]
        rows.append([way, f"{middle:.4f}", *rates])
    ratios = [
        [label, f"{middle:.2f}", f"[{low:.2f}, {high:.2f}]"] for label, (middle, low, high) in case["ratios"].items()
    ]
    peak = f"{100 * case['share_of_peak']:.1f} % of the device's peak.\n" if "share_of_peak" in case else ""
    return "\n".join(
        [
            f"## {case['model']} at {case['side']} x {case['side']}, batches of {case['batch_size']:,}\n",
            markdown_table(rows, ["", "s per step", "images/s", "GFLOP/s"]),
            markdown_table(ratios, ["ratio of seconds", "median", "range"]),
            peak,
        ]
    )
