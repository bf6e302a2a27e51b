"""What the columns of every comparison's table hold."""

from mlptheory.probes.probe import Column

NOT_OUTCOMES = ("arm", "model", "seed", "train_examples", "diverged", "digest")
"""Columns that no contrast can be of."""

COLUMNS = (
    Column("arm", "Which of the recipes", role="factor"),
    Column("model", "Name of the model", role="factor"),
    Column("seed", "Seed of the run; runs of several arms that share one are paired"),
    Column("test_accuracy", "Top-1 after the last step, as a share", role="outcome"),
    Column("test_loss", "On the test set, without smoothing"),
    Column("train_accuracy", "Mean over the last epoch's batches, before each step, as a share"),
    Column("train_loss", "Mean over the last epoch's batches, before each step"),
    Column("weight_norm", "Euclidean norm of all parameters after the last step"),
    Column("distance_from_initialization", "Euclidean distance of all parameters from those this run began with"),
    Column("train_examples", "Examples of the training set", "examples"),
    Column("diverged", "Whether the training loss stopped being finite"),
    Column("digest", "Names the record"),
)
