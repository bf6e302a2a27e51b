"""The claims and the controls, written down before anything runs."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from mlptheory.probes.augmentation.design import NONE
from mlptheory.probes.settings import DATA_REFERENCES, OPTIMIZER_REFERENCES, span
from mlptheory.stats import Claim

if TYPE_CHECKING:
    from mlptheory.probes.augmentation.design import Augmentation

LIFTS, OVER_CNN, OVER_CNN_ODDS = "lifts-mlp", "lifts-more-than-cnn", "lifts-more-than-cnn-in-log-odds"
WORTH, INVARIANCE, FILTERS = "worth-as-many-again", "invariance-learned", "localizes-filters"
SPATIAL, OVER_NOISE, TEACH = "spatial-prior", "more-than-noise", "random-labels-teach"
NULL, LEAK = "exact-null", "leak-check"
LEAK_MARGIN = 5.0
POINTS = "percentage points"
NEW = "these data, new seeds"
PAIRED = "initialization and the order's key within a seed"
PERMUTED = f"{NEW} and permutations"


def claims(probe: Augmentation) -> tuple[Claim, ...]:
    """Return the claims of a design, then its controls."""
    found = [_lifts(probe)]
    if probe.baseline is not None:
        found += [_over_cnn(probe), _over_cnn_in_log_odds(probe)]
    found += [_worth(probe), _invariance(probe), _filters(probe), _spatial(probe), _over_noise(probe), _teach(probe)]
    return (*found, *((_null(probe), _leak(probe)) if probe.control else ()))


def invariance_to(probe: Augmentation) -> str:
    """Return which invariance is judged: to flips where the augmentation flips, to shifts otherwise."""
    return "flip" if probe.flip else "shift"


def _claim(
    probe: Augmentation, held: tuple[str, ...] = (), *, seeds: str = PAIRED, epochs: int = 0, **parts: Any
) -> Claim:
    """Return a claim that an accuracy is greater, with what this probe says of all of them."""
    common = {
        "direction": "greater",
        "margin": probe.margin,
        "unit": POINTS,
        "bibtex_key": "Bachmann2023",
        "test": "t interval of the per-seed difference",
        "scope": _scope(probe),
    }
    return Claim(**{**common, "held_fixed": (*held, *_held(probe, epochs or probe.epochs), seeds), **parts})


def _lifts(probe: Augmentation) -> Claim:
    return _claim(
        probe,
        id=LIFTS,
        statement=f"Augmentation ({probe.full}) lifts an MLP at equal epochs and equal tuning.",
        source="Bachmann et al. 2023, Table 1",
        estimand=f"test accuracy of the MLP, {probe.full} less none, {probe.largest} examples; {NEW}",
    )


def _over_cnn(probe: Augmentation) -> Claim:
    return _claim(
        probe,
        id=OVER_CNN,
        statement=f"Augmentation ({probe.full}) lifts an MLP by more percentage points than a convolutional net.",
        source="Bachmann et al. 2023, Table 1, read as a prior that an MLP lacks; the paper has no such pair",
        estimand=f"test accuracy, {probe.full} less none, of {probe.model} less the same of {probe.baseline}, "
        f"{probe.largest} examples; {NEW}",
    )


def _over_cnn_in_log_odds(probe: Augmentation) -> Claim:
    return _claim(
        probe,
        id=OVER_CNN_ODDS,
        statement=f"Augmentation ({probe.full}) lifts an MLP's log-odds by more than a convolutional net's.",
        source="the same, on a scale on which no net is nearer to the end",
        estimand=f"log(p/(1-p)) of test accuracy p, {probe.full} less none, of {probe.model} less the same of "
        f"{probe.baseline}, {probe.largest} examples, p kept half a test example off 0 and 1; {NEW}",
        margin=probe.log_odds_margin,
        unit="log-odds",
    )


def _worth(probe: Augmentation) -> Claim:
    sizes = probe.ordered_sizes
    steps = list(itertools.pairwise(sizes))
    several = len(steps) > 1
    pairs = ", ".join(f"{small} for {large}" for small, large in steps)
    # Short of a next size of more than 2n an arm may still be worth n.
    doubled = all(large == 2 * small for small, large in steps)
    worth, following = ("as many examples again", "2n") if doubled else ("the step to the next size", "the next size")
    return _claim(
        probe,
        ("epochs, so that the more examples a net has the more steps it takes",),
        id=WORTH,
        statement=f"Augmentation ({probe.full}) is worth {worth}{several * ', at every size'}: with it an MLP learns "
        f"no less from n examples than without it from {following}.",
        source="Geiping et al. 2023: an exchange rate between augmentation and real examples",
        bibtex_key="Geiping2023",
        estimand=f"test accuracy of the MLP with {probe.full} at one size less that without at the next ({pairs})"
        f"{': the smallest such difference' * several}; {NEW}",
        margin=0.0,
        test=f"intersection-union over {len(steps)} pairs of sizes of t intervals of the per-seed difference"
        if several
        else "t interval of the per-seed difference",
    )


def _invariance(probe: Augmentation) -> Claim:
    kind = {"flip": "mirroring", "shift": "shifts by a pixel"}[invariance_to(probe)]
    return _claim(
        probe,
        ("test accuracy, by interpolation",),
        id=INVARIANCE,
        statement=f"With augmentation ({probe.full}) an MLP learns invariance to {kind}: it is more invariant than one "
        "as accurate without.",
        source="Geiping et al. 2023, who ask what of augmentation's worth is invariance",
        bibtex_key="Geiping2023",
        estimand=f"natural logarithm of the invariance error of the logits to {kind}, over test images, {probe.full} "
        "less none, each where the line through the sizes' means has the accuracy in the middle of what both reach; "
        f"{NEW}",
        direction="less",
        margin=probe.invariance_margin,
        unit="log error",
        test="t interval of the per-seed difference, linearized in both outcomes where the lines have that accuracy, "
        "which is the observed one and taken as given; "
        "inconclusive where no accuracy is reached by both, or accuracy does not rise with the size",
    )


def _filters(probe: Augmentation) -> Claim:
    return _claim(
        probe,
        id=FILTERS,
        statement=f"Augmentation ({probe.full}) localizes the filters of an MLP's first layer.",
        source="Bachmann et al. 2023, Figs. 10 and 11",
        estimand="largest share of the square of a first-layer filter's W - W0 that a square window of a quarter of "
        f"the image's side (at least 2 pixels) holds, mean over filters that moved, {probe.full} less none, "
        f"{probe.largest} examples; {NEW}",
        margin=probe.share_margin,
    )


def _spatial(probe: Augmentation) -> Claim:
    return _claim(
        probe,
        seeds="initialization and the order's key within a seed, which has a permutation of its own",
        id=SPATIAL,
        statement=f"What {probe.orthogonal} gives an MLP is spatial: the same operators conjugated by a permutation of "
        "the pixels, as many samples without the space, give less.",
        source="derived in the documentation: an MLP cannot tell a permutation that comes after everything random",
        bibtex_key=None,
        estimand=f"test accuracy of the MLP, lift by {probe.orthogonal} less lift by the same conjugated by a "
        "permutation of all numbers of an image, channels included, which is the difference of both (how far the "
        f"operators move an image is in it), {probe.largest} examples; {PERMUTED}",
    )


def _over_noise(probe: Augmentation) -> Claim:
    return _claim(
        probe,
        id=OVER_NOISE,
        statement=f"The lift by {probe.spatial} is more than that of noise: Gaussian noise with the second moment of "
        "what it does to the images lifts less.",
        source="baseline for Bachmann et al. 2023, Table 1; the paper has none",
        estimand=f"test accuracy of the MLP, lift by {probe.spatial} less lift by its noise, which is the difference "
        f"of both, {probe.largest} examples; {NEW}",
    )


def _teach(probe: Augmentation) -> Claim:
    return _claim(
        probe,
        (f"learning rate of {probe.spatial} on true labels",),
        epochs=_shuffled_epochs(probe),
        id=TEACH,
        statement=f"Random labels teach features under augmentation ({probe.spatial}): nearest neighbors by an MLP's "
        "features beat those by features at initialization, and by raw pixels.",
        source="Anagnostidis et al. 2023",
        bibtex_key="Anagnostidis2023",
        estimand="accuracy of the nearest neighbor by true labels, features after training on shuffled labels, "
        f"{probe.largest} examples, {_shuffled_epochs(probe)} epochs: the smaller of the leads over "
        f"features at initialization and over raw pixels; {NEW} and shuffles",
        test="intersection-union: the t intervals of both per-seed leads must lie beyond δ",
    )


def _null(probe: Augmentation) -> Claim:
    return _claim(
        probe,
        seeds="nothing within a block: a seed of its own for every permuted net",
        id=NULL,
        statement="Control: a permutation of the pixels after the augmentation changes nothing for an MLP.",
        source="exact null, derived in the documentation",
        bibtex_key=None,
        direction="equivalent",
        estimand=f"test accuracy of the MLP, {probe.full} and then a permutation of its own for every net less "
        f"{probe.full} alone, {probe.largest} examples, mean over {probe.control_runs} of the former; {PERMUTED}",
        test="95 % t interval of the per-block difference must lie within ±δ",
    )


def _leak(probe: Augmentation) -> Claim:
    return _claim(
        probe,
        ("learning rate of none on true labels",),
        epochs=_shuffled_epochs(probe),
        seeds="nothing within a block: a seed of its own for every shuffle",
        id=LEAK,
        statement="Control: trained on shuffled labels without augmentation, the test accuracy is chance.",
        source="leak check",
        bibtex_key=None,
        direction="equivalent",
        margin=LEAK_MARGIN,
        estimand="test accuracy of the MLP less that of its predictions' class shares against the test set's, "
        f"{probe.largest} examples, mean over {_counted(probe.shuffles, 'shuffle')}; {NEW} and shuffles",
        test="95 % t interval over blocks must lie within ±δ",
    )


def _shuffled_epochs(probe: Augmentation) -> int:
    return probe.shuffled_epochs or probe.epochs


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number > 1)}"


def operators_text(probe: Augmentation) -> str:
    """Say what the operators of a design are."""
    share = "" if probe.crop_scale is None else " to ".join(f"{100 * end:g}" for end in probe.crop_scale)
    parts = [
        "flip: mirrored or not" * probe.flip,
        f"crop: {share} % of the area, width over height {' to '.join(f'{end:g}' for end in probe.crop_ratio)}"
        if share
        else "",
        f"mixup: Beta({probe.mixup:g}, {probe.mixup:g}), λ drawn per example" if probe.mixup else "",
        f"shift: cyclic, up to {_counted(probe.shift, 'pixel')} along each axis",
    ]
    return "; ".join(filter(None, parts))


def _held(probe: Augmentation, epochs: int) -> tuple[str, ...]:
    rates = " and ".join(f"{probe.base_lr(learner):.3g}" for learner in probe.models)
    tuned = (
        f"grid of learning rates ({len(probe.lr_grid)} multiples of {rates}), "
        f"{_counted(probe.tuning_seeds, 'tuning seed')}; chosen on held-out training examples for every arm and "
        f"model at {probe.largest} examples, kept at all sizes"
    )
    fixed = f"learning rate {probe.lr_grid[0]:g} times {rates}, tuned for no arm"
    decay = f", weight decay {probe.weight_decay:g}" if probe.weight_decay else ""
    return (
        f"{epochs} epochs of batches of {probe.batch_size}, no more with augmentation than without",
        tuned if probe.is_tuned else fixed,
        f"optimizer {probe.optimizer}, constant learning rate{decay}",
        f"label smoothing {probe.label_smoothing:g}",
        "data, split, nested subsets and test set",
    )


def _scope(probe: Augmentation) -> str:
    beside = f" and {probe.baseline}" if probe.baseline else ""
    return (
        f"{probe.model}{beside} from scratch on {span(probe.sizes)} examples of {probe.dataset}; "
        f"{operators_text(probe)}"
    )


def references(probe: Augmentation) -> tuple[str, ...]:
    """Return the BibTeX keys of the claims, the methods, the data and the software."""
    return (
        "Bachmann2023",
        "Geiping2023",
        "Anagnostidis2023",
        "GontijoLopes2021",
        *OPTIMIZER_REFERENCES[probe.optimizer],
        *(("Yang2022",) if probe.lr is None else ()),
        *(("Zhang2018",) if probe.mixup else ()),
        *DATA_REFERENCES.get(probe.dataset, ()),
        "Paszke2019",
        "mlptheory",
    )


def arms_behind(probe: Augmentation, claim: str) -> tuple[tuple[str, str], ...]:
    """Return the learners and arms whose learning rates stand behind a claim."""
    lift = (("mlp", NONE), ("mlp", probe.full))
    of_cnn = (("cnn", NONE), ("cnn", probe.full))
    return {
        OVER_CNN: (*lift, *of_cnn),
        OVER_CNN_ODDS: (*lift, *of_cnn),
        SPATIAL: (("mlp", probe.orthogonal), ("mlp", probe.conjugated)),
        OVER_NOISE: (("mlp", probe.spatial), ("mlp", probe.noise)),
        TEACH: (),
        NULL: (),
        LEAK: (),
    }.get(claim, lift)
