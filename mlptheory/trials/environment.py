"""Versions and hardware, for the evidence beside every number."""

from __future__ import annotations

import os
import platform
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mlptheory.base.native import compiler

PACKAGES = ("mlptheory", "torch", "numpy", "scipy", "pandas", "scikit-learn", "lion-pytorch")


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@lru_cache(maxsize=1)
def describe_environment() -> dict[str, Any]:
    """Return versions and hardware as plain data; no host name, user name or path.

    Examples
    --------
    >>> describe_environment()["versions"]["mlptheory"] is not None
    True
    """
    import torch

    cuda = torch.cuda.is_available()
    return {
        "versions": {
            "python": platform.python_version(),
            **{package: _version(package) for package in PACKAGES},
            "compiler": compiler(),
        },
        "hardware": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": _processor(),
            "cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name(0) if cuda else None,
        },
    }
