import dataclasses
import json
import subprocess
import sys

import pytest

from mlptheory.base import InputError
from mlptheory.models import ModelConfig


def test_it_goes_to_json_and_back():
    config = ModelConfig(name="S-6/Wi-64", activation="gelu", dropout=0.25, skip=True, parametrization="mup")
    assert ModelConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


@pytest.mark.parametrize(
    ("options", "activation", "skip"),
    [
        ({"name": "S-6/Wi-8"}, "relu", False),
        ({"name": "S-6/Wi-8", "variant": "authors"}, "gelu", False),
        ({"name": "S-6/Wi-8", "skip": True, "activation": "gelu"}, "gelu", True),
        ({"name": "B-6/Wi-8"}, "gelu", True),
        ({"name": "B-6/Wi-8", "skip": False, "activation": "relu"}, "relu", False),
        ({"name": "CNN-3/Wi-8"}, "gelu", False),
        ({"name": "MLP-3/Wi-8"}, "relu", False),
        ({"name": "MLP-3/Wi-8", "skip": False, "activation": "tanh"}, "tanh", False),
        ({"name": "ResNet-18", "norm": "batch"}, "relu", True),
        ({"name": "ResNet-152", "norm": "batch", "activation": "relu", "skip": True}, "relu", True),
    ],
)
def test_what_is_left_open_is_the_architectures_choice(options, activation, skip):
    resolved = ModelConfig(**options).resolved()
    assert (resolved.activation, resolved.skip) == (activation, skip)
    assert resolved.resolved() == resolved


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "layr"}, "norm = 'layr': unknown; did you mean 'layer'? (allowed: layer, batch, none)"),
        ({"norm": None}, "norm = None: unknown; did you mean 'none'? (allowed: layer, batch, none)"),
        ({"activation": "sine"}, "activation = 'sine': unknown (allowed: gelu, relu, tanh)"),
        ({"name": "ResNet-18", "norm": "batch", "activation": "tanh"}, "activation = 'tanh': expected None or 'relu'"),
        ({"parametrization": "muP"}, "did you mean 'mup'? (allowed: standard, ntk, mup)"),
        ({"variant": "author"}, "did you mean 'authors'? (allowed: paper, authors)"),
        ({"dropout": 1.0}, "dropout = 1.0: expected a probability in [0, 1)"),
        ({"dropout": -0.1}, "dropout = -0.1: expected a probability in [0, 1)"),
        ({"dropout": float("nan")}, "dropout = nan: expected a probability in [0, 1)"),
        ({"dropout": "0.1"}, "dropout = '0.1': expected a probability in [0, 1)"),
        ({"skip": 1}, "skip = 1: expected True, False or None"),
        ({"output_scale": 0.0}, "output_scale = 0.0: expected a finite number above 0"),
        ({"output_scale": float("inf")}, "output_scale = inf: expected a finite number above 0"),
        ({"base_width": 0}, "base_width = 0: expected an integer of at least 1"),
        ({"base_width": 256.0}, "base_width = 256.0: expected an integer of at least 1"),
        ({"base_width": True}, "base_width = True: expected an integer of at least 1"),
        ({"name": "CNN-3/Wi-32", "skip": True}, "skip = True: expected False or None for 'CNN-3/Wi-32'"),
        ({"name": "CNN-3/Wi-32", "variant": "authors"}, "variant = 'authors': expected 'paper' for 'CNN-3/Wi-32'"),
        ({"name": "MLP-3/Wi-32", "skip": True}, "skip = True: expected False or None for 'MLP-3/Wi-32'"),
        ({"name": "MLP-3/Wi-32", "variant": "authors"}, "variant = 'authors': expected 'paper' for 'MLP-3/Wi-32'"),
        ({"name": "B-x/Wi-32"}, "model = 'B-x/Wi-32': malformed name"),
    ],
)
def test_bad_values_are_refused_at_the_door(options, message):
    with pytest.raises(InputError) as caught:
        ModelConfig(**options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_configurations_need_no_torch():
    code = (
        "import sys, mlptheory.models as models\n"
        "models.ModelConfig(name='S-6/Wi-1024').resolved(); models.parse_name('B-6/Wi-512'); list(models.models)\n"
        "sys.exit(bool({'torch', 'pandas', 'scipy'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
