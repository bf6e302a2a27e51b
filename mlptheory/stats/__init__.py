"""From numbers to verdicts: intervals, tests and power over independent runs, and the rule that decides claims."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "calibration": [
            "ClaimCalibration",
            "Outcome",
            "calibrate_claim",
            "false_verdicts",
            "family_errors",
            "reaches_down_to",
        ],
        "claims": ["DIRECTIONS", "Claim"],
        "contrasts": ["contrast_estimate", "contrast_interval", "linear_trend_coefficients"],
        "critical_batch": ["critical_batch_size"],
        "decisions": ["FEWEST_RUNS", "decide"],
        "estimates": ["AnyEstimate", "Estimate", "SmallestEstimate", "smallest_of"],
        "families": ["decide_together"],
        "intervals": ["Interval"],
        "linearity": ["LackOfFit", "lack_of_fit"],
        "means": ["difference_estimate", "difference_interval", "mean_estimate", "mean_interval"],
        "multiplicity": ["bonferroni_level", "holm"],
        "power": ["power_t", "runs_for_power", "smallest_detectable_effect"],
        "proportions": ["Proportion", "proportion_interval", "simulated_power"],
        "ranks": ["kendall_tau"],
        "significance": ["decision_p", "p_value", "tost"],
        "verdicts": ["VERDICTS", "Verdict"],
    },
)
