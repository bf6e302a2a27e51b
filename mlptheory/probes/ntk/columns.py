"""What the columns of the ntk probe's table hold."""

from collections.abc import Iterator

from mlptheory.probes.probe import Column

PARTS = (32, 16, 8)
"""Kernel regression's learning curve is at the center's training-set size divided by these."""
COORDINATES = {
    "embedding": "the first layer's outputs",
    "stream": "the last block's outputs",
    "logits": "the logits",
}
KERNELS = {
    "initial_kernel": "the tangent kernel before the first step",
    "final_kernel": "the tangent kernel after the last step",
    "infinite_kernel": "the tangent kernel of infinite width",
    "nngp": "the kernel of the logits at initialization, of infinite width",
}
LAYERS = {"embedding": "the first layer", "hidden": "hidden matrices, mean over them", "head": "the last layer"}


def _of_kernels() -> Iterator[Column]:
    yield Column(
        "kernel_deviation",
        "Of the kernel before the first step, for all pairs of outputs, from that of infinite width, in norms of it",
        role="outcome",
    )
    yield Column("kernel_change", "‖Θ − Θ₀‖/‖Θ₀‖ of the tangent kernel over training, Frobenius norm", role="outcome")
    yield Column("kernel_distance", "1 − cosine between the tangent kernel before and after training", role="outcome")
    yield Column("relative_weight_change", "‖θ − θ₀‖/‖θ₀‖ over all parameters", role="outcome")
    for suffix, when in (("_initial", "before the first step"), ("", "after the last step")):
        yield Column(f"label_alignment{suffix}", f"Of kernel and training labels, centered, {when}", role="outcome")
        yield Column(f"permuted_alignment{suffix}", f"The same with labels permuted, mean, {when}", role="outcome")
        yield Column(f"kernel_rank{suffix}", f"Effective rank of the tangent kernel {when}", role="outcome")
    yield Column("kernel_velocity_first", "Kernel distance that the first epoch covered", "1 / epoch", role="outcome")
    yield Column("kernel_velocity", "Kernel distance that the last epoch covered", "1 / epoch", role="outcome")


def _of_regression() -> Iterator[Column]:
    yield Column("net_accuracy", "The net's on the test examples of kernel regression, as a share", role="outcome")
    yield Column("net_chance", "What its predictions would come to if they had nothing to do with the images")
    for name, what in KERNELS.items():
        yield Column(f"{name}_accuracy", f"Of regression with {what}, as a share", role="outcome")
        yield Column(f"{name}_chance", f"Chance for the predictions with {what}")
    for part in PARTS:
        of = f"error of regression with the initial kernel on 1 in {part} of the training examples"
        yield Column(f"curve_measured_{part}", f"Mean squared {of}, on the others, mean over draws", role="outcome")
        yield Column(f"curve_predicted_{part}", f"Mean squared {of} that its spectrum predicts", role="outcome")
    for name, text, unit in (
        ("linearized_accuracy", "Top-1 on the test set of the linearized net after as many steps, as a share", ""),
        ("linearized_loss", "Its cross-entropy on the test set, without smoothing", "nats"),
        ("linearized_train_accuracy", "Its mean over the last epoch's batches, as a share", ""),
        ("linearized_train_loss", "Its mean over the last epoch's batches, with smoothing", "nats"),
        ("linearized_gap", "Distance of the net's test logits from its, over that from those before training", ""),
    ):
        yield Column(name, text, unit, role="outcome")


def _of_features() -> Iterator[Column]:
    for layer, text in LAYERS.items():
        yield Column(f"{layer}_change_stable_rank", f"Stable rank of W − W₀ of {text}", role="outcome")
        yield Column(f"{layer}_change_effective_rank", f"Effective rank of W − W₀ of {text}", role="outcome")
        yield Column(f"{layer}_change_frobenius", f"‖W − W₀‖/‖W₀‖ of {text}, Frobenius norm", role="outcome")
        yield Column(f"{layer}_change_spectral", f"‖W − W₀‖/‖W₀‖ of {text}, spectral norm", role="outcome")
    for layer in ("embedding", "hidden"):
        of = f"root of the average gradient outer product, correlation of entries, {LAYERS[layer]}"
        yield Column(f"{layer}_agop", f"WᵀW and the {of}", role="outcome")
        yield Column(f"{layer}_agop_initial", f"The same before the first step, {LAYERS[layer]}", role="outcome")
        yield Column(f"{layer}_agop_change", f"The same with W − W₀ for W, {LAYERS[layer]}", role="outcome")
    for name, text in COORDINATES.items():
        what = f"Root mean square change of {text} over the check's few steps"
        yield Column(f"coordinate_{name}", what, role="outcome")


COLUMNS = (
    Column(
        "role",
        "'center' of the design; departing from it in 'width', 'size' of the training set, learning 'rate', "
        "'optimizer', or parametrization, 'mup' and, by SGD over all widths, 'ntk'; the control's output 'scale' and "
        "'shuffled' labels; 'coordinates' for muP's check; 'infinite' for kernels of infinite width, without a seed",
        role="factor",
    ),
    Column("parametrization", "'standard', 'ntk' or 'mup'", role="factor"),
    Column("dataset", "What the net was trained on"),
    Column("model", "The net"),
    Column("width", "Its width", "units", role="factor"),
    Column("n", "Training examples", "examples", role="factor"),
    Column("optimizer", "'lion', 'adamw' or 'sgd'", role="factor"),
    Column("lr", "Learning rate, constant", role="factor"),
    Column("output_scale", "Factor on the logits", role="factor"),
    Column("block", "The block (seed of the design) a run belongs to"),
    Column("seed", "Seed of the run"),
    Column("steps", "Optimizer steps taken", "steps"),
    *_of_kernels(),
    *_of_regression(),
    *_of_features(),
    Column("test_accuracy", "Top-1 on the test set after the last step, as a share", role="outcome"),
    Column("test_loss", "Cross-entropy on the test set, without smoothing", "nats"),
    Column("train_accuracy", "Mean over the last epoch's batches, before each step, as a share"),
    Column("train_loss", "Mean over the last epoch's batches, before each step, with smoothing", "nats"),
    Column("weight_norm", "Euclidean norm of all parameters after the last step"),
    Column("distance_from_initialization", "Euclidean distance of all parameters from those the run began with"),
    Column("train_examples", "Examples of the training set", "examples"),
    Column("diverged", "Whether the training loss stopped being finite"),
    Column("digest", "Names the record"),
)
