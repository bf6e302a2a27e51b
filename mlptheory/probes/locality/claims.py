"""The claims and the controls, written down before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlptheory.probes.settings import DATA_REFERENCES, OPTIMIZER_REFERENCES, augmentation_text, span
from mlptheory.stats import Claim

if TYPE_CHECKING:
    from mlptheory.probes.locality.design import Locality

AUGMENTATION, DATA, ONLY = "augmentation-localizes", "data-localizes", "only-with-augmentation"
INITIALIZATION, GAUSSIAN, SHUFFLED = "beyond-initialization", "beyond-gaussian", "beyond-shuffled"
POSITIVE, NULL = "control-nongaussian-localizes", "control-initialization"
STATISTICS = {
    "local_share": "largest share of a filter's squared norm in one window",
    "ipr": "inverse participation ratio",
    "spread": "spatial spread, negated",
}
UNITS = {
    "local_share": "percentage points of the squared norm",
    "ipr": "percent of W₀'s",
    "spread": "percent of W₀'s, less of it",
}
SETS = {"change": "W − W₀", "weights": "W"}
FIGURES = "Bachmann et al. 2023, Appendix C, Figs. 10 and 11"
TEXTURES = "Ingrosso & Goldt 2022"
NEW = "these data, new seeds"
LINE = "fitted change from the smallest to the largest training set (line over log2 of its size)"


def claims(probe: Locality) -> tuple[Claim, ...]:
    """Return the claims of a design, then its controls."""
    spatial = probe.statistic != "ipr"
    found = [_augmentation(probe), _data(probe), _only(probe), _initialization(probe), _gaussian(probe)]
    found += [_shuffled(probe)] if spatial else []
    if probe.control:
        found += [_positive(probe), *([_null(probe)] if spatial else [])]
    return tuple(found)


def _claim(probe: Locality, held: tuple[str, ...], **parts: Any) -> Claim:
    """Return a claim that filters are more local, with what this probe says of all of them."""
    common = {
        "direction": "greater",
        "margin": probe.delta,
        "unit": UNITS[probe.statistic],
        "source": FIGURES,
        "bibtex_key": "Bachmann2023",
        "test": "t interval of the per-seed difference",
        "scope": _scope(probe),
    }
    return Claim(**{**common, "held_fixed": (*held, *_held(probe)), **parts})


def _what(probe: Locality) -> str:
    return f"{STATISTICS[probe.statistic]}, of {SETS[probe.of]}, mean over filters"


def _augmentation(probe: Locality) -> Claim:
    return _claim(
        probe,
        (f"{probe.largest} training examples", f"{probe.epochs} epochs, and so steps"),
        id=AUGMENTATION,
        statement="Augmentation makes first-layer filters more local.",
        estimand=f"{_what(probe)}: augmented less plain; " + NEW,
    )


def _data(probe: Locality) -> Claim:
    return _claim(
        probe,
        (f"{probe.epochs} epochs, so that more data take more steps",),
        id=DATA,
        statement="With augmentation, first-layer filters become more local with more training data.",
        estimand=f"{_what(probe)}, augmented arm: {LINE}; " + NEW,
        test="t interval of the per-seed change; not supported where a smaller training set beats the largest",
    )


def _only(probe: Locality) -> Claim:
    return _claim(
        probe,
        (f"{probe.epochs} epochs, so that more data take more steps",),
        id=ONLY,
        statement="More data localize first-layer filters more with augmentation than without.",
        estimand=f"{_what(probe)}: {LINE}, of the augmented arm less of the plain arm; " + NEW,
        test="t interval of the per-seed difference of changes; not supported where the arms' difference is larger at "
        "a smaller training set than at the largest",
    )


def _initialization(probe: Locality) -> Claim:
    return _claim(
        probe,
        _center(probe),
        id=INITIALIZATION,
        statement="Trained with augmentation, first-layer filters are more local than at initialization.",
        estimand=f"{STATISTICS[probe.statistic]}, of W, mean over filters: after training less before; " + NEW,
    )


def _gaussian(probe: Locality) -> Claim:
    return _claim(
        probe,
        (*_center(probe), "10 draws of as many surrogates"),
        id=GAUSSIAN,
        statement="Trained with augmentation, single filters are more local than Gaussian ones of the net's own mean "
        "and covariance.",
        source="null model for Bachmann et al. 2023, Figs. 10 and 11; the paper has none",
        estimand=f"{_what(probe)}: trained less Gaussian surrogates; " + NEW,
    )


def _shuffled(probe: Locality) -> Claim:
    return _claim(
        probe,
        (*_center(probe), "10 permutations, each of all filters of a net alike"),
        id=SHUFFLED,
        statement="Trained with augmentation, filters are more local than with their pixels shuffled.",
        source="null model for Bachmann et al. 2023, Figs. 10 and 11; the paper has none",
        estimand=f"{_what(probe)}: trained less pixels shuffled; " + NEW,
    )


def _positive(probe: Locality) -> Claim:
    return _claim(
        probe,
        (),
        id=POSITIVE,
        statement="Control: on textures with sharp edges filters become more local than on Gaussian textures of the "
        "same covariance.",
        source=TEXTURES,
        bibtex_key="Ingrosso2022",
        estimand=f"{_what(probe)}, on the torus: trained on edges less trained on edges-gaussian; " + NEW,
        held_fixed=(
            "covariance of the inputs, class by class",
            "S-2/Wi-64 of the authors' order without norms, ReLU, by SGD at 0.1, weight decay 0.02, 10 epochs",
            *(("window: 2 pixels",) if probe.statistic == "local_share" else ()),
            "initialization and the order's key within a seed",
        ),
        scope="this task and net; says that the statistic finds local filters where they are known to form",
    )


def _null(probe: Locality) -> Claim:
    return _claim(
        probe,
        ("10 permutations, each of all filters of a net alike",),
        id=NULL,
        statement="Control: at initialization, places mean nothing.",
        source="exact null",
        bibtex_key=None,
        direction="equivalent",
        estimand=f"{STATISTICS[probe.statistic]}, of W₀, mean over filters: less pixels shuffled; " + NEW,
        test="95 % t interval over seeds must lie within ±δ",
    )


def _center(probe: Locality) -> tuple[str, ...]:
    return (f"augmented arm, {probe.largest} training examples, {probe.epochs} epochs",)


def _held(probe: Locality) -> tuple[str, ...]:
    return (
        f"{probe.optimizer} at {probe.base_lr:.3g}, constant, tuned for no size or arm; no weight decay",
        f"batches of {probe.batch_size}, label smoothing {probe.label_smoothing:g}",
        *((f"window: {_window(probe)}",) if probe.statistic == "local_share" else ()),
        "data, splits and test sets",
        "initialization and the order's key within a seed",
    )


def _window(probe: Locality) -> str:
    return "a quarter of the image's side, at least 2 pixels" if probe.window is None else f"{probe.window} pixels"


def _scope(probe: Locality) -> str:
    size = f" at {probe.image_size} pixels" if probe.image_size else ""
    return (
        f"{probe.model} on {span(probe.sizes)} examples of {probe.dataset}{size}, augmented arm: "
        f"{augmentation_text(probe.augmentation)}; this statistic, where others may disagree; says nothing against "
        "what ImageNet-21k gives"
    )


def references(probe: Locality) -> tuple[str, ...]:
    """Return the BibTeX keys of the claims, the methods, the data and the software."""
    optimizers = (probe.optimizer, *probe.other_optimizers)
    return (
        "Bachmann2023",
        *(("Ingrosso2022", "Lufkin2025") if probe.control or probe.statistic == "ipr" else ()),
        *(("dAscoli2019",) if probe.statistic == "local_share" else ()),
        *dict.fromkeys(key for name in optimizers for key in OPTIMIZER_REFERENCES[name]),
        *(("Yang2022",) if probe.lr is None else ()),
        *(("Zhang2018",) if probe.augmentation.mixup else ()),
        *DATA_REFERENCES.get(probe.dataset, ()),
        "Paszke2019",
        "mlptheory",
    )
