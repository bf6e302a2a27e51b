"""The claims and the controls, written down before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlptheory.probes.settings import DATA_REFERENCES, span
from mlptheory.probes.sharpness.columns import RESCALINGS
from mlptheory.stats import Claim

if TYPE_CHECKING:
    from mlptheory.probes.sharpness.design import Sharpness

EDGE_GD, EDGE_MOMENTUM, EDGE_ADAM = "edge-gd", "edge-momentum", "edge-adam"
SHARPENING, WIDER, DEEPER = "progressive-sharpening", "wider-sharpens-less", "deeper-sharpens-more"
PREDICTS, ADAPTIVE_PREDICTS = "sharpness-predicts-gap", "adaptive-sharpness-predicts-gap"
BELOW, RESCALED = "control-small-step", "control-rescaled"
SAME_FUNCTION, SAME_ADAPTIVE = "control-same-function", "control-same-adaptive-sharpness"
EXACT_MARGIN = 6.0
"""Decades: a relative change of 1e-6 at most."""
LOG2, TAU, DECADES = "log2 units", "of Kendall's τ", "decades"
COHEN, ADAPTIVE_EDGE = "Cohen et al. 2021, Fig. 1", "Cohen et al. 2022"
NEW = "these data, new seeds"
BY_ITSELF = "95 % t interval over seeds must lie within ±δ; decided by itself, outside Holm's family"
REACHED = "; inconclusive unless more than half of the runs reach the threshold"
HELD = "; inconclusive where a flow comes to the edge of its step, 2/η"
AS_ZERO = "t interval over seeds, no narrower than one more block of τ = 0 makes it, as τ of few runs is skewed"


def claims(probe: Sharpness) -> tuple[Claim, ...]:
    """Return the claims of a design, then its controls."""
    found = [*_edges(probe), _sharpening(probe), _wider(probe), _deeper(probe), _predicts(probe), _adaptive(probe)]
    if probe.control:
        found += [_below(probe), _rescaled(probe), _same_function(probe), _same_adaptive(probe)]
    return tuple(found)


def _edges(probe: Sharpness) -> list[Claim]:
    polyak = f"(2 + 2β)/η at β = {probe.momentum:g}"
    adam = f"(2 + 2β₁)/((1 − β₁)η) at β₁ = {probe.adam_betas[0]:g}"
    return [
        _edge(probe, id=EDGE_GD, statement="Full-batch gradient descent hovers at the sharpness 2/η.", lr=probe.gd_lr),
        _edge(
            probe,
            id=EDGE_MOMENTUM,
            statement=f"Full-batch gradient descent with Polyak momentum hovers at the sharpness {polyak}.",
            lr=probe.momentum_lr,
            source="Cohen et al. 2021, on momentum",
        ),
        _edge(
            probe,
            id=EDGE_ADAM,
            statement=f"Full-batch Adam hovers at the preconditioned sharpness {adam}.",
            lr=probe.adam_lr,
            source=ADAPTIVE_EDGE,
            bibtex_key="Cohen2022",
        ),
    ]


def _edge(probe: Sharpness, *, lr: float, **parts: Any) -> Claim:
    common = {
        "source": COHEN,
        "bibtex_key": "Cohen2021",
        "estimand": f"log2 of sharpness over threshold, mean over the last third of looks; {NEW}",
        "direction": "equivalent",
        "margin": probe.edge_margin,
        "unit": LOG2,
        "test": BY_ITSELF + REACHED,
        "held_fixed": (f"η = {lr:g}, constant; no weight decay", *_edge_held(probe)),
        "scope": _edge_scope(probe),
    }
    return Claim(**{**common, **parts})


def _edge_held(probe: Sharpness) -> tuple[str, ...]:
    return (
        f"{probe.edge_steps} steps, a look every {probe.every}",
        "half the squared error, all training examples in every step",
        "initialization and wrong labels within a seed",
    )


def _edge_scope(probe: Sharpness) -> str:
    noise = f", {100 * probe.label_noise:g} % of labels wrong" if probe.label_noise else ""
    return f"{_net(probe)} on {_data(probe)}{noise}; this learning rate"


def _net(probe: Sharpness) -> str:
    return f"{probe.model} without normalization, {probe.activation}"


def _data(probe: Sharpness) -> str:
    return f"{probe.n} examples of {probe.dataset}" + (f" at {probe.image_size} pixels" if probe.image_size else "")


def _flow(probe: Sharpness, **parts: Any) -> Claim:
    common = {
        "source": "Cohen et al. 2021, on progressive sharpening",
        "bibtex_key": "Cohen2021",
        "margin": probe.sharpening_margin,
        "unit": LOG2,
        "held_fixed": (
            f"training loss {probe.flow_loss:g}, half the squared error, at which nets are compared",
            f"gradient descent at η = {probe.flow_lr:g}, full batches",
            "PyTorch's initialization, drawn by the seed",
        ),
        "scope": f"{_net(probe)} on {_data(probe)}; widths {span(probe.widths)}, depths {span(probe.depths)}",
    }
    return Claim(**{**common, **parts})


def _sharpening(probe: Sharpness) -> Claim:
    return _flow(
        probe,
        id=SHARPENING,
        statement="Below the edge, sharpness rises while the training loss falls.",
        estimand=f"log2 of sharpness at that loss over sharpness at initialization, {probe.model}; {NEW}",
        direction="greater",
        test="t interval of the per-seed growth" + HELD,
    )


def _wider(probe: Sharpness) -> Claim:
    return _flow(
        probe,
        id=WIDER,
        statement="Wider nets sharpen less.",
        source="after Jacot et al. 2018: at infinite width the kernel stays; that sharpness then stays is inferred",
        bibtex_key="Jacot2018",
        estimand=f"that growth: fitted change from the narrowest to the widest (line over log2 width); {NEW}",
        direction="less",
        test="t interval of the per-seed change; not supported where a narrower net sharpens less than the widest"
        + HELD,
    )


def _deeper(probe: Sharpness) -> Claim:
    return _flow(
        probe,
        id=DEEPER,
        statement="Deeper nets sharpen more.",
        source="after Cohen et al. 2021, whose code has tanh nets of depths 1 to 4",
        estimand=f"that growth: fitted change from the shallowest to the deepest (line over log2 depth); {NEW}",
        direction="greater",
        test="t interval of the per-seed change; not supported where a shallower net sharpens more than the deepest"
        + HELD,
    )


def _batch(probe: Sharpness, **parts: Any) -> Claim:
    common = {
        "direction": "greater",
        "margin": probe.tau_margin,
        "unit": TAU,
        "test": AS_ZERO,
        "held_fixed": (
            f"training loss {probe.batch_loss:g}, cross-entropy, at which runs are compared",
            f"SGD without momentum at η = {probe.batch_lr:g}; no decay, no smoothing, no augmentation",
            "initialization within a seed",
        ),
        "scope": f"{probe.model} without normalization, ReLU, on {_data(probe)}; batch sizes {span(probe.batch_sizes)}",
    }
    return Claim(**{**common, **parts})


def _predicts(probe: Sharpness) -> Claim:
    return _batch(
        probe,
        id=PREDICTS,
        statement="Over batch sizes, sharper solutions generalize worse.",
        source="Keskar et al. 2017; denied by Dinh et al. 2017",
        bibtex_key="Keskar2017",
        estimand=f"Kendall's τ between sharpness and generalization gap over the batch sizes of a seed; {NEW}",
    )


def _adaptive(probe: Sharpness) -> Claim:
    return _batch(
        probe,
        id=ADAPTIVE_PREDICTS,
        statement="Over batch sizes, solutions of greater adaptive sharpness generalize worse.",
        source="Kwon et al. 2021",
        bibtex_key="Kwon2021",
        estimand=f"Kendall's τ between adaptive sharpness and generalization gap over the batch sizes of a seed; {NEW}",
    )


def _below(probe: Sharpness) -> Claim:
    return _edge(
        probe,
        lr=probe.small_lr,
        id=BELOW,
        statement="Control: at a small learning rate gradient descent stays below 2/η.",
        bibtex_key=None,
        source="without it hovering could be the statistic's own doing",
        direction="less",
        test="t interval over seeds",
    )


def _rescaled(probe: Sharpness) -> Claim:
    return _batch(
        probe,
        id=RESCALED,
        statement="Control: after random rescalings that leave every function as it is, sharpness predicts nothing.",
        source="Dinh et al. 2017",
        bibtex_key="Dinh2017",
        direction="equivalent",
        estimand=f"Kendall's τ between rescaled sharpness and generalization gap, mean over {RESCALINGS} draws; {NEW}",
        test=f"95 % {AS_ZERO}, must lie within ±δ; decided by itself, outside Holm's family",
    )


def _same_function(probe: Sharpness) -> Claim:
    return _batch(
        probe,
        id=SAME_FUNCTION,
        statement="Control: the rescalings leave the functions as they are.",
        source="positive homogeneity of ReLU, exact",
        bibtex_key=None,
        direction="less",
        margin=EXACT_MARGIN,
        unit=DECADES,
        estimand="log10 of the largest change of a logit over the largest logit, mean over the batch sizes of a seed",
        test="t interval over seeds",
    )


def _same_adaptive(probe: Sharpness) -> Claim:
    return _batch(
        probe,
        id=SAME_ADAPTIVE,
        statement="Control: the rescalings leave adaptive sharpness as it is.",
        source="Kwon et al. 2021, exact",
        bibtex_key="Kwon2021",
        direction="less",
        margin=EXACT_MARGIN,
        unit=DECADES,
        estimand="log10 of the largest relative change of adaptive sharpness, mean over the batch sizes of a seed",
        test="t interval over seeds",
    )


def references(probe: Sharpness) -> tuple[str, ...]:
    """Return the BibTeX keys of the claims, the methods, the data and the software."""
    return (
        "Cohen2021",
        "Cohen2022",
        "Jacot2018",
        "Keskar2017",
        "Dinh2017",
        "Kwon2021",
        "Jiang2020",
        "Loshchilov2019",
        *DATA_REFERENCES.get(probe.dataset, ()),
        "Paszke2019",
        "mlptheory",
    )
