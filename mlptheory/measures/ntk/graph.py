"""Which parameters outputs hang on by other ways than through given layers: read off autograd's graph, not off numbers.

A gradient that happens to vanish on the examples that are looked at hides a use of a parameter; the graph does not.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.autograd.graph import GradientEdge, Node


def leaves_beside(
    outputs: torch.Tensor, calls: Iterable[tuple[GradientEdge, GradientEdge | None]]
) -> list[torch.Tensor]:
    """Return the leaves that are reached from outputs without going through a layer's own computation.

    Parameters
    ----------
    outputs : Tensor
    calls : iterable of (GradientEdge, GradientEdge or None)
        Of each call of a layer the output, and the input if it is on the graph: the way goes on from there.
    """
    if outputs.grad_fn is None:
        return []
    inputs: dict[Node, list[Node]] = {}
    for output, source in calls:
        inputs.setdefault(output.node, []).extend([] if source is None else [source.node])
    leaves, waiting = [], [outputs.grad_fn]
    seen: set[Node] = set()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in inputs:
            waiting += inputs[node]
        elif (leaf := getattr(node, "variable", None)) is not None:
            leaves.append(leaf)
        else:
            waiting += [before for before, _ in node.next_functions if before is not None]
    return leaves
