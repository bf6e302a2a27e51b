"""What probes check of their settings, and what follows from them in more than one."""

from __future__ import annotations

from mlptheory.base.configuration import require_integer
from mlptheory.base.errors import invalid
from mlptheory.data import Augmentation

PAPER_LR, PAPER_WIDTH = 5e-5, 1024
"""Lion's learning rate in Bachmann et al. 2023, and the width that it belongs to."""
CONTROL_SEEDS = 1_000_000
"""First seed of runs that only controls have, out of the way of the designs' own."""

OPTIMIZER_REFERENCES = {"lion": ("Chen2023",), "adamw": ("Loshchilov2019",), "sgd": ()}
_DIGITS = ("Alpaydin1998", "Pedregosa2011")
DATA_REFERENCES = {
    "digits": _DIGITS,
    "digits-0-4": _DIGITS,
    "digits-5-9": _DIGITS,
    "cifar10": ("Krizhevsky2009",),
    "cifar100": ("Krizhevsky2009",),
}


def width_lr(width: int) -> float:
    """Return the paper's learning rate carried to a width by μP's rule for Lion and Adam (Yang et al. 2022).

    Examples
    --------
    >>> width_lr(256)
    0.0002
    """
    return PAPER_LR * PAPER_WIDTH / width


def require_distinct(argument: str, values: tuple[int, ...], at_least: int) -> None:
    """Raise `InputError` unless there are so many different positive whole numbers."""
    if not isinstance(values, tuple) or len(values) < at_least or len(set(values)) != len(values):
        raise invalid(argument, values, f"at least {at_least} different whole numbers")
    for value in values:
        require_integer(argument, value, 1)


def seeds_listed(seeds: int | tuple[int, ...]) -> tuple[int, ...]:
    """Return the seeds of a design that says how many (0, 1, ...), or which."""
    return tuple(range(seeds)) if isinstance(seeds, int) else seeds


def require_seeds(seeds: int | tuple[int, ...]) -> None:
    """Raise `InputError` unless these are how many seeds, or which, all different and below the controls'."""
    if isinstance(seeds, bool) or (isinstance(seeds, int) and seeds < 1):
        raise invalid("seeds", seeds, "how many (at least 1), or which")
    if not isinstance(seeds, int) and (not isinstance(seeds, tuple) or not seeds or len(set(seeds)) != len(seeds)):
        raise invalid("seeds", seeds, "at least one seed, all different")
    for seed in seeds_listed(seeds):
        require_integer("seeds", seed, 0)
        if seed >= CONTROL_SEEDS:
            raise invalid("seeds", seed, f"seeds below {CONTROL_SEEDS}, where the controls' begin")


def augmentation_text(augmentation: Augmentation) -> str:
    """Say what is done to the training images at random, as claims do."""
    mixup = f"MixUp {augmentation.mixup:g}, λ drawn per {augmentation.mixup_per}" if augmentation.mixup else ""
    moved = "random crops, flips or shifts" if augmentation.moves_pixels else ""
    if augmentation.as_noise:
        moved = f"Gaussian noise with the second moment of {moved}"
    return " and ".join(filter(None, (moved, mixup))) or "no augmentation"


def span(values: tuple[int, ...]) -> str:
    """Return numbers in order, for a sentence."""
    return ", ".join(str(value) for value in sorted(values))
