"""What the columns of the sharpness probe's table hold."""

from mlptheory.probes.probe import Column

RESCALINGS = 8
"""Random rescalings of each net of the batch part."""

COLUMNS = (
    Column("role", "The part: 'edge', 'flow' or 'batch'", role="factor"),
    Column("arm", "In the edge part 'gd', 'momentum', 'adam' or the control, 'small-step'; none else", role="factor"),
    Column("dataset", "What the net was trained on"),
    Column("model", "The net"),
    Column("width", "Its hidden units a layer", role="factor"),
    Column("depth", "Its hidden layers", role="factor"),
    Column("n", "Training examples", "examples"),
    Column("batch_size", "Examples a step", "examples", role="factor"),
    Column("optimizer", "'sgd' or 'adamw'"),
    Column("lr", "Learning rate η, constant"),
    Column("block", "The block (seed of the design) a run belongs to"),
    Column("seed", "Seed of the run"),
    Column("steps", "Optimizer steps taken", "steps"),
    Column(
        "edge_hovering",
        "Edge part: mean over the last third of looks of log2 of sharpness, to Adam preconditioned, over the threshold",
        "log2",
        role="outcome",
    ),
    Column("edge_highest", "Edge part: the largest log2 of sharpness over threshold of all looks", "log2"),
    Column("edge_sharpness", "Edge part: sharpness at the last look, to Adam preconditioned"),
    Column(
        "sharpening",
        "Flow part: log2 of sharpness when the training loss is first at its target over that before the first step",
        "log2",
        role="outcome",
    ),
    Column(
        "sharpening_sharpness", "Flow part: sharpness at the first look with the training loss at its target or less"
    ),
    Column(
        "sharpness_at_target",
        "Batch part: largest eigenvalue of the Hessian of the training loss when that is first at its target",
        role="outcome",
    ),
    Column(
        "adaptive_sharpness_at_target",
        "Batch part: the same of the Hessian in coordinates relative to each parameter's size",
        role="outcome",
    ),
    Column("gap_at_target", "Batch part: test loss less training loss at that point", "nats", role="outcome"),
    Column("test_error_at_target", "Batch part: share of wrong test predictions at that point", role="outcome"),
    *(
        Column(
            f"rescaling_{draw}",
            f"Batch part: log2 of sharpness over before, the layers rescaled at random, draw {draw}",
            "log2",
            role="outcome",
        )
        for draw in range(RESCALINGS)
    ),
    Column(
        "function_change",
        "Batch part: log10 of the largest change of a logit under any of the rescalings, over the largest logit",
        "decades",
        role="outcome",
    ),
    Column(
        "adaptive_change",
        "Batch part: log10 of the largest relative change of adaptive sharpness under any of the rescalings",
        "decades",
        role="outcome",
    ),
    Column("test_accuracy", "Top-1 on the test set after the last step, as a share"),
    Column("test_loss", "On the test set after the last step: squared error, or in the batch part cross-entropy"),
    Column("train_accuracy", "Mean over the last epoch's batches, before each step, as a share"),
    Column("train_loss", "Mean over the last epoch's batches, before each step"),
    Column("weight_norm", "Euclidean norm of all parameters after the last step"),
    Column("distance_from_initialization", "Euclidean distance of all parameters from those the run began with"),
    Column("train_examples", "Examples of the training set", "examples"),
    Column("diverged", "Whether the training loss stopped being finite"),
    Column("digest", "Names the record"),
)
