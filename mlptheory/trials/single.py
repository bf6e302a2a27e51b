"""One recipe by itself: trained in this process, recorded, its weights kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import safetensors.torch
from tqdm.auto import tqdm

from mlptheory.base.configuration import require_integer
from mlptheory.base.errors import InputError
from mlptheory.base.files import canonical_json, sha256, writable_folder, write_atomically
from mlptheory.models import save_model
from mlptheory.models.module import ImageModel
from mlptheory.training import Recipe, build_recipe_model, data_digest, prepare_examples
from mlptheory.training.parallel import is_data_parallel, join
from mlptheory.trials.digest import trial_digest
from mlptheory.trials.fitting import require_fitting_data
from mlptheory.trials.kept import read_kept_run
from mlptheory.trials.logs import NoLogs, RunLogs, require_log
from mlptheory.trials.record import Record
from mlptheory.trials.run import Task, run_trial
from mlptheory.trials.schedule import default_threads, plan_schedule
from mlptheory.trials.store import open_store
from mlptheory.trials.trial import STANDARD_OBSERVERS, Trial


def run_recipe(
    recipe: Recipe,
    *,
    out: str | Path,
    parent: str | Path | None = None,
    paper: Mapping[str, Any] | None = None,
    data_root: str | None = None,
    threads: int | None = None,
    device: str | None = None,
    log: str | None = None,
    progress: bool = True,
) -> Record:
    """Train a recipe, unless the folder holds its record already.

    Parameters
    ----------
    recipe : Recipe
    out : path-like
        Gets model.safetensors and, of a built-in model, the model.json with which `mlptheory.models.load_model` reads
        it; record.json with the paper's numbers and the weights' SHA-256, a store with the checkpoint, and
        metrics.jsonl, the record's history as it grows: ``pandas.read_json(path, lines=True)`` makes it a table.
    parent : path-like, optional
        Folder of an earlier call, whose weights the recipe starts from if its start is "parent" or "body".
    paper : mapping, optional
        What a paper says of this recipe.
    data_root : str, optional
        Where official dataset files are looked for first.
    threads : int, optional
        CPU threads, part of the digest; all cores if None. Under torchrun no part of it, and if None this machine's
        cores are divided among its processes.
    device : str, optional
        The best that torch finds, if None.
    log : {"tensorboard"}, optional
        Write the history as TensorBoard's event files too, under out/tensorboard.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Record

    Raises
    ------
    InputError
        If the recipe does not fit its data or its parent, the folder cannot be written or holds another recipe's
        record, the parent's folder holds no record, or other weights than its record's, or the log is unknown or
        needs a package that is not installed.
    """
    require_log(log)
    world = join()
    folder = Path(out)
    world.first(lambda: writable_folder("out", folder))
    if threads is not None:
        require_integer("threads", threads, 1)
    if (recipe.start == "initialization") != (parent is None):
        raise InputError(f"start = {recipe.start!r}: expected a parent with 'parent' or 'body', and only with them")
    ancestor = None if parent is None else read_kept_run(parent, "parent")
    parents = () if ancestor is None else (Trial(recipe=ancestor.recipe),)
    trial = Trial(recipe=recipe, parents=parents, observers=STANDARD_OBSERVERS)
    alone = Trial(recipe=replace(recipe, start="initialization"), observers=STANDARD_OBSERVERS)
    require_fitting_data([alone], data_root)
    schedule = plan_schedule(
        [alone], device=device, threads=threads or default_threads(), data_parallel=is_data_parallel()
    )
    digest = trial_digest(
        alone, data_digests={recipe.data.name: data_digest(recipe.data.name, data_root)}, schedule=schedule
    )
    if ancestor is not None:
        digest = sha256(canonical_json([digest, recipe.start, ancestor.digest, ancestor.weights_sha256]))
    world.first(lambda: _refuse_other_record(folder, digest))
    store = open_store(folder / "store")
    record, weights = store.get(digest), store.get_weights(digest)
    with RunLogs(folder, digest, log) if world.is_first else NoLogs() as logs:
        if record is None or weights is None:
            task = Task(
                trial=trial,
                digest=digest,
                parent_digests=() if ancestor is None else (ancestor.digest,),
                parent_weights=() if ancestor is None else (ancestor.weights,),
                schedule=schedule,
                data_root=data_root,
                checkpoint=store.checkpoint_path(digest),
                keep_weights=True,
            )
            record, weights = _run_with_bar(task, logs, progress and world.is_first)
            store.put_weights(digest, weights)
            store.put(record)
            store.drop_checkpoint(digest)
        logs.finish(record.history)

    def write() -> None:
        _write_model(folder, record, recipe, weights, data_root)
        shown = {
            **json.loads(record.to_json())["record"],
            "weights_sha256": sha256((folder / "model.safetensors").read_bytes()),
            "paper": dict(paper or {}),
        }
        write_atomically(folder / "record.json", json.dumps(shown, indent=1) + "\n")

    world.first(write)
    return record


def _run_with_bar(task: Task, logs: RunLogs | NoLogs, progress: bool) -> tuple[Record, bytes]:
    # The delay keeps an empty bar from standing above the message of a recipe that is refused.
    with tqdm(disable=not progress, unit="step", dynamic_ncols=True, delay=0.1) as bar:

        def advance(step: int, total: int) -> None:
            bar.total = total
            bar.update(step - bar.n)

        return run_trial(task, advance, logs.follow)


def _write_model(folder: Path, record: Record, recipe: Recipe, weights: bytes, data_root: str | None) -> None:
    """Write the trained weights, and what `load_model` needs to build their model where that is a built-in one."""
    examples = prepare_examples(recipe.data, recipe.seed, data_root)
    model = build_recipe_model(recipe, examples)
    if not isinstance(model, ImageModel):
        write_atomically(folder / "model.safetensors", weights)
        return
    model.load_state_dict(safetensors.torch.load(weights), assign=True)
    about = {
        "record": record.digest,
        "recipe": recipe.to_plain(),
        "normalization": asdict(examples.normalization),
        "classes": list(examples.train.classes),
    }
    save_model(folder, model, about=about)


def _refuse_other_record(folder: Path, digest: str) -> None:
    """Raise if the folder holds the record of another recipe, data, version or machine mode."""
    path = folder / "record.json"
    if not path.is_file():
        return
    try:
        held = json.loads(path.read_text(encoding="utf-8"))["digest"]
    except (ValueError, KeyError, TypeError):
        held = None
    if held != digest:
        raise InputError(
            f"out = {str(folder)!r}: holds another record ({str(held)[:16]}, this one is {digest[:16]}); "
            "expected an empty folder, or the recipe, data and version that were used there"
        )
