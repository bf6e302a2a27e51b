"""Does training sit at the edge of stability, and does sharpness predict generalization? (Cohen et al. 2021, 2022)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"design": ["Sharpness"]})
