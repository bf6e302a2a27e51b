"""The planted truths that the judgment is calibrated on."""

from __future__ import annotations

from dataclasses import dataclass, fields

from mlptheory.probes.scenario import Scenario


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a scenario plants, in multiples of the margin δ where nothing else is said.

    Attributes
    ----------
    pretraining : float
        Lead of the fine-tuned nets, mean over cells, over the better of the two trained from scratch.
    features : float
        Lead of the probe over the better of the two bodies of no use.
    apart : float
        By how much the worse of the two lies below the better, of both pairs.
    probe_augmentation, finetuning_augmentation : float
        Augmented arm less plain arm.
    over_probe : float
        Lead of fine-tuning over the probe, mean over cells.
    tta : float
        Gain by test-time augmentation.
    change : float
        Of the probe's accuracy from the smallest to the largest batch, mean over lengths.
    growth : float
        Of that change from the shortest to the longest length.
    longer : float
        The probe's accuracy at the longest length less that at the shortest, at the smallest batch.
    hump : float
        Height of a half sine over the batch sizes.
    fanning : float
        Spread of a run at the largest batch size over that at the smallest.
    control : float
        Of every control's estimand, in multiples of its margin.
    diverged : float
        Share of runs that diverge.
    """

    pretraining: float = 0.0
    features: float = 0.0
    apart: float = 8.0
    probe_augmentation: float = 0.0
    finetuning_augmentation: float = 0.0
    over_probe: float = 0.0
    tta: float = 0.0
    change: float = 0.0
    growth: float = 0.0
    longer: float = 0.0
    hump: float = 0.0
    fanning: float = 1.0
    control: float = 0.0
    diverged: float = 0.0


_EFFECTS = tuple(
    field.name
    for field in fields(Truth)
    if field.name not in ("apart", "growth", "hump", "fanning", "control", "diverged")
)


def _scenario(name: str, description: str, effect: float = 0.0, **parameters: float) -> Scenario:
    """Return a scenario in which every claim's effect is a multiple of its margin."""
    effects = dict.fromkeys(_EFFECTS, effect)
    return Scenario(name=name, description=description, parameters=tuple({**effects, **parameters}.items()))


SCENARIOS = (
    _scenario("none", "no effect of anything"),
    _scenario("margin", "every effect at its margin, every control at its own", 1.0, control=1.0),
    _scenario("ties", "every effect at its margin, both of what is to be beaten alike", 1.0, apart=0.0),
    _scenario(
        "one length",
        "effects at their margins; larger batches gain eight margins more at the longest length",
        1.0,
        change=5.0,
        growth=8.0,
    ),
    _scenario(
        "alone",
        "pretraining's lead at its margin, so that it is decided last; all other effects at forty margins",
        40.0,
        pretraining=1.0,
        apart=60.0,
    ),
    _scenario("twice", "every effect at twice its margin", 2.0),
    _scenario("strong", "every effect at eight times its margin", 8.0),
    _scenario("reversed", "every effect at twice its margin, against the claim; controls off too", -2.0, control=2.0),
    _scenario("hump", "accuracy best in the middle, by four margins, and no change along the line", hump=4.0),
    _scenario("rising hump", "the same hump on effects of twice the margin", 2.0, hump=4.0),
    _scenario("fanning", "effects at their margins; the largest batch's runs four times as spread", 1.0, fanning=4.0),
    _scenario("diverged", "effects at their margins; one run in five hundred diverges", 1.0, diverged=0.002),
)
