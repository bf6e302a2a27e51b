"""What the README prints runs as printed, in miniature where it is long."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for line in re.findall(r"^\$ (mlptheory .+)$", README, re.MULTILINE)]
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)

SMALL_PROBE = (
    "--dataset digits --model B-1/Wi-16 --batch-sizes 64 256 --seeds 3 --lengths 1 --lr-grid 0.5 1 2 --tuning-seeds 1 "
    "--curvature-seeds 0 --no-control --workers 1"
)
SMALL_RECIPE = "--data.name digits --model.name S-1/Wi-16 --budget.amount 1 --budget.batch-size 512"


def in_miniature(command: str) -> str:
    """Return the command with the same words and options, and small values."""
    command = re.sub(
        r"(probe batchsize) --dataset cifar10 --model \S+ --batch-sizes [\d ]+ --seeds \d+ --lengths [\d ]+",
        rf"\1 {SMALL_PROBE} ",
        command,
    )
    command = re.sub(r"(calibrate batchsize)", r"\1 --tables 10 --bank-runs 0 --workers 1", command)
    command = re.sub(r"(reproduce) (\S+\.toml)", rf"\1 {REPOSITORY}/\2", command)
    return re.sub(r"(train) (\S+\.toml)", rf"\1 {REPOSITORY}/\2 {SMALL_RECIPE}", command)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def test_it_opens_with_the_two_commands():
    first = README.split("```")[1]
    assert re.findall(r"^\$ (\S+ \S+)", first, re.MULTILINE) == ["make probe", "make test"]
    assert README.index("```") < 40


def test_long_commands_are_made_small():
    assert any("--dataset cifar10" in command for command in COMMANDS)
    assert all("cifar10 " not in in_miniature(command) for command in COMMANDS)


def test_commands_run_in_the_order_they_are_printed(tmp_path):
    program = str(Path(sys.executable).with_name("mlptheory"))
    for command in COMMANDS:
        done = run(tmp_path, program, *shlex.split(in_miniature(command))[1:])
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert done.stdout
    assert (tmp_path / "out" / "cifar10" / "report.html").is_file()


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_python_runs(tmp_path, block):
    small = block.replace(
        "batch_sizes=(16, 64, 256), seeds=5",
        'model="B-1/Wi-16", batch_sizes=(64, 256), lengths=(1,), seeds=3, lr_policies=("fixed",), curvature_seeds=0, '
        "control=False",
    )
    # Spawned workers import the main module, so it has to be a file with a guard.
    lines = "\n".join(f"    {line}" for line in small.splitlines())
    (tmp_path / "block.py").write_text(f"def main():\n{lines}\n\nif __name__ == '__main__':\n    main()\n")
    done = run(tmp_path, sys.executable, "block.py")
    assert done.returncode == 0, done.stderr
    if ".save(" in block:
        promised = re.search(r"\.save\(.*# (.*)", block).group(1).replace("figure.pdf/.png", "figure.pdf, figure.png")
        assert set(promised.split(", ")) <= set(os.listdir(tmp_path / "out"))


def test_files_it_names_exist():
    named = re.findall(r"`((?:docs|notebooks|experiments)/[\w./-]+)`", README)
    assert named
    assert [name for name in named if not (REPOSITORY / name).exists() and not name.startswith("docs/_build")] == []
