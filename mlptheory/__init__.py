"""Does this claim of deep-learning theory hold for MLPs as they are really trained?

`mlptheory` trains the MLPs of "Scaling MLPs: A Tale of Inductive Bias" (Bachmann, Anagnostidis & Hofmann 2023)
and tests claims of theory on them. Start with ``mlptheory.probes.BatchSize().run()``.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, _submodules = lazy_loader.attach(
    __name__,
    submodules=[
        "base",
        "data",
        "measures",
        "models",
        "probes",
        "reports",
        "reproductions",
        "stats",
        "training",
        "trials",
    ],
)

__all__ = ["__version__", *_submodules]
