"""pyproject.toml, constraints.txt and environment.yml say the same."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import mlptheory

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKE_EXTRAS = ("test", "docs")


def requirements(lines: list[str]) -> dict[str, Requirement]:
    found = {}
    for line in lines:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        assert name not in found, f"{name} is listed twice"
        found[name] = requirement
    return found


CORE = requirements(PROJECT["dependencies"])
EXTRAS = {extra: requirements(lines) for extra, lines in PROJECT["optional-dependencies"].items()}
INSTALLED_BY_MAKE = CORE | EXTRAS["test"] | EXTRAS["docs"] | EXTRAS["ffcv"]


@pytest.fixture(scope="module")
def pinned() -> dict[str, Version]:
    text = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = {}
    for name, requirement in requirements(lines).items():
        (pin,) = requirement.specifier
        assert pin.operator == "==", f"{requirement} is no pin"
        found[name] = Version(pin.version)
    return found


@pytest.fixture(scope="module")
def environment() -> dict:
    return yaml.safe_load((REPOSITORY / "environment.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def conda(environment) -> dict[str, Requirement]:
    return requirements([entry for entry in environment["dependencies"] if isinstance(entry, str)])


@pytest.fixture(scope="module")
def conda_pip(environment) -> list[str]:
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    return pip


def test_everything_make_installs_is_pinned_within_its_range(pinned):
    assert not set(INSTALLED_BY_MAKE) - set(pinned)
    outside = [
        f"{requirement} is pinned to {pinned[name]}"
        for extra in ({"core": CORE} | EXTRAS).values()
        for name, requirement in extra.items()
        if name in pinned and not requirement.specifier.contains(pinned[name], prereleases=True)
    ]
    assert outside == []


def test_pins_reach_dependencies_of_dependencies(pinned):
    """Walk the metadata of what is installed, as far as it is the pinned version."""
    waiting, seen = [*INSTALLED_BY_MAKE.values(), Requirement("setuptools")], set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{name} is installed, but not pinned"
        if (name, *requirement.extras) in seen:
            continue
        seen.add((name, *requirement.extras))
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if Version(distribution.version).public != pinned[name].public:
            continue
        for line in distribution.requires or ():
            needed = Requirement(line)
            contexts = [{"extra": extra} for extra in ("", *requirement.extras)]
            if needed.marker is None or any(needed.marker.evaluate(context) for context in contexts):
                waiting.append(needed)
    assert len(seen) > len(INSTALLED_BY_MAKE)


def test_pins_hold_on_every_machine(pinned):
    assert [name for name, version in pinned.items() if version.local] == []


def test_build_backend_is_pinned_within_its_range(pinned):
    build = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]
    for name, requirement in requirements(build["requires"]).items():
        assert requirement.specifier.contains(pinned[name])


def test_environment_asks_for_the_ranges_of_pyproject(conda, conda_pip):
    ranges = CORE | EXTRAS["notebooks"] | EXTRAS["ffcv"] | EXTRAS["tensorboard"]
    listed = conda | requirements([line for line in conda_pip if not line.startswith("-e")])
    shared = set(listed) & set(ranges)
    assert {"numpy", "scipy", "matplotlib", "jupyterlab", "torch", "lion-pytorch", "ffcv", "tensorboard"} <= shared
    assert {name: str(listed[name].specifier) for name in shared} == {
        name: str(ranges[name].specifier) for name in shared
    }
    assert str(conda["python"].specifier) == PROJECT["requires-python"]


def test_environment_holds_what_ffcv_compiles_against(conda):
    assert {"opencv", "libjpeg-turbo", "pkg-config", "compilers"} <= set(conda)


def test_environment_takes_torch_from_pip_only_and_installs_the_package(conda, conda_pip, environment):
    assert not {"torch", "pytorch", "functorch"} & set(conda)
    assert "-e ." in conda_pip
    assert environment["channels"] == ["conda-forge"]


def test_extra_all_is_every_extra_but_ffcv():
    (everything,) = EXTRAS["all"].values()
    assert canonicalize_name(everything.name) == PROJECT["name"]
    assert everything.extras == set(EXTRAS) - {"ffcv", "all"}


def test_version_is_one():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["version"] == mlptheory.__version__ == citation["version"]


def test_no_file_fetches_from_a_named_host():
    for name in ("Makefile", "constraints.txt", "environment.yml", ".ci/run"):
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        assert not re.search(r"https?://|--(extra-)?index-url|--find-links|--trusted-host", text), name


def test_make_installs_the_extras_that_are_pinned():
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    installed = [extras.split(",") for extras in re.findall(r'-e "\.\[([\w,]+)\]"', makefile)]
    assert installed == [list(MAKE_EXTRAS), [*MAKE_EXTRAS, "ffcv"]]


@pytest.mark.parametrize("target", ["ffcv", "probe", "test", "test-all", "lint", "docs", "bench", "clean", "help"])
def test_makefile_has_the_target(target):
    done = subprocess.run(["make", "--dry-run", target], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_continuous_integration_runs_the_tests():
    script = REPOSITORY / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    lines = script.read_text(encoding="utf-8").splitlines()
    assert "set -euo pipefail" in lines and "make test" in lines


def test_continuous_integration_goes_on_without_ffcv():
    (line,) = (line for line in (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8").splitlines() if "ffcv" in line)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"make() {{ return 2; }}; {line}; echo tests"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "tests\n")
    assert done.stderr.count("\n") == 1 and "FFCV" in done.stderr


def test_ffcv_is_asked_for_where_nothing_can_install_it(tmp_path):
    """With no apt-get, or not as root, one line says what to install; nothing is compiled."""
    for name in ("pyproject.toml", "constraints.txt", "python"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 0\n")
        (tmp_path / name).chmod(0o755)
    for name in ("sh", "touch"):
        (tmp_path / name).symlink_to(shutil.which(name))
    done = subprocess.run(
        [
            *(shutil.which("make"), "-f", str(REPOSITORY / "Makefile"), "ffcv", "INSTALLED=python"),
            *(f"INSTALLED_FFCV={tmp_path / 'done'}", f"BIN={tmp_path}", f"PATH={tmp_path}"),
        ],
        cwd=tmp_path,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = (line for line in done.stderr.splitlines() if "***" not in line)
    assert "make ffcv" in line and "libopencv-dev" in line and "libturbojpeg0-dev" in line
    assert not (tmp_path / "done").exists()
