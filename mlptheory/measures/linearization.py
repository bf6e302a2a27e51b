"""The linearized model: a network's first-order Taylor polynomial in its parameters, as a module that can be trained.

The product with the Jacobian is taken in forward mode, through operations whose products and derivatives are right.
"""

from __future__ import annotations

import copy
import functools
import warnings

import torch
from torch import nn
from torch.func import functional_call, jvp

from mlptheory.base.errors import InputError
from mlptheory.measures.convention import convention
from mlptheory.measures.elementary_operations import elementary_operations
from mlptheory.measures.evaluation_copy import (
    device_of,
    exact_arithmetic,
    refuse_dependence_on_the_batch,
    trained_parameters,
)

_PRECISIONS = (torch.float32, torch.float64)


class LinearizedModel(nn.Module):
    r"""The model :math:`f(x; \theta_0) + J(x; \theta_0) (\theta - \theta_0)`, with θ to be trained.

    Made by `linearize`, which says what it computes.

    Parameters
    ----------
    model : nn.Module
        At θ₀; copied.

    Attributes
    ----------
    linearization_point : nn.Module
        Holds θ₀ as buffers, by the parameters' names with "/" in place of ".".
    """

    @torch.inference_mode(False)
    def __init__(self, model: nn.Module):
        super().__init__()
        refuse_dependence_on_the_batch(model)
        copied, architecture = copy.deepcopy(model).eval(), copy.deepcopy(model).eval()
        self._trained = tuple(trained_parameters(copied))
        for name, child in copied._modules.items():
            self.add_module(name, child)
        for name, parameter in copied._parameters.items():
            self.register_parameter(name, parameter)
        for name, buffer in copied._buffers.items():
            self.register_buffer(name, buffer, persistent=name not in copied._non_persistent_buffers_set)
        self._names = _names_by_place(self)
        values = dict(self.named_parameters())
        for name, value in values.items():
            if value.dtype not in _PRECISIONS:
                raise InputError(f"model: parameter {name!r} is {value.dtype}; expected float32 or float64")
        self.linearization_point = nn.Module()
        for name in self._trained:
            self.linearization_point.register_buffer(name.replace(".", "/"), values[name].detach().clone())
        # In a list, not to be registered; without numbers of its own, so that none can be used by mistake.
        self._architecture = [architecture.to("meta")]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the linearized outputs.

        Parameters
        ----------
        x : Tensor of shape (N, ...)
            As the model takes it; float32 or float64 if it is floating-point.

        Returns
        -------
        Tensor of shape (N, ...)
            As the model's.
        """
        if x.is_floating_point() and x.dtype not in _PRECISIONS:
            raise InputError(f"x: expected float32 or float64, found {x.dtype}")
        recording = torch.is_grad_enabled()
        with exact_arithmetic(device_of(self, x)), torch.set_grad_enabled(recording):
            parameters = dict(self.named_parameters())
            point = {name: self.linearization_point.get_buffer(name.replace(".", "/")) for name in self._trained}
            change = {name: parameters[name] - value for name, value in point.items()}
            outputs, tangent = self._products(point, change, x.clone() if x.is_inference() else x)
            return outputs + tangent

    def _products(
        self, point: dict[str, torch.Tensor], change: dict[str, torch.Tensor], x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return f(x; θ₀) and J(x; θ₀) times the change."""
        constants = {name: value.detach() for name, value in self.named_parameters() if name not in point}
        constants.update(self.named_buffers())

        def outputs_at(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
            values = {**constants, **parameters}
            placed = {place: values[name] for place, name in self._names.items()}
            with elementary_operations():
                outputs = functional_call(self._architecture[0], placed, (x,), tie_weights=False)
            if not isinstance(outputs, torch.Tensor):
                raise InputError(f"model: expected one tensor of outputs, found {type(outputs).__name__}")
            return outputs

        _load_forward_mode()
        return jvp(outputs_at, (point,), (change,))


@convention(
    "first-order Taylor polynomial, at the model's present parameters, of its outputs before any softmax, in all "
    "parameters that require a gradient; the model in evaluation mode; nothing divided by width or number of outputs"
)
def linearize(model: nn.Module) -> LinearizedModel:
    r"""Return the model linearized in its parameters, around those it has now.

    .. math:: f_\text{lin}(x; \theta) = f(x; \theta_0) + J(x; \theta_0) (\theta - \theta_0), \quad
              J = \frac{\partial f}{\partial \theta} \bigg|_{\theta_0}

    Lee et al. (2019), "Wide neural networks of any depth evolve as linear models under gradient descent". θ are the
    parameters that require a gradient: an independent copy, of the same names, starting at θ₀, to be handed to any
    optimizer. Frozen ones stay parameters and count as constants, as do running statistics. Gradients in θ are
    :math:`J(x; \theta_0)^\top` times those at the outputs; the Hessian of a loss is its Gauss-Newton matrix.

    The copy is in evaluation mode whatever `train()` says. Its forward pass is in the precision of its parameters, be
    there autocast or TF32 or not (a backward pass through it follows TF32, if that is allowed); ``.double()`` and
    ``.to(device)`` work as on any module. Its forward pass is one of the model and a Jacobian-vector product.

    Parameters
    ----------
    model : nn.Module
        Left as it is. Its operations need derivatives in forward mode, as almost all have (torch says so of those that
        lack them). Parameters in float32 or float64.

    Returns
    -------
    LinearizedModel
        Its state dict has the model's entries and θ₀, under "linearization_point.", with "/" for "." in the names.

    Raises
    ------
    InputError
        If the model has train-mode BatchNorm or dropout, or no parameter that requires a gradient, or parameters of
        lower precision; when called, if inputs are of lower precision or the outputs are not one tensor.

    Examples
    --------
    Of w² at w = 3 the tangent is 9 + 6 (w - 3), at w = 4 that is 15:

    >>> class Square(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.w = nn.Parameter(torch.tensor(3.0))
    ...     def forward(self, x):
    ...         return self.w**2 * x
    >>> linearized = linearize(Square())
    >>> with torch.no_grad():
    ...     linearized.w.fill_(4.0).item(), linearized(torch.ones(1)).item()
    (4.0, 15.0)
    """
    return LinearizedModel(model)


def _names_by_place(model: nn.Module) -> dict[str, str]:
    """Return for every place that holds a parameter or buffer, once for a shared module, the name that counts."""
    first = {id(value): name for name, value in (*model.named_parameters(), *model.named_buffers())}
    return {
        f"{path}.{name}" if path else name: first[id(value)]
        for path, module in model.named_modules()
        for name, value in (*module._parameters.items(), *module._buffers.items())
        if value is not None
    }


@functools.cache
def _load_forward_mode() -> None:
    """Have torch script its rules, which it does at the first use, warning that its own scripting is deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        jvp(torch.sin, (torch.zeros(()),), (torch.zeros(()),))
