import pytest
import torch
from torch import nn

from mlptheory.models import build, scale_invariant_parameters

EMBEDDING = {"embedding"}
MATRICES = {"embedding", "blocks.0.linear", "blocks.1.linear"}
CASES = [
    ("S-3/Wi-8", {}, MATRICES),
    ("S-3/Wi-8", {"parametrization": "ntk"}, MATRICES),
    ("S-3/Wi-8", {"parametrization": "mup", "base_width": 2}, MATRICES),
    ("S-3/Wi-8", {"dropout": 0.5, "output_scale": 3.0}, MATRICES),
    ("S-3/Wi-8", {"activation": "gelu"}, EMBEDDING),
    ("S-4/Wi-8", {"variant": "authors"}, MATRICES),
    ("S-4/Wi-8", {"variant": "authors", "activation": "relu"}, MATRICES),
    ("S-1/Wi-8", {}, EMBEDDING),
    ("S-1/Wi-8", {"variant": "authors"}, set()),
    ("S-3/Wi-8", {"skip": True}, set()),
    ("S-3/Wi-8", {"norm": "none"}, set()),
    ("S-3/Wi-8", {"norm": "batch"}, set()),
    ("B-2/Wi-8", {}, set()),
    ("B-2/Wi-8", {"activation": "relu"}, set()),
    ("B-3/Wi-8/E-2", {"skip": False}, {"embedding", "blocks.0.contract", "blocks.1.contract"}),
    ("B-2/Wi-8/E-2", {"skip": False, "activation": "relu"}, {"embedding", "blocks.0.contract"}),
    ("MLP-3/Wi-8", {}, {"blocks.0.linear", "blocks.1.linear"}),
    ("MLP-3/Wi-8", {"activation": "gelu"}, set()),
    ("MLP-3/Wi-8", {"activation": "tanh"}, set()),
    ("MLP-3/Wi-8", {"norm": "none"}, set()),
    ("MLP-1/Wi-8", {}, set()),
    ("CNN-2/Wi-8", {}, {"blocks.0.convolution", "blocks.1.convolution"}),
    ("CNN-2/Wi-8", {"parametrization": "ntk"}, {"blocks.0.convolution", "blocks.1.convolution"}),
    ("CNN-2/Wi-8", {"norm": "none"}, set()),
    ("CNN-2/Wi-8", {"norm": "batch"}, set()),
]


def _changed(model, inputs, names, factor):
    """Return by how much the logits change, relatively, if these parameters are scaled."""
    with torch.no_grad():
        before = model(inputs)
        for name in names:
            model.get_parameter(name).mul_(factor)
        change = (model(inputs) - before).norm() / before.norm()
        for name in names:
            model.get_parameter(name).div_(factor)
    return change.item()


@pytest.mark.parametrize("factor", [3.0, 0.5])
@pytest.mark.parametrize(("name", "options", "layers"), CASES)
def test_the_layers_named_are_scale_invariant_and_no_others(name, options, layers, factor):
    model = build(name, image_size=8, channels=2, num_classes=5, **options).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Nothing at the value it starts from, where a bias of 0 would be scale-invariant by accident.
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())))
    for module in model.modules():
        if isinstance(module, (nn.LayerNorm, nn.GroupNorm)):
            module.eps = 1e-12
    found = scale_invariant_parameters(model)
    assert set(found) == {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    inputs = torch.randn(6, 2, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if found:
        assert _changed(model, inputs, found, factor) < 1e-6
    owners = {each.rpartition(".")[0] for each, _ in model.named_parameters()}
    for owner in owners:
        change = _changed(model, inputs, [f"{owner}.weight", f"{owner}.bias"], factor)
        assert (change < 1e-6) == (owner in layers), (owner, change)


def test_with_the_real_epsilon_and_start_logits_move_by_less_than_one_in_ten_thousand():
    model = build("S-3/Wi-64", image_size=8, num_classes=10).eval()
    inputs = torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    # LayerNorm's epsilon of 1e-5 is seen beside the small variance that a matrix has at the start.
    assert _changed(model, inputs, ["embedding.weight", "embedding.bias"], 3.0) < 1e-4
    assert _changed(model, inputs, scale_invariant_parameters(model), 3.0) < 1e-3


def test_order_is_the_models_and_other_modules_have_none():
    model = build("S-3/Wi-8", image_size=8, num_classes=5)
    names = [name for name, _ in model.named_parameters()]
    found = scale_invariant_parameters(model)
    assert list(found) == sorted(found, key=names.index)
    assert scale_invariant_parameters(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))) == ()
