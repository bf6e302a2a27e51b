import dataclasses
import json
import math
from typing import Literal

import pytest

from mlptheory.base import InputError
from mlptheory.base.configuration import (
    from_plain,
    require_boolean,
    require_choice,
    require_integer,
    require_number,
    to_plain,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    mode: Literal["one", "two"] = "one"
    scale: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    count: int = 1
    share: float = 0.5
    flag: bool = False
    sizes: tuple[int, ...] = ()
    inner: Inner = dataclasses.field(default_factory=Inner)
    limit: float | None = None


FULL = Outer(
    name="x", count=3, share=0.25, flag=True, sizes=(1, 2), inner=Inner(mode="two", scale=(0.1, 1.0)), limit=2.0
)


@pytest.mark.parametrize("value", [FULL, Outer(name="y")])
def test_a_configuration_survives_json(value):
    assert from_plain(Outer, json.loads(json.dumps(to_plain(value)))) == value


def test_absent_fields_take_their_defaults():
    assert from_plain(Outer, {"name": "x"}) == Outer(name="x")


def test_an_integer_is_a_number_but_not_the_other_way():
    assert type(from_plain(Outer, {"name": "x", "share": 1}).share) is float
    with pytest.raises(InputError, match=r"^count = 1\.0: expected an integer$"):
        from_plain(Outer, {"name": "x", "count": 1.0})


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"name": "x", "cuont": 2}, "recipe.(name) = 'cuont': unknown; did you mean 'count'?"),
        ({"count": 2}, "recipe.name: required, but absent"),
        ({"name": 3}, "recipe.name = 3: expected a text"),
        ({"name": "x", "count": True}, "recipe.count = True: expected an integer"),
        ({"name": "x", "share": True}, "recipe.share = True: expected a number"),
        ({"name": "x", "share": "0.5"}, "recipe.share = '0.5': expected a number"),
        ({"name": "x", "flag": 1}, "recipe.flag = 1: expected true or false"),
        ({"name": "x", "sizes": 3}, "recipe.sizes = 3: expected a list"),
        ({"name": "x", "sizes": [1, "2"]}, "recipe.sizes[1] = '2': expected an integer"),
        ({"name": "x", "inner": {"mode": "tow"}}, "recipe.inner.mode = 'tow': unknown; did you mean 'two'?"),
        (
            {"name": "x", "inner": {"scale": [1.0]}},
            "recipe.inner.scale = [1.0]: expected a list of 2 values or nothing",
        ),
        ({"name": "x", "sizes": 10**400}, "recipe.sizes = 1000"),
        ({"name": "x", "share": 10**400}, "recipe.share = 1000"),
        ({"name": "x", "share": -(10**400)}, "recipe.share = -1000"),
        ({"name": "x", "inner": 3}, "recipe.inner = 3: expected a table of names and values"),
        ({"name": "x", "limit": "big"}, "recipe.limit = 'big': expected a number or nothing"),
        ([1], "recipe = [1]: expected a table of names and values"),
    ],
)
def test_what_does_not_fit_is_named(plain, message):
    with pytest.raises(InputError) as caught:
        from_plain(Outer, plain, "recipe")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "1", None])
def test_require_integer_refuses(value):
    with pytest.raises(InputError) as caught:
        require_integer("batch_size", value, 1)
    assert str(caught.value) == f"batch_size = {value!r}: expected an integer of at least 1"


def test_require_integer_accepts_its_minimum():
    require_integer("batch_size", 1, 1)


@pytest.mark.parametrize("value", [-0.1, 1.5, math.nan, math.inf, 10**400, True, "0.5", None])
def test_require_number_refuses(value):
    with pytest.raises(InputError) as caught:
        require_number("share", value, 0, 1)
    assert str(caught.value) == f"share = {value!r}: expected a number of at least 0 and at most 1"


def test_require_number_knows_open_ends():
    require_number("share", 0, 0, 1)
    require_number("share", 1, 0, 1)
    with pytest.raises(InputError, match="greater than 0 and at most 1"):
        require_number("share", 0, 0, 1, low_open=True)
    with pytest.raises(InputError, match="of at least 0 and less than 1"):
        require_number("share", 1, 0, 1, high_open=True)
    with pytest.raises(InputError, match=r"a number of at least 0$"):
        require_number("share", math.inf, 0)


def test_require_choice_names_the_nearest():
    require_choice("optimizer", "lion", ("lion", "adamw"))
    with pytest.raises(
        InputError, match=r"^optimizer = 'loin': unknown; did you mean 'lion'\? \(allowed: lion, adamw\)"
    ):
        require_choice("optimizer", "loin", ("lion", "adamw"))


def test_require_boolean_refuses_what_is_only_true_in_spirit():
    require_boolean("flag", False)
    for value in (0, 1, "true", None):
        with pytest.raises(InputError) as caught:
            require_boolean("flag", value)
        assert str(caught.value) == f"flag = {value!r}: expected true or false"
