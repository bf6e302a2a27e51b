"""One bar over all the work of a design."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from tqdm.auto import tqdm

from mlptheory.training import planned_work
from mlptheory.trials.trial import Trial

OVERHEAD_EXAMPLES = 32.0
"""What a step costs beside its examples, in examples."""


class WorkBar:
    """A bar that moves by the share of the work that is done.

    Parameters
    ----------
    bar : tqdm
        From 0 to 100.
    foreseen : mapping of digest to Trial
        The distinct trials of the whole design; where it is not decided yet, trials of the same cost.
    data_root : str or None
        Where official dataset files are looked for first.
    """

    def __init__(self, bar: tqdm, foreseen: Mapping[str, Trial], data_root: str | None) -> None:
        self._bar, self._data_root = bar, data_root
        self._work: dict[str, float] = {}
        self._done: dict[str, float] = {}
        self.watch(foreseen)
        self._total, self._count = sum(self._work.values()) or 1.0, len(foreseen)

    def watch(self, decided: Mapping[str, Trial]) -> None:
        """Learn what the trials of a design, as far as it is decided, cost."""
        for digest, trial in decided.items():
            if trial.recipe is not None and digest not in self._work:
                steps = planned_work(trial.recipe, data_root=self._data_root).steps
                self._work[digest] = steps * (trial.recipe.budget.batch_size + OVERHEAD_EXAMPLES)

    def report(self, digest: str, share: float) -> None:
        """Move by what a trial has advanced."""
        moved = share - self._done.get(digest, 0.0)
        if moved <= 0:
            return
        self._done[digest] = share
        finished = sum(1 for value in self._done.values() if value >= 1.0)
        self._bar.set_description(f"{finished}/{self._count} trials", refresh=False)
        # Rounding, or a tuned run that is one of the first's, may carry the sum past 100, at which tqdm warns.
        self._bar.update(min(100.0 * moved * self._work.get(digest, 0.0) / self._total, self._bar.total - self._bar.n))


@contextlib.contextmanager
def progress_bar(foreseen: Mapping[str, Trial], data_root: str | None, *, shown: bool) -> Iterator[WorkBar]:
    """Open the bar of a design."""
    form = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    with tqdm(
        total=100.0, disable=not shown, bar_format=form, desc="trials", dynamic_ncols=True, mininterval=0.5
    ) as bar:
        yield WorkBar(bar, foreseen, data_root)
