"""What the columns of the batch-size probe's table hold."""

from mlptheory.probes.probe import Column

COLUMNS = (
    Column(
        "role",
        "'run' of the design; 'tuning' run; 'a-a' control, whose batch_size is only a label; control on 'shuffled' "
        "labels; 'noise-scale' control with a known answer",
        role="factor",
    ),
    Column("arm", "'mlp' or 'cnn'; none for the noise-scale control", role="factor"),
    Column("model", "What was trained"),
    Column("policy", "How the learning rate goes with the batch size", role="factor"),
    Column("batch_size", "Batch size, or the label that stands for one", "examples", role="factor"),
    Column("trained_batch_size", "Batch size that was trained with", "examples"),
    Column("length", "Training length, in units of the budget", role="factor"),
    Column("lr", "Learning rate", role="factor"),
    Column("block", "The block (seed of the design) a run belongs to"),
    Column("seed", "Seed of the run"),
    Column("steps", "Optimizer steps taken", "steps", role="outcome"),
    Column("test_accuracy", "Top-1 on the test set after the last step, as a share", role="outcome"),
    Column("test_top5", "Top-5 on the test set after the last step, as a share"),
    Column("test_loss", "Cross-entropy on the test set, without smoothing", "nats", role="outcome"),
    Column("validation_accuracy", "Top-1 on the held-out training examples after the last step, as a share"),
    Column("validation_loss", "Cross-entropy on the held-out training examples, without smoothing", "nats"),
    Column("train_accuracy", "Mean over the last epoch's batches, before each step, as a share"),
    Column(
        "train_loss",
        "Mean over the last epoch's batches, before each step, with smoothing",
        "nats",
        role="outcome",
    ),
    Column("weight_norm", "Euclidean norm of all parameters after the last step"),
    Column("distance_from_initialization", "Euclidean distance of all parameters from their initial values"),
    Column("weight_decay", "Decoupled decay: a step takes lr times this share off every weight"),
    Column("decay_per_run", "Sum over the run's steps of lr times weight_decay"),
    Column("momentum_horizon", "Examples that pass while the momentum forgets all but 1/e", "examples"),
    Column("hessian_top_eigenvalue", "Largest eigenvalue of the training objective's Hessian after the last step"),
    Column("sharpness_at_target", "The same at the training loss that is equal for all batch sizes"),
    Column(
        "norm_weighted_sharpness_at_target",
        "The same times the squared norm of the scale-invariant layers, where the model has any",
    ),
    Column("noise_scale", "Gradient noise scale tr Σ / |G|² after the last step", "examples"),
    Column("noise_scale_low", "Lower end of its 95 % interval over groups of examples", "examples"),
    Column("noise_scale_high", "Upper end; none where the gradient cannot be told from 0", "examples"),
    Column(
        "steps_to_target",
        "Steps until the target accuracy was reached, interpolated between looks; 0 from the start",
        "steps",
    ),
    Column("examples_to_target", "Examples seen until then, repeats counted", "examples"),
    Column("train_examples", "Examples of the training set", "examples"),
    Column("chance_accuracy", "Accuracy expected of the predictions if they had nothing to do with the images"),
    Column("excess_loss", "Noise-scale control: expected excess of the test loss over the teacher's", "nats"),
    Column("diverged", "Whether the training loss stopped being finite"),
    Column("digest", "Names the record"),
)
