"""The claims and the controls, written down before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlptheory.probes.settings import DATA_REFERENCES, OPTIMIZER_REFERENCES, augmentation_text, span
from mlptheory.stats import Claim

if TYPE_CHECKING:
    from mlptheory.probes.transfer.design import Transfer

PRETRAINING, FEATURES = "pretraining-helps", "features-are-learned"
AUGMENTED_PROBE, AUGMENTED_FINETUNING = "augmentation-helps-probe", "augmentation-helps-finetuning"
OVER_PROBE, TTA = "finetuning-beats-probe", "tta-helps"
LARGER, EVERY_LENGTH, LONGER = "larger-batches-transfer-better", "at-every-length", "longer-transfers-better"
A_A, LEAK = "a-a-control", "leak-check"
LEAK_MARGIN = 5.0
POINTS = "percentage points"
NEW = "these data, new seeds"
PAIRED = "initialization and the order's key within a seed"
CELLS = "mean over arms, batch sizes and lengths of pretraining"
LINE = "fitted change from the smallest to the largest batch of pretraining (line over log2 batch size)"


def claims(probe: Transfer) -> tuple[Claim, ...]:
    """Return the claims of a design, then its controls."""
    found = [_helps(probe), _learned(probe), _augmented_probe(probe), _augmented_finetuning(probe)]
    found += [_over_probe(probe), _tta(probe), _larger(probe)]
    if len(probe.lengths) > 1:
        found += [_at_every_length(probe), _longer(probe)]
    return (*found, *((_a_a(probe), _leak(probe)) if probe.control else ()))


def _claim(probe: Transfer, held: tuple[str, ...], *, seeds: str = PAIRED, **parts: Any) -> Claim:
    """Return a claim that an accuracy on the target is greater, with what this probe says of all of them."""
    common = {"direction": "greater", "margin": probe.margin, "unit": POINTS, "bibtex_key": "Bachmann2023"}
    return Claim(**{**common, "held_fixed": (*held, *_held(probe), seeds), "scope": _scope(probe), **parts})


def _helps(probe: Transfer) -> Claim:
    return _claim(
        probe,
        (f"{probe.finetuning_epochs} epochs on the target, their order's key and augmentation", _finetuning(probe)),
        id=PRETRAINING,
        statement="A pretrained net, fine-tuned, beats one trained from scratch on the target for as many steps.",
        source="Bachmann et al. 2023, Section 4.3: Table 2 beside Table 1",
        estimand=f"test accuracy of fine-tuned nets, {CELLS}, less that of training from scratch: the smaller of the "
        "leads over pretraining's optimizer and learning rate, and over fine-tuning's; " + NEW,
        test="intersection-union: the t intervals of both per-seed leads must lie beyond δ",
    )


def _learned(probe: Transfer) -> Claim:
    return _claim(
        probe,
        (_probing(probe),),
        id=FEATURES,
        statement="Pretraining learns features: a linear probe of a pretrained body beats one of an untrained body, "
        "and one of a body that was pretrained on shuffled labels.",
        source="baseline for Bachmann et al. 2023, Table 6; the paper has neither",
        estimand=f"test accuracy of a linear probe, plain arm, batch size {probe.middle}, length {max(probe.lengths)}: "
        "the smaller of the leads over an untrained body and over one of shuffled source labels; " + NEW,
        test="intersection-union: the t intervals of both per-seed leads must lie beyond δ",
    )


def _augmented_probe(probe: Transfer) -> Claim:
    return _claim(
        probe,
        (_probing(probe), "epochs and learning rate of pretraining in both arms"),
        id=AUGMENTED_PROBE,
        statement="Augmentation in pretraining improves the linear probe.",
        source="Bachmann et al. 2023, Table 6",
        estimand="test accuracy of a linear probe, augmented arm less plain arm, mean over batch sizes and lengths of "
        "pretraining; " + NEW,
        test="t interval of the per-seed difference",
    )


def _augmented_finetuning(probe: Transfer) -> Claim:
    return _claim(
        probe,
        (_finetuning(probe), "epochs and learning rate of pretraining in both arms"),
        id=AUGMENTED_FINETUNING,
        statement="Augmentation in pretraining improves the fine-tuned net.",
        source="Bachmann et al. 2023, Table 2",
        estimand="test accuracy after fine-tuning, augmented arm less plain arm, mean over batch sizes and lengths of "
        "pretraining; " + NEW,
        test="t interval of the per-seed difference",
    )


def _over_probe(probe: Transfer) -> Claim:
    return _claim(
        probe,
        (_finetuning(probe), _probing(probe)),
        id=OVER_PROBE,
        statement="Fine-tuning beats the linear probe.",
        source="Bachmann et al. 2023, Table 2 beside Table 6, which show it on CIFAR and not on STL-10 and ImageNet",
        estimand=f"test accuracy after fine-tuning less that of a linear probe, {CELLS}; " + NEW,
        test="t interval of the per-seed difference",
    )


def _tta(probe: Transfer) -> Claim:
    share = " to ".join(f"{100 * end:g}" for end in probe.tta_crop_scale)
    return _claim(
        probe,
        (
            f"{probe.tta_views} views, squares of {share} % of the area{', mirrored or not' * probe.tta_flip}, the "
            "same for every net, logits averaged",
            _finetuning(probe),
        ),
        id=TTA,
        statement="Test-time augmentation raises the fine-tuned net's accuracy.",
        source="Bachmann et al. 2023, Table 2",
        estimand=f"test accuracy of fine-tuned nets with test-time augmentation less without, {CELLS}; " + NEW,
        test="t interval of the per-seed difference",
    )


def _larger(probe: Transfer) -> Claim:
    return _claim(
        probe,
        ("epochs of pretraining (so smaller batches take more steps)", _probing(probe)),
        id=LARGER,
        statement="Larger batches in pretraining transfer better at equal epochs.",
        source="Bachmann et al. 2023, Fig. 4",
        estimand=f"test accuracy of a linear probe: {LINE}, mean over arms and lengths; " + NEW,
        test="t interval of the per-seed change; not supported where a smaller batch beats the largest",
    )


def _at_every_length(probe: Transfer) -> Claim:
    return _claim(
        probe,
        ("epochs of pretraining (so smaller batches take more steps)", _probing(probe)),
        id=EVERY_LENGTH,
        statement="Larger batches transfer better at every length of pretraining.",
        source="Bachmann et al. 2023, Fig. 4",
        estimand=f"test accuracy of a linear probe: smallest over lengths of the {LINE}, mean over arms; " + NEW,
        test=f"intersection-union over {len(probe.lengths)} lengths of t intervals; not supported where a smaller "
        "batch beats the largest at some length",
    )


def _longer(probe: Transfer) -> Claim:
    return _claim(
        probe,
        ("learning rate of pretraining, constant at every length", _probing(probe)),
        id=LONGER,
        statement="Longer pretraining transfers better.",
        source="Bachmann et al. 2023, Figs. 4 and 5",
        estimand=f"test accuracy of a linear probe after {max(probe.lengths)} epochs of pretraining less that after "
        f"{min(probe.lengths)}, mean over arms and batch sizes; " + NEW,
        test="t interval of the per-seed difference",
    )


def _a_a(probe: Transfer) -> Claim:
    return _claim(
        probe,
        (_probing(probe),),
        seeds="nothing within a block: a seed of its own for every body",
        id=A_A,
        statement="Control: bodies of one arm, labeled as two, show no difference.",
        source="A/A control",
        bibtex_key=None,
        direction="equivalent",
        estimand=f"test accuracy of a linear probe of plain bodies, batch size {probe.middle}, length "
        f"{min(probe.lengths)}, those labeled augmented less those labeled plain, means over {probe.control_runs} of "
        "each label and block; " + NEW,
        test="95 % t interval of the per-block difference must lie within ±δ",
    )


def _leak(probe: Transfer) -> Claim:
    return _claim(
        probe,
        (_finetuning(probe),),
        seeds="the pretrained body within a block; a seed of its own for every shuffle",
        id=LEAK,
        statement="Control: fine-tuned on shuffled target labels, the test accuracy is chance.",
        source="leak check",
        bibtex_key=None,
        direction="equivalent",
        margin=LEAK_MARGIN,
        estimand="test accuracy less that of its predictions' class shares against the test set's, plain arm, batch "
        f"size {probe.middle}, length {max(probe.lengths)}, mean over {probe.shuffles} shuffles; these data, new "
        "seeds and shuffles",
        test="95 % t interval over seeds must lie within ±δ",
    )


def _held(probe: Transfer) -> tuple[str, ...]:
    decay = f", weight decay {probe.weight_decay:g}" if probe.weight_decay else ""
    return (
        f"pretraining by {probe.optimizer} at {probe.base_lr:.3g}, constant, tuned for no batch size, length or "
        f"arm{decay}",
        f"label smoothing {probe.label_smoothing:g}",
        "data, splits and test sets",
    )


def _finetuning(probe: Transfer) -> str:
    return (
        f"fine-tuning by SGD, momentum 0.9, body {probe.finetuning_lr:g}, head {probe.finetuning_head_lr:g}, batches "
        f"of {probe.finetuning_batch_size}, {probe.finetuning_epochs} epochs, "
        f"{augmentation_text(probe.finetuning_augmentation)}"
    )


def _probing(probe: Transfer) -> str:
    return (
        f"linear probe by Lion at {probe.probing_lr:g}, batches of {probe.probing_batch_size}, {probe.probing_epochs} "
        "epochs, no augmentation"
    )


def _scope(probe: Transfer) -> str:
    source = f"{probe.source_n} examples of {probe.source}" if probe.source_n else probe.source
    target = f"{probe.target_n} examples of {probe.target}" if probe.target_n else probe.target
    size = f" at {probe.image_size} pixels" if probe.image_size else ""
    return (
        f"{probe.model} from {source} to {target}{size}, batches {span(probe.batch_sizes)}, {span(probe.lengths)} "
        f"epochs, augmented arm: {augmentation_text(probe.augmentation)}; says nothing against what "
        "pretraining on ImageNet-21k gives"
    )


def references(probe: Transfer) -> tuple[str, ...]:
    """Return the BibTeX keys of the claims, the methods, the data and the software."""
    data = dict.fromkeys(key for name in (probe.source, probe.target) for key in DATA_REFERENCES.get(name, ()))
    return (
        "Bachmann2023",
        *dict.fromkeys((*OPTIMIZER_REFERENCES[probe.optimizer], *OPTIMIZER_REFERENCES["lion"])),
        *(("Yang2022",) if probe.lr is None else ()),
        *(("Zhang2018",) if probe.augmentation.mixup or probe.finetuning_augmentation.mixup else ()),
        *data,
        "Paszke2019",
        "mlptheory",
    )
