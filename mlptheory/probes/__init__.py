"""One claim, or one family of claims, a file: the trials that test it, the judgment, the picture."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "augmentation": ["Augmentation"],
        "batchsize": ["BatchSize"],
        "calibration": ["Calibration", "calibrate"],
        "comparison": ["Comparison", "Contrast"],
        "locality": ["Locality"],
        "ntk": ["NeuralTangentKernel"],
        "permutation": ["Permutation"],
        "plan": ["Plan"],
        "probe": ["Column", "Probe"],
        "registry": ["probes"],
        "result": ["Result", "load_result"],
        "scenario": ["Scenario"],
        "sharpness": ["Sharpness"],
        "transfer": ["Transfer"],
    },
)
