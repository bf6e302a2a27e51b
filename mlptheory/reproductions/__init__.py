"""A paper's numbers beside ours: files of recipes, the runs they ask for, and what came out."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "reproduction": ["PaperNumber", "Reproduction"],
        "files": ["read_reproduction"],
        "miniature": ["miniature"],
        "run": ["Reproduced", "reproduce"],
    },
)
