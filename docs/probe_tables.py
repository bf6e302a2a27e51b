"""A Sphinx directive that lists a probe's claims and columns from the code, so that a page cannot fall behind it."""

from __future__ import annotations

from typing import ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from mlptheory.probes import (
    Augmentation,
    BatchSize,
    Locality,
    NeuralTangentKernel,
    Permutation,
    Probe,
    Sharpness,
    Transfer,
)
from mlptheory.reports import markdown_table

DESIGNS = {
    "augmentation": Augmentation(flip=True),
    "batchsize": BatchSize(cnn="CNN-3/Wi-8", lr_policies=("fixed", "linear", "sqrt", "tuned")),
    "locality": Locality(),
    "ntk": NeuralTangentKernel(),
    "transfer": Transfer(),
    "permutation": Permutation(),
    "sharpness": Sharpness(),
}
"""A design of each probe in which every one of its claims is judged."""

BOUNDS = {"greater": "above {}", "less": "below −{}", "equivalent": "within ±{}"}


def claims_text(probe: Probe) -> str:
    """Return every claim of a design as a definition list, in Markdown."""
    return "\n\n".join(
        f"`{claim.id}`\n"
        f": **{claim.statement}**\n"
        f"  Supported where the interval lies {BOUNDS[claim.direction].format(f'{claim.margin:g} {claim.unit}')}.\n"
        f"  *Estimand:* {claim.estimand}. *Test:* {claim.test}. *Source:* {claim.source}."
        for claim in probe.claims()
    )


def columns_text(probe: Probe) -> str:
    """Return every column of a probe's table as a Markdown table."""
    rows = [[f"`{column.name}`", column.description, column.unit, column.role] for column in probe.columns()]
    return markdown_table(rows, ["column", "what it holds", "unit", "role"])


class ProbeText(SphinxDirective):
    """Shows what a function makes of the design named by the argument."""

    required_arguments = 1
    makers: ClassVar = {"probe-claims": claims_text, "probe-columns": columns_text}

    def run(self) -> list[nodes.Node]:
        """Return the parsed text."""
        probe = DESIGNS[self.arguments[0]]
        return self.parse_text_to_nodes(self.makers[self.name](probe))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    for name in ProbeText.makers:
        app.add_directive(name, ProbeText)
    return {"parallel_read_safe": True}
