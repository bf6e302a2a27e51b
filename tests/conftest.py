"""What every room's tests share."""

from __future__ import annotations

import gc
import os
import warnings
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
    if item.get_closest_marker("ffcv"):
        from mlptheory.base import InputError
        from mlptheory.data.ffcv_library import require_ffcv

        try:
            require_ffcv("tests of .beton files")
        except InputError as error:
            pytest.skip(str(error))


@pytest.fixture(autouse=True)
def open_lists_as_they_were():
    """Take back what a test registered: the next test's listings would show it."""
    from mlptheory.data import datasets
    from mlptheory.models import models
    from mlptheory.probes import probes
    from mlptheory.training import observers
    from mlptheory.trials import measures

    registries = (datasets, models, probes, observers, measures)
    before = [dict(registry._entries) for registry in registries]
    yield
    for registry, entries in zip(registries, before, strict=True):
        registry._entries.clear()
        registry._entries.update(entries)


@pytest.fixture(autouse=True)
def warnings_are_shown_as_before(monkeypatch):
    """Take back how the command line shows warnings."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)


@pytest.fixture
def refused(capsys):
    """Run a command that must be refused: exit 2, one line on stderr, nothing on stdout; return the line."""

    from mlptheory.cli import main

    def run(*args: str) -> str:
        code = main(list(args))
        shown = capsys.readouterr()
        assert code == 2, shown
        assert shown.out == ""
        assert shown.err.startswith("mlptheory: ") and shown.err.endswith("\n")
        assert shown.err.count("\n") == 1 and "\r" not in shown.err, shown.err
        assert "Traceback" not in shown.err
        return shown.err

    return run


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    """Run a test with so many of torch's threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def living_tensors():
    """Count the tensors that are alive once what nobody holds has been collected."""
    import torch

    def count() -> int:
        gc.collect()
        # Some objects of other libraries fail when their class is asked for.
        return sum(issubclass(type(found), torch.Tensor) for found in gc.get_objects())

    return count
