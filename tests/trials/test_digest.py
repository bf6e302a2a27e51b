"""A digest changes with everything that decides a record, and with nothing else."""

from __future__ import annotations

import ast
import dataclasses
import types
import typing
from pathlib import Path

import pytest

from mlptheory.data import Augmentation, datasets
from mlptheory.training import BudgetConfig, Observer, Recipe
from mlptheory.trials import Digests, Measurement, Schedule, Trial, code_digest, digest_trials, trial_digest
from mlptheory.trials import digest as digest_module
from mlptheory.trials.digest import source_digest

SCHEDULE = Schedule(device="cpu", threads=1, precision="float32", groups=())
DATA = {name: f"digest of {name}" for name in ("digits", "cifar10")}
BASE = Trial(recipe=Recipe(budget=BudgetConfig(amount=1)))

# A value that each field may have besides its default, where the field's type does not offer one.
OTHER_VALUES = {
    "data.name": "cifar10",
    "model.name": "S-6/Wi-1024",
    "augmentation.crop_scale": (0.5, 1.0),
    "augmentation.crop_ratio": (1.0, 1.0),
    "optimizer.betas": (0.5, 0.5),
    "budget.microbatch": 8,
    "label_smoothing": 0.1,
    "model.dropout": 0.5,
    "data.label_noise": 0.5,
    "augmentation.mixup": 0.5,
    "optimizer.momentum": 0.5,
}


def digest(trial: Trial, *, data=DATA, schedule=SCHEDULE, code="code") -> str:
    return trial_digest(trial, data_digests=data, schedule=schedule, code=code)


def leaves(cls: type, prefix: str = "") -> list[str]:
    """Return the dotted names of all fields that hold a value."""
    hints = typing.get_type_hints(cls)
    found = []
    for field in dataclasses.fields(cls):
        name = f"{prefix}{field.name}"
        found += leaves(hints[field.name], f"{name}.") if dataclasses.is_dataclass(hints[field.name]) else [name]
    return found


def other_value(hint: object, default: object) -> object:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        return other_value(options[0], default)
    if typing.get_origin(hint) is typing.Literal:
        return next(value for value in typing.get_args(hint) if value != default)
    return {bool: lambda: not default, int: lambda: (default or 0) + 1, float: lambda: (default or 0.0) + 1.0}[hint]()


def changed(config: object, path: str, full: str) -> object:
    name, _, rest = path.partition(".")
    value = getattr(config, name)
    if rest:
        return dataclasses.replace(config, **{name: changed(value, rest, full)})
    other = OTHER_VALUES.get(full) or other_value(typing.get_type_hints(type(config))[name], value)
    assert other != value
    return dataclasses.replace(config, **{name: other})


def recipe_to_change(path: str) -> Recipe:
    """Return the base's recipe, with something that moves pixels where noise is to stand for it."""
    if path != "augmentation.as_noise":
        return BASE.recipe
    return dataclasses.replace(BASE.recipe, augmentation=Augmentation(flip=True))


RECIPE_FIELDS = [name for name in leaves(Recipe) if name != "start"]


@pytest.mark.parametrize("path", RECIPE_FIELDS)
def test_every_field_of_a_recipe_is_part_of_it(path):
    recipe = recipe_to_change(path)
    other = dataclasses.replace(BASE, recipe=changed(recipe, path, path))
    assert digest(other) != digest(dataclasses.replace(BASE, recipe=recipe))


def test_all_of_these_digests_differ():
    several = [dataclasses.replace(BASE, recipe=changed(recipe_to_change(path), path, path)) for path in RECIPE_FIELDS]
    assert len({digest(trial) for trial in [BASE, *several]}) == 1 + len(RECIPE_FIELDS)


def test_labels_change_nothing():
    labelled = dataclasses.replace(BASE, labels=(("arm", "large"), ("block", 3)))
    assert digest(labelled) == digest(BASE)


def test_labels_of_parents_change_nothing():
    plain, labelled = (Trial(recipe=Recipe(seed=1), labels=labels) for labels in ((), (("arm", 1),)))
    measure = (Measurement(name="weight_distance"),)
    assert digest(Trial(parents=(plain, BASE), measures=measure)) == digest(
        Trial(parents=(labelled, BASE), measures=measure)
    )


VARIANTS = {
    "measure": {"measures": (Measurement(name="weight_norm"),)},
    "another measure": {"measures": (Measurement(name="weight_distance"),)},
    "measure's parameters": {"measures": (Measurement(name="weight_norm", parameters=(("a", 1),)),)},
    "observer": {"observers": (Observer(name="weights"),)},
    "another observer": {"observers": (Observer(name="evaluation"),)},
    "observer's times": {"observers": (Observer(name="weights", every="end"),)},
    "observer's parameters": {"observers": (Observer(name="weights", parameters=(("a", 1),)),)},
    "parent": {"parents": (Trial(recipe=Recipe(seed=1)),)},
    "another parent": {"parents": (Trial(recipe=Recipe(seed=2)),)},
    "start": {"parents": (Trial(recipe=Recipe(seed=2)),), "recipe": dataclasses.replace(BASE.recipe, start="parent")},
    "two parents": {"parents": (Trial(recipe=Recipe(seed=1)), Trial(recipe=Recipe(seed=2)))},
    "their order": {"parents": (Trial(recipe=Recipe(seed=2)), Trial(recipe=Recipe(seed=1)))},
    "no recipe": {"recipe": None, "parents": (BASE,), "measures": (Measurement(name="weight_norm"),)},
}


def test_measures_observers_and_parents_are_part_of_it():
    found = {name: digest(dataclasses.replace(BASE, **change)) for name, change in VARIANTS.items()}
    assert len({digest(BASE), *found.values()}) == 1 + len(VARIANTS)


@pytest.mark.parametrize("change", [{"threads": 2}, {"precision": "bfloat16"}, {"device": "cuda"}])
def test_how_it_is_executed_is_part_of_it(change):
    assert digest(BASE, schedule=dataclasses.replace(SCHEDULE, **change)) != digest(BASE)


def test_grouping_of_lone_trials_is_no_part_of_it():
    assert digest(BASE, schedule=dataclasses.replace(SCHEDULE, groups=((0,), (1,)))) == digest(BASE)


MEMBERS = [Trial(recipe=dataclasses.replace(BASE.recipe, seed=seed)) for seed in range(4)]


def digests(trials: list[Trial], *groups: tuple[int, ...]) -> Digests:
    schedule = dataclasses.replace(SCHEDULE, groups=groups)
    return digest_trials(trials, data_digests=DATA, schedule=schedule, code="code")


def test_a_trial_by_itself_is_named_as_if_there_were_no_others():
    found = digests(MEMBERS, (0,), (1,), (2, 3))
    assert [found[member] == digest(member) for member in MEMBERS] == [True, True, False, False]
    assert found.groups == (tuple(MEMBERS[2:]),)


def test_who_is_trained_together_and_in_which_order_is_part_of_it():
    one, two, three, four = MEMBERS
    variants = [
        digests([one, two], (0,), (1,)),
        digests([one, two], (0, 1)),
        digests([two, one], (0, 1)),
        digests([one, three], (0, 1)),
        digests([one, two, three], (0, 1, 2)),
    ]
    assert len({found[one] for found in variants}) == len(variants)
    assert digests([one, two, three, four], (0, 1), (2, 3))[one] == variants[1][one]


def test_a_stage_that_comes_later_changes_nothing_of_the_first():
    found, later = digests(MEMBERS[:2], (0, 1), (2, 3)), digests(MEMBERS, (0, 1), (2, 3))
    assert [found[member] for member in MEMBERS[:2]] == [later[member] for member in MEMBERS[:2]]
    assert found.groups == later.groups[:1] and len(found) == 2


def test_a_trial_that_comes_again_is_the_first_one():
    again = dataclasses.replace(MEMBERS[0], labels=(("stage", 2),))
    found = digests([*MEMBERS[:2], again, MEMBERS[2]], (0, 1), (2, 3))
    assert found[again] == found[MEMBERS[0]]
    assert found[MEMBERS[2]] == digest(MEMBERS[2]), "nobody is left in its group"
    assert len(set(found.values())) == len(found) == 3


def test_a_child_goes_by_the_group_of_its_parent():
    measure = (Measurement(name="weight_distance"),)
    pair = Trial(parents=tuple(dataclasses.replace(each, labels=(("a", 1),)) for each in MEMBERS[:2]), measures=measure)
    apart, together = digests([*MEMBERS, pair], (0,), (1,)), digests([*MEMBERS, pair], (0, 1))
    assert apart[pair] == digest(pair) != together[pair]
    assert together[pair.parents[0]] == together[MEMBERS[0]]


def test_the_data_are_part_of_it_but_not_data_it_does_not_use():
    assert digest(BASE, data={**DATA, "digits": "others"}) != digest(BASE)
    assert digest(BASE, data={**DATA, "cifar10": "others"}) == digest(BASE)


def test_data_that_only_a_parent_uses_are_part_of_it():
    parent = Trial(recipe=changed(Recipe(), "data.name", "data.name"))
    child = dataclasses.replace(BASE, parents=(parent,))
    assert digest(child, data={**DATA, "cifar10": "others"}) != digest(child)


def test_torchs_version_and_the_code_are_part_of_it(monkeypatch):
    before = digest(BASE)
    assert digest(BASE, code="other code") != before
    monkeypatch.setattr(digest_module, "version", lambda package: "0.0.0")
    assert digest(BASE) != before


def test_the_code_that_counts_by_default_is_that_which_trains_and_measures():
    by_default = trial_digest(BASE, data_digests=DATA, schedule=SCHEDULE)
    assert by_default == digest(BASE, code=code_digest())
    assert set(digest_module.ROOMS) >= {"data", "models", "training", "measures"}


def test_code_in_c_counts_too(monkeypatch):
    before = digest_module._own_code_digest.__wrapped__()
    assert before == digest_module._own_code_digest.__wrapped__()
    monkeypatch.setitem(digest_module._DIGESTS, ".c", lambda text: "other code")
    assert digest_module._own_code_digest.__wrapped__() != before


def _works_with_a_registry(tree: ast.Module) -> bool:
    """Whether a module makes the registry of measures, or imports it, or that of observers, as it is imported."""
    registries = {"measures", "observers"}
    taken = {name.name for node in tree.body if isinstance(node, ast.ImportFrom) for name in node.names}
    made = {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)}
    return bool(registries & (taken | made))


def test_every_file_of_this_room_that_measures_is_part_of_the_code():
    room = Path(digest_module.__file__).parent
    found = {file.name for file in room.glob("*.py") if _works_with_a_registry(ast.parse(file.read_text()))}
    assert found == set(digest_module.OF_TRIALS) - {"looks.py", "record.py"}


SOURCE = '''
"""A module."""
import math

def area(r):
    """Return it."""
    # of a circle
    return math.pi * r**2

class Shape:
    """A shape."""
    side: int = 2
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""', '"""Other words."""'),
        ('"""A module."""\n', ""),
        ('    """Return it."""\n', ""),
        ('    """A shape."""\n', ""),
        ("# of a circle", "# of a disk"),
        ("math.pi * r**2", "(math.pi\n            * r ** 2)"),
        ("\n\nclass", "\n\n\n\n\nclass"),
    ],
)
def test_docstrings_comments_and_layout_are_no_part_of_the_code(old, new):
    assert old in SOURCE
    assert source_digest(SOURCE.replace(old, new)) == source_digest(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"), [("r**2", "r**3"), ("side: int = 2", "side: int = 3"), ("def area(r)", "def area(r=1)")]
)
def test_what_is_computed_is_part_of_the_code(old, new):
    assert old in SOURCE
    assert source_digest(SOURCE.replace(old, new)) != source_digest(SOURCE)


def test_a_text_that_is_not_a_docstring_is_part_of_the_code():
    assert source_digest('x = "a"') != source_digest('x = "b"')


def test_users_registered_code_is_part_of_it(tmp_path):
    from mlptheory.base.plugins import load_plugins

    before, found = code_digest(), []
    try:
        for index, size in enumerate((8, 9)):
            plugin = tmp_path / f"digest_plugin_{index}.py"
            plugin.write_text(
                "from mlptheory.data import datasets\n"
                "@datasets.register('digest-own', replace=True)\n"
                f"def load(split, root):\n    return {size}\n"
            )
            load_plugins([str(plugin)])
            found.append(code_digest())
    finally:
        datasets._entries.pop("digest-own", None)
    assert len({before, *found}) == 3
    assert code_digest() == before
