"""A kept run looked at again: with test-time augmentation, or against reassessed labels."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch

from mlptheory.base.configuration import require_choice
from mlptheory.base.errors import InputError
from mlptheory.training import (
    TestTimeAugmentation,
    build_recipe_model,
    data_digest,
    default_device,
    evaluate,
    prepare_examples,
)
from mlptheory.training.device import weight_dtype
from mlptheory.trials.environment import describe_environment
from mlptheory.trials.kept import read_kept_run


def evaluate_run(
    folder: str | Path,
    *,
    split: str = "test",
    tta: TestTimeAugmentation | None = None,
    real_labels: Sequence[Collection[int]] | None = None,
    data_root: str | None = None,
    device: str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Evaluate the model that `run_recipe` kept in a folder, on its own dataset.

    Parameters
    ----------
    folder : path-like
    split : {"test", "validation"}
    tta : TestTimeAugmentation, optional
        Views of each image that answers are averaged over.
    real_labels : sequence of collections of int, optional
        The classes that are right for each example, as `mlptheory.training.evaluate` takes them.
    data_root : str, optional
        Where official dataset files are looked for first.
    device : str, optional
        The best that torch finds, if None.
    progress : bool
        Show a progress bar over the views.

    Returns
    -------
    dict
        Plain data: the figures ("loss" the recipe's, without smoothing, "top1", "top5" and "real" as shares, "n",
        "n_real"), and what they are of: the digest of the record and the SHA-256 of the weights, split, views, data
        digest, versions and hardware.

    Raises
    ------
    InputError
        If the folder holds no run, or other weights than its record's, or the recipe carves no validation set out.
    """
    kept = read_kept_run(folder, "run")
    recipe = kept.recipe
    require_choice("split", split, ("test", "validation"))
    examples = prepare_examples(recipe.data, recipe.seed, data_root)
    dataset = examples.test if split == "test" else examples.validation
    if dataset is None:
        raise InputError("split = 'validation': expected 'test', as the run's recipe carves no validation set out")
    model = build_recipe_model(recipe, examples)
    model.load_state_dict(safetensors.torch.load(kept.weights))
    found = evaluate(
        model.to(device or default_device(), weight_dtype(recipe.precision)),
        dataset,
        normalization=examples.normalization,
        image_size=recipe.data.image_size,
        pixel_permutation=recipe.data.pixel_permutation,
        permute=recipe.data.permute,
        loss=recipe.loss,
        precision=recipe.precision,
        tta=tta,
        real_labels=real_labels,
        progress=progress,
    )
    figures = {name: getattr(found, name) for name in ("loss", "top1", "top5", "n", "real", "n_real")}
    return {
        **figures,
        "record": kept.digest,
        "weights_sha256": kept.weights_sha256,
        "split": split,
        "tta": None if tta is None else asdict(tta),
        "data_digest": data_digest(recipe.data.name, data_root),
        "environment": describe_environment(),
    }
