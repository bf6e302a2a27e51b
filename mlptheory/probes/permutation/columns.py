"""What the columns of the permutation probe's table hold."""

from mlptheory.probes.probe import Column

COLUMNS = (
    Column(
        "role",
        "'run' of the design; control on 'shuffled' labels; 'exact': images and permuted images in lockstep, float64; "
        "'one-step': the same in float32, made equal again after every step",
        role="factor",
    ),
    Column("arm", "'mlp' or 'baseline'", role="factor"),
    Column(
        "images",
        "What was trained and tested on: 'plain' or 'permuted' images; with augmentation in training 'augmented' ones, "
        "'augment-then-permute' or 'permute-then-augment'; 'both' in lockstep",
        role="factor",
    ),
    Column("model", "Name of the model", role="factor"),
    Column("optimizer", "Of this run", role="factor"),
    Column("block", "The block a run belongs to: seed of the permutation, and of runs on images as they are"),
    Column("replicate", "Which of several runs that a block has of one kind, from 0"),
    Column("seed", "Seed of the run"),
    Column("lr", "Learning rate, constant"),
    Column("weight_decay", "Decoupled: lr · weight_decay a step"),
    Column("steps", "Optimizer steps taken in this run", "steps"),
    Column("test_accuracy", "Top-1 after the last step, as a share; permuted images permuted alike", role="outcome"),
    Column("test_loss", "Cross-entropy on the test set, without smoothing", "nats", role="outcome"),
    Column("train_accuracy", "Mean over the last epoch's batches, before each step, as a share"),
    Column("train_loss", "Mean over the last epoch's batches, before each step, with smoothing", "nats"),
    Column("weight_norm", "Euclidean norm of all parameters after the last step"),
    Column("distance_from_initialization", "Euclidean distance of all parameters from those this run began with"),
    Column("train_examples", "Examples of the training set", "examples"),
    Column("chance_accuracy", "Accuracy expected of the predictions if they had nothing to do with the images"),
    Column(
        "permuted_weight_deviation",
        "Largest deviation, over weights and steps, of the run on permuted images from that on the images, the first "
        "layer's columns moved by the permutation and back",
        role="outcome",
    ),
    Column("permuted_logit_deviation", "The same of the logits of a fixed batch", role="outcome"),
    Column(
        "permuted_sign_flips", "Updates of a weight by Lion whose sign is another one, in all steps", role="outcome"
    ),
    Column("wrong_weight_deviation", "As permuted_weight_deviation, columns moved by another permutation and back"),
    Column("wrong_logit_deviation", "As permuted_logit_deviation, columns moved by another permutation"),
    Column("wrong_sign_flips", "As permuted_sign_flips, columns moved by another permutation"),
    Column("sign_updates", "Updates of a weight in all steps: what sign flips are out of"),
    Column("diverged", "Whether the training loss stopped being finite"),
    Column("digest", "Names the record"),
)
