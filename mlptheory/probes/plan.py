"""What a probe would do and cost, before it runs."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlptheory.measures import training_compute
from mlptheory.training import (
    Cost,
    Recipe,
    build_recipe_model,
    estimate_cost,
    planned_work,
    prepare_examples,
    recipe_macs,
    together_key,
    training_size,
)
from mlptheory.trials import default_workers

if TYPE_CHECKING:
    from mlptheory.probes.probe import Prepared, Probe
    from mlptheory.probes.result import Result
    from mlptheory.trials import Measurement, Trial
    from mlptheory.trials.store import Store

SHARPNESS_MEASURE = "hessian_top_eigenvalue"
EIGENVALUES = {"sharpness": 12, "edge": 12, "sharpening": 8, "flatness": 30}
"""What a look at sharpness costs, and how many a run has of them; of "sharpness" 9 to 14 were seen on CIFAR-10."""
TIMED_STEPS = 20
"""Steps of a measure that trains; its seconds are taken to be proportional to its steps."""
WORKER_START_S = 5.0
"""Seconds until spawned workers have imported torch, as seen on two cores."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A design with its price.

    Attributes
    ----------
    design : dict
        As it will stand in result.json, with its digest.
    trials, finished : int
        Distinct trials, and how many the store holds already.
    compute_macs : int
        The paper's C over all trials: multiply-accumulates per example · 3 · examples seen.
    peak_gib : float
        Of the largest trial's training, times the trials that run beside each other. What measures take, kernels of
        thousands of images for one, comes on top.
    seconds : float
        Here, on `workers` processes, for the trials still to run.
    workers : int
        Trials beside each other.
    power : dict of str to str
        By claim, what the number of runs can show.
    """

    design: Mapping[str, Any]
    trials: int
    finished: int
    compute_macs: int
    peak_gib: float
    seconds: float
    workers: int
    power: Mapping[str, str]

    def __str__(self) -> str:
        lines = [
            f"Plan: {self.design['title']}",
            f"  trials    {self.trials} ({self.finished} finished), {self.workers} at a time",
            f"  cost      {_seconds(self.seconds)} here, {self.compute_macs / 1e12:.3g} T MACs, "
            f"peak {self.peak_gib:.2f} GiB in training",
            f"  schedule  {self.design['schedule']['device']}, {self.design['schedule']['precision']}, "
            f"{self.design['schedule']['threads']} thread(s) a trial",
            f"  digest    {self.design['digest'][:16]}",
        ]
        for claim in self.design["claims"]:
            lines += textwrap.wrap(
                f"{claim['statement']} [{claim['source']}]",
                78,
                initial_indent="  claim     ",
                subsequent_indent=" " * 12,
            )
            details = {
                "test": claim["test"],
                "margin": f"{claim['margin']:g} {claim['unit']}",
                "power": self.power[claim["id"]],
            }
            for name, text in details.items():
                lines += textwrap.wrap(text, 78, initial_indent=f"    {name:<8}", subsequent_indent=" " * 12)
        return "\n".join(lines)


def _seconds(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def make_plan(
    probe: Probe,
    prepared: Prepared,
    *,
    store: Store,
    workers: int | None,
    data_root: str | None,
    pilot: Result | None,
) -> Plan:
    """Price a prepared design; see `Probe.plan`.

    Trials that differ in nothing but seed, learning rate and length cost the same per step, so one of each kind is
    measured; an ensemble is measured as one.
    """
    costs: dict[tuple[Recipe, int], Cost] = {}
    measured: dict[tuple[Recipe, Measurement], float] = {}
    seconds: list[float] = []
    peak, compute, finished = 0.0, 0, 0
    for unit in prepared.units():
        done = sum(store.get(prepared.digests[trial]) is not None for trial in unit)
        finished += done
        recipe = unit[0].recipe
        if recipe is None:
            continue
        kind = replace(together_key(recipe), budget=replace(recipe.budget, amount=1, unit="steps")), len(unit)
        if kind not in costs:
            schedule = prepared.schedule
            costs[kind] = estimate_cost(
                kind[0], data_root=data_root, device=schedule.device, threads=schedule.threads, members=len(unit)
            )
        cost, work = costs[kind], planned_work(recipe, unit[0].observers, data_root)
        compute += (
            len(unit)
            * training_compute(
                macs=recipe_macs(recipe, data_root), parameters=cost.parameters, examples=work.examples
            ).paper_macs
        )
        peak = max(peak, cost.peak_gib)
        if done < len(unit):
            looks = _measuring_seconds(unit[0], kind[0], prepared, data_root, measured)
            seconds.append(cost.seconds_of(work) + len(unit) * looks)
    count = workers or default_workers(prepared.schedule)
    return Plan(
        design=prepared.design,
        trials=len(prepared.distinct()),
        finished=finished,
        compute_macs=compute,
        peak_gib=peak * count,
        seconds=max(sum(seconds) / count, *seconds) + WORKER_START_S if seconds else 0.0,
        workers=count,
        power=probe.power(pilot),
    )


def _measuring_seconds(
    trial: Trial,
    kind: Recipe,
    prepared: Prepared,
    data_root: str | None,
    measured: dict[tuple[Recipe, Measurement], float],
) -> float:
    """Return what a trial's measures and its looks at sharpness cost, from one of each on the untrained model."""
    from mlptheory.trials import Measurement

    taken = list(trial.measures)
    for observer in trial.observers:
        count = EIGENVALUES.get(observer.name, 0)
        if observer.name == "edge" and isinstance(observer.every, int):
            count = planned_work(trial.recipe, (), data_root).epochs // observer.every
        examples = tuple(each for each in observer.parameters if each[0] == "examples" and each[1] is not None)
        if count and not examples and observer.name != "sharpness":
            examples = (("examples", training_size(trial.recipe.data, data_root)),)
        taken += [Measurement(name=SHARPNESS_MEASURE, parameters=examples)] * count
    for measurement in dict.fromkeys(taken):
        if (kind, measurement) not in measured:
            measured[kind, measurement] = _time_measure(measurement, kind, prepared, data_root)
    return sum(measured[kind, measurement] for measurement in taken)


def _time_measure(measurement: Measurement, recipe: Recipe, prepared: Prepared, data_root: str | None) -> float:
    from mlptheory.trials import MeasureContext
    from mlptheory.trials.registered import measures

    examples = prepare_examples(recipe.data, recipe.seed, data_root)
    model = build_recipe_model(recipe, examples).to(prepared.schedule.device)
    if recipe.precision == "auto":
        recipe = replace(recipe, precision=prepared.schedule.precision)
    # The price needs no parent's weights: a start of its own costs as much.
    recipe = replace(recipe, start="initialization")
    context = MeasureContext(model, (), (), examples, recipe, data_root)
    parameters = dict(measurement.parameters)
    share = 1.0
    if "steps" in parameters:
        steps = min(parameters["steps"], TIMED_STEPS)
        share, parameters["steps"] = steps / parameters["steps"], steps
    began = time.perf_counter()
    measures[measurement.name](context, **parameters)
    return (time.perf_counter() - began) / share
