"""Does pretraining transfer, and what of it helps? (Bachmann et al. 2023, Section 4.3, Tables 2 and 6, Fig. 4)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"design": ["Transfer"]})
