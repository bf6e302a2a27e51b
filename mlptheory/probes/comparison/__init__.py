"""The base of probes of one's own: recipes that share seeds, and contrasts of their outcomes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"design": ["Comparison", "Contrast"]})
