"""The claims and the control, written down before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlptheory.probes.permutation.design import EXACT_BATCH_SIZE, EXACT_N, EXACT_OPTIMIZERS
from mlptheory.probes.settings import DATA_REFERENCES, OPTIMIZER_REFERENCES, augmentation_text
from mlptheory.stats import Claim

if TYPE_CHECKING:
    from mlptheory.probes.permutation.design import Permutation

EQUIVALENT, FALLS = "mlp-equivalent", "baseline-falls"
AUGMENTED_EQUIVALENT, ORDER = "augmented-equivalent", "order-matters"
TRAJECTORY, WRONG = "same-trajectory", "wrong-permutation-fails"
LEAK = "leak-check"
LEAK_MARGIN = 5.0
TRAJECTORY_MARGIN, WRONG_MARGIN = 9.0, 3.0
"""Decades: a deviation of 1e-9 at most, and one a thousand times as large."""
POINTS, DECADES = "percentage points", "decades"
PAPER = "Bachmann et al. 2023, Section 1"
NEW = "these data, new seeds and permutations"
APART = "nothing within a block: permuted runs have seeds of their own, and each block a permutation"
TOGETHER = "permutation and seed within a block"
MISPLACED = "images, order, augmentation and initialization, the first layer's columns moved by either permutation"
TRANSPORTED = "images, order, augmentation and initialization, the first layer's columns moved by the permutation"


def claims(probe: Permutation) -> tuple[Claim, ...]:
    """Return the claims of a design, then its control."""
    found = [_equivalent(probe), _falls(probe), _augmented_equivalent(probe), _order(probe)]
    found += [_trajectory(probe), _wrong(probe)]
    return (*found, *((_leak(probe),) if probe.control else ()))


def _statistical(probe: Permutation, seeds: str, *, arm: str = "mlp", augmented: bool = False, **parts: Any) -> Claim:
    """Return a claim on test accuracy, with what this probe says of all of them."""
    common = {"unit": POINTS, "bibtex_key": "Bachmann2023", "source": PAPER}
    held = (*_held(probe, arm), *((augmentation_text(probe.augmentation),) if augmented else ("no augmentation",)))
    return Claim(**{**common, "held_fixed": (*held, seeds), "scope": _scope(probe, arm), **parts})


def _equivalent(probe: Permutation) -> Claim:
    return _statistical(
        probe,
        APART,
        id=EQUIVALENT,
        statement="An MLP does as well on images whose pixels are permuted.",
        direction="equivalent",
        margin=probe.margin,
        estimand=f"test accuracy of the MLP on images less that on permuted images, mean over permutations; {NEW}",
        test="95 % t interval of the per-block difference must lie within ±δ; decided by itself, outside Holm's family",
    )


def _falls(probe: Permutation) -> Claim:
    return _statistical(
        probe,
        APART,
        arm="baseline",
        id=FALLS,
        statement="A model that has locality does worse on images whose pixels are permuted.",
        direction="greater",
        margin=probe.effect,
        estimand=f"test accuracy of the baseline on images less that on permuted images, mean over permutations; {NEW}",
        test="t interval of the per-block difference",
    )


def _augmented_equivalent(probe: Permutation) -> Claim:
    return _statistical(
        probe,
        APART,
        augmented=True,
        id=AUGMENTED_EQUIVALENT,
        statement="An MLP trained on augmented images does as well if they are permuted after the augmentation.",
        source="exact null of augmentation",
        bibtex_key=None,
        direction="equivalent",
        margin=probe.margin,
        estimand="test accuracy of the MLP trained with augmentation, on images less on images permuted after it, mean "
        f"over permutations; {NEW}",
        test="95 % t interval of the per-block difference must lie within ±δ; decided by itself, outside Holm's family",
    )


def _order(probe: Permutation) -> Claim:
    return _statistical(
        probe,
        TOGETHER,
        augmented=True,
        id=ORDER,
        statement="To an MLP the order matters: augmentation of images that are permuted already is worth less.",
        source="this probe: augmentation is what tells an MLP of space",
        bibtex_key=None,
        direction="greater",
        margin=probe.effect,
        estimand="test accuracy of the MLP trained on images that are augmented, then permuted, less that on images "
        f"that are permuted, then augmented, mean over permutations; {NEW}",
        test="t interval of the per-block difference",
    )


def _exact(probe: Permutation, transported: str = TRANSPORTED, **parts: Any) -> Claim:
    """Return a claim on runs in lockstep."""
    rates = ", ".join(f"{each.name} at {each.lr:g}" for each in EXACT_OPTIMIZERS)
    decay = EXACT_OPTIMIZERS[0].weight_decay
    held = (
        transported,
        f"{rates}, weight decay {decay:g}, {probe.exact_steps} steps of batches of {_exact_batch(probe)}, float64",
        augmentation_text(probe.augmentation),
        f"label smoothing {probe.label_smoothing:g}",
    )
    models = " and ".join(probe.exact_models)
    common = {
        "direction": "greater",
        "unit": DECADES,
        "source": PAPER,
        "bibtex_key": "Bachmann2023",
        "held_fixed": held,
        "scope": f"{models} on {min(probe.n or EXACT_N, EXACT_N)} examples of {probe.dataset}{_size(probe)}",
    }
    return Claim(**{**common, **parts})


def _trajectory(probe: Permutation) -> Claim:
    return _exact(
        probe,
        id=TRAJECTORY,
        statement="Trained on permuted images from accordingly moved weights, an MLP follows the same trajectory.",
        margin=TRAJECTORY_MARGIN,
        estimand="minus the decimal logarithm of the largest deviation of any weight or logit in any step, at least "
        f"1e-16; mean over blocks, smallest over models and optimizers; {NEW}",
        test=f"intersection-union over {_cells(probe)} cells of t intervals over blocks",
    )


def _wrong(probe: Permutation) -> Claim:
    return _exact(
        probe,
        id=WRONG,
        statement="Control: from weights that are moved by another permutation it does not.",
        source="check that the comparison can fail",
        bibtex_key=None,
        transported=MISPLACED,
        margin=WRONG_MARGIN,
        estimand="decimal logarithm of the largest deviation of any weight in any step under the wrong permutation, "
        "which is 0 at the start, less that of the largest deviation of any weight or logit under the right one, at "
        f"least 1e-16; mean over blocks, smallest over models and optimizers; {NEW}",
        test=f"intersection-union over {_cells(probe)} cells of t intervals over blocks",
    )


def _leak(probe: Permutation) -> Claim:
    shuffles = f"{probe.shuffles} shuffle{'s' if probe.shuffles > 1 else ''}"
    return _statistical(
        probe,
        "a seed of its own for every shuffle",
        id=LEAK,
        statement="Control: trained on shuffled labels, the test accuracy is chance.",
        source="leak check",
        bibtex_key=None,
        direction="equivalent",
        margin=LEAK_MARGIN,
        estimand="test accuracy of the MLP less that of its predictions' class shares against the test set's, mean "
        f"over {shuffles}; these data, new seeds and shuffles",
        test="95 % t interval over blocks must lie within ±δ",
    )


def _cells(probe: Permutation) -> int:
    return len(probe.exact_models) * len(EXACT_OPTIMIZERS)


def _exact_batch(probe: Permutation) -> int:
    return min(EXACT_BATCH_SIZE, probe.n or EXACT_BATCH_SIZE)


def _held(probe: Permutation, arm: str) -> tuple[str, ...]:
    decay = f", weight decay {probe.weight_decay:g}" if probe.weight_decay else ""
    return (
        f"{probe.epochs} epochs of batches of {probe.batch_size} by {probe.optimizer} at {probe.base_lr(arm):.3g}, "
        f"constant, tuned for neither{decay}",
        f"label smoothing {probe.label_smoothing:g}",
        "data, splits and test set",
    )


def _scope(probe: Permutation, arm: str) -> str:
    data = f"{probe.n} examples of {probe.dataset}" if probe.n else probe.dataset
    return f"{probe.models[arm]} on {data}{_size(probe)}, permutations of all pixels and channels"


def _size(probe: Permutation) -> str:
    return f" at {probe.image_size} pixels" if probe.image_size else ""


def references(probe: Permutation) -> tuple[str, ...]:
    """Return the BibTeX keys of the claims, the methods, the data and the software."""
    optimizers = (probe.optimizer, *(each.name for each in EXACT_OPTIMIZERS))
    default = probe.lr is None or probe.baseline_lr is None
    return (
        "Bachmann2023",
        *dict.fromkeys(key for name in optimizers for key in OPTIMIZER_REFERENCES[name]),
        *(("Yang2022",) if default else ()),
        *(("Zhang2018",) if probe.augmentation.mixup else ()),
        *DATA_REFERENCES.get(probe.dataset, ()),
        "Paszke2019",
        "mlptheory",
    )
