"""The rooms of the package, the arrows between them as the code has them, and their picture.

``python docs/house.py`` redraws docs/_static/house.svg; tests/test_arrows.py fails where it is out of date.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "mlptheory"
PICTURE = REPOSITORY / "docs" / "_static" / "house.svg"

# What each room may import. Every room stands on base, which stands on nothing of ours.
ALLOWED = {
    "base": (),
    "data": ("base",),
    "models": ("base",),
    "training": ("base", "data", "models"),
    "measures": ("base", "models"),
    "trials": ("base", "data", "models", "training", "measures"),
    "stats": ("base",),
    "reports": ("base",),
    "probes": ("base", "data", "models", "training", "trials", "measures", "stats", "reports"),
    "reproductions": ("base", "data", "models", "training", "trials", "measures", "stats", "reports"),
    "cli": (
        "base",
        "data",
        "models",
        "training",
        "trials",
        "measures",
        "stats",
        "reports",
        "probes",
        "reproductions",
    ),
}

# Files beside the rooms that belong to one.
ANNEXES = {
    "arguments": "cli",
    "convert_command": "cli",
    "options": "cli",
    "recipe_commands": "cli",
    "several": "cli",
}

_DOTTED_NAME = re.compile(r"mlptheory(\.\w+)+(:\w+)?")


def imports_of(source: str, module: str, is_package: bool = False) -> set[str]:
    """Return the dotted names under ``mlptheory.`` that a module's source imports, wherever in it.

    Counts statements at any depth, attributes of a bare ``import mlptheory``, and strings that are such a name in
    full, with or without ":attribute", as lazy loading and registries use them.
    """
    tree = ast.parse(source)
    package = module if is_package else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                origin = ".".join([*above, origin] if origin else above)
            # A name taken from the package itself may be a room.
            found.update(f"{origin}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute):
            found.add(ast.unparse(node))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _DOTTED_NAME.fullmatch(node.value):
            found.add(node.value.replace(":", "."))
    return {name for name in found if name.startswith("mlptheory.")}


def room_of(name: str) -> str | None:
    """Return the room a dotted name belongs to, or None where it names none."""
    parts = name.split(".")
    room = ANNEXES.get(parts[1], parts[1]) if len(parts) > 1 and parts[0] == "mlptheory" else None
    return room if room in ALLOWED else None


def modules() -> Iterator[tuple[str, Path]]:
    """Yield the dotted name and the file of every module of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def measured_arrows() -> dict[tuple[str, str], list[str]]:
    """Return, for every (importing room, imported room), the modules that do it."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for module, path in modules():
        here = room_of(module)
        for name in imports_of(path.read_text(encoding="utf-8"), module, path.name == "__init__.py"):
            there = room_of(name)
            if here and there and here != there and module not in arrows.setdefault((here, there), []):
                arrows[here, there].append(module)
    return arrows


def backward(arrows: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the arrows that the house does not allow."""
    return sorted((here, there) for here, there in arrows if there not in ALLOWED[here])


def drawn_arrows(arrows: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the arrows a picture needs: those to base and those that a longer way implies are left out."""
    needed = {(here, there) for here, there in arrows if there != "base"}
    reach = {room: {there for here, there in needed if here == room} for room in ALLOWED}

    def reaches(start: str, goal: str) -> bool:
        return any(step == goal or reaches(step, goal) for step in reach[start])

    return sorted(
        (here, there)
        for here, there in needed
        if not any(step != there and reaches(step, there) for step in reach[here])
    )


_WIDTH, _HEIGHT = 132, 58
_ROOMS = {
    "data": (20, 20, "images in"),
    "models": (20, 108, "functions"),
    "training": (190, 64, "recipe to model"),
    "measures": (190, 196, "numbers out"),
    "trials": (360, 64, "records, store"),
    "stats": (360, 196, "verdicts"),
    "reports": (360, 284, "page, figures"),
    "probes": (530, 152, "one claim a file"),
    "reproductions": (530, 240, "beside the paper"),
    "cli": (700, 152, "command line"),
}


def draw(arrows: Iterable[tuple[str, str]]) -> str:
    """Return the picture as SVG: what a room makes flows along the arrows to the rooms that import it."""
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 852 432" role="img" font-family="sans-serif">',
        "<title>The rooms of mlptheory and what flows between them</title>",
        "<style>.room{fill:#f4f6fa;stroke:#34495e;stroke-width:1.5}.arrow{stroke:#34495e;stroke-width:1.5;fill:none}"
        ".name{font-size:17px;font-weight:600;fill:#1b2733}.what{font-size:13px;fill:#44525f}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8Z" fill="#34495e"/></marker></defs>',
        '<rect width="852" height="432" fill="#ffffff"/>',
    ]
    for here, there in drawn_arrows(arrows):
        x1, y1 = _ROOMS[there][0] + _WIDTH, _ROOMS[there][1] + _HEIGHT / 2
        x2, y2 = _ROOMS[here][0], _ROOMS[here][1] + _HEIGHT / 2
        if x1 > x2:
            raise ValueError(f"{there} -> {here} would point to the left: move the rooms in docs/house.py")
        bend = min(40, (x2 - x1) / 2)
        lines.append(
            f'<path class="arrow" marker-end="url(#head)" d="M{x1} {y1:g}C{x1 + bend:g} {y1:g} {x2 - bend:g} {y2:g} '
            f'{x2} {y2:g}"><title>{there} to {here}</title></path>'
        )
    for room, (x, y, what) in _ROOMS.items():
        middle = x + _WIDTH / 2
        lines += [
            f'<rect class="room" x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>',
            f'<text class="name" x="{middle:g}" y="{y + 25}" text-anchor="middle">{room}</text>',
            f'<text class="what" x="{middle:g}" y="{y + 45}" text-anchor="middle">{what}</text>',
        ]
    lines += [
        '<rect class="room" x="20" y="366" width="812" height="46" rx="6"/>',
        '<text class="name" x="426" y="386" text-anchor="middle">base</text>',
        '<text class="what" x="426" y="403" text-anchor="middle">every room stands on it: errors, registries, '
        "keyed randomness, whole files</text>",
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(draw(measured_arrows()), encoding="utf-8")
