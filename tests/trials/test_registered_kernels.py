"""The registered measures of tangent kernels against twins by explicit Jacobians, loops and numpy."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.func import functional_call, jacrev

from mlptheory.base.errors import InputError
from mlptheory.data import Loader
from mlptheory.models import ModelConfig
from mlptheory.training import BudgetConfig, DataConfig, Observer, OptimizerConfig, Recipe, prepare_examples, train
from mlptheory.training.setting import Setting
from mlptheory.trials.measuring import MeasureContext, training_examples
from mlptheory.trials.registered import measures
from mlptheory.trials.registered_kernel_regression import _learning_curve
from mlptheory.trials.registered_kernels import _alignment, _permuted_alignment

RECIPE = Recipe(
    data=DataConfig(name="digits", n=64),
    model=ModelConfig(name="B-1/Wi-6/E-2"),
    optimizer=OptimizerConfig(name="lion", lr=3e-3),
    budget=BudgetConfig(amount=3, batch_size=16),
    precision="float64",
    seed=3,
)


def context_of(recipe: Recipe, *, observers=()):
    trained = train(recipe, observers, device="cpu")
    examples = prepare_examples(recipe.data, recipe.seed)
    context = MeasureContext(model=trained.model, parents=[], parent_predictions=[], examples=examples, recipe=recipe)
    before = Setting(recipe, examples, "cpu", "float64").initial_model().eval()
    return context, before, trained


@pytest.fixture(scope="module")
def trained():
    return context_of(RECIPE, observers=(Observer(name="kernel", parameters=(("examples", 12),)),))


def jacobian(model, x):
    """Return the Jacobian (N, C, P) by reverse mode over all parameters, example by example."""
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    rows = []
    for one in x:
        parts = jacrev(lambda p, one=one: functional_call(model, p, (one[None],))[0])(parameters)
        rows.append(torch.cat([part.reshape(part.shape[0], -1) for part in parts.values()], dim=1))
    return torch.stack(rows)


def kernel(model, x, y=None):
    a = jacobian(model, x)
    b = a if y is None else jacobian(model, y)
    return torch.einsum("icp,jcp->ij", a, b).numpy()


def distance(a, b):
    return 1 - (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())


def centered_alignment(k, labels):
    n = len(k)
    center = np.eye(n) - np.ones((n, n)) / n
    same = (labels[:, None] == labels[None]).astype(float)
    a, b = center @ k @ center, center @ same @ center
    return (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())


def test_the_tangent_kernel_before_and_after(trained):
    context, before, _ = trained
    found = measures["tangent_kernel"](context, examples=12, permutations=3)
    batch = training_examples(context.model, context.examples, RECIPE, 12)
    first, last = (kernel(model, batch.inputs) for model in (before, context.model))
    assert found["kernel_change"] == pytest.approx(np.linalg.norm(last - first) / np.linalg.norm(first), rel=1e-8)
    assert found["kernel_distance"] == pytest.approx(distance(first, last), rel=1e-6)
    labels = batch.targets.numpy()
    assert found["label_alignment"] == pytest.approx(centered_alignment(last, labels), rel=1e-8)
    assert found["label_alignment_initial"] == pytest.approx(centered_alignment(first, labels), rel=1e-8)
    shares = np.linalg.eigvalsh(first).clip(min=1e-300)
    shares = shares / shares.sum()
    assert found["kernel_rank_initial"] == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-6)
    moved = sum(
        (b - a).square().sum().item() for a, b in zip(before.parameters(), context.model.parameters(), strict=True)
    )
    size = sum(a.square().sum().item() for a in before.parameters())
    assert found["relative_weight_change"] == pytest.approx(math.sqrt(moved / size), rel=1e-9)


@pytest.mark.parametrize(("value", "label"), [(0.0, 1), (1.0, 0)], ids=["a dead net", "one label"])
def test_an_alignment_without_a_direction_is_missing(value, label):
    kernel, labels = torch.ones(4, 4).double() + value * torch.eye(4), torch.tensor([0, 0, 0, label])
    assert math.isnan(_alignment(kernel, labels)) and math.isnan(_permuted_alignment(kernel, labels, 0, 2))
    assert _alignment(torch.eye(4).double(), torch.tensor([0, 0, 0, 1])) > 0


def test_permuted_labels_lose_what_labels_have():
    recipe = replace(RECIPE, data=DataConfig(name="digits", n=300))
    found = measures["tangent_kernel"](context_of(recipe)[0], examples=150, permutations=20)
    assert 0 < found["permuted_alignment"] < found["label_alignment"] / 2


@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
def test_a_wide_net_is_near_its_limit_and_a_narrow_one_is_not(parametrization):
    found = {}
    for width in (8, 512):
        model = ModelConfig(name=f"S-1/Wi-{width}", parametrization=parametrization, output_scale=2.0)
        recipe = replace(RECIPE, model=model, budget=BudgetConfig(amount=1, unit="steps", batch_size=16))
        found[width] = measures["tangent_kernel"](context_of(recipe)[0], examples=6)["kernel_deviation"]
    assert found[512] < 0.4 < 0.8 < found[8]


def test_the_deviation_counts_pairs_of_outputs():
    from mlptheory.measures import infinite_kernels

    model = ModelConfig(name="S-1/Wi-8", parametrization="ntk")
    context, before, _ = context_of(replace(RECIPE, model=model))
    batch = training_examples(context.model, context.examples, RECIPE, 5)
    j = jacobian(before, batch.inputs)
    limit = infinite_kernels("S-1/Wi-8", batch.inputs).ntk
    squares = scale = 0.0
    for a in range(5):
        for b in range(5):
            block = (j[a] @ j[b].T).numpy()
            squares += ((block - limit[a, b].item() * np.eye(10)) ** 2).sum()
            scale += 10 * limit[a, b].item() ** 2
    found = measures["tangent_kernel"](context, examples=5)["kernel_deviation"]
    assert found == pytest.approx(math.sqrt(squares / scale), rel=1e-7)


def test_mup_has_no_limit():
    recipe = replace(RECIPE, model=replace(RECIPE.model, parametrization="mup"))
    assert math.isnan(measures["tangent_kernel"](context_of(recipe)[0], examples=5)["kernel_deviation"])


def test_the_observer_looks_along_training(trained):
    context, before, run = trained
    kernels = [kernel(before, training_examples(before, context.examples, RECIPE, 12).inputs)]
    for epochs in (1, 2, 3):
        part, _, _ = context_of(replace(RECIPE, budget=replace(RECIPE.budget, amount=epochs)))
        kernels.append(kernel(part.model, training_examples(before, context.examples, RECIPE, 12).inputs))
    seen = {(epoch, name): value for _, epoch, name, value in run.history}
    for epoch in (1, 2, 3):
        assert seen[epoch, "kernel_distance"] == pytest.approx(distance(kernels[0], kernels[epoch]), rel=1e-6)
        velocity = distance(kernels[epoch - 1], kernels[epoch])
        assert seen[epoch, "kernel_velocity"] == pytest.approx(velocity, rel=1e-6)
    assert seen[1, "kernel_velocity_first"] == seen[1, "kernel_velocity"]
    assert (2, "kernel_velocity_first") not in seen


def test_a_resumed_run_has_the_velocities_of_one_that_was_not_stopped(trained, tmp_path):
    observer = Observer(name="kernel", parameters=(("examples", 12),))

    def stop(step, _):
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, [observer], device="cpu", checkpoint=tmp_path / "run", checkpoint_every_s=0, on_step=stop)
    seen = []
    resumed = train(
        RECIPE,
        [observer],
        device="cpu",
        checkpoint=tmp_path / "run",
        on_step=lambda step, _: seen.append(step),
    )
    assert seen[0] == 7 and resumed.history == trained[2].history
    assert [epoch for _, epoch, name, _ in resumed.history if name == "kernel_velocity_first"] == [1]


def test_looks_that_lie_apart_give_the_velocity_per_epoch():
    recipe = replace(RECIPE, budget=replace(RECIPE.budget, amount=4))
    observer = Observer(name="kernel", every="doubling", parameters=(("examples", 12),))
    context, _, run = context_of(recipe, observers=(observer,))
    batch = training_examples(context.model, context.examples, RECIPE, 12)
    half, _, _ = context_of(replace(recipe, budget=replace(RECIPE.budget, amount=2)))
    seen = {(epoch, name): value for _, epoch, name, value in run.history}
    last = distance(kernel(half.model, batch.inputs), kernel(context.model, batch.inputs))
    assert seen[4, "kernel_velocity"] == pytest.approx(last / 2, rel=1e-6)
    assert seen[0, "kernel_distance"] == 0


def test_kernel_regression_by_solving(trained):
    context, before, _ = trained
    found = measures["kernel_regression"](context, test_examples=30, draws=2)
    batches = {}
    for name, part in (("train", context.examples.train), ("test", context.examples.test)):
        loader = Loader(
            part, batch_size=len(part), normalization=context.examples.normalization, shuffle=False, dtype=torch.float64
        )
        batches[name] = next(loader.batches(epoch=0))
    from mlptheory.trials.measuring import drawn_examples

    chosen = drawn_examples(context.examples.test, 30, 0)
    loader = Loader(
        chosen, batch_size=30, normalization=context.examples.normalization, shuffle=False, dtype=torch.float64
    )
    test, labels = next(loader.batches(epoch=0)), batches["train"].targets.numpy()
    targets = np.eye(10)[labels] - 0.1
    for name, model in (("initial", before), ("final", context.model)):
        k, cross = kernel(model, batches["train"].inputs), kernel(model, test.inputs, batches["train"].inputs)
        answers = (cross @ np.linalg.solve(k, targets)).argmax(axis=1)
        assert found[f"{name}_kernel_accuracy"] == pytest.approx((answers == test.targets.numpy()).mean(), abs=1e-12)
    with torch.no_grad():
        own = context.model(test.inputs).argmax(dim=1)
    assert found["net_accuracy"] == pytest.approx((own == test.targets).double().mean().item(), abs=1e-12)
    k = kernel(before, batches["train"].inputs)
    assert 0.4 < found["curve_measured_8"] / found["curve_predicted_8"] < 2.5
    total = (targets**2).sum(axis=1).mean()
    assert found["curve_predicted_8"] < found["curve_predicted_32"] < 3 * total


def test_a_kernel_that_knows_nothing_of_the_others_is_predicted_to_the_last_digit():
    """K = I predicts 0 for the others, whose one-hot labels less 1/C all have the square 1 − 1/C."""
    targets = torch.nn.functional.one_hot(torch.arange(64) % 10, 10).double() - 0.1
    found = dict(_learning_curve(torch.eye(64, dtype=torch.float64), targets, 0, draws=2))
    assert found == pytest.approx(dict.fromkeys(found, 0.9), rel=1e-9) and len(found) == 6


def test_a_learning_curve_is_predicted_for_the_examples_that_it_is_measured_on():
    """Gaussian features, of which the theory holds: at one in eight the part's own examples would be 0.19 bits."""
    draw = torch.Generator().manual_seed(0)
    spread = torch.arange(1, 1001, dtype=torch.float64) ** -0.65
    features = torch.randn(400, 1000, generator=draw, dtype=torch.float64) * spread
    targets = (features * spread) @ torch.randn(1000, 10, generator=draw, dtype=torch.float64)
    found = dict(_learning_curve(features @ features.T, targets, 0, draws=20))
    assert abs(math.log2(found["curve_predicted_8"] / found["curve_measured_8"])) < 0.1


def test_kernel_regression_needs_examples():
    recipe = replace(RECIPE, data=DataConfig(name="digits", n=40))
    with pytest.raises(InputError, match="at least 64 training examples, found 40"):
        measures["kernel_regression"](context_of(recipe)[0])


def test_infinite_regression_by_solving(trained):
    from mlptheory.measures import infinite_kernels
    from mlptheory.trials.measuring import drawn_examples

    context, _, _ = trained
    found = measures["infinite_regression"](context, test_examples=100)
    inputs = []
    for part in (context.examples.train, drawn_examples(context.examples.test, 100, 0)):
        pixels = part.images.double().flatten(1)
        mean, std = context.examples.normalization.mean[0], context.examples.normalization.std[0]
        inputs.append((pixels / 255 - mean) / std)
    limits = infinite_kernels("B-1/Wi-6/E-2", inputs[0], parametrization="standard")
    crosses = infinite_kernels("B-1/Wi-6/E-2", inputs[1], inputs[0], parametrization="standard")
    targets = np.eye(10)[context.examples.train.labels.numpy()] - 0.1
    truth = drawn_examples(context.examples.test, 100, 0).labels.numpy()
    for name, k, cross in (
        ("infinite_kernel", limits.ntk_per_width, crosses.ntk_per_width),
        ("nngp", limits.nngp, crosses.nngp),
    ):
        answers = (cross.numpy() @ np.linalg.solve(k.numpy(), targets)).argmax(axis=1)
        assert found[f"{name}_accuracy"] == pytest.approx((answers == truth).mean(), abs=1e-12)


def test_infinite_regression_refuses_mup():
    recipe = replace(RECIPE, model=replace(RECIPE.model, parametrization="mup"))
    with pytest.raises(InputError, match="expected the standard or the NTK parametrization"):
        measures["infinite_regression"](context_of(recipe)[0])


@pytest.mark.parametrize(("optimizer", "parametrization"), [("sgd", "standard"), ("lion", "standard"), ("lion", "mup")])
def test_linearized_training_by_the_jacobian(optimizer, parametrization):
    """A twin that trains f₀ + J δ with J written out, by its own loop over the recipe's batches."""
    recipe = replace(
        RECIPE,
        model=ModelConfig(name="S-1/Wi-4", parametrization=parametrization, base_width=2),
        optimizer=OptimizerConfig(name=optimizer, lr=2e-3, momentum=0.9),
        data=DataConfig(name="digits", n=64),
    )
    context, before, _ = context_of(recipe)
    found = measures["linearized_training"](context)
    examples = context.examples
    from mlptheory.models import lr_multipliers

    per_name = lr_multipliers(before, optimizer)
    rates = torch.cat(
        [torch.full((value.numel(),), per_name[name], dtype=torch.float64) for name, value in before.named_parameters()]
    )
    delta, state = torch.zeros(len(rates), dtype=torch.float64), torch.zeros(len(rates), dtype=torch.float64)
    loader = Setting(recipe, examples, "cpu", "float64").training_loader()
    for epoch in range(3):
        for batch in loader.batches(epoch):
            j = jacobian(before, batch.inputs)
            logits = before(batch.inputs).detach() + j @ delta
            smooth = 0.7 * torch.nn.functional.one_hot(batch.targets, 10) + 0.03
            gradient = torch.einsum("ncp,nc->p", j, (logits.softmax(1) - smooth) / len(logits))
            if optimizer == "sgd":
                state = 0.9 * state + gradient
                delta = delta - 2e-3 * rates * state
            else:
                delta = delta - 2e-3 * rates * torch.sign(0.9 * state + 0.1 * gradient)
                state = 0.99 * state + 0.01 * gradient
    test = Loader(
        examples.test, batch_size=600, normalization=examples.normalization, shuffle=False, dtype=torch.float64
    )
    batch = next(test.batches(epoch=0))
    with torch.no_grad():
        first, net = before(batch.inputs), context.model(batch.inputs)
    linear = first + jacobian(before, batch.inputs) @ delta
    accuracy = (linear.argmax(dim=1) == batch.targets).double().mean().item()
    assert found["linearized_accuracy"] == pytest.approx(accuracy, abs=1e-12)
    assert found["linearized_gap"] == pytest.approx(((net - linear).norm() / (net - first).norm()).item(), rel=1e-6)
    loss = torch.nn.functional.cross_entropy(linear, batch.targets).item()
    assert found["linearized_loss"] == pytest.approx(loss, rel=1e-8)


def test_linearized_training_that_diverges_has_no_figures():
    recipe = replace(
        RECIPE, model=ModelConfig(name="S-1/Wi-8"), optimizer=OptimizerConfig(name="adamw", lr=1e-3), seed=1
    )
    context, _, _ = context_of(recipe)
    wild = replace(context, recipe=replace(recipe, optimizer=OptimizerConfig(name="sgd", lr=1e308)))
    assert all(math.isnan(value) for value in measures["linearized_training"](wild).values())


def test_weights_changed_by_layers(trained):
    context, before, _ = trained
    found = measures["weight_change"](context)
    old, new = dict(before.named_parameters()), dict(context.model.named_parameters())
    norms, ranks = {}, {}
    for name in ("embedding.weight", "blocks.0.expand.weight", "blocks.0.contract.weight", "head.weight"):
        change = (new[name] - old[name]).detach().numpy()
        norms[name] = np.linalg.norm(change) / np.linalg.norm(old[name].detach().numpy())
        ranks[name] = np.linalg.norm(change) ** 2 / np.linalg.norm(change, 2) ** 2
    assert found["embedding_change_frobenius"] == pytest.approx(norms["embedding.weight"], rel=1e-9)
    assert found["head_change_stable_rank"] == pytest.approx(ranks["head.weight"], rel=1e-9)
    hidden = [ranks[f"blocks.0.{part}.weight"] for part in ("expand", "contract")]
    assert found["hidden_change_stable_rank"] == pytest.approx(sum(hidden) / 2, rel=1e-9)


def test_agop_of_the_first_layer_by_jacobians(trained):
    context, before, _ = trained
    found = measures["feature_alignment"](context, examples=8)
    batch = training_examples(context.model, context.examples, RECIPE, 8)
    for suffix, model, taken in (
        ("", context.model, None),
        ("_initial", before, None),
        ("_change", context.model, before),
    ):
        total = np.zeros((64, 64))
        for one in batch.inputs:
            j = torch.autograd.functional.jacobian(lambda x, net=model: net(x[None])[0], one).reshape(10, 64).numpy()
            total += j.T @ j / 8
        values, vectors = np.linalg.eigh(total)
        root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
        weight = model.embedding.weight.detach().numpy()
        weight = weight if taken is None else weight - taken.embedding.weight.detach().numpy()
        pearson = np.corrcoef((weight.T @ weight).ravel(), root.ravel())[0, 1]
        assert found[f"embedding_agop{suffix}"] == pytest.approx(pearson, rel=1e-6)


def test_coordinates_that_moved(trained):
    context, before, _ = trained
    found = measures["coordinates"](context, examples=9)
    x = training_examples(context.model, context.examples, RECIPE, 9).inputs
    with torch.no_grad():
        moved = context.model.embedding(x.flatten(1)) - before.embedding(x.flatten(1))
        logits = context.model(x) - before(x)
    assert found["coordinate_embedding"] == pytest.approx(math.sqrt((moved**2).mean().item()), rel=1e-9)
    assert found["coordinate_logits"] == pytest.approx(math.sqrt((logits**2).mean().item()), rel=1e-9)
    assert found["coordinate_stream"] > 0


@pytest.mark.parametrize("measure", ["coordinates", "weight_change"])
def test_a_model_without_hidden_matrices_is_refused(measure):
    recipe = replace(RECIPE, model=ModelConfig(name="Linear"))
    with pytest.raises(InputError, match="expected an MLP with"):
        measures[measure](context_of(recipe)[0])


@pytest.mark.parametrize(
    "measure",
    ["tangent_kernel", "kernel_regression", "infinite_regression", "linearized_training", "weight_change"],
)
def test_a_trial_without_a_recipe_is_refused(measure):
    context = MeasureContext(model=None, parents=[], parent_predictions=[], examples=None, recipe=None)
    with pytest.raises(InputError, match=f"measure = '{measure}': expected a trial with a recipe"):
        measures[measure](context)


def test_looking_leaves_the_run_as_it_was():
    plain = context_of(RECIPE)[0].model
    seen = context_of(RECIPE, observers=(Observer(name="kernel", parameters=(("examples", 12),)),))[0].model
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), seen.parameters(), strict=True))


def test_measures_leave_the_model_as_it_was(trained):
    context, _, _ = trained
    values = {name: value.clone() for name, value in context.model.state_dict().items()}
    gradients = [value.grad.clone() for value in context.model.parameters()]
    context.model.train()
    for name in ("tangent_kernel", "feature_alignment", "coordinates", "linearized_training"):
        measures[name](context)
    assert context.model.training
    context.model.eval()
    assert all(torch.equal(value, values[name]) for name, value in context.model.state_dict().items())
    pairs = zip(context.model.parameters(), gradients, strict=True)
    assert all(torch.equal(value.grad, gradient) for value, gradient in pairs)
