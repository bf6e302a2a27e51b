"""Run a reproduction, and set what came out beside the paper."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlptheory.base.configuration import require_integer, to_plain
from mlptheory.base.errors import invalid, unknown_name
from mlptheory.reproductions.reproduction import QUANTITIES, PaperNumber, Reproduction
from mlptheory.stats import mean_interval
from mlptheory.trials import Record, Trial
from mlptheory.trials.progress import progress_bar

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from mlptheory.trials.store import Store

SCHEMA = 1
COLUMNS = {
    "dataset": "",
    "quantity": "",
    "measured": "%",
    "low": "%",
    "high": "%",
    "n": "runs",
    "paper": "%",
    "spread": "points",
    "compute": "PFLOPs",
}
"""Columns beside those of the grid, and their units. `compute` is the paper's C: 3 · MACs of a forward pass · examples
seen in pretraining or, without a second stage, in training; the paper calls MACs FLOPs."""
PETA = 1e15


@dataclass(frozen=True, kw_only=True)
class Reproduced:
    """What a reproduction came to.

    Attributes
    ----------
    reproduction : Reproduction
        As it was run.
    runs : tuple of (Trial, Record) pairs
        The last stage of each run; the trial's labels say which it is.
    ancestors : tuple of Record
        Of what was pretrained for them.
    compute_macs : tuple of int
        The paper's C of the first stage of each run, in multiply-accumulates.
    pictures : mapping of str to ndarray
        Pictures of the first layer's filters, (units, H, W), by run; empty where none are asked for.
    """

    reproduction: Reproduction
    runs: tuple[tuple[Trial, Record], ...]
    ancestors: tuple[Record, ...]
    compute_macs: tuple[int, ...]
    pictures: Mapping[str, Any]

    @property
    def table(self) -> pd.DataFrame:
        """One row for each dataset, quantity and cell of the grid: mean over seeds, 95 % t interval, the paper's."""
        import pandas as pd

        rows = list(self._rows())
        return pd.DataFrame(rows, columns=[*(path for path, _ in self.reproduction.grid), *COLUMNS])

    def _rows(self) -> Iterator[dict[str, Any]]:
        values: dict[tuple[Any, ...], list[float]] = {}
        compute: dict[tuple[Any, ...], int] = {}
        runs: Counter[tuple[Any, ...]] = Counter()
        for (trial, record), macs in zip(self.runs, self.compute_macs, strict=True):
            cell = tuple(pair for pair in trial.labels if pair[0] != "seed")
            compute[cell] = macs
            runs[cell] += 1
            for quantity, metric in QUANTITIES.items():
                if record.metrics.get(metric) is not None:
                    values.setdefault((cell, quantity), []).append(100 * record.metrics[metric])
        given = {(number.dataset, number.quantity): number for number in self.reproduction.numbers}
        for (cell, quantity), found in values.items():
            labels = dict(cell)
            paper = given.get((labels["dataset"], quantity))
            # Where runs diverged the rest are a selection, of which no interval is honest.
            interval = mean_interval(found) if 1 < len(found) == runs[cell] else None
            yield {
                **labels,
                "quantity": quantity,
                "measured": sum(found) / len(found),
                "low": None if interval is None else interval.low,
                "high": None if interval is None else interval.high,
                "n": len(found),
                "paper": None if paper is None else paper.percent,
                "spread": None if paper is None else paper.spread,
                "compute": compute[cell] / PETA,
            }

    def not_measured(self) -> tuple[PaperNumber, ...]:
        """Return the paper's numbers that nothing measured stands beside."""
        measured = {(row["dataset"], row["quantity"]) for row in self._rows()}
        return tuple(
            number for number in self.reproduction.numbers if (number.dataset, number.quantity) not in measured
        )

    def describe(self) -> str:
        """Return the table as text, with what diverged and what nothing was measured for."""
        shown = self.table.dropna(axis="columns", how="all")
        names = {name: f"{name} ({COLUMNS[name]})" for name in shown.columns if COLUMNS.get(name)}
        lines = [self.reproduction.source]
        if not shown.empty:
            lines.append(shown.rename(columns=names).to_string(index=False, float_format="%.4g"))
        lines += [
            f"diverged: {_label(trial)}, at step {record.diverged['step']}"
            for trial, record in self.runs
            if record.diverged
        ]
        lines += [
            f"not run: {number.dataset}, {number.quantity}; paper {number.percent} %" for number in self.not_measured()
        ]
        return "\n".join(lines)

    def to_plain(self) -> dict[str, Any]:
        """Return what is written down: numbers, and the records they rest on, with data digests, versions, hardware."""
        return {
            "schema": SCHEMA,
            "reproduction": to_plain(self.reproduction),
            "units": COLUMNS,
            "numbers": list(self._rows()),
            "runs": [{"labels": dict(trial.labels), "record": _plain(record)} for trial, record in self.runs],
            "ancestors": [_plain(record) for record in self.ancestors],
        }

    def figure(self) -> Figure:
        """Draw the first layer's filters, a panel for each run, in gray (see `mlptheory.reports.filters_figure`)."""
        from mlptheory.reports import filters_figure

        return filters_figure(self.pictures)


def reproduce(
    reproduction: Reproduction,
    *,
    store: str | Store | None = None,
    seeds: int = 1,
    datasets: Sequence[str] = (),
    data_root: str | None = None,
    workers: int | None = None,
    threads: int | None = None,
    device: str | None = None,
    plugins: Sequence[str] = (),
    logs: str | Path | None = None,
    log: str | None = None,
    progress: bool = True,
) -> Reproduced:
    """Run what a paper's numbers take, unless the store holds it already.

    Parameters
    ----------
    reproduction : Reproduction
    store : path or Store, optional
        A folder that keeps records and checkpoints, so that an interrupted run goes on; files that share what is
        pretrained share it there. Memory if None.
    seeds : int
        How many, from the file's own on.
    datasets : sequence of str
        Only these of the file's; all if empty.
    data_root : str, optional
        Where official dataset files are looked for first.
    workers : int, optional
        Runs beside each other; as many as cores hold, if None. Changes no number. Under torchrun all processes train
        one run after another.
    threads : int, optional
        CPU threads of a run, part of the digest; if None, all cores where there is but one run to begin with, else 1.
        Under torchrun no part of it, and if None this machine's cores are divided among its processes.
    device : str, optional
        The best that torch finds, if None.
    plugins : sequence of str
        Python files that register users' own datasets and models.
    logs : path-like, optional
        Folder in which every run gets one of its own, with metrics.jsonl, its history while it grows.
    log : {"tensorboard"}, optional
        What to write there besides.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Reproduced

    Raises
    ------
    InputError
        If a dataset is not one of the file's, or is not there, or a recipe does not fit it; if the log is unknown, or
        has no folder.
    WorkerDiedError
        If a worker process dies; finished runs are kept in the store.

    Examples
    --------
    >>> from mlptheory.models import ModelConfig
    >>> from mlptheory.training import BudgetConfig, Recipe
    >>> recipe = Recipe(model=ModelConfig(name="B-1/Wi-16"), budget=BudgetConfig(amount=1))
    >>> paper = PaperNumber(dataset="digits", quantity="test", percent=50.0)
    >>> row = Reproduction(
    ...     name="row", source="a table", bibtex_key="key", recipe=recipe, datasets=("digits",), numbers=(paper,)
    ... )
    >>> found = reproduce(row, threads=1, device="cpu", progress=False)  # doctest: +SKIP
    >>> found.table[["dataset", "measured", "paper"]]  # doctest: +SKIP
    """
    from mlptheory.base.plugins import load_plugins
    from mlptheory.training import data_digest
    from mlptheory.training.parallel import is_data_parallel, join
    from mlptheory.trials import digest_trials, open_store, plan_schedule, require_fitting_data, run_trials
    from mlptheory.trials.schedule import default_threads

    for name in datasets:
        if name not in reproduction.datasets:
            raise unknown_name("datasets", name, reproduction.datasets)
    for argument, value in (("workers", workers), ("threads", threads)):
        if value is not None:
            require_integer(argument, value, 1)
    parallel = is_data_parallel()
    if parallel and workers is not None:
        raise invalid("workers", workers, "none under torchrun, whose processes train one run after another")
    load_plugins(plugins)
    chosen = tuple(datasets) or reproduction.datasets
    numbers = tuple(number for number in reproduction.numbers if number.dataset in chosen)
    reproduction = replace(reproduction, datasets=chosen, numbers=numbers)
    trials = reproduction.trials(seeds)
    everyone = list(dict.fromkeys(each.unlabeled() for trial in trials for each in trial.with_ancestors()))
    firsts = [trial for trial in everyone if not trial.parents]
    names = sorted({trial.recipe.data.name for trial in everyone})
    alone = parallel or len(firsts) == 1
    schedule = plan_schedule(
        trials, device=device, threads=threads or (default_threads() if alone else 1), data_parallel=parallel
    )
    digests = digest_trials(
        trials,
        data_digests={name: data_digest(name, data_root) for name in names},
        schedule=schedule,
    )
    require_fitting_data(trials, data_root)
    kept = open_store(store)
    drawn = trials if reproduction.picture_units is not None else ()
    records: dict[str, Record] = {}
    with progress_bar(
        {digests[trial]: trial for trial in everyone}, data_root, shown=progress and join().is_first
    ) as bar:
        for record in run_trials(
            trials,
            digests,
            schedule=schedule,
            store=kept,
            workers=workers,
            data_root=data_root,
            plugins=plugins,
            progress=bar.report,
            kept=drawn,
            logs=None if logs is None else Path(logs),
            log=log,
        ):
            records[record.digest] = record
            bar.report(record.digest, 1.0)
    parents = dict.fromkeys(digests[parent] for trial in trials for parent in trial.parents)
    return Reproduced(
        reproduction=reproduction,
        runs=tuple((trial, records[digests[trial]]) for trial in trials),
        ancestors=tuple(records[digest] for digest in parents),
        compute_macs=tuple(_first_stage_macs(trial, data_root) for trial in trials),
        pictures={
            _label(trial): _pictures(trial, kept.get_weights(digests[trial]), reproduction.picture_units, data_root)
            for trial in drawn
        },
    )


def _first_stage_macs(trial: Trial, data_root: str | None) -> int:
    from mlptheory.training import planned_work, recipe_macs

    recipe = (trial.parents[0] if trial.parents else trial).recipe
    return 3 * recipe_macs(recipe, data_root) * planned_work(recipe, data_root=data_root).examples


def _label(trial: Trial) -> str:
    """Return what tells a run from the others: its cell of the grid, or its dataset."""
    labels = dict(trial.labels)
    cell = [f"{path.rpartition('.')[2]} {value}" for path, value in labels.items() if path not in ("dataset", "seed")]
    return ", ".join([*(cell or [labels["dataset"]]), f"seed {labels['seed']}"])


def _pictures(trial: Trial, weights: bytes, units: int, data_root: str | None) -> Any:
    import safetensors.torch

    from mlptheory.measures import filter_pictures, first_layer_filters
    from mlptheory.training import build_recipe_model, prepare_examples

    examples = prepare_examples(trial.recipe.data, trial.recipe.seed, data_root)
    model = build_recipe_model(trial.recipe, examples)
    model.load_state_dict(safetensors.torch.load(weights))
    return filter_pictures(first_layer_filters(model).detach(), units).numpy()


def _plain(record: Record) -> dict[str, Any]:
    return json.loads(record.to_json())["record"]
