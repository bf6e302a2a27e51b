"""The claims and the controls, written down before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlptheory.probes.batchsize.arms import NOISE_SEEDS, NOISE_SIZES, middle
from mlptheory.probes.batchsize.design import TUNED, UNITS
from mlptheory.probes.settings import DATA_REFERENCES, OPTIMIZER_REFERENCES, augmentation_text, span
from mlptheory.stats import Claim

if TYPE_CHECKING:
    from mlptheory.probes.batchsize.design import BatchSize

MAIN, TUNING, EVERY_LENGTH = "larger-batches-better", "survives-tuning", "at-every-length"
GROWS, CNN, SHARPNESS, EXAMPLES = (
    "grows-with-length",
    "opposite-to-cnn",
    "sharpness-rises",
    "more-examples-to-target",
)
A_A, LEAK, NOISE_SCALE = "a-a-control", "leak-check", "noise-scale-control"
SHARPNESS_MARGIN, EXAMPLES_MARGIN, LEAK_MARGIN, NOISE_MARGIN = 0.5, 0.5, 5.0, 0.25
BLOCK = "initialization and the order's key within a seed"
POINTS, DOUBLINGS = "percentage points", "doublings"
LINE = "fitted change from the smallest to the largest batch (line over log2 batch size)"
FIGURE4 = {"source": "Bachmann et al. 2023, Fig. 4", "bibtex_key": "Bachmann2023"}


def rule_claim(policy: str) -> str:
    """Return the name of the main claim under a rule for the learning rate."""
    return MAIN if policy == "fixed" else f"{MAIN}-{policy}"


def claims(probe: BatchSize) -> tuple[Claim, ...]:
    """Return the claims of a design, then its controls."""
    found = [_better(probe, policy) for policy in probe.plain_policies]
    if TUNED in probe.lr_policies:
        found.append(_survives_tuning(probe))
    if len(probe.lengths) > 1:
        found += [_at_every_length(probe), _grows(probe)]
    if probe.cnn is not None:
        found.append(_opposite_to_cnn(probe))
    if "fixed" in probe.lr_policies and probe.curvature_seeds:
        found.append(_sharpness(probe))
    if probe.target_accuracy is not None:
        found.append(_examples(probe))
    return (*found, *(_controls(probe) if probe.control else ()))


def _better(probe: BatchSize, policy: str) -> Claim:
    at = {"fixed": "", "linear": ", the learning rate in proportion to the batch", "sqrt": ", the learning rate as √B"}
    return Claim(
        id=rule_claim(policy),
        statement=f"Larger batches reach a higher test accuracy at equal {probe.budget}{at[policy]}.",
        estimand=f"test accuracy: {LINE}, mean over lengths; these data, new seeds",
        direction="greater",
        margin=probe.margin,
        unit=POINTS,
        test="t interval of the per-seed change; not supported where a smaller batch beats the largest",
        **FIGURE4,
        **_where(probe, policy),
    )


def _survives_tuning(probe: BatchSize) -> Claim:
    return Claim(
        id=TUNING,
        statement="Larger batches stay better when the learning rate is tuned for each batch size.",
        source="Bachmann et al. 2023, Fig. 4; Shallue et al. 2019 expect no difference",
        bibtex_key="Shallue2019",
        estimand=f"test accuracy: {LINE}, mean over lengths, at the learning rates that tuning chose; these data, "
        "new seeds",
        direction="greater",
        margin=probe.margin,
        unit=POINTS,
        test="t interval of the per-seed change; inconclusive where a tuned optimum lies on the edge of its grid; not "
        "supported where a smaller batch beats the largest",
        **_where(probe, TUNED),
    )


def _at_every_length(probe: BatchSize) -> Claim:
    policy = probe.lr_policies[0]
    return Claim(
        id=EVERY_LENGTH,
        statement="Larger batches are better at every training length.",
        estimand=f"test accuracy: smallest over lengths of the {LINE}; these data, new seeds",
        direction="greater",
        margin=probe.margin,
        unit=POINTS,
        test=f"intersection-union over {len(probe.lengths)} lengths of t intervals; not supported where a smaller "
        "batch beats the largest at some length",
        **FIGURE4,
        **_where(probe, policy),
    )


def _grows(probe: BatchSize) -> Claim:
    return Claim(
        id=GROWS,
        statement="The advantage of larger batches grows with the length of training.",
        source="Hoffer et al. 2017: longer training closes the gap of large batches",
        bibtex_key="Hoffer2017",
        estimand=f"test accuracy: {LINE}, at length {max(probe.lengths)} less that at {min(probe.lengths)}; these "
        "data, new seeds",
        direction="greater",
        margin=probe.margin,
        unit=POINTS,
        test="t interval of the per-seed difference; contradicted where the advantage stays as it is, or fades",
        **_where(probe, probe.main_policy),
    )


def _opposite_to_cnn(probe: BatchSize) -> Claim:
    return Claim(
        id=CNN,
        statement="Larger batches are better for the MLP and worse for the CNN.",
        estimand=f"test accuracy: the smaller of the MLP's and minus the CNN's {LINE}, means over lengths; these data, "
        "new seeds",
        direction="greater",
        margin=probe.margin,
        unit=POINTS,
        test="intersection-union: both t intervals must lie beyond δ, on either side of 0",
        **FIGURE4,
        **_where(probe, probe.main_policy, arms=("mlp", "cnn")),
    )


def _sharpness(probe: BatchSize) -> Claim:
    return Claim(
        id=SHARPNESS,
        statement="Larger batches lead to sharper points: at equal training loss the Hessian's largest eigenvalue "
        "rises with the batch size.",
        source="Keskar et al. 2017",
        bibtex_key="Keskar2017",
        estimand="log2 of the largest eigenvalue of the training objective's Hessian over 256 training examples, where "
        f"{100 * probe.remaining_loss:g} % of the way from the loss of chance to the smallest possible is left: "
        f"{LINE}, length {max(probe.lengths)}; these data, new seeds",
        direction="greater",
        margin=SHARPNESS_MARGIN,
        unit=DOUBLINGS,
        test=f"t interval of the per-seed change over {len(probe.curvature_seed_list)} seeds",
        **_where(probe, "fixed", lengths=(max(probe.lengths),), held=(BLOCK, "training loss at which it is compared")),
    )


def _examples(probe: BatchSize) -> Claim:
    return Claim(
        id=EXAMPLES,
        statement=f"Larger batches need more examples to reach a test accuracy of {100 * probe.target_accuracy:g} %: "
        "steps fall more slowly than 1/B.",
        source="McCandlish et al. 2018; Shallue et al. 2019: diminishing returns past a critical batch size",
        bibtex_key="Shallue2019",
        estimand=f"log2 of the examples seen when the target is reached: {LINE}, length {max(probe.lengths)}; these "
        "data, new seeds",
        direction="greater",
        margin=EXAMPLES_MARGIN,
        unit=DOUBLINGS,
        test="t interval of the per-seed change; inconclusive where a run does not reach the target",
        **_where(probe, probe.main_policy, lengths=(max(probe.lengths),)),
    )


def _controls(probe: BatchSize) -> tuple[Claim, ...]:
    common = {"bibtex_key": None, "direction": "equivalent"}
    return (
        Claim(
            id=A_A,
            statement="Control: runs of one batch size, labeled as several, show no change.",
            source="A/A control",
            estimand=f"test accuracy: {LINE}, of labels that mean nothing; these data, new seeds",
            margin=probe.margin,
            unit=POINTS,
            test="95 % t interval of the per-block change must lie within ±δ",
            **_where(probe, "fixed", sizes=(middle(probe),), lengths=(min(probe.lengths),), held=()),
            **common,
        ),
        Claim(
            id=LEAK,
            statement="Control: trained on shuffled labels, the test accuracy is chance.",
            source="leak check",
            estimand="test accuracy less that of its predictions' class shares against the test set's; these data, new "
            "seeds and shuffles",
            margin=LEAK_MARGIN,
            unit=POINTS,
            test="95 % t interval over seeds must lie within ±δ",
            **_where(probe, "fixed", sizes=(middle(probe),), lengths=(min(probe.lengths),)),
            **common,
        ),
        Claim(
            id=NOISE_SCALE,
            statement="Control with a known answer: SGD's excess loss halves when the batch doubles.",
            source="derived in the documentation: excess = (η / 4B) tr H for a well-specified model",
            estimand="1 + slope of log2 excess test loss over log2 batch size, -0.03 by theory; new seeds",
            margin=NOISE_MARGIN,
            unit="doublings per doubling",
            test=f"95 % t interval of the per-seed slope over {NOISE_SEEDS} seeds must lie within ±δ",
            held_fixed=("learning rate", "one pass over the data", "teacher"),
            scope=f"softmax regression on a teacher's labels, SGD, batches {span(NOISE_SIZES)}",
            **common,
        ),
    )


def _where(
    probe: BatchSize,
    policy: str,
    *,
    arms: tuple[str, ...] = ("mlp",),
    sizes: tuple[int, ...] | None = None,
    lengths: tuple[int, ...] | None = None,
    held: tuple[str, ...] = (BLOCK,),
) -> dict[str, Any]:
    """Return what a claim holds fixed, and where it is tested."""
    models = " and ".join(probe.models[arm] for arm in arms)
    rates = " and ".join(f"{probe.base_lr(arm):.3g}" for arm in arms)
    lr = f"lr {rates}" if policy == "fixed" else f"{policy} learning rates"
    scope = (
        f"{models} from scratch on {probe.dataset}"
        + (f" ({probe.n} examples)" if probe.n else "")
        + f", {probe.optimizer} at {lr}, batches {span(sizes or probe.batch_sizes)}, "
        + f"{span(lengths or probe.lengths)} {UNITS[probe.budget]}"
    )
    return {"held_fixed": (*held_fixed(probe, policy, arms), *held), "scope": scope}


def held_fixed(probe: BatchSize, policy: str, arms: tuple[str, ...] = ("mlp",)) -> tuple[str, ...]:
    """Return what is the same in all arms under a policy, and what follows from that."""
    lr = " and ".join(f"{probe.base_lr(arm):.3g}" for arm in arms)
    rates = {
        "fixed": f"learning rate {lr}, constant, not tuned per batch size",
        "linear": f"learning rate {lr} times B / {probe.sizes[0]}, constant over a run",
        "sqrt": f"learning rate {lr} times √(B / {probe.sizes[0]}), constant over a run",
        TUNED: f"grid of learning rates ({len(probe.lr_grid)} multiples of {lr}), {probe.tuning_seeds} tuning seeds; "
        "chosen on held-out training examples, per batch size and length",
    }
    follows = {
        "epochs": "epochs (so smaller batches take more steps)",
        "steps": "steps (so larger batches see more examples)",
        "compute": "compute (so smaller batches take more steps)",
    }
    decay = (
        f"weight decay {probe.weight_decay:g} a step times lr (per run it goes with lr · steps)"
        if probe.weight_decay
        else "no weight decay"
    )
    noise = f", {100 * probe.label_noise:g} % of training labels wrong" if probe.label_noise else ""
    return (
        follows[probe.budget],
        rates[policy],
        f"optimizer {probe.optimizer}, its momentum per step (a horizon in examples that grows with B), {decay}",
        f"label smoothing {probe.label_smoothing:g}{noise}",
        "data, split and test set",
        augmentation_text(probe.augmentation),
    )


def references(probe: BatchSize) -> tuple[str, ...]:
    """Return the BibTeX keys of the claims and their context, the optimizer, the data and the software."""
    return (
        "Bachmann2023",
        "Keskar2017",
        "Shallue2019",
        *(("Hoffer2017",) if len(probe.lengths) > 1 else ()),
        *(("McCandlish2018",) if probe.target_accuracy is not None or probe.curvature_seeds else ()),
        *OPTIMIZER_REFERENCES[probe.optimizer],
        *(("Yang2022",) if probe.lr is None else ()),
        *DATA_REFERENCES.get(probe.dataset, ()),
        "Paszke2019",
        "mlptheory",
    )
