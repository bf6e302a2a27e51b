"""A record is read back as it was written, or not at all."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mlptheory.base.errors import DamagedFileError
from mlptheory.base.files import canonical_json, sha256
from mlptheory.trials import Record
from mlptheory.trials.record import finite_or_none, pack_predictions, unpack_predictions

RECORD = Record(
    digest="d" * 64,
    trial={"recipe": {"seed": 0, "model": {"name": "B-1/Wi-16"}}, "parents": []},
    metrics={"test_accuracy": 0.1 + 0.2, "test_loss": None, "tiny": 5e-324, "µ": -0.0},
    history=((0, 0, "test_loss", 2.5), (8, 1, "train_loss", None)),
    predictions=pack_predictions(np.arange(10)),
    diverged={"step": 3, "epoch": 1},
    data_digest="e" * 64,
    environment={"versions": {"torch": "2"}},
    seconds=1.5,
)


def test_a_record_comes_back_the_same_to_the_last_bit():
    assert Record.from_json(RECORD.to_json()) == RECORD
    assert Record.from_json(RECORD.to_json()).to_json() == RECORD.to_json()


def test_the_checksum_is_that_of_the_contents_canonical_json():
    outer = json.loads(RECORD.to_json())
    assert outer["sha256"] == sha256(canonical_json(outer["record"]))


def test_a_number_that_json_cannot_hold_is_refused_when_it_is_written():
    with pytest.raises(ValueError, match="JSON"):
        Record(digest="d", trial={}, metrics={"loss": float("nan")}).to_json()


@pytest.mark.parametrize("length", [0, 1, 50, 200, -3])
def test_a_record_cut_short_is_damaged(length):
    with pytest.raises(DamagedFileError):
        Record.from_json(RECORD.to_json()[:length])


def test_every_flipped_character_of_the_content_is_noticed():
    text = RECORD.to_json()
    begin = text.index('"record":') + len('"record":')
    for position in range(begin, len(text) - 2):
        other = "0" if text[position] != "0" else "1"
        with pytest.raises(DamagedFileError):
            Record.from_json(text[:position] + other + text[position + 1 :])


def wrapped(content: object) -> str:
    return json.dumps({"sha256": sha256(canonical_json(content)), "record": content})


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "[]",
        "3",
        '"record"',
        "{}",
        '{"record": {}}',
        '{"sha256": "", "record": {}}',
        wrapped([]),
        wrapped("x"),
        wrapped({}),
        wrapped({"schema": 1}),
        wrapped({"schema": 1, "history": 3}),
        wrapped({"schema": 1, "digest": "d", "trial": {}, "metrics": {}, "history": [], "surplus": 1}),
        "[" * 100_000,
        '{"sha256": "", "record": NaN}',
        '{"sha256": "", "record": "\\ud800"}',
    ],
    ids=lambda text: text[:40],
)
def test_what_is_no_record_is_damaged(text):
    with pytest.raises(DamagedFileError):
        Record.from_json(text)


def test_another_versions_record_is_not_taken_for_ours():
    content = {**json.loads(RECORD.to_json())["record"], "schema": 2}
    with pytest.raises(DamagedFileError, match="another version"):
        Record.from_json(wrapped(content))


def test_predictions_come_back():
    classes = np.random.default_rng(0).integers(0, 65536, 1000)
    assert (unpack_predictions(pack_predictions(classes)) == classes).all()
    assert len(unpack_predictions(pack_predictions(np.array([], dtype=int)))) == 0


def test_only_finite_numbers_are_kept():
    assert finite_or_none(1.5) == 1.5
    assert [finite_or_none(value) for value in (float("nan"), float("inf"), -float("inf"))] == [None] * 3
