"""What every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CIFAR_FOLDERS = ("cifar-10-batches-bin", "cifar-10-batches-py", "cifar-100-binary", "cifar-100-python")


@pytest.fixture(scope="session")
def cifar_root() -> Path:
    """The folder that holds the four official CIFAR folders, from $MLPTHEORY_DATA; skips without it."""
    if not os.environ.get("MLPTHEORY_DATA"):
        pytest.skip("MLPTHEORY_DATA is not set: tests on the real CIFAR files are left out")
    root = Path(os.environ["MLPTHEORY_DATA"])
    missing = [name for name in CIFAR_FOLDERS if not (root / name).is_dir()]
    if missing:
        pytest.skip(f"MLPTHEORY_DATA = {str(root)!r} holds no {', '.join(missing)}")
    return root


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
