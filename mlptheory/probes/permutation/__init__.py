"""Does an MLP know which pixel is where? (Bachmann et al. 2023, Section 1)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"design": ["Permutation"]})
