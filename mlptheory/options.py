"""The options of the commands, beside those of the dataclasses that they are a view of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """How a probe is run; nothing but the device changes a number.

    Attributes
    ----------
    out : str
        Folder for the result, the report and the store of finished trials.
    data_root : str or None
        Where official dataset files are looked for first.
    workers : int or None
        Trials beside each other; as many as cores hold, if None.
    device : str or None
        cpu, cuda or mps; the best that is there, if None.
    pilot : str or None
        Folder of an earlier result of a like design, whose spread tells the plan what this one can show.
    plugin : tuple of str
        Python files that register your own datasets, models, probes.
    plan_only : bool
        Print the plan and stop; trials that the folder holds are counted as finished.
    json : bool
        Print verdicts and files, or the plan, as JSON on stdout, everything else on stderr.
    """

    out: str = "out"
    data_root: str | None = None
    workers: int | None = None
    device: str | None = None
    pilot: str | None = None
    plugin: tuple[str, ...] = ()
    plan_only: bool = False
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions:
    """How a probe's judgment is calibrated.

    Attributes
    ----------
    out : str
        Folder for calibration.csv, calibration.json and the bank of real runs.
    tables : int
        Judged per scenario, of Gaussian noise and of real runs.
    seed : int
        Of the tables.
    bank_runs : int
        Real runs that are resampled, at least 300; 0 leaves them out.
    data_root : str or None
        Where official dataset files are looked for first.
    workers : int or None
        Processes; as many as there are cores, if None. Changes no number.
    device : str or None
        cpu, cuda or mps, for the bank's runs; the best that is there, if None.
    plugin : tuple of str
        Python files that register your own datasets, models, probes.
    """

    out: str = "out"
    tables: int = 5000
    seed: int = 0
    bank_runs: int = 300
    data_root: str | None = None
    workers: int | None = None
    device: str | None = None
    plugin: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How a recipe is run.

    Attributes
    ----------
    out : str
        Folder for the record, the weights, the checkpoint and metrics.jsonl, a line for each figure as it comes.
    parent : str or None
        Folder of an earlier `train`, for a recipe that starts from its weights (start = parent or body).
    data_root : str or None
        Where official dataset files are looked for first.
    threads : int or None
        CPU threads, part of the record's digest; all cores, if None.
    device : str or None
        cpu, cuda or mps; the best that is there, if None.
    log : str or None
        tensorboard: event files too, under OUT/tensorboard.
    plugin : tuple of str
        Python files that register your own datasets and models.
    json : bool
        Print the record as JSON on stdout, everything else on stderr.
    """

    out: str = "out"
    parent: str | None = None
    data_root: str | None = None
    threads: int | None = None
    device: str | None = None
    log: str | None = None
    plugin: tuple[str, ...] = ()
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions:
    """How a paper's numbers are reproduced.

    Attributes
    ----------
    miniature : bool
        Run the file in small, on digits and within seconds: it says that the recipe runs, and nothing of the paper's
        numbers.
    seeds : int
        Runs of everything, from the file's seed on; with two or more, means have 95 % intervals.
    datasets : tuple of str
        Only these of those that the file names; all, if none is given.
    out : str
        Folder for the store of finished runs and checkpoints, which files that pretrain the same share there, and for
        logs/, where every run leaves its metrics.jsonl while it goes on.
    log : {"tensorboard"} or None
        Write TensorBoard's event files there too.
    data_root : str or None
        Where official dataset files are looked for first.
    workers : int or None
        Runs beside each other; as many as cores hold, if None. Changes no number.
    threads : int or None
        CPU threads of a run, part of its record's digest; if None, all cores for a single run and 1 for several.
    device : str or None
        cpu, cuda or mps; the best that is there, if None.
    plugin : tuple of str
        Python files that register your own datasets and models.
    json : bool
        Print the record as JSON on stdout, everything else on stderr.
    """

    miniature: bool = False
    seeds: int = 1
    datasets: tuple[str, ...] = ()
    out: str = "out"
    log: str | None = None
    data_root: str | None = None
    workers: int | None = None
    threads: int | None = None
    device: str | None = None
    plugin: tuple[str, ...] = ()
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """How a trained model is evaluated.

    Attributes
    ----------
    split : {"test", "validation"}
        Which images.
    tta : bool
        Average the answers to random views of each image, as the options below say.
    views : int
        Views of each image.
    crop_scale : tuple of two floats
        Share of the image's area that a view covers, lowest and highest.
    flip : bool
        Also mirror each view with probability 1/2.
    average : {"logits", "softmax"}
        What is averaged: logits, as the paper says, or probabilities, as the authors' code does.
    seed : int
        Of the views.
    real : str or None
        File of reassessed labels, real.json, in the order of the test images.
    data_root : str or None
        Where official dataset files are looked for first.
    device : str or None
        cpu, cuda or mps; the best that is there, if None.
    plugin : tuple of str
        Python files that register your own datasets and models.
    json : bool
        Print figures, and what they are of, as JSON on stdout.
    """

    split: str = "test"
    tta: bool = False
    views: int = 100
    crop_scale: tuple[float, float] = (0.4, 1.0)
    flip: bool = False
    average: str = "logits"
    seed: int = 0
    real: str | None = None
    data_root: str | None = None
    device: str | None = None
    plugin: tuple[str, ...] = ()
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """What is listed besides the built-in.

    Attributes
    ----------
    plugin : tuple of str
        Python files that register your own probes.
    """

    plugin: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Where datasets are looked for.

    Attributes
    ----------
    data_root : str or None
        Where official dataset files are looked for first.
    plugin : tuple of str
        Python files that register your own datasets.
    """

    data_root: str | None = None
    plugin: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GetOptions:
    """Where a dataset's archive comes from and goes to.

    Attributes
    ----------
    data_root : str or None
        Folder to put the data in; $MLPTHEORY_DATA or the cache folder, if None.
    mirror : str or None
        http, https or file address of the archive or its folder, in place of the publisher's; the checksums stay.
    """

    data_root: str | None = None
    mirror: str | None = None


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """What images are converted to, and where.

    Attributes
    ----------
    to : {"store", "beton"}
        A store is bytes that are mapped into memory; a .beton file is FFCV's.
    resolution : int or None
        Side of the images in pixels; needed for image files, others keep their own if None.
    out : str or None
        Folder for train.store and test.store, or .beton; the source's name under the first data root, if None.
    workers : int or None
        Processes that decode image files; as many as there are cores, if None. Changes no bit.
    real : str or None
        File of reassessed labels, real.json, of the test images in the order of their file names.
    allow_unreadable : float
        Largest share of a split's files that may be unreadable; they are left out and named.
    data_root : str or None
        Where datasets are looked for first.
    plugin : tuple of str
        Python files that register your own datasets.
    json : bool
        Print what was made as JSON on stdout, everything else on stderr.
    """

    to: str = "store"
    resolution: int | None = None
    out: str | None = None
    workers: int | None = None
    real: str | None = None
    allow_unreadable: float = 0.01
    data_root: str | None = None
    plugin: tuple[str, ...] = ()
    json: bool = False
