import json
import math

import pytest

from mlptheory.base import InputError
from mlptheory.base.files import canonical_json
from mlptheory.stats import Verdict

FIELDS = {
    "id": "larger-better",
    "claim": "Larger batches are better.",
    "source": "Fig. 4",
    "scope": "digits",
    "direction": "greater",
    "effect": 1.0,
    "low": 0.7,
    "high": 1.3,
    "level": 0.95,
    "n": 5,
    "p": 0.001,
    "verdict": "supported",
    "reason": "Because.",
    "unit": "points",
    "margin": 0.5,
}


@pytest.mark.parametrize("empty", [(), ("effect", "low", "high", "level", "p")])
def test_json_and_back(empty):
    verdict = Verdict(**{**FIELDS, **dict.fromkeys(empty)})
    text = canonical_json(verdict.to_json())
    assert Verdict.from_json(json.loads(text)) == verdict
    assert list(verdict.to_json()) == list(FIELDS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdict": "suported"}, "Verdict.verdict = 'suported': unknown; did you mean 'supported'?"),
        ({"p": math.nan}, "Verdict.p = nan: expected a finite number"),
        ({"high": math.inf}, "Verdict.high = inf"),
        ({"hihg": 1.0}, "Verdict field = 'hihg': unknown; did you mean 'high'?"),
    ],
)
def test_bad_fields_are_named(change, message):
    with pytest.raises(InputError) as caught:
        Verdict.from_json({**FIELDS, **change})
    assert message in str(caught.value)


def test_missing_fields_are_named():
    with pytest.raises(InputError, match="missing: p, margin"):
        Verdict.from_json({name: value for name, value in FIELDS.items() if name not in ("p", "margin")})
