"""BibTeX entries of the sources that claims and methods cite."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib import resources

from mlptheory.base import unknown_name

_ENTRY = re.compile(r"^@\w+\{([^,\s]+),.*?^\}$", re.MULTILINE | re.DOTALL)


@cache
def _entries() -> dict[str, str]:
    text = resources.files("mlptheory.reports").joinpath("references.bib").read_text(encoding="utf-8")
    return {match.group(1): match.group(0) for match in _ENTRY.finditer(text)}


def bibtex(keys: Iterable[str]) -> str:
    """Return the BibTeX entries of some keys, in the order given, each once.

    Parameters
    ----------
    keys : iterable of str
        Names in ``mlptheory/reports/references.bib``; "mlptheory" is the package itself.

    Returns
    -------
    str
        Entries separated by an empty line, ending in a newline; empty for no keys.

    Raises
    ------
    InputError
        For an unknown key, with the nearest ones.

    Examples
    --------
    >>> print(bibtex(["Zhang2018"]).splitlines()[0])
    @inproceedings{Zhang2018,
    """
    entries = _entries()
    chosen = []
    for name in dict.fromkeys(keys):
        if name not in entries:
            raise unknown_name("bibtex key", name, entries)
        chosen.append(entries[name])
    return "".join(f"{entry}\n" if place == 0 else f"\n{entry}\n" for place, entry in enumerate(chosen))
