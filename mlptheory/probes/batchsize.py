"""Do larger batches generalize better at equal epochs? Imports no torch and no pandas until it runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from mlptheory.base.configuration import require_choice, require_integer, require_number
from mlptheory.base.errors import InputError, invalid
from mlptheory.models import ModelConfig, parse_name
from mlptheory.probes.probe import Column, Probe
from mlptheory.stats import Claim
from mlptheory.training import BudgetConfig, DataConfig, Observer, OptimizerConfig, Recipe
from mlptheory.trials import Trial

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

    from mlptheory.probes.result import Result
    from mlptheory.stats import Interval, Verdict

MAIN, EVERY_LENGTH, CONTROL = "larger-batches-better", "at-every-length", "a-a-control"
PAPER_LR, PAPER_WIDTH = 5e-5, 1024
CONTROL_SEEDS = 1_000_000
"""First seed of the control's runs, out of the way of the design's own."""


@dataclass(frozen=True, kw_only=True)
class BatchSize(Probe):
    r"""Test whether MLPs trained with larger batches reach a higher test accuracy at equal epochs.

    One run for each batch size, training length and seed. The claim's estimand is, for one seed, the change in test
    accuracy from the smallest to the largest batch that a straight line over :math:`\log_2 B` fits,

    .. math:: \hat\Delta_s = (x_k - x_1) \frac{\sum_i (x_i - \bar x)\, y_{s,i}}{\sum_i (x_i - \bar x)^2},
              \qquad x_i = \log_2 B_i,

    averaged over the lengths; seeds give its t interval. The learning rate is the same for every batch size: the
    verdict is about equal epochs *at equal learning rate*, not about tuned ones.

    Parameters
    ----------
    dataset : str
        A registered dataset.
    model : str
        Name of an MLP: "B-3/Wi-256", "S-6/Wi-1024", ...
    batch_sizes : tuple of int
        At least two.
    epochs : tuple of int
        Training lengths; at every batch size each.
    seeds : int or tuple of int
        How many (0, 1, ...), or which. A seed is a block: its runs share initialization and data order's key.
    n : int or None
        Training examples, a nested subset proportional per class; all of them if None.
    optimizer : {"lion", "adamw", "sgd"}
        With a constant learning rate.
    lr : float or None
        Of every run. If None, the paper's 5e-5 at its width of 1024, carried to this width w as 5e-5 · 1024 / w
        (μP's rule for Lion and Adam: Yang et al. 2022); SGD has no such default.
    weight_decay : float
        Decoupled: lr · weight_decay a step.
    label_smoothing : float
        The paper's 0.3.
    margin : float
        Smallest effect of interest δ, in percentage points of test accuracy.
    control : bool
        Also run the A/A control: as many runs as the shortest length has, all at the middle batch size with
        seeds of their own, labelled as if they were the arms, and judged alike.
    precision : {"auto", "float32", "bfloat16", "float64"}
        Of training; auto is bfloat16 where the device has it in hardware.

    Raises
    ------
    InputError
        For a setting that cannot be used.

    Examples
    --------
    >>> probe = BatchSize(batch_sizes=(32, 128), epochs=(2,), seeds=3, control=False)
    >>> len(probe.trials())
    6
    >>> probe.claims()[0].source
    'Bachmann et al. 2023, Fig. 4'
    """

    name: ClassVar[str] = "batchsize"
    title: ClassVar[str] = "Batch size and generalization"
    question: ClassVar[str] = "Do larger batches generalize better at equal epochs?"
    caption: ClassVar[str] = (
        "Test accuracy after the last step over batch size. A line a training length, through the means over seeds; "
        "dots are single runs, bars 95 % t intervals of the means."
    )
    references: ClassVar[tuple[str, ...]] = ("Bachmann2023", "Shallue2019", "Keskar2017", "Chen2023")

    dataset: str = "digits"
    model: str = "B-2/Wi-64"
    batch_sizes: tuple[int, ...] = (16, 64, 256)
    epochs: tuple[int, ...] = (5, 20)
    seeds: int | tuple[int, ...] = 5
    n: int | None = None
    optimizer: Literal["lion", "adamw", "sgd"] = "lion"
    lr: float | None = None
    weight_decay: float = 0.0
    label_smoothing: float = 0.3
    margin: float = 1.0
    control: bool = True
    precision: Literal["auto", "float32", "bfloat16", "float64"] = "auto"

    def __post_init__(self) -> None:
        from mlptheory.data import datasets

        datasets.summary(self.dataset)
        parsed = parse_name(self.model)
        _require_distinct("batch_sizes", self.batch_sizes, at_least=2)
        _require_distinct("epochs", self.epochs, at_least=1)
        for seed in _require_seeds(self.seeds):
            require_integer("seeds", seed, 0)
            if seed >= CONTROL_SEEDS:
                raise invalid("seeds", seed, f"seeds below {CONTROL_SEEDS}, where the control's begin")
        if self.lr is not None:
            require_number("lr", self.lr, 0, low_open=True)
        elif self.optimizer == "sgd" or parsed.width is None:
            raise invalid("lr", self.lr, f"a number greater than 0, as {self.optimizer} on {self.model} has no default")
        require_choice("optimizer", self.optimizer, ("lion", "adamw", "sgd"))
        require_choice("precision", self.precision, ("auto", "float32", "bfloat16", "float64"))
        require_number("weight_decay", self.weight_decay, 0)
        require_number("label_smoothing", self.label_smoothing, 0, 1)
        require_number("margin", self.margin, 0, 100)
        if self.control:
            require_number("margin", self.margin, 0, 100, low_open=True)

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds, one a block."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    @property
    def lr_used(self) -> float:
        """The learning rate of every run."""
        return self.lr if self.lr is not None else PAPER_LR * PAPER_WIDTH / parse_name(self.model).width

    def held_fixed(self) -> tuple[str, ...]:
        """Return what is the same in all arms."""
        return (
            "epochs (so smaller batches take more steps)",
            f"learning rate {self.lr_used:.3g}, constant, not tuned per batch size",
            f"optimizer {self.optimizer}, weight decay {self.weight_decay:g}, label smoothing {self.label_smoothing:g}",
            "initialization and the order's key within a seed",
            "data, split and test set",
            "no augmentation",
        )

    def claims(self) -> tuple[Claim, ...]:
        """Return the main claim, the one about every length where there are several, and the control."""
        scope = (
            f"{self.model} from scratch on {self.dataset}"
            + (f" ({self.n} examples)" if self.n else "")
            + f", {self.optimizer} at lr {self.lr_used:.3g}, batches {_span(self.batch_sizes)}, "
            + f"{_span(self.epochs)} epochs"
        )
        common = {
            "source": "Bachmann et al. 2023, Fig. 4",
            "bibtex_key": "Bachmann2023",
            "margin": self.margin,
            "unit": "percentage points",
            "held_fixed": self.held_fixed(),
            "scope": scope,
        }
        change = "fitted change in test accuracy from the smallest to the largest batch (line over log2 batch size)"
        claims = [
            Claim(
                id=MAIN,
                statement="Larger batches reach a higher test accuracy at equal epochs.",
                estimand=f"{change}, mean over lengths; these data, new seeds",
                direction="greater",
                test="95 % t interval of the per-seed change; not supported where a smaller batch beats the largest",
                **common,
            )
        ]
        if len(self.epochs) > 1:
            claims.append(
                Claim(
                    id=EVERY_LENGTH,
                    statement="Larger batches are better at every training length.",
                    estimand=f"smallest over lengths of the {change}; these data, new seeds",
                    direction="greater",
                    test=f"95 % t intervals, simultaneous over {len(self.epochs)} lengths (Bonferroni), all beyond δ",
                    **common,
                )
            )
        if self.control:
            claims.append(
                Claim(
                    id=CONTROL,
                    statement="Control: runs of one batch size, labelled as several, show no change.",
                    estimand=f"{change}, of labels that mean nothing; these data, new seeds",
                    direction="equivalent",
                    test="95 % t interval of the per-block change must lie within ±δ",
                    **{**common, "source": "A/A control", "bibtex_key": None},
                )
            )
        return tuple(claims)

    def trials(self) -> tuple[Trial, ...]:
        """Return one trial for each length, batch size and seed, then the control's."""
        arms = [
            self._trial("arm", batch_size, batch_size, epochs, seed, seed)
            for epochs in self.epochs
            for batch_size in self.batch_sizes
            for seed in self.seed_list
        ]
        return (*arms, *(self._control_trials() if self.control else ()))

    def _control_trials(self) -> Iterator[Trial]:
        middle = sorted(self.batch_sizes)[len(self.batch_sizes) // 2]
        cells = [(block, label) for block in self.seed_list for label in self.batch_sizes]
        for index, (block, label) in enumerate(cells):
            yield self._trial("control", label, middle, min(self.epochs), CONTROL_SEEDS + index, block)

    def _trial(self, role: str, label: int, batch_size: int, epochs: int, seed: int, block: int) -> Trial:
        recipe = Recipe(
            data=DataConfig(name=self.dataset, n=self.n),
            model=ModelConfig(name=self.model),
            optimizer=OptimizerConfig(name=self.optimizer, lr=self.lr_used, weight_decay=self.weight_decay),
            budget=BudgetConfig(amount=epochs, batch_size=batch_size),
            label_smoothing=self.label_smoothing,
            precision=self.precision,
            seed=seed,
        )
        labels = {
            "role": role,
            "batch_size": label,
            "trained_batch_size": batch_size,
            "epochs": epochs,
            "block": block,
            "seed": seed,
        }
        observers = (Observer(name="evaluation", every="doubling"), Observer(name="weights", every="end"))
        return Trial(recipe=recipe, observers=observers, labels=tuple(labels.items()))

    def columns(self) -> tuple[Column, ...]:
        """Return the documented columns of the table."""
        return (
            Column("role", "'arm' of the design, or 'control': a run whose batch_size is only a label", role="factor"),
            Column("batch_size", "Batch size, or the label that stands for one", "examples", role="factor"),
            Column("trained_batch_size", "Batch size that was trained with", "examples"),
            Column("epochs", "Training length", "epochs", role="factor"),
            Column("block", "The block (seed of the design) a run belongs to"),
            Column("seed", "Seed of the run"),
            Column("steps", "Optimizer steps taken", "steps", role="outcome"),
            Column("test_accuracy", "Top-1 on the test set after the last step, as a share", role="outcome"),
            Column("test_top5", "Top-5 on the test set after the last step, as a share"),
            Column("test_loss", "Cross-entropy on the test set, without smoothing", "nats", role="outcome"),
            Column("train_accuracy", "Mean over the last epoch's batches, before each step, as a share"),
            Column(
                "train_loss",
                "Mean over the last epoch's batches, before each step, with smoothing",
                "nats",
                role="outcome",
            ),
            Column("weight_norm", "Euclidean norm of all parameters after the last step"),
            Column(
                "distance_from_initialization",
                "Euclidean distance of all parameters from their initial values",
                role="outcome",
            ),
            Column("diverged", "Whether the training loss stopped being finite"),
            Column("digest", "Names the record"),
        )

    def judge(self, table: pd.DataFrame) -> tuple[Verdict, ...]:
        """Return the verdicts; a pure function of the table."""
        from mlptheory.stats import decide

        verdicts = []
        for claim in self.claims():
            role = "control" if claim.id == CONTROL else "arm"
            forced = _divergence(table[table["role"] == role])
            label, interval, blocks = self._estimate(claim.id, table)
            if claim.id == MAIN:
                forced = forced or self._not_monotone(table, interval)
            verdict = decide(claim, interval, blocks, forced_reason=forced)
            verdicts.append(_annotated(verdict, label if claim.id == EVERY_LENGTH else self._best(claim.id, table)))
        return tuple(verdicts)

    def _estimate(self, claim: str, table: pd.DataFrame) -> tuple[str, Interval | None, int]:
        """Return where a claim's interval comes from, the interval, and the blocks behind it."""
        from mlptheory.stats import mean_interval

        if claim == CONTROL:
            changes = list(self.changes(table, "control", min(self.epochs)).values())
            return "", mean_interval(changes) if len(changes) > 1 else None, len(changes)
        by_length = {epochs: self.changes(table, "arm", epochs) for epochs in self.epochs}
        if claim == MAIN:
            # A block counts where it has every length: the mean over lengths is taken within it.
            whole = [block for block in self.seed_list if all(block in changes for changes in by_length.values())]
            means = [sum(by_length[epochs][block] for epochs in self.epochs) / len(self.epochs) for block in whole]
            return "", mean_interval(means) if len(means) > 1 else None, len(means)
        intervals = self._simultaneous(by_length)
        if intervals is None:
            return "", None, min(len(changes) for changes in by_length.values())
        # All lengths must lie beyond the margin, and one that falls short refutes: the binding length decides.
        short = {epochs: interval for epochs, interval in intervals.items() if interval.high < self.margin}
        binding = (
            min(short, key=lambda epochs: short[epochs].high)
            if short
            else min(intervals, key=lambda epochs: intervals[epochs].low)
        )
        return f"The binding length is {binding} epochs.", intervals[binding], len(by_length[binding])

    def _simultaneous(self, by_length: dict[int, dict[int, float]]) -> dict[int, Interval] | None:
        from mlptheory.stats import bonferroni_level, mean_interval

        if min(len(changes) for changes in by_length.values()) < 2:
            return None
        level = bonferroni_level(len(by_length))
        return {epochs: mean_interval(list(changes.values()), level) for epochs, changes in by_length.items()}

    def changes(self, table: pd.DataFrame, role: str, epochs: int) -> dict[int, float]:
        """Return each whole block's fitted change in test accuracy, in percentage points, by block."""
        import numpy as np

        from mlptheory.stats import linear_trend_coefficients

        cells = self._cells(table, role, epochs)
        sizes = sorted(self.batch_sizes)
        coefficients = linear_trend_coefficients(np.log2(sizes))
        return {
            int(block): float(coefficients @ cells.loc[block, sizes].to_numpy(dtype=float))
            for block in cells.index
            if cells.loc[block, sizes].notna().all()
        }

    def _cells(self, table: pd.DataFrame, role: str, epochs: int) -> pd.DataFrame:
        """Return test accuracy in percent, blocks by batch sizes; NaN where a run has none."""
        rows = table[(table["role"] == role) & (table["epochs"] == epochs)]
        cells = rows.pivot(index="block", columns="batch_size", values="test_accuracy").astype(float) * 100
        return cells.reindex(columns=sorted(self.batch_sizes))

    def _over_lengths(self, table: pd.DataFrame) -> pd.DataFrame:
        return sum(self._cells(table, "arm", epochs) for epochs in self.epochs) / len(self.epochs)

    def _best(self, claim: str, table: pd.DataFrame) -> str:
        if claim != MAIN:
            return ""
        means = self._over_lengths(table).mean()
        return "" if means.isna().all() else f"Highest mean accuracy at batch size {means.idxmax()}."

    def _not_monotone(self, table: pd.DataFrame, interval: Interval | None) -> str | None:
        """Say why a rising line does not support the claim: a smaller batch beats the largest by more than δ.

        The level is Bonferroni's over the smaller batches, so that a line that truly rises is stopped in at most
        2.5 % of studies.
        """
        from mlptheory.stats import bonferroni_level, mean_interval

        if interval is None or interval.low <= self.margin:
            return None
        cells = self._over_lengths(table).dropna()
        largest, smaller = max(self.batch_sizes), sorted(self.batch_sizes)[:-1]
        level = bonferroni_level(len(smaller))
        leads = {size: mean_interval((cells[size] - cells[largest]).to_numpy(), level) for size in smaller}
        beating = [size for size in smaller if leads[size].low > self.margin]
        if beating:
            best = max(beating, key=lambda size: leads[size].estimate)
            lead = leads[best]
            return (
                f"Not monotone: batch size {best} beats the largest by {lead.estimate:.3g} percentage points "
                f"[{lead.low:.3g}, {lead.high:.3g}], so a line does not describe the effect."
            )
        return None

    def effects(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the mean accuracy of every arm and the change of every length, with 95 % t intervals."""
        import pandas as pd

        from mlptheory.stats import mean_interval

        rows = []
        for epochs in self.epochs:
            cells = self._cells(table, "arm", epochs)
            groups = {f"test accuracy at batch size {size} (%)": cells[size].dropna() for size in cells.columns}
            groups["change, smallest to largest batch (points)"] = list(self.changes(table, "arm", epochs).values())
            for quantity, values in groups.items():
                interval = mean_interval(values) if len(values) > 1 else None
                rows.append(
                    {
                        "epochs": epochs,
                        "quantity": quantity,
                        "mean": float(sum(values) / len(values)) if len(values) else math.nan,
                        "low": interval.low if interval else math.nan,
                        "high": interval.high if interval else math.nan,
                        "n": len(values),
                    }
                )
        return pd.DataFrame(rows)

    def power(self, pilot: Result | None) -> dict[str, str]:
        """Return what this many seeds can show, in a pilot's spread or in units of the spread."""
        from mlptheory.stats import FEWEST_RUNS, runs_for_power, smallest_detectable_effect

        n = len(self.seed_list)
        if n < FEWEST_RUNS:
            return {claim.id: f"{n} seeds: too few for any verdict ({FEWEST_RUNS})" for claim in self.claims()}
        detectable = smallest_detectable_effect(n)
        in_spreads = (
            f"with {n} seeds, 90 % power for an effect {detectable:.2g} spreads beyond δ, "
            "the spread being the SD of the per-seed change; none known without a pilot"
        )
        found = {}
        for claim in self.claims():
            spread = None if pilot is None else self._spread(claim.id, pilot)
            if spread is None or claim.direction == "equivalent" or not claim.margin:
                found[claim.id] = in_spreads
                continue
            runs = runs_for_power(2 * claim.margin, spread, margin=claim.margin)
            found[claim.id] = (
                f"pilot's spread {spread:.2g} {claim.unit}: {n} seeds have 90 % power for an effect of "
                f"{claim.margin + detectable * spread:.2g}; an effect of {2 * claim.margin:g} needs {runs} seeds"
            )
        return found

    def _spread(self, claim: str, pilot: Result) -> float | None:
        if not isinstance(pilot.probe, BatchSize):
            raise InputError(f"pilot: expected a result of batchsize, found one of {pilot.probe.name}")
        _, interval, blocks = pilot.probe._estimate(claim, pilot.table)
        if interval is None or interval.standard_error == 0:
            return None
        return interval.standard_error * math.sqrt(blocks)

    def simulate(
        self, effect: float, rng: np.random.Generator, *, spread: float = 1.0, hump: float = 0.0
    ) -> pd.DataFrame:
        """Return a table as the trials might give it.

        Parameters
        ----------
        effect : float
            True change from the smallest to the largest batch, in percentage points, linear in log2 batch size.
        rng : numpy Generator
        spread : float
            SD of a run, in percentage points; a seed's runs also share a shift of the same SD.
        hump : float
            Height, in percentage points, of a half sine added over the range of batch sizes.

        Returns
        -------
        DataFrame
            With the columns that `judge` and `effects` read.
        """
        import pandas as pd

        low, high = math.log2(min(self.batch_sizes)), math.log2(max(self.batch_sizes))
        shifts = {block: rng.normal(0, spread) for block in self.seed_list}
        rows = []
        for trial in self.trials():
            labels = dict(trial.labels)
            where = (math.log2(labels["batch_size"]) - low) / (high - low)
            planted = effect * where + hump * math.sin(math.pi * where) if labels["role"] == "arm" else 0.0
            shift = shifts[labels["block"]] if labels["role"] == "arm" else 0.0
            accuracy = (50 + planted + shift + rng.normal(0, spread)) / 100
            rows.append({**labels, "test_accuracy": accuracy, "diverged": False})
        return pd.DataFrame(rows)

    def draw(self, result: Result) -> Figure:
        """Draw test accuracy over batch size: a line a length through the means, bars their 95 % t intervals."""
        from matplotlib.ticker import FixedLocator, NullLocator

        from mlptheory.reports import figure_style, new_figure
        from mlptheory.stats import mean_interval

        with figure_style():
            figure = new_figure()
            axes = figure.subplots()
            for index, epochs in enumerate(self.epochs):
                cells = self._cells(result.table, "arm", epochs)
                color, marker = f"C{index}", "osD^vP"[index % 6]
                for size in cells.columns:
                    values = cells[size].dropna()
                    axes.plot([size] * len(values), values, ".", color=color, alpha=0.35, markersize=3, zorder=1)
                means = cells.mean()
                axes.plot(means.index, means, "-", marker=marker, markersize=4, color=color, label=_epochs(epochs))
                for size in cells.columns:
                    values = cells[size].dropna()
                    if len(values) > 1:
                        interval = mean_interval(values)
                        axes.plot([size, size], [interval.low, interval.high], "-", color=color, linewidth=1)
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_locator(FixedLocator(sorted(self.batch_sizes)))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xticklabels([str(size) for size in sorted(self.batch_sizes)])
            axes.set_xlabel("batch size")
            axes.set_ylabel("test accuracy (%)")
            axes.set_title(f"{self.model} on {self.dataset}, {len(self.seed_list)} seeds")
            axes.legend()
        return figure


def _epochs(count: int) -> str:
    return f"{count} epoch" if count == 1 else f"{count} epochs"


def _span(values: tuple[int, ...]) -> str:
    return ", ".join(str(value) for value in sorted(values))


def _require_distinct(argument: str, values: tuple[int, ...], at_least: int) -> None:
    if not isinstance(values, tuple) or len(values) < at_least or len(set(values)) != len(values):
        raise invalid(argument, values, f"at least {at_least} different whole numbers")
    for value in values:
        require_integer(argument, value, 1)


def _require_seeds(seeds: int | tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(seeds, bool) or (isinstance(seeds, int) and seeds < 1):
        raise invalid("seeds", seeds, "how many (at least 1), or which")
    if isinstance(seeds, int):
        return tuple(range(seeds))
    if not isinstance(seeds, tuple) or not seeds or len(set(seeds)) != len(seeds):
        raise invalid("seeds", seeds, "at least one seed, all different")
    return seeds


def _divergence(rows: pd.DataFrame) -> str | None:
    diverged = rows[rows["diverged"].astype(bool)]
    if diverged.empty:
        return None
    where = ", ".join(sorted({str(size) for size in diverged["batch_size"]}, key=int))
    return f"{len(diverged)} of {len(rows)} runs diverged (batch size {where}), so means over the rest are selected."


def _annotated(verdict: Verdict, note: str) -> Verdict:
    return replace(verdict, reason=f"{verdict.reason} {note}") if note else verdict
