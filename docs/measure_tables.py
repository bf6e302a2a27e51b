"""A Sphinx directive that lists the measures of a topic with their conventions, from the code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from mlptheory import measures
from mlptheory.base import unknown_name

TOPICS = {
    "ntk": ("ntk",),
    "kernels": ("evolution", "kernel_regression", "kernel_similarity", "linearization"),
    "infinite width": ("infinite_width",),
    "eigenlearning": ("eigenlearning", "modes", "power_laws"),
    "curvature": ("curvature",),
    "noise": ("noise", "per_example_gradients", "signal_to_noise"),
    "locality": ("filters", "locality", "locality_over_nets", "surrogates"),
    "symmetry": ("symmetry", "transport"),
    "similarity": ("agreement", "connectivity", "hidden_units", "matching", "similarity"),
    "representation": ("collapse", "feature_learning", "margin", "neighbors", "spectra", "weight_change", "weights"),
    "compute": ("compute", "excess", "macs"),
}
"""The files of mlptheory.measures, or of a folder in it, that hold each topic's measures."""


def measures_of(topic: str) -> list[Callable]:
    """Return the public functions of a topic, by name."""
    if topic not in TOPICS:
        raise unknown_name("topic", topic, TOPICS)
    functions = [getattr(measures, name) for name in measures.__all__]
    return sorted(
        (one for one in functions if inspect.isfunction(one) and topic_of(one) == topic), key=lambda one: one.__name__
    )


def topic_of(measure: Callable) -> str | None:
    """Return the topic that a measure belongs to; None if there is none."""
    parts = set(measure.__module__.split("."))
    return next((topic for topic, files in TOPICS.items() if parts.intersection(files)), None)


def topic_text(topic: str) -> str:
    """Return every measure of a topic, what it returns and by which convention, as a definition list in Markdown."""
    return "\n\n".join(
        f"`{measure.__name__}`\n: {_summary(measure)}\n  *Convention:* {measure.convention}."
        for measure in measures_of(topic)
    )


def _summary(measure: Callable) -> str:
    """Return the first line of a docstring, its formulas as Markdown has them."""
    return re.sub(r":math:`([^`]*)`", r"$\1$", inspect.getdoc(measure).splitlines()[0])


class MeasuresOf(SphinxDirective):
    """Shows the measures of the topic named by the argument."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the parsed text."""
        return self.parse_text_to_nodes(topic_text(self.arguments[0]))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("measures-of", MeasuresOf)
    return {"parallel_read_safe": True}
