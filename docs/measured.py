"""The page of measured results, written from the records under experiments/ and from nothing else.

``python docs/measured.py`` writes docs/results.md, docs/reproduced.md and docs/performance.md again;
tests/test_experiments.py fails where one is out of date.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from measured_quantities import cost_text, infinite_width_text, machine, measures_text, number
from performance_text import performance_text
from reproduced import reproductions_text

from mlptheory.reports import markdown_table

REPOSITORY = Path(__file__).resolve().parents[1]
EXPERIMENTS = REPOSITORY / "experiments"
PAGE = REPOSITORY / "docs" / "results.md"
REPRODUCED = REPOSITORY / "docs" / "reproduced.md"
PERFORMANCE = REPOSITORY / "docs" / "performance.md"

HEAD = """\
# Measured results

Every number here comes from a record under `experiments/`, which holds its recipe, seeds, data digest, versions and
hardware; `python docs/measured.py` writes this page from them. Numbers of tables of a paper are on a page of their own,
{doc}`reproduced`.
"""


def results() -> dict[str, dict[str, Any]]:
    """Return the result of every probe that was recorded, by folder."""
    return {
        path.parent.relative_to(EXPERIMENTS).as_posix(): json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(EXPERIMENTS.rglob("result.json"))
    }


def calibrations() -> dict[str, dict[str, Any]]:
    """Return every calibration of a probe that was recorded, by folder."""
    return {
        path.parent.relative_to(EXPERIMENTS).as_posix(): json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(EXPERIMENTS.rglob("calibration.json"))
    }


def performance() -> str:
    """Return the text of docs/performance.md."""
    return performance_text(json.loads((REPOSITORY / "benchmarks" / "pipeline.json").read_text(encoding="utf-8")))


def page() -> str:
    """Return the text of docs/results.md."""
    parts = [HEAD]
    for folder, result in results().items():
        parts += [f"## {result['design']['title']}: `{folder}`\n", _probe(folder, result)]
    for folder, calibration in calibrations().items():
        parts += [f"## Calibration, {calibration['design']['title']}: `{folder}`\n", calibration_text(calibration)]
    parts += ["## Measures of trained B-MLPs: `measures/cifar10`\n", measures_text(_json("measures/cifar10.json"))]
    parts += [
        "## Finite nets beside their infinite-width kernels: `infinite_width/monte_carlo`\n",
        infinite_width_text(_json("infinite_width/monte_carlo.json")),
        "## What measures cost beside their peers: `benchmarks/measures.py`\n",
        cost_text(json.loads((REPOSITORY / "benchmarks" / "measures.json").read_text(encoding="utf-8"))),
    ]
    return "\n".join(parts)


def _json(path: str) -> dict[str, Any]:
    return json.loads((EXPERIMENTS / path).read_text(encoding="utf-8"))


def _probe(folder: str, result: dict[str, Any]) -> str:
    verdicts = [
        [
            verdict["claim"],
            verdict["verdict"],
            f"{number(verdict['effect'])} {verdict['unit']}",
            _interval(verdict),
            number(verdict["margin"]),
            number(verdict["p"]),
            verdict["n"],
        ]
        for verdict in result["verdicts"]
    ]
    names = [column["name"] for column in result["effects"]["columns"]]
    effects = [dict(zip(names, row, strict=True)) for row in result["effects"]["rows"]]
    timing = result["timing"]
    return "\n".join(
        [
            f"{result['design']['question']}\n",
            markdown_table(verdicts, ["claim", "verdict", "effect", "interval", "margin", "p", "n"]),
            *(f"- {verdict['claim']} {verdict['reason']}" for verdict in result["verdicts"]),
            "",
            "Scopes:\n",
            *(f"- {scope}" for scope in dict.fromkeys(each["scope"] for each in result["verdicts"])),
            "",
            "Means over seeds; brackets are 95 % t intervals, each for itself, left out where runs are missing.\n",
            _by_batch_size(effects, names[: names.index("quantity")]),
            _other_effects(effects, names[: names.index("quantity")]),
            f"```{{figure}} ../experiments/{folder}/figure.png\n:alt: {result['design']['title']}\n:width: 80%\n```\n",
            f"{len(result['table']['rows'])} runs of {number(sum(timing['trial_s']))} s together; planned "
            f"{number(timing['planned_s'])} s, taken {number(timing['taken_s'])} s.\n",
            f"{result['design']['schedule']['precision']} on {machine(result['environment'])}. "
            f"Design {result['design']['digest'][:16]}.\n",
        ]
    )


_AT_BATCH_SIZE = re.compile(r"(?P<what>.*?)(?: at|,) batch size (?P<size>\d+)(?P<unit> \(.*\))?")


def _by_batch_size(effects: list[dict[str, Any]], where: list[str]) -> str:
    """Return the effects that are of one batch size each, a column a batch size; nothing where there are none."""
    cells: dict[tuple[Any, ...], dict[int, str]] = {}
    for row in effects:
        if found := _AT_BATCH_SIZE.fullmatch(row["quantity"]):
            key = (*(row[name] for name in where), f"{found['what']}{found['unit'] or ''}")
            cells.setdefault(key, {})[int(found["size"])] = _estimate(row)
    if not cells:
        return ""
    sizes = sorted({size for each in cells.values() for size in each})
    rows = [[*key, *(each.get(size, "–") for size in sizes)] for key, each in cells.items()]
    return markdown_table(rows, [*where, "mean at batch size", *map(str, sizes)])


def _other_effects(effects: list[dict[str, Any]], where: list[str]) -> str:
    rows = [
        [*(row[name] for name in where), row["quantity"], _estimate(row), row["n"]]
        for row in effects
        if not _AT_BATCH_SIZE.fullmatch(row["quantity"])
    ]
    return markdown_table(rows, [*where, "quantity", "mean", "n"])


def _estimate(row: dict[str, Any]) -> str:
    if row["low"] is None:
        rest = f" ({row['n']} of {row['runs']})" if row.get("runs", row["n"]) > row["n"] else ""
        return number(row["mean"]) + rest
    return f"{number(row['mean'])} [{number(row['low'])}, {number(row['high'])}]"


def calibration_text(calibration: dict[str, Any]) -> str:
    """Return what a calibration found, as Markdown."""
    design, rows = calibration["design"], calibration["rows"]
    units = {claim["id"]: claim["unit"] for claim in design["claims"]}
    failed = sum(not row["holds"] for row in rows)
    parts = [
        f"Verdicts on {design['tables']:,} tables of every scenario, whose truth is planted. False rates are shares of "
        "tables in which a word was given that is not true; at the margin itself both words are false. Brackets are "
        "exact 99.9 % intervals. A line holds if those of its false rates reach down to 5 %, and that of its coverage "
        "up to 95 %: " + ("every line does.\n" if not failed else f"{failed} of {len(rows)} lines do not.\n"),
        *(f"- {scenario['name']}: {scenario['description']}" for scenario in design["scenarios"]),
        "",
    ]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        of_kind = [row for row in rows if row["kind"] == kind]
        claims = [row for row in of_kind if row["false_any"] is None]
        noise = "Gaussian tables" if kind == "simulated" else f"{design['bank']['runs']} real runs, resampled"
        parts += [f"### {noise}\n", markdown_table([_calibrated(row, units) for row in claims], _CALIBRATED)]
        together = [[row["scenario"], _rate(row, "false_any"), _held(row)] for row in of_kind if row not in claims]
        parts += [markdown_table(together, ["scenario", "any false verdict in the family (%)", "holds"])]
    bank = "no bank" if design["bank"] is None else f"bank {design['bank']['digest'][:16]}"
    parts.append(f"Seed {design['seed']}, {bank}; {machine(calibration['environment'])}.\n")
    return "\n".join(parts)


_CALIBRATED = [
    "scenario",
    "claim",
    "truth",
    "supported (%)",
    "contradicted (%)",
    "false supported (%)",
    "false contradicted (%)",
    "coverage (%)",
    "mean width",
    "A/A rejects (%)",
    "holds",
]


def _calibrated(row: dict[str, Any], units: dict[str, str]) -> list[str]:
    return [
        row["scenario"],
        f"`{row['claim']}`",
        number(row["truth"]),
        *(f"{100 * row[word] / row['tables']:.2f}" for word in ("supported", "contradicted")),
        *(_rate(row, rate) for rate in ("false_supported", "false_contradicted", "coverage")),
        f"{number(row['mean_width'])} {units[row['claim']]}",
        _rate(row, "zero_rejected"),
        _held(row),
    ]


def _rate(row: dict[str, Any], name: str) -> str:
    if row[name] is None:
        return "–"
    return f"{100 * row[name]:.2f} [{100 * row[f'{name}_low']:.2f}, {100 * row[f'{name}_high']:.2f}]"


def _held(row: dict[str, Any]) -> str:
    return "yes" if row["holds"] else "no"


def _interval(verdict: dict[str, Any]) -> str:
    if verdict["level"] is None:
        return "none"
    return f"[{number(verdict['low'])}, {number(verdict['high'])}] at {100 * verdict['level']:.4g} %"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    REPRODUCED.write_text(reproductions_text(EXPERIMENTS), encoding="utf-8")
    PERFORMANCE.write_text(performance(), encoding="utf-8")
