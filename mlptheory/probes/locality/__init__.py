"""Do first-layer filters become local, and what makes them so? (Bachmann et al. 2023, Figs. 10 and 11)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"design": ["Locality"]})
