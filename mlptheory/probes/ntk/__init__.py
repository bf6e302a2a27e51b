"""Are MLPs in the kernel regime? (Jacot et al. 2018, Lee et al. 2019, Chizat et al. 2019, Fort et al. 2020)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"design": ["NeuralTangentKernel"]})
