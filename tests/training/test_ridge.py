"""The ridge probe against scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from mlptheory.base import InputError
from mlptheory.data import Loader
from mlptheory.models import build
from mlptheory.training import DataConfig, prepare_examples, ridge_probe


@pytest.mark.parametrize("penalty", [1e-6, 1e-2, 10.0])
@pytest.mark.parametrize("name", ["B-1/Wi-24", "S-2/Wi-80"])
def test_it_predicts_what_ridge_regression_predicts(penalty, name):
    data = DataConfig(n=300, validation=100)
    model = build(name, image_size=8, channels=1, num_classes=3, seed=2).double()
    found = ridge_probe(model, data, penalties=[penalty])
    examples = prepare_examples(data, 0)

    def features(part):
        loader = Loader(
            part, batch_size=len(part), normalization=examples.normalization, shuffle=False, dtype=torch.float64
        )
        batch = next(loader.batches(epoch=0))
        return list(model.intermediates(batch.inputs).values())[-2].detach().numpy(), batch.targets.numpy()

    z, y = features(examples.train)
    strength = penalty * z.var(axis=0).mean() * len(z)
    regression = Ridge(alpha=strength).fit(z, np.eye(10)[y])
    inputs, labels = features(examples.test)
    predicted = regression.predict(inputs).argmax(axis=1)
    assert np.array_equal(found.predictions, predicted)
    assert found.test_accuracy == np.mean(predicted == labels)
    inputs, labels = features(examples.validation)
    assert found.validation_accuracy == np.mean(regression.predict(inputs).argmax(axis=1) == labels)
    assert (found.n, found.n_validation, found.n_test) == (300, 100, 600)


def test_the_penalty_is_the_best_on_validation_and_the_largest_of_equals():
    model = build("B-1/Wi-24", image_size=8, channels=1, num_classes=10)
    data = DataConfig(n=100, validation=50)
    each = {penalty: ridge_probe(model, data, penalties=[penalty]) for penalty in (1e-7, 1e-3, 0.1, 1e6)}
    best = max(found.validation_accuracy for found in each.values())
    expected = max(penalty for penalty, found in each.items() if found.validation_accuracy == best)
    assert ridge_probe(model, data, penalties=list(each)).penalty == expected
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_it_needs_a_validation_set_and_penalties_above_0():
    model = build("B-1/Wi-8", image_size=8, channels=1, num_classes=10)
    with pytest.raises(InputError, match=r"data\.validation = 0"):
        ridge_probe(model, DataConfig())
    with pytest.raises(InputError, match="penalties = 0"):
        ridge_probe(model, DataConfig(validation=10), penalties=[0])
