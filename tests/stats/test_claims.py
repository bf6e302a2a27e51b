import dataclasses
import math
import subprocess
import sys

import pytest

from mlptheory.base import InputError
from mlptheory.base.files import canonical_json
from mlptheory.stats import Claim

FIELDS = {
    "id": "larger-better",
    "statement": "Larger batches are better.",
    "source": "Bachmann et al. 2023, Fig. 4",
    "estimand": "change in test accuracy over seeds",
    "direction": "greater",
    "margin": 0.5,
    "unit": "points",
    "test": "95 % t interval",
    "held_fixed": ("epochs", "learning rate"),
    "scope": "digits",
}


def test_claim_is_frozen_and_plain():
    claim = Claim(**FIELDS)
    assert '"margin":0.5' in canonical_json(dataclasses.asdict(claim))
    with pytest.raises(dataclasses.FrozenInstanceError):
        claim.margin = 1.0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("statement", " ", "Claim.statement = ' ': expected a text that is not empty"),
        ("scope", 3, "Claim.scope = 3"),
        ("direction", "greatr", "Claim.direction = 'greatr': unknown; did you mean 'greater'?"),
        ("margin", -0.1, "Claim.margin = -0.1: expected a finite number of at least 0"),
        ("margin", math.nan, "Claim.margin = nan"),
        ("margin", "0.5", "Claim.margin = '0.5'"),
        ("held_fixed", "epochs", "Claim.held_fixed = 'epochs': expected a tuple of texts"),
        ("held_fixed", (1,), "Claim.held_fixed = (1,)"),
    ],
)
def test_bad_fields_are_named(field, value, message):
    with pytest.raises(InputError) as caught:
        Claim(**{**FIELDS, field: value})
    assert message in str(caught.value)


def test_equivalence_needs_a_margin():
    with pytest.raises(InputError, match="above 0 for an equivalence"):
        Claim(**{**FIELDS, "direction": "equivalent", "margin": 0})


def test_writing_down_a_claim_loads_no_numerics():
    code = (
        "import sys; from mlptheory.stats import Claim, Verdict;"
        "print(sorted({'numpy', 'scipy', 'torch', 'pandas'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
