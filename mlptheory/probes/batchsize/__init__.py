"""Do larger batches generalize better at equal epochs? (Bachmann et al. 2023, Fig. 4)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"design": ["BatchSize"]})
