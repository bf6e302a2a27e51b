import importlib.metadata
import sys
import types

import pytest

from mlptheory.base import InputError
from mlptheory.base.plugins import ENTRY_POINT_GROUP, load_plugins


@pytest.fixture(autouse=True)
def forget_plugins():
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("mlptheory_plugin_"):
            del sys.modules[name]


def test_a_file_is_imported_once(tmp_path):
    log = tmp_path / "log"
    file = tmp_path / "mine.py"
    file.write_text(f"open({str(log)!r}, 'a').close()\nwith open({str(log)!r}, 'a') as f: f.write('x')\n")
    load_plugins([str(file)])
    load_plugins([str(file)])
    assert log.read_text() == "x"


def test_a_file_can_register_something(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from mlptheory.data import datasets\n"
        "@datasets.register('from_a_plugin', summary='s', replace=True)\n"
        "def load(split, root):\n    raise RuntimeError\n"
    )
    load_plugins([str(tmp_path / "mine.py")])
    from mlptheory.data import datasets

    assert "from_a_plugin" in datasets


@pytest.mark.parametrize("name", ["absent.py", "absent.txt", "."])
def test_what_is_no_python_file_is_refused(tmp_path, name):
    with pytest.raises(InputError) as caught:
        load_plugins([str(tmp_path / name)])
    assert str(caught.value) == f"plugin = {str(tmp_path / name)!r}: expected a Python file that exists"


def test_a_file_that_fails_is_named_with_its_error_and_can_be_mended(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("1 / 0")
    with pytest.raises(InputError, match=r"mine\.py': importing it failed: ZeroDivisionError: division by zero"):
        load_plugins([str(file)])
    file.write_text("fixed = True")
    load_plugins([str(file)])
    assert sys.modules["mlptheory_plugin_mine"].fixed


def test_installed_plugins_are_imported(tmp_path, monkeypatch):
    (tmp_path / "a_plugin.py").write_text("registered = True\n")
    info = tmp_path / "a_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: a-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\nmine = a_plugin\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert [point.value for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)] == ["a_plugin"]
    load_plugins()
    assert isinstance(sys.modules.pop("a_plugin"), types.ModuleType)
