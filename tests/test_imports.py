"""Importing the package and asking for help is quick, because heavy libraries load where they are used."""

from __future__ import annotations

import importlib
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import mlptheory

HEAVY = ("torch", "pandas", "scipy", "matplotlib", "sklearn", "ffcv", "numba", "cv2")
ATTEMPTS = 10


def run(*arguments: str, program: str = sys.executable) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Run a process; return the seconds it had a core for: unlike the clock, work beside it does not lengthen them."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, done


def quickest(limit: float, *arguments: str, program: str = sys.executable) -> float:
    """Return the least time of several runs; stops at the first under `limit`, as a busy machine can only add time."""
    best = float("inf")
    for _ in range(ATTEMPTS):
        seconds, done = run(*arguments, program=program)
        assert done.returncode == 0, done.stderr
        best = min(best, seconds)
        if best < limit:
            break
    return best


def loaded_by(statement: str) -> set[str]:
    """Return the heavy libraries that a fresh interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules.keys() & {set(HEAVY)!r})"
    _, done = run("-c", code)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_the_package_takes_under_300_ms():
    bare = min(run("-c", "pass")[0] for _ in range(5))
    assert quickest(0.3 + bare, "-c", "import mlptheory") - bare < 0.3


@pytest.mark.parametrize(
    "statement",
    [
        "import mlptheory",
        *(
            f"import mlptheory.{room}"
            for room in (
                "base",
                "data",
                "measures",
                "models",
                "probes",
                "reports",
                "reproductions",
                "stats",
                "training",
                "trials",
                "cli",
            )
        ),
        "from mlptheory.training import Recipe; Recipe()",
        "from mlptheory.probes import BatchSize; BatchSize()",
        "from mlptheory.probes import probes; [probes.summary(name) for name in probes]",
    ],
)
def test_heavy_libraries_wait_until_they_are_used(statement):
    assert loaded_by(statement) == set()


@pytest.mark.parametrize("room", sorted(set(mlptheory.__all__) - {"__version__"}))
def test_every_public_name_is_there(room):
    facade = importlib.import_module(f"mlptheory.{room}")
    assert [name for name in facade.__all__ if not hasattr(facade, name)] == []
    assert set(facade.__all__) <= set(dir(facade))


def test_time_would_be_seen():
    assert run("-c", "import time\nend = time.process_time() + 0.4\nwhile time.process_time() < end: pass")[0] > 0.4


def test_heavy_libraries_would_be_seen():
    assert {"scipy"} <= loaded_by("import scipy")


def test_rooms_are_reached_from_the_package():
    code = "import mlptheory; print(mlptheory.data.Augmentation().__class__.__name__, mlptheory.base.Registry.__name__)"
    assert run("-c", code)[1].stdout.split() == ["Augmentation", "Registry"]


@pytest.mark.parametrize("arguments", [("--help",), ("probe", "list"), ("--version",)])
def test_command_line_answers_under_a_second(arguments):
    command = str(Path(sys.executable).with_name("mlptheory"))
    assert quickest(1.0, *arguments, program=command) < 1.0
