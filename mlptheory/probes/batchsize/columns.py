"""What the columns of the batch-size probe's table hold."""

from mlptheory.probes.probe import Column

COLUMNS = (
    Column("role", "'arm' of the design, or 'control': a run whose batch_size is only a label", role="factor"),
    Column("batch_size", "Batch size, or the label that stands for one", "examples", role="factor"),
    Column("trained_batch_size", "Batch size that was trained with", "examples"),
    Column("epochs", "Training length", "epochs", role="factor"),
    Column("block", "The block (seed of the design) a run belongs to"),
    Column("seed", "Seed of the run"),
    Column("steps", "Optimizer steps taken", "steps", role="outcome"),
    Column("test_accuracy", "Top-1 on the test set after the last step, as a share", role="outcome"),
    Column("test_top5", "Top-5 on the test set after the last step, as a share"),
    Column("test_loss", "Cross-entropy on the test set, without smoothing", "nats", role="outcome"),
    Column("train_accuracy", "Mean over the last epoch's batches, before each step, as a share"),
    Column(
        "train_loss",
        "Mean over the last epoch's batches, before each step, with smoothing",
        "nats",
        role="outcome",
    ),
    Column("weight_norm", "Euclidean norm of all parameters after the last step"),
    Column(
        "distance_from_initialization",
        "Euclidean distance of all parameters from their initial values",
        role="outcome",
    ),
    Column("diverged", "Whether the training loss stopped being finite"),
    Column("digest", "Names the record"),
)
