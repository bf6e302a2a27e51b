"""The claims, as contrasts of arms, and what they rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlptheory.probes.settings import DATA_REFERENCES, OPTIMIZER_REFERENCES
from mlptheory.stats import Claim

if TYPE_CHECKING:
    from mlptheory.probes.comparison.design import Comparison, Contrast


BY_ITSELF = ", at 95 % within ±δ; decided by itself, outside Holm's family"


def claims(probe: Comparison) -> tuple[Claim, ...]:
    """Return a claim for each contrast."""
    return tuple(_claim(contrast) for contrast in probe.contrasts())


def _claim(contrast: Contrast) -> Claim:
    return Claim(
        id=contrast.id,
        statement=contrast.statement,
        source=contrast.source,
        bibtex_key=contrast.bibtex_key,
        estimand=f"{in_words(contrast)}, {contrast.outcome.replace('_', ' ')}, mean over seeds; these data, new seeds",
        direction=contrast.direction,
        margin=contrast.margin,
        unit=contrast.unit,
        test="t interval of the per-seed contrast" + (BY_ITSELF if contrast.direction == "equivalent" else ""),
        held_fixed=contrast.held_fixed,
        scope=contrast.scope,
    )


def in_words(contrast: Contrast) -> str:
    """Return the weighted sum as text.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> in_words(SimpleNamespace(weights={"wide": 1, "narrow": -1, "flat": 0.5, "odd": -0.5}))
    'wide − narrow + 0.5 flat − 0.5 odd'
    """
    text = ""
    for arm, weight in contrast.weights.items():
        size = "" if abs(weight) == 1 else f"{abs(weight):g} "
        sign = "−" if weight < 0 else "+"
        text += f" {sign} {size}{arm}" if text else f"{'−' if weight < 0 else ''}{size}{arm}"
    return text


def references(probe: Comparison) -> tuple[str, ...]:
    """Return the BibTeX keys of the claims, the optimizers, the data and the software."""
    recipes = probe.arms().values()
    keys = (
        *(contrast.bibtex_key for contrast in probe.contrasts() if contrast.bibtex_key),
        *(key for recipe in recipes for key in OPTIMIZER_REFERENCES[recipe.optimizer.name]),
        *(key for recipe in recipes for key in DATA_REFERENCES.get(recipe.data.name, ())),
        "Paszke2019",
        "mlptheory",
    )
    return tuple(dict.fromkeys(keys))
