"""What the columns of the locality probe's table hold."""

from collections.abc import Iterator

from mlptheory.probes.probe import Column

SETS = {"weights": "W after training", "change": "W − W₀", "initial": "W₀, before the first step"}
STATISTICS = {
    "ipr": ("inverse participation ratio", ""),
    "spread": ("spatial spread", "squared pixels"),
    "local_share": ("largest share of the squared norm in one window", "share"),
}
REFERENCES = {"gaussian": "Gaussian surrogates of", "shuffled": "shuffled pixels of"}


def _of_filters() -> Iterator[Column]:
    for name, weights in SETS.items():
        for statistic, (text, unit) in STATISTICS.items():
            of = f"of the first layer's {weights}, mean over filters"
            yield Column(f"{name}_{statistic}", f"{text.capitalize()} {of}", unit, role="outcome")
            for reference, what in REFERENCES.items():
                if (statistic, reference) != ("ipr", "shuffled"):
                    column = f"{name}_{statistic}_{reference}"
                    yield Column(column, f"The same of {what} those filters, mean over draws", unit, role="outcome")


COLUMNS = (
    Column(
        "role",
        "'center' of the design; departing from it in 'size' of the training set, at as many epochs or, 'steps', at "
        "as many steps; in 'epochs', weight 'decay' or 'optimizer'; 'control' on textures",
        role="factor",
    ),
    Column("arm", "Whether training was 'augmented' or 'plain'; none in the control", role="factor"),
    Column("dataset", "What the net was trained on", role="factor"),
    Column("model", "The net"),
    Column("n", "Training examples; 0 stands for all of the control's", "examples", role="factor"),
    Column("epochs", "Length of training, to the nearest whole epoch", "epochs", role="factor"),
    Column("weight_decay", "Decoupled: lr · weight_decay a step", role="factor"),
    Column("optimizer", "'lion', 'adamw' or 'sgd'", role="factor"),
    Column("lr", "Learning rate, constant"),
    Column("block", "The block (seed of the design) a run belongs to"),
    Column("seed", "Seed of the run"),
    Column("steps", "Optimizer steps taken", "steps"),
    *_of_filters(),
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
