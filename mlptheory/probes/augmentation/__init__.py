"""What augmentation gives an MLP beside more examples: a spatial prior? (Bachmann et al. 2023, Sections 4.1 and 4.4)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"design": ["Augmentation"]})
