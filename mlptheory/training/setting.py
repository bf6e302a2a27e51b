"""What stays as it is while a recipe's model trains: the recipe, its data, the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from mlptheory.base.configuration import to_plain
from mlptheory.base.errors import invalid
from mlptheory.base.files import canonical_json, sha256
from mlptheory.data import Dataset, Loader
from mlptheory.models import count_macs, model_from_config
from mlptheory.models.strict_loading import refuse_other_tensors
from mlptheory.training.budget import budget_steps
from mlptheory.training.device import weight_dtype
from mlptheory.training.evaluation import Evaluation, evaluate
from mlptheory.training.examples import Examples
from mlptheory.training.observation import HistoryRow, Observer, TrainingState
from mlptheory.training.observation import observers as registered_observers
from mlptheory.training.parallel import package_digest, weights_digest
from mlptheory.training.recipe import Recipe

_HEAD = "head."


def build_recipe_model(recipe: Recipe, examples: Examples) -> nn.Module:
    """Build a recipe's model for its examples, on the CPU in float32, with the weights that its seed draws.

    Examples
    --------
    >>> from mlptheory.training import prepare_examples
    >>> recipe = Recipe()
    >>> build_recipe_model(recipe, prepare_examples(recipe.data, recipe.seed)).num_classes
    10
    """
    return model_from_config(
        recipe.model,
        image_size=examples.image_size,
        channels=examples.train.image_shape[0],
        num_classes=examples.train.num_classes,
        seed=recipe.seed,
    )


@dataclass
class Setting:
    """A recipe with its data, on a device, in the precision that it came to there; and what its observers remember."""

    recipe: Recipe
    examples: Examples
    device: str
    precision: str
    start_weights: Mapping[str, torch.Tensor] | None = None
    memories: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict, init=False)

    def initial_model(self) -> nn.Module:
        """Build the model with the weights it has before the first step."""
        model = build_recipe_model(self.recipe, self.examples)
        model = model.to(self.device, weight_dtype(self.precision))
        if self.start_weights is not None:
            self._start_from(self.start_weights, model)
        return model

    def _start_from(self, weights: Mapping[str, torch.Tensor], model: nn.Module) -> None:
        """Give a model its parent's weights, all or those of the body."""
        own = model.state_dict()
        if self.recipe.start == "body":
            weights = {name: value for name, value in weights.items() if not name.startswith(_HEAD)}
            weights |= {name: value for name, value in own.items() if name.startswith(_HEAD)}
        refuse_other_tensors(
            f"start_weights: not those of {self.recipe.model.name!r} at {self.examples.image_size} pixels and "
            f"{self.examples.train.num_classes} classes (data.image_size sets the pixels, start = 'body' leaves the "
            "head out)",
            weights,
            own,
        )
        model.load_state_dict(weights)

    def training_loader(self) -> Loader:
        """Return the loader of the training batches."""
        recipe = self.recipe
        return Loader(
            self.examples.train,
            batch_size=recipe.budget.batch_size,
            seed=recipe.seed,
            augmentation=recipe.augmentation,
            normalization=self.examples.normalization,
            image_size=recipe.data.image_size,
            pixel_permutation=recipe.data.pixel_permutation,
            permute=recipe.data.permute,
            drop_last=recipe.budget.drop_last,
            order=recipe.data.order,
            device=self.device,
            dtype=weight_dtype(self.precision),
        )

    def count_steps(self, model: nn.Module, input_shape: tuple[int, int, int]) -> int:
        """Return the optimizer steps that the budget pays for."""
        of_compute = self.recipe.budget.unit == "compute"
        macs = count_macs(model, input_shape) if of_compute else None
        return budget_steps(self.recipe.budget, len(self.examples.train), macs)

    def dataset(self, split: str) -> Dataset:
        """Return the test or the validation set."""
        found = {"test": self.examples.test, "validation": self.examples.validation}.get(split)
        if found is None:
            raise invalid("split", split, "'test', or 'validation' where data.validation carves one out")
        return found

    @property
    def splits(self) -> list[str]:
        """The sets that a trained model is evaluated on."""
        return ["test"] + (["validation"] if self.examples.validation is not None else [])

    def evaluate_model(self, model: nn.Module, split: str) -> Evaluation:
        """Evaluate a model on "test" or "validation"."""
        return evaluate(
            model,
            self.dataset(split),
            normalization=self.examples.normalization,
            image_size=self.recipe.data.image_size,
            pixel_permutation=self.recipe.data.pixel_permutation,
            permute=self.recipe.data.permute,
            loss=self.recipe.loss,
            precision=self.precision,
        )

    def look(
        self,
        due: Sequence[Observer],
        model: nn.Module,
        optimizer_state: Mapping[str, Any],
        step: int,
        epoch: int,
        history: Sequence[HistoryRow],
    ) -> list[HistoryRow]:
        """Let observers look at a model in training; return what they saw."""
        seen = TrainingState(
            model=model,
            step=step,
            epoch=epoch,
            optimizer_state=optimizer_state,
            evaluate=lambda split: self.evaluate_model(model, split),
            initial_parameters=lambda: dict(self.initial_model().named_parameters()),
            recipe=replace(self.recipe, precision=self.precision),
            examples=self.examples,
            history=tuple(history),
            memory={},
        )
        rows = []
        for observer in due:
            state = replace(seen, memory=self.memories.setdefault(canonical_json(to_plain(observer)), {}))
            found = registered_observers[observer.name](state, **dict(observer.parameters))
            rows.extend((step, epoch, quantity, float(value)) for quantity, value in found.items())
        return rows

    def ingredients(self, model: nn.Module, specifications: Sequence[Observer]) -> dict[str, str]:
        """Return the digests of all that processes must have alike to train a model together."""
        return {
            "code or version of torch": package_digest(),
            "device": torch.device(self.device).type,
            "training data": self.examples.train.digest,
            "test data": self.examples.test.digest,
            "recipe or start weights": self.identity(specifications),
            "initial weights": weights_digest(model),
        }

    def identity(self, specifications: Sequence[Observer]) -> str:
        """Digest all that decides a run: a checkpoint of anything else is not resumed."""
        start = {} if self.start_weights is None else self.start_weights
        parts = [self.recipe.to_plain(), self.precision, to_plain(list(specifications))]
        parts += [part.identity for part in (self.examples.train, self.examples.test)]
        # Sorted, as weights that are read from a file come in another order in every process.
        for name, tensor in sorted(start.items()):
            content = tensor.detach().cpu().reshape(-1).view(torch.uint8)
            parts.append([name, sha256(content.numpy().tobytes())])
        return sha256(canonical_json(parts))
