"""Files of reproductions, small enough to run."""

import pytest

SCRATCH = """
[recipe]
seed = 3

[recipe.data]
name = "digits"
n = 100

[recipe.model]
name = "B-1/Wi-16"

[recipe.budget]
amount = 2
batch_size = 20

[paper]
source = "A table"
bibtex_key = "Bachmann2023"
test_accuracy_percent = 50
test_accuracy_spread = 0.5
"""

TRANSFER = """
[pretraining.data]
name = "digits-0-4"
n = 100

[pretraining.model]
name = "B-1/Wi-16"

[pretraining.budget]
amount = 1
batch_size = 20

[downstream]
datasets = ["digits-5-9", "digits"]

[downstream.budget]
amount = 1
batch_size = 50

[tta]
views = 2

[grid]
"pretraining.budget.amount" = [1, 2]
"downstream.optimizer.lr" = [1e-4, 1e-3]

[paper]
source = "Another table"
bibtex_key = "Bachmann2023"

[paper.test_accuracy_percent]
digits = 40.5

[paper.real_accuracy_percent]
digits-5-9 = 60
"""


@pytest.fixture
def scratch():
    """A file of one run from scratch."""
    return SCRATCH


@pytest.fixture
def transfer():
    """A file of two stages, two datasets and a grid of four cells."""
    return TRANSFER


@pytest.fixture
def file_of(tmp_path):
    """Return a function that writes a file among experiments, with words replaced, and returns its path."""

    def write(text, **replaced):
        folder = tmp_path / "experiments" / "table1"
        folder.mkdir(parents=True, exist_ok=True)
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        (folder / "row.toml").write_text(text)
        return folder / "row.toml"

    return write
