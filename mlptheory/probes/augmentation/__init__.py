"""What augmentation gives an MLP, and whether it is more than samples (Bachmann et al. 2023, Table 1)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"design": ["Augmentation"]})
