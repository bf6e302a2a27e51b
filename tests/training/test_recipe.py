import dataclasses
import json
import subprocess
import sys

import pytest

from mlptheory.base import InputError
from mlptheory.data import Augmentation
from mlptheory.models import ModelConfig
from mlptheory.training import BudgetConfig, DataConfig, OptimizerConfig, Recipe, ScheduleConfig, read_recipe

FULL = Recipe(
    data=DataConfig(
        name="tiny",
        n=30,
        image_size=5,
        validation=7,
        split_seed=3,
        label_noise=0.25,
        pixel_permutation=11,
        permute="before",
    ),
    model=ModelConfig(name="S-2/Wi-9", norm="none", activation="gelu", dropout=0.5, skip=True, output_scale=2.0),
    augmentation=Augmentation(crop_scale=(0.4, 1.0), crop_ratio=(1.0, 2.0), flip=True, shift=1, mixup=0.8),
    optimizer=OptimizerConfig(name="adamw", lr=1e-3, betas=(0.8, 0.95), weight_decay=0.1, clip_norm=1.0, head_lr=0.1),
    budget=BudgetConfig(amount=3, unit="steps", batch_size=8, microbatch=3, drop_last=True),
    schedule=ScheduleConfig(name="cosine", warmup=2),
    loss="squared_error",
    label_smoothing=0.1,
    precision="float64",
    start="parent",
    seed=5,
)


# On fixed features there is no augmentation.
HEAD = Recipe(start="body", trained="head")


def _toml(table, path=("recipe",)):
    """Write plain data as TOML, whose absent names stand for None."""
    scalars = {name: value for name, value in table.items() if not isinstance(value, dict) and value is not None}
    lines = [f"[{'.'.join(path)}]", *(f"{name} = {json.dumps(value)}" for name, value in scalars.items())]
    for name, value in table.items():
        if isinstance(value, dict):
            lines += _toml(value, (*path, name))
    return lines


def test_the_full_recipe_has_no_default_left():
    for field in dataclasses.fields(Recipe):
        other = HEAD if field.name == "trained" else FULL
        assert getattr(other, field.name) != getattr(Recipe(), field.name), field.name


@pytest.mark.parametrize("recipe", [Recipe(), FULL, HEAD], ids=["default", "full", "head"])
def test_recipe_survives_plain_data_json_and_toml(recipe, tmp_path):
    assert Recipe.from_plain(recipe.to_plain()) == recipe
    assert Recipe.from_plain(json.loads(json.dumps(recipe.to_plain()))) == recipe
    file = tmp_path / "recipe.toml"
    file.write_text("\n".join(_toml(recipe.to_plain())))
    assert read_recipe(file) == (recipe, {})
    assert read_recipe(str(file)) == (recipe, {})
    assert hash(Recipe.from_plain(recipe.to_plain())) == hash(recipe)


def test_the_paper_table_comes_along(tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text('[recipe]\nseed = 3\n[paper]\nwhere = "Table 1"\nexpected = 0.5\n')
    assert read_recipe(file) == (Recipe(seed=3), {"where": "Table 1", "expected": 0.5})


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: OptimizerConfig(lr=-1e-3), ("optimizer.lr = -0.001", "greater than 0")),
        (lambda: OptimizerConfig(lr=0), ("optimizer.lr = 0", "greater than 0")),
        (lambda: OptimizerConfig(lr=float("nan")), ("optimizer.lr = nan", "greater than 0")),
        (lambda: OptimizerConfig(lr=float("inf")), ("optimizer.lr = inf", "greater than 0")),
        (lambda: OptimizerConfig(lr="1e-3"), ("optimizer.lr = '1e-3'", "greater than 0")),
        (lambda: OptimizerConfig(lr=10**400), ("optimizer.lr = 1000", "greater than 0")),
        (lambda: OptimizerConfig(name="loin"), ("optimizer.name = 'loin'", "did you mean 'lion'", "adamw, sgd")),
        (lambda: OptimizerConfig(name=3), ("optimizer.name = 3", "lion, adamw, sgd")),
        (lambda: OptimizerConfig(betas=(0.9, 1.0)), ("optimizer.betas = 1.0", "less than 1")),
        (lambda: OptimizerConfig(betas=(0.9,)), ("optimizer.betas = (0.9,)", "two numbers")),
        (lambda: OptimizerConfig(betas=(0.9, 0.99, 0.999)), ("optimizer.betas", "two numbers")),
        (lambda: OptimizerConfig(betas=0.9), ("optimizer.betas = 0.9", "two numbers")),
        (lambda: OptimizerConfig(momentum=1.0), ("optimizer.momentum = 1.0", "less than 1")),
        (lambda: OptimizerConfig(weight_decay=-0.1), ("optimizer.weight_decay = -0.1", "at least 0")),
        (lambda: OptimizerConfig(clip_norm=0), ("optimizer.clip_norm = 0", "greater than 0")),
        (lambda: BudgetConfig(batch_size=0), ("budget.batch_size = 0", "integer of at least 1")),
        (lambda: BudgetConfig(batch_size=-1), ("budget.batch_size = -1", "integer of at least 1")),
        (lambda: BudgetConfig(batch_size=64.0), ("budget.batch_size = 64.0", "integer of at least 1")),
        (lambda: BudgetConfig(batch_size=True), ("budget.batch_size = True", "integer of at least 1")),
        (lambda: BudgetConfig(microbatch=0), ("budget.microbatch = 0", "integer of at least 1")),
        (lambda: BudgetConfig(amount=0), ("budget.amount = 0", "integer of at least 1")),
        (lambda: BudgetConfig(unit="epoch"), ("budget.unit = 'epoch'", "did you mean 'epochs'")),
        (lambda: BudgetConfig(drop_last="no"), ("budget.drop_last = 'no'", "true or false")),
        (lambda: ScheduleConfig(name="cosin"), ("schedule.name = 'cosin'", "did you mean 'cosine'")),
        (lambda: ScheduleConfig(warmup=-1), ("schedule.warmup = -1", "integer of at least 0")),
        (lambda: DataConfig(name=3), ("data.name = 3", "a name")),
        (lambda: DataConfig(n=0), ("data.n = 0", "integer of at least 1")),
        (lambda: DataConfig(image_size=0), ("data.image_size = 0", "integer of at least 1")),
        (lambda: DataConfig(validation=-1), ("data.validation = -1", "integer of at least 0")),
        (lambda: DataConfig(split_seed="a"), ("data.split_seed = 'a'", "integer of at least 0")),
        (lambda: DataConfig(label_noise=1.5), ("data.label_noise = 1.5", "at most 1")),
        (lambda: DataConfig(pixel_permutation=1.5), ("data.pixel_permutation = 1.5", "integer of at least 0")),
        (lambda: DataConfig(permute="befor"), ("data.permute = 'befor'", "did you mean 'before'")),
        (lambda: Recipe(loss="mse"), ("loss = 'mse'", "allowed: cross_entropy, squared_error")),
        (lambda: Recipe(label_smoothing=-0.1), ("label_smoothing = -0.1", "at least 0 and at most 1")),
        (lambda: Recipe(label_smoothing=1.1), ("label_smoothing = 1.1", "at least 0 and at most 1")),
        (lambda: Recipe(precision="bf16"), ("precision = 'bf16'", "auto, float32, bfloat16, float64")),
        (lambda: Recipe(start="parents"), ("start = 'parents'", "did you mean 'parent'")),
        (lambda: Recipe(seed=-1), ("seed = -1", "integer of at least 0")),
        (lambda: Recipe(model="B-3/Wi-256"), ("model = 'B-3/Wi-256'", "a ModelConfig")),
        (lambda: Recipe(data={"name": "digits"}), ("data = {'name': 'digits'}", "a DataConfig")),
    ],
)
def test_a_bad_value_is_refused_with_what_was_allowed(make, parts):
    with pytest.raises(InputError) as caught:
        make()
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[recipe]\nsede = 3\n", ("recipe.(name) = 'sede'", "did you mean 'seed'")),
        ("[recipe.optimizer]\nleraning = 1\n", ("'leraning'", "lr, betas, momentum")),
        ("[recipe.optimiser]\nlr = 1\n", ("'optimiser'", "did you mean 'optimizer'")),
        ("[recipe.optimizer]\nname = 'lino'\n", ("recipe.optimizer.name = 'lino'", "did you mean 'lion'")),
        ("[recipe.optimizer]\nlr = -1.0\n", ("optimizer.lr = -1.0", "greater than 0")),
        ("[recipe.optimizer]\nlr = 'fast'\n", ("recipe.optimizer.lr = 'fast'", "a number")),
        (f"[recipe.optimizer]\nlr = 1{'0' * 400}\n", ("recipe.optimizer.lr = 1000", "a number")),
        ("[recipe.optimizer]\nbetas = [0.9]\n", ("recipe.optimizer.betas = [0.9]", "a list of 2 values")),
        ("[recipe.budget]\nbatch_size = 0\n", ("budget.batch_size = 0", "integer of at least 1")),
        ("[recipe.budget]\nbatch_size = '64'\n", ("recipe.budget.batch_size = '64'", "an integer")),
        ("[recipe.budget]\ndrop_last = 1\n", ("recipe.budget.drop_last = 1", "true or false")),
        ("[recipe]\nseed = 2024-01-01\n", ("recipe.seed = datetime.date(2024, 1, 1)", "an integer")),
        ("[recipe]\ndata = 'digits'\n", ("recipe.data = 'digits'", "a table of names and values")),
        ("[recipe.model]\nname = 'Q-3/Wi-256'\n", ("Q-3/Wi-256", "B-{depth}/Wi-{width}")),
        ("[recipe.model]\nnorm = 'batch'\n[recipe.budget]\nmicrobatch = 8\n", ("budget.microbatch = 8", "batch norm")),
        ("recipe = 3\n", ("recipe = 3", "a table of names and values")),
        ("[recipes]\nseed = 3\n", ("'recipes'", "did you mean 'recipe'")),
        ("", ("expected a [recipe] table",)),
        ("seed: 3\n", ("recipe.toml", "expected TOML")),
        ("[recipe]\nseed = 3\nseed = 4\n", ("recipe.toml", "expected TOML")),
    ],
)
def test_a_bad_file_is_refused(text, parts, tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        read_recipe(file)
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"missing\.toml'?: expected a TOML file that exists"):
        read_recipe(tmp_path / "missing.toml")
    with pytest.raises(InputError, match="expected TOML"):
        read_recipe(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="expected TOML"):
        read_recipe(tmp_path / "binary.toml")


def test_microbatches_under_batch_normalization_are_refused_unless_they_are_whole_batches():
    model = ModelConfig(norm="batch")
    with pytest.raises(InputError, match=r"budget\.microbatch = 32: expected nothing"):
        Recipe(model=model, budget=BudgetConfig(batch_size=64, microbatch=32))
    Recipe(model=model, budget=BudgetConfig(batch_size=64, microbatch=64))
    Recipe(model=model, budget=BudgetConfig(batch_size=64))


def test_a_recipe_needs_no_torch():
    code = "import sys; from mlptheory.training import Recipe; Recipe(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_misspelled_table_is_named(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[recipe]\nseed = 1\n[papr]\nx = 1\n")
    with pytest.raises(InputError, match=r"'papr': unknown; did you mean 'paper'\?"):
        read_recipe(path)
