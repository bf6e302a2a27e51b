"""What the columns of the transfer probe's table hold."""

from mlptheory.probes.probe import Column

COLUMNS = (
    Column(
        "role",
        "'run' of the design; 'untrained' body; pretraining on 'shuffled-source' labels; 'a-a' control, whose arm is "
        "only a label; control on 'shuffled-target' labels",
        role="factor",
    ),
    Column(
        "stage",
        "'pretraining' on the source; 'probing' or 'finetuning' on the target; on the target 'scratch', as pretraining "
        "but for data and length, or 'scratch-as-finetuning', as fine-tuning but for the start",
        role="factor",
    ),
    Column("arm", "Whether pretraining was 'augmented' or 'plain'; none without pretraining", role="factor"),
    Column("batch_size", "Batch size of pretraining; 0 without", "examples", role="factor"),
    Column("length", "Length of pretraining; 0 without", "epochs", role="factor"),
    Column("block", "The block (seed of the design) a run belongs to"),
    Column("replicate", "Which of several runs that a block has of one kind, from 0"),
    Column("seed", "Seed of the run"),
    Column("dataset", "What this run was trained on"),
    Column("lr", "Learning rate of this run; of the body, where the head has one of its own"),
    Column("steps", "Optimizer steps taken in this run", "steps"),
    Column("test_accuracy", "Top-1 after the last step on the test set of `dataset`, as a share", role="outcome"),
    Column("test_loss", "Cross-entropy on that test set, without smoothing", "nats", role="outcome"),
    Column("tta_accuracy", "Top-1 with test-time augmentation, as a share", role="outcome"),
    Column("tta_loss", "Cross-entropy with test-time augmentation, without smoothing", "nats"),
    Column("train_accuracy", "Mean over the last epoch's batches, before each step, as a share"),
    Column("train_loss", "Mean over the last epoch's batches, before each step, with smoothing", "nats"),
    Column("weight_norm", "Euclidean norm of all parameters after the last step"),
    Column("distance_from_initialization", "Euclidean distance of all parameters from those this run began with"),
    Column("train_examples", "Examples of the training set", "examples"),
    Column("chance_accuracy", "Accuracy expected of the predictions if they had nothing to do with the images"),
    Column("diverged", "Whether the training loss stopped being finite"),
    Column("digest", "Names the record"),
)
