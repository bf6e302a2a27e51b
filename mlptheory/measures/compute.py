"""What a forward pass and a training run cost, in the two conventions in use.

A multiply-accumulate (MAC) is one product and one sum: 2 floating-point operations. The paper's "FLOPs" are MACs
(Table 7 of Bachmann, Anagnostidis & Hofmann 2023: 66.8 M for a model of 66.89 M parameters).
"""

from __future__ import annotations

from dataclasses import dataclass

from mlptheory.base.configuration import require_integer
from mlptheory.models import count_macs

__all__ = ["TrainingCompute", "count_macs", "training_compute"]


@dataclass(frozen=True)
class TrainingCompute:
    """The cost of a training run in both conventions.

    Attributes
    ----------
    paper_macs : int
        C = MACs per example · 3 · examples seen, the paper's compute (it calls the unit FLOP): one forward pass and
        a backward pass of twice its cost.
    flops_6pnt : int
        6 · parameters · examples seen, floating-point operations in the convention of the scaling-law literature.
    """

    paper_macs: int
    flops_6pnt: int


def training_compute(*, macs: int, parameters: int, examples: int, epochs: int = 1) -> TrainingCompute:
    """Return the cost of training, by the paper's C and by 6PNT.

    Parameters
    ----------
    macs : int
        Of one example's forward pass, as `count_macs` counts them.
    parameters : int
        P, all of them.
    examples : int
        N per epoch.
    epochs : int
        T.

    Returns
    -------
    TrainingCompute

    Examples
    --------
    >>> training_compute(macs=100, parameters=110, examples=10, epochs=2)
    TrainingCompute(paper_macs=6000, flops_6pnt=13200)
    """
    for argument, value in (("macs", macs), ("parameters", parameters), ("examples", examples), ("epochs", epochs)):
        require_integer(argument, value, 0)
    return TrainingCompute(paper_macs=macs * 3 * examples * epochs, flops_6pnt=6 * parameters * examples * epochs)
