"""From numbers to verdicts: intervals, tests and power over independent runs, and the rule that decides claims."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "claims": ["DIRECTIONS", "Claim"],
        "contrasts": ["contrast_interval", "linear_trend_coefficients"],
        "decisions": ["FEWEST_RUNS", "decide"],
        "intervals": ["Interval", "difference_interval", "mean_interval"],
        "multiplicity": ["bonferroni_level", "holm"],
        "power": ["power_t", "runs_for_power", "smallest_detectable_effect"],
        "significance": ["p_value", "tost"],
        "verdicts": ["VERDICTS", "Verdict"],
    },
)
