"""The claims and the controls, written down before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlptheory.probes.ntk.columns import PARTS
from mlptheory.probes.settings import DATA_REFERENCES, OPTIMIZER_REFERENCES, span
from mlptheory.stats import Claim

if TYPE_CHECKING:
    from mlptheory.probes.ntk.design import NeuralTangentKernel

FLUCTUATION, LAZIER = "fluctuation-law", "lazier-with-width"
FAST, ALIGNMENT = "fast-then-slow", "alignment-rises"
BETTER, MATCHES = "final-kernel-better", "final-kernel-matches"
INFINITE, LINEARIZED = "infinite-predicts", "linearized-matches"
CURVE, COORDINATES = "learning-curve-predicted", "mup-coordinates"
SCALE, STANDARD = "control-output-scale", "control-standard-coordinates"
SHUFFLED, SHUFFLED_KERNEL = "control-shuffled-net", "control-shuffled-kernel"
NEW = "these data, new seeds"
EXPONENT, POINTS, BITS = "in the exponent of width", "percentage points", "binary logarithms"
LEE, FORT = "Lee et al. 2019", "Fort et al. 2020"
COORDINATE_LAYERS = ("embedding", "stream", "logits")
OF_INTERVAL = "95 % t interval over seeds must lie within ±δ"


def claims(probe: NeuralTangentKernel) -> tuple[Claim, ...]:
    """Return the claims of a design, then its controls."""
    found = [_fluctuation(probe), _lazier(probe), _fast(probe), _alignment(probe), _better(probe), _matches(probe)]
    found += [_infinite(probe), _linearized(probe), _curve(probe), _coordinates(probe), _standard(probe)]
    return (*found, *((_scale(probe), *_shuffled(probe)) if probe.control else ()))


def _claim(probe: NeuralTangentKernel, held: tuple[str, ...], **parts: Any) -> Claim:
    common = {
        "test": "t interval of the per-seed value",
        "bibtex_key": None,
        "scope": _scope(probe),
        "held_fixed": (*held, "data, splits and test sets", "initialization and order's key within a seed and width"),
    }
    return Claim(**{**common, **parts})


def _fluctuation(probe: NeuralTangentKernel) -> Claim:
    return _claim(
        probe,
        _ntk_held(probe),
        id=FLUCTUATION,
        statement="At initialization a net's tangent kernel departs from that of infinite width as width to the −1/2.",
        source="Jacot, Gabriel & Hongler 2018, Theorem 1, for the limit; the rate is that of a mean over units",
        bibtex_key="Jacot2018",
        estimand=f"slope of log ‖Θ₀ − Θ_∞‖/‖Θ_∞‖, all pairs of outputs, over log width, plus 1/2; {NEW}",
        direction="equivalent",
        margin=probe.margin_exponent,
        unit=EXPONENT,
        test=f"{OF_INTERVAL}; no verdict where the slope between two neighboring widths is shown to lie 2δ off −1/2",
    )


def _lazier(probe: NeuralTangentKernel) -> Claim:
    return _claim(
        probe,
        (*_ntk_held(probe), *_training(probe)),
        id=LAZIER,
        statement="Under the NTK parametrization and SGD, the tangent kernel changes in training by no more than width "
        "to the −1/2.",
        source=f"{LEE}, Theorem 2.1: an upper bound, so that a steeper fall supports, a flatter one contradicts",
        bibtex_key="Lee2019",
        estimand=f"a in ‖Θ − Θ₀‖/‖Θ₀‖ ~ width^−a, least squares in logarithms; δ is 1/2 less a tolerance; {NEW}",
        direction="greater",
        margin=0.5 - probe.margin_exponent,
        unit=EXPONENT,
        test="t interval of the per-seed value; not supported where the exponent between two neighboring widths is "
        "shown to fall short of δ by the tolerance again",
    )


def _fast(probe: NeuralTangentKernel) -> Claim:
    return _claim(
        probe,
        _center(probe),
        id=FAST,
        statement="The tangent kernel moves fast in the first epoch and slowly at the end of training.",
        source=f"{FORT}: most of the kernel's motion is in the first epochs",
        bibtex_key="Fort2020",
        estimand=f"log2 of the kernel distance that the first epoch covers over that of the last; {NEW}",
        direction="greater",
        margin=probe.margin_ratio,
        unit=BITS,
    )


def _alignment(probe: NeuralTangentKernel) -> Claim:
    return _claim(
        probe,
        (*_center(probe), f"{probe.kernel_examples} training examples, 10 permutations of their labels"),
        id=ALIGNMENT,
        statement="Training aligns the tangent kernel with the labels.",
        source="Atanasov, Bordelon & Pehlevan 2022, for the rich regime",
        bibtex_key="Atanasov2022",
        estimand=f"centered label alignment, end less start, less the same of permuted labels; {NEW}",
        direction="greater",
        margin=probe.margin_alignment,
        unit="of a cosine",
    )


def _better(probe: NeuralTangentKernel) -> Claim:
    return _claim(
        probe,
        _regression(probe),
        id=BETTER,
        statement="Regression with the tangent kernel after training is better than with that before it.",
        source=f"{FORT}: kernels of trained nets beat those of initialization",
        bibtex_key="Fort2020",
        estimand=f"test accuracy of kernel regression, final kernel less initial; {NEW}",
        direction="greater",
        margin=probe.margin_better,
        unit=POINTS,
    )


def _matches(probe: NeuralTangentKernel) -> Claim:
    return _equal(
        probe,
        _regression(probe),
        id=MATCHES,
        statement="Regression with the tangent kernel after training reaches what the net reaches.",
        source=f"{FORT}: the data-dependent kernel comes close to the net",
        bibtex_key="Fort2020",
        estimand=f"test accuracy of regression with the final kernel, less the net's; {NEW}",
    )


def _infinite(probe: NeuralTangentKernel) -> Claim:
    return _equal(
        probe,
        (*_regression(probe), "the limit of Θ/m for PyTorch's initialization"),
        id=INFINITE,
        statement="The tangent kernel of infinite width predicts what the trained net reaches.",
        source=f"Jacot, Gabriel & Hongler 2018 and {LEE}, taken at their word for nets as they are trained",
        bibtex_key="Jacot2018",
        estimand=f"test accuracy of regression with the infinite kernel, less the net's; {NEW}",
    )


def _linearized(probe: NeuralTangentKernel) -> Claim:
    return _equal(
        probe,
        (*_center(probe), "optimizer, batches, loss and steps, of net and linearized net (never in bfloat16)"),
        id=LINEARIZED,
        statement="The net linearized at initialization, trained alike, reaches what the net reaches.",
        source=f"{LEE}: wide nets evolve as linear models; taken at its word for nets as they are trained",
        bibtex_key="Lee2019",
        estimand=f"test accuracy of the linearized net, less the net's; {NEW}",
    )


def _curve(probe: NeuralTangentKernel) -> Claim:
    sizes = span(tuple(probe.largest // part for part in PARTS))
    return _claim(
        probe,
        (*_regression(probe), f"parts of {sizes} examples, 10 draws of each"),
        id=CURVE,
        statement="The initial kernel's spectrum predicts the learning curve of regression with it.",
        source="Simon, Dickens, Karkada & DeWeese 2023; Canatar, Bordelon & Pehlevan 2021",
        bibtex_key="Simon2023",
        estimand=f"{probe.margin_curve:g} less the largest |log2 of predicted over measured mean squared error, on the "
        f"other training examples| over training sizes of {sizes}; these parts, new nets",
        direction="greater",
        margin=0.0,
        unit=f"{BITS} of room",
        test="the smallest over both signs and all sizes: t intervals, their upper ends by Bonferroni's method",
    )


def _coordinates(probe: NeuralTangentKernel) -> Claim:
    return _claim(
        probe,
        _coordinates_held(probe),
        id=COORDINATES,
        statement="Under μP the first steps move every layer's coordinates alike at all widths.",
        source="Yang et al. 2022: the coordinate check",
        bibtex_key="Yang2022",
        estimand=f"{probe.margin_coordinates:g} less the largest |slope of log RMS change over log width| of first "
        f"layer, last block and logits; {NEW}",
        direction="greater",
        margin=0.0,
        unit=f"{EXPONENT}, of room",
        test="the smallest over both signs and three layers: t intervals, their upper ends by Bonferroni's method",
    )


def _standard(probe: NeuralTangentKernel) -> Claim:
    return _claim(
        probe,
        _coordinates_held(probe),
        id=STANDARD,
        statement="Control: in the standard parametrization the first steps move the logits more with the width.",
        source="Yang et al. 2022",
        bibtex_key="Yang2022",
        estimand=f"slope of the logits' log RMS change over log width; {NEW}",
        direction="greater",
        margin=probe.margin_coordinates,
        unit=EXPONENT,
    )


def _scale(probe: NeuralTangentKernel) -> Claim:
    rich, lazy = probe.output_scales
    power = "square of the factor" if probe.optimizer == "sgd" else "factor"
    return _claim(
        probe,
        (
            *_center(probe)[1:],
            f"factors {rich:g} and {lazy:g} on the logits, those at initialization included",
            f"{probe.optimizer} at {probe.base_lr:.3g} over the {power}, so that the first steps move logits alike",
        ),
        id=SCALE,
        statement="Control: a net whose logits are scaled down learns features, one scaled up is lazy.",
        source="Chizat, Oyallon & Bach 2019",
        bibtex_key="Chizat2019",
        estimand=f"log2 of the kernel distance over training, rich net over lazy; {NEW}",
        direction="greater",
        margin=probe.margin_ratio,
        unit=BITS,
    )


def _shuffled(probe: NeuralTangentKernel) -> tuple[Claim, Claim]:
    common = {
        "source": "exact null",
        "direction": "equivalent",
        "margin": probe.margin_leak,
        "unit": POINTS,
        "test": OF_INTERVAL,
    }
    chance = "less what its predictions come to by chance"
    return (
        _claim(
            probe,
            (*_center(probe), _tested(probe)),
            id=SHUFFLED,
            statement="Control: trained on shuffled labels, the net's test accuracy is chance.",
            estimand=f"test accuracy, {chance}; {NEW}",
            **common,
        ),
        _claim(
            probe,
            _regression(probe),
            id=SHUFFLED_KERNEL,
            statement="Control: with shuffled labels, regression with the final kernel is at chance.",
            estimand=f"test accuracy of regression with the final kernel, {chance}; {NEW}",
            **common,
        ),
    )


def _equal(probe: NeuralTangentKernel, held: tuple[str, ...], **parts: Any) -> Claim:
    equal = {"direction": "equivalent", "margin": probe.margin, "unit": POINTS, "test": OF_INTERVAL}
    return _claim(probe, held, **equal, **parts)


def _center(probe: NeuralTangentKernel) -> tuple[str, ...]:
    return (
        f"{probe.optimizer} at {probe.base_lr:.3g}, constant",
        f"{probe.name_at(probe.center)}, {probe.largest} training examples",
        *_training(probe),
    )


def _training(probe: NeuralTangentKernel) -> tuple[str, ...]:
    return (f"{probe.epochs} epochs, batches of {probe.batch_size}, label smoothing {probe.label_smoothing:g}",)


def _regression(probe: NeuralTangentKernel) -> tuple[str, ...]:
    kernel = "no ridge; the kernel's trace over outputs, on all training examples"
    return (*_center(probe), kernel, f"{_tested(probe)}, the same for net and kernels")


def _tested(probe: NeuralTangentKernel) -> str:
    return f"at most {probe.test_examples} test examples"


def _ntk_held(probe: NeuralTangentKernel) -> tuple[str, ...]:
    return (
        f"NTK parametrization, SGD with momentum 0.9 at {probe.ntk_lr:g} for all widths",
        f"{probe.largest} training examples, {probe.kernel_examples} of them for kernels",
    )


def _coordinates_held(probe: NeuralTangentKernel) -> tuple[str, ...]:
    return (
        f"{probe.optimizer} at {probe.lr_at(probe.narrowest):.3g} for all widths, {probe.coordinate_steps} steps",
        f"base width {probe.narrowest}; batches of {probe.batch_size}",
    )


def _scope(probe: NeuralTangentKernel) -> str:
    size = f" at {probe.image_size} pixels" if probe.image_size else ""
    return (
        f"{probe.model} of widths {span(probe.widths)} on {probe.largest} examples of {probe.dataset}{size}; smoothed "
        "cross-entropy, where much of the theory has squared error"
    )


def references(probe: NeuralTangentKernel) -> tuple[str, ...]:
    """Return the BibTeX keys of the claims, the methods, the data and the software."""
    optimizers = (probe.optimizer, *probe.other_optimizers)
    return (
        "Jacot2018",
        "Lee2019",
        *(("Chizat2019",) if probe.control else ()),
        "Fort2020",
        "Atanasov2022",
        "Simon2023",
        "Canatar2021",
        "Radhakrishnan2024",
        "Novak2022",
        "Bachmann2023",
        *dict.fromkeys(key for name in optimizers for key in OPTIMIZER_REFERENCES[name]),
        "Yang2022",
        *DATA_REFERENCES.get(probe.dataset, ()),
        "Paszke2019",
        "mlptheory",
    )
