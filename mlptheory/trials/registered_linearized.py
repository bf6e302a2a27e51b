"""The registered measure of linearized training: the trial's recipe on the first-order Taylor polynomial of its net."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from mlptheory.measures import linearize
from mlptheory.models import lr_multipliers
from mlptheory.training.device import autocast
from mlptheory.training.loop import Run, run_to_end
from mlptheory.training.optimizers import build_optimizer
from mlptheory.trials.measuring import (
    MeasureContext,
    evaluating,
    initial_model,
    logits_of_test_images,
    measures,
    trained_model,
)


@dataclass
class LinearizedRun(Run):
    """A recipe in training on its linearized model: the same batches, optimizer, learning rates and steps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # Which learning rate a parameter has is its own model's to say; the linearized one has the same names.
        multipliers = lr_multipliers(self.model, self.recipe.optimizer.name)
        self.model = self.logits = linearize(self.model.eval())
        self.copies = None
        self.optimizer = build_optimizer(self.model, self.recipe.optimizer, multipliers)


@measures.register("linearized_training")
def measure_linearized_training(context: MeasureContext) -> Mapping[str, float]:
    """Test and training figures of the model linearized at initialization, trained as the trial's recipe says.

    `mlptheory.measures.linearize` of the net before its first step, with the recipe's own optimizer, batches, loss and
    number of steps: ``linearized_accuracy`` and ``linearized_loss`` on the test set, ``linearized_train_accuracy`` and
    ``linearized_train_loss`` over the last epoch's batches; ``linearized_gap``, the net's logits less the linearized
    one's over the net's less those before the first step, norms over all test images. NaN if it diverged. Its forward
    pass is in the precision of its weights, also where the recipe's is bfloat16.

    Raises
    ------
    InputError
        If the recipe starts from a parent, or the model has dropout or batch normalization.
    """
    model, recipe = trained_model(context, "linearized_training")
    device = str(next(model.parameters()).device)
    names = ("accuracy", "loss", "train_accuracy", "train_loss", "gap")
    with autocast("float32", device):
        run = LinearizedRun(recipe, context.examples, device, recipe.precision)
        run_to_end(run, (), None, math.inf, None)
        if run.diverged():
            return {f"linearized_{name}": math.nan for name in names}
        evaluated = run.evaluate("test")
        gap = _gap(context, model, run.model, initial_model(context, "linearized_training"))
    last = {quantity: value for _, _, quantity, value in run.history}
    found = (evaluated.top1, evaluated.loss, last["train_accuracy"], last["train_loss"], gap)
    return {f"linearized_{name}": value for name, value in zip(names, found, strict=True)}


def _gap(context: MeasureContext, model: nn.Module, linearized: nn.Module, before: nn.Module) -> float:
    """Return how far a net's logits are from its linearized model's, over how far they are from those it began with."""
    logits = []
    for net in (model, linearized, before):
        with evaluating(net):
            logits.append(logits_of_test_images(net, context.examples, context.recipe.data).cpu().double())
    return ((logits[0] - logits[1]).norm() / (logits[0] - logits[2]).norm()).item()
