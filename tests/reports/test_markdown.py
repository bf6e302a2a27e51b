import pytest

from mlptheory.base import InputError
from mlptheory.reports import markdown_table


def test_pipes_lines_and_tags_stay_in_their_cell():
    table = markdown_table([["a|b", "x\ny"], ["<script>", "back\\slash"]], ["one", "two"])
    lines = table.splitlines()
    assert len(lines) == 4
    assert lines[2] == "| a\\|b        | x y         |"
    assert "<" not in table
    assert "back\\\\slash" in table


def test_no_rows_still_has_a_header():
    assert markdown_table([], ["a"]).splitlines()[0] == "|   a |"


def test_numbers_stand_right_and_words_left():
    rule = markdown_table([[1.5, "x"], [None, "y"]], ["number", "word"]).splitlines()[1]
    assert rule == "| -----: | ---- |"


def test_a_short_row_is_named():
    with pytest.raises(InputError, match=r"rows\[1\] has 1 values: expected 2"):
        markdown_table([[1, 2], [3]], ["a", "b"])
