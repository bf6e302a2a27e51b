"""A small payload with every part a report can show."""

import copy

import pytest

VERDICT = {
    "id": "rises",
    "claim": "The score rises with the factor.",
    "source": "Nobody 1999, Fig. 1",
    "scope": "toy data",
    "direction": "greater",
    "effect": 1.254,
    "low": 0.634,
    "high": 1.874,
    "level": 0.95,
    "n": 5,
    "p": 0.0042,
    "verdict": "supported",
    "reason": "The interval [+0.63, +1.87] lies above +0.5 points.",
    "unit": "points",
    "margin": 0.5,
}

PAYLOAD = {
    "schema": 1,
    "design": {
        "probe": "toy",
        "title": "A toy study",
        "question": "Does the score rise?",
        "claims": [{"id": "rises", "estimand": "mean difference over seeds", "test": "95 % paired t interval"}],
        "held_fixed": ["epochs", "learning rate"],
        "digest": "abc123",
        "schedule": {"groups": 2, "precision": "float32"},
        "recipe": {"optimizer": {"name": "sgd", "lr": 0.05}, "betas": [0.9, 0.99], "clip": None},
        "peak_memory_gib": 1.5,
    },
    "table": {
        "columns": [
            {"name": "trial", "description": "name of the run", "unit": ""},
            {"name": "factor", "description": "what varies", "unit": "", "role": "factor"},
            {"name": "score", "description": "what is measured", "unit": "points", "role": "outcome"},
        ],
        "rows": [["a0", 1, 10.0], ["a1", 1, 12.0], ["b0", 2, 13.25], ["b1", 2, None]],
    },
    "history": {"columns": [], "rows": []},
    "verdicts": [VERDICT],
    "effects": {"columns": [{"name": "length", "unit": "epochs"}, {"name": "effect"}], "rows": [[5, 1.1], [20, 1.4]]},
    "diverged": [{"trial": "b1", "step": 7}],
    "environment": {"python": "3.11", "torch": {"version": "2.13", "threads": 1}},
    "timing": {"taken_s": 1.25},
}


@pytest.fixture
def verdict():
    return copy.deepcopy(VERDICT)


@pytest.fixture
def payload():
    return copy.deepcopy(PAYLOAD)
