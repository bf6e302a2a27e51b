"""Arrows between rooms go one way, and the picture in the docs shows those the code has."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
_spec = importlib.util.spec_from_file_location("house", REPOSITORY / "docs" / "house.py")
house = importlib.util.module_from_spec(_spec)
sys.modules["house"] = house
_spec.loader.exec_module(house)


def test_no_arrow_points_back():
    arrows = house.measured_arrows()
    assert {here: arrows[here] for here in house.backward(arrows)} == {}


def test_every_module_is_in_a_room():
    outside = [module for module, _ in house.modules() if house.room_of(module) is None]
    assert set(outside) <= {"mlptheory", "mlptheory.__main__"}


def test_files_beside_the_rooms_count_as_the_room_they_belong_to():
    assert house.room_of("mlptheory.arguments") == "cli"
    found = house.imports_of("from mlptheory.arguments import read_arguments", "mlptheory.probes.probe")
    assert house.backward([("probes", house.room_of(name)) for name in found]) == [("probes", "cli")]


def test_rooms_are_ordered():
    rooms = list(house.ALLOWED)
    for room, allowed in house.ALLOWED.items():
        assert all(rooms.index(below) < rooms.index(room) for below in allowed)


@pytest.mark.parametrize(
    "source",
    [
        "import mlptheory.probes",
        "import numpy, mlptheory.probes.batchsize as b",
        "from mlptheory import data, probes",
        "from mlptheory.probes import BatchSize",
        "from mlptheory.probes.batchsize import BatchSize",
        "from ..probes import BatchSize",
        "from .. import probes",
        "def late():\n    if True:\n        from mlptheory import probes",
        "class Room:\n    def door(self):\n        import mlptheory.probes.batchsize",
        "if TYPE_CHECKING:\n    from mlptheory.probes import BatchSize",
        "import mlptheory\nmlptheory.probes.BatchSize()",
        "import importlib\nimportlib.import_module('mlptheory.probes')",
        "observers.register_lazily('x', 'mlptheory.probes.batchsize:BatchSize', summary='')",
        "lazy_loader.attach('mlptheory.probes', ['batchsize'])",
    ],
)
def test_reader_sees_an_import_however_it_is_written(source):
    found = {house.room_of(name) for name in house.imports_of(source, "mlptheory.training.loop")}
    assert "probes" in found
    assert house.backward([("training", "probes")]) == [("training", "probes")]


@pytest.mark.parametrize(
    "source",
    [
        '"""As `mlptheory.probes` does."""',
        "import probes",
        "from probes import mlptheory",
        "entry_points(group='mlptheory.plugins')",
        "text = 'see mlptheory.probes for more'",
        "from .probes import x",
        "import mlptheory\nmlptheory.__version__",
    ],
)
def test_reader_sees_no_import_where_there_is_none(source):
    found = {house.room_of(name) for name in house.imports_of(source, "mlptheory.training.loop")}
    assert found <= {"training", None}


def test_relative_imports_in_a_package_start_from_the_package():
    assert house.imports_of("from .loop import train", "mlptheory.training", is_package=True) == {
        "mlptheory.training.loop.train"
    }
    assert house.imports_of("from .. import stats", "mlptheory.training", is_package=True) == {"mlptheory.stats"}


def test_a_picture_leaves_out_what_a_longer_way_implies():
    arrows = [("trials", "training"), ("training", "data"), ("trials", "data"), ("data", "base")]
    assert house.drawn_arrows(arrows) == [("training", "data"), ("trials", "training")]


def test_picture_is_that_of_the_code():
    drawn = house.draw(house.measured_arrows())
    assert house.PICTURE.read_text(encoding="utf-8") == drawn, "run python docs/house.py"
    for room in house.ALLOWED:
        assert f">{room}</text>" in drawn


def test_architecture_page_shows_the_picture():
    assert "_static/house.svg" in (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
