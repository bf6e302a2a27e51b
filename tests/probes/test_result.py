import dataclasses
import json
import os

import pandas as pd
import pytest
from PIL import Image

from mlptheory.base import DamagedFileError, InputError
from mlptheory.probes import load_result
from mlptheory.probes.result import claim_folder
from tests.probes.conftest import FIRST, TINY

FILES = {
    "design.json",
    "result.json",
    "table.csv",
    "history.csv",
    "figure.pdf",
    "figure.png",
    "report.html",
    "references.bib",
}


def test_saving_writes_every_file_whole_and_nothing_else(tiny_result, tmp_path):
    written = tiny_result.save(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert set(written) == FILES - {"design.json"}
    table = pd.read_csv(written["table.csv"])
    assert table["test_accuracy"].tolist() == tiny_result.table["test_accuracy"].tolist()
    with Image.open(written["figure.png"]) as image:
        assert image.size[0] > 1900  # 6.75 inches at 300 dots
    assert written["figure.pdf"].read_bytes().startswith(b"%PDF")
    assert "Bachmann2023" in written["references.bib"].read_text()
    page = written["report.html"].read_text()
    assert tiny_result.design["digest"] in page and tiny_result.verdicts[0].claim in page


def test_a_result_read_back_says_the_same(tiny_result, tmp_path):
    tiny_result.save(tmp_path)
    again = load_result(tmp_path)
    assert again.to_plain() == tiny_result.to_plain()
    assert again.verdicts == tiny_result.verdicts and again.probe == TINY
    assert again.html() == tiny_result.html()


def test_saving_twice_gives_the_same_bytes(tiny_result, tmp_path):
    tiny_result.save(tmp_path / "a")
    tiny_result.save(tmp_path / "b")
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_result_json_has_the_documented_parts(tiny_result):
    plain = tiny_result.to_plain()
    assert list(plain) == [
        "schema", "design", "table", "history", "verdicts", "effects", "diverged", "environment", "timing",
    ]  # fmt: skip
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert all(column["description"] for column in plain["table"]["columns"])
    assert plain["environment"]["versions"]["torch"]
    assert len(plain["timing"]["trial_s"]) == len(plain["table"]["rows"])
    design = plain["design"]
    assert design["settings"]["batch_sizes"] == [8, 32]
    assert [claim["margin"] for claim in design["claims"]] == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]
    assert design["trials"] == [row[-1] for row in plain["table"]["rows"][:FIRST]], "those known before any ran"
    assert all(column["description"] for column in plain["effects"]["columns"][:3])
    assert set(design["schedule"]) == {"device", "threads", "precision", "groups", "data_parallel"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"batch_sizes": (8, 16)}, "batch_sizes = [8, 32] there, [8, 16] here"), ({"seeds": 4}, "seeds = 3 there")],
)
def test_a_folder_that_holds_another_design_is_refused(tiny_result, tmp_path, changes, words):
    tiny_result.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = dataclasses.replace(TINY, **changes)
    design = {**tiny_result.design, "settings": other.settings(), "digest": "0" * 64}
    with pytest.raises(InputError) as caught:
        claim_folder(tmp_path, design)
    assert words in str(caught.value) and str(tmp_path) in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_of_an_older_version_of_the_code_is_refused_by_that_name(tiny_result, tmp_path):
    tiny_result.save(tmp_path)
    with pytest.raises(InputError, match="version of the code"):
        claim_folder(tmp_path, {**tiny_result.design, "code": "other", "digest": "1" * 64})


def test_a_folder_that_cannot_be_written_is_refused(tiny_result, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"out = .*file/out.*written"):
        tiny_result.save(tmp_path / "file" / "out")


def test_a_folder_without_a_result_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"result\.json is not there"):
        load_result(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda _: "[]",
        lambda _: "{}",
        lambda text: text.replace('"verdicts"', '"v"'),
    ],
)
def test_a_damaged_result_is_refused(tiny_result, tmp_path, damage):
    path = tiny_result.save(tmp_path)["result.json"]
    path.write_text(damage(path.read_text()))
    with pytest.raises(DamagedFileError, match=r"result\.json"):
        load_result(tmp_path)


def test_a_full_disk_leaves_the_old_result_whole(tiny_result, tmp_path, monkeypatch):
    tiny_result.save(tmp_path)
    before = (tmp_path / "result.json").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        tiny_result.save(tmp_path)
    monkeypatch.undo()
    assert (tmp_path / "result.json").read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


def test_a_notebook_shows_verdicts_and_figure(tiny_result):
    shown = tiny_result._repr_html_()
    assert "<svg" in shown and tiny_result.verdicts[0].claim in shown and "<script" not in shown
    assert tiny_result.verdicts[0].claim.split()[0] in str(tiny_result)
    assert all(len(line) <= 80 for line in str(tiny_result).splitlines())


def test_the_figure_shows_every_run_and_chooses_no_backend(tiny_result):
    figure = tiny_result.figure()
    axes = figure.axes[0]
    dots = [line for line in axes.lines if line.get_marker() == "."]
    assert sum(len(line.get_xdata()) for line in dots) == len(
        tiny_result.table.query("role == 'run' and policy == 'fixed'")
    )
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["B-1/Wi-16, 1 epoch", "B-1/Wi-16, 12 epochs"]
    assert figure.get_size_inches()[0] == pytest.approx(6.75)
    assert not hasattr(figure, "number")  # pyplot numbers the figures it manages
