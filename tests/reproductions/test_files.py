"""A file says all that is run, and what does not belong in it is refused by name."""

import re

import pytest

from mlptheory.base.errors import InputError
from mlptheory.reproductions import PaperNumber, read_reproduction

SCRATCH_PAPER = (PaperNumber(dataset="digits", quantity="test", percent=50.0, spread=0.5),)


def test_a_run_from_scratch(file_of, scratch):
    found = read_reproduction(file_of(scratch))
    assert (found.name, found.source, found.bibtex_key) == ("table1/row", "A table", "Bachmann2023")
    assert found.datasets == ("digits",) and found.downstream is None and found.numbers == SCRATCH_PAPER
    assert (found.recipe.seed, found.recipe.data.n, found.recipe.budget.batch_size) == (3, 100, 20)
    assert found.grid == () and found.tta is None and found.picture_units is None


def test_pretraining_and_what_follows(file_of, transfer):
    found = read_reproduction(file_of(transfer))
    assert found.recipe.data.name == "digits-0-4" and found.downstream.start == "body"
    assert found.datasets == ("digits-5-9", "digits") and found.tta.views == 2
    assert found.grid == (("pretraining.budget.amount", (1, 2)), ("downstream.optimizer.lr", (1e-4, 1e-3)))
    assert found.numbers == (
        PaperNumber(dataset="digits", quantity="test", percent=40.5),
        PaperNumber(dataset="digits-5-9", quantity="real", percent=60.0),
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[recipe]", "[recipes]\n[recipe]", "table = 'recipes': unknown; did you mean 'recipe'?"),
        ("[recipe]", "paper = 3\n[recipe]", "expected TOML"),
        ("[recipe]", "grid = 3\n[recipe]", "grid = 3: expected a table of names and values"),
        ("[recipe]", "[downstream]\n[recipe]", r"expected a [recipe] table, or [pretraining] and [downstream]"),
        ("[recipe]", "[pretraining]\n[downstream]\n[recipe]", r"expected a [recipe] table"),
        ("amount = 2", "amounts = 2", "did you mean 'amount'?"),
        ('source = "A table"', "", "paper.source = None: expected a text"),
        ("_percent = 50", "_percent = true", "paper.test_accuracy_percent, digits = True: expected a number"),
        ("_percent = 50", "_per_cent = 50", "paper = 'test_accuracy_per_cent': unknown; did you mean 'test_accuracy_"),
        ("_percent = 50", "_percent = nan", "paper.test_accuracy_percent, digits = nan: expected a number"),
        ("_percent = 50", "_percent = 501", "paper.test_accuracy_percent, digits = 501: expected a number"),
        ("_spread = 0.5", "_spread = -0.5", "paper.test_accuracy_spread, digits = -0.5: expected a number"),
        ("_spread = 0.5", "_spread = {digit = 1}", "paper.test_accuracy_spread, dataset = 'digit': unknown; did you"),
        ("test_accuracy_percent = 50", "", "paper.test_accuracy_spread, dataset = 'digits': unknown"),
        (
            "_percent = 50",
            "_percent = {digit = 50, digits = 50}",
            "paper, dataset = 'digit': unknown; did you mean 'digits'?",
        ),
        ("[paper]", "[picture]\nunit = 3\n[paper]", "picture = 'unit': unknown; did you mean 'units'?"),
        ("[paper]", "[picture]\nunits = 0\n[paper]", "picture.units = 0: expected an integer of at least 1"),
        ("[paper]", "[tta]\nview = 3\n[paper]", "did you mean 'views'?"),
        ("[paper]", '[grid]\n"recipe.seeds" = 1\n[paper]', "grid.recipe.seeds = 1: expected a list of values"),
        ("[paper]", '[grid]\n"recipe.seeds" = [1]\n[paper]', "grid, 'recipe.seeds' = 'seeds': unknown; did you"),
        ("[paper]", '[grid]\n"recipe.budgets.amount" = [1]\n[paper]', "did you mean 'budget'?"),
        ("[paper]", '[grid]\n"recipe.budget.amount" = [0]\n[paper]', "budget.amount = 0: expected an integer"),
        ("[paper]", '[grid]\n"recipe.budget.amount" = [1, 1]\n[paper]', "amount = (1, 1): expected at least one value"),
        ("[paper]", '[grid]\n"recipe.model" = [{name = "Linear"}]\n[paper]', "grid.recipe.model = {'name': 'Linear'}"),
        ("[paper]", '[grid]\n"recipe.data.n" = [[[1]]]\n[paper]', "grid.recipe.data.n = ([1],): expected a number"),
        ("[paper]", '[grid]\n"recipe.seed" = [1, 2]\n[paper]', "grid, 'recipe.seed': expected another field"),
        ("[paper]", '[grid]\n"recipe.data.name" = ["digits"]\n[paper]', "grid, 'recipe.data.name': expected another"),
        ("[paper]", '[grid]\n"pretraining.seed" = [1]\n[paper]', "stage = 'pretraining': unknown"),
        ("seed = 3", 'start = "parent"', "start = 'parent': expected 'initialization' for what is trained first"),
    ],
)
def test_what_does_not_belong_is_refused(file_of, scratch, old, new, message):
    with pytest.raises(InputError, match=re.escape(message)):
        read_reproduction(file_of(scratch, **{old: new}))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('["digits-5-9", "digits"]', "[]", "downstream.datasets = []: expected a list of names of datasets"),
        ('["digits-5-9", "digits"]', '["digits", "digits"]', "expected at least one, each once"),
        ("[downstream.budget]", "[downstream.model]\n[downstream.budget]", "the model is what was pretrained"),
        ("[downstream.budget]", '[downstream.data]\nname = "x"\n[downstream.budget]', "downstream.data.name"),
        ("[downstream]", '[downstream]\nstart = "initialization"', "downstream.start = 'initialization'"),
        ("[tta]", "[picture]\nunits = 2\n[tta]", "picture: expected a file with [recipe]"),
        ('"downstream.opt', '"recipe.opt', "stage = 'recipe': unknown"),
        ("[downstream]", "[downstream]\nseed = 1", "downstream.seed: expected none"),
        ("[grid]", '[grid]\n"downstream.seed" = [1]', "grid, 'downstream.seed': expected another field"),
        ("[grid]", '[grid]\n"downstream.model.name" = ["Linear"]', "as the model is what was pretrained"),
        ("[grid]", '[grid]\n"downstream.data.name" = ["digits"]', "as datasets are a file's own"),
    ],
)
def test_what_does_not_belong_to_a_transfer_is_refused(file_of, transfer, old, new, message):
    with pytest.raises(InputError, match=re.escape(message)):
        read_reproduction(file_of(transfer, **{old: new}))


def test_values_of_a_grid_may_be_lists(file_of, scratch):
    grid = '[grid]\n"recipe.augmentation.crop_scale" = [[0.4, 1.0], [0.08, 1.0]]\n[paper]'
    trials = read_reproduction(file_of(scratch, **{"[paper]": grid})).trials()
    assert [trial.recipe.augmentation.crop_scale for trial in trials] == [(0.4, 1.0), (0.08, 1.0)]
    assert len(set(trials)) == 2


def test_a_file_that_is_not_there_or_no_text(tmp_path):
    with pytest.raises(InputError, match="expected a TOML file that exists"):
        read_reproduction(tmp_path / "none.toml")
    (tmp_path / "picture.toml").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(InputError, match="expected TOML"):
        read_reproduction(tmp_path / "picture.toml")
