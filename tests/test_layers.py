"""Layers inside evo and fitness: a module imports only what stands below its own room.

Imports for type checking alone do not count. Those inside of functions do: they are still edges.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_imports import ROOT, modules

# From the bottom to the top. A room is a package or a module; those of one line are on a level
# and may not import one another.
LAYERS = {
    "fitness": """
        errors evaluators quiet secrets suggest
        facts files hardware plugins text
        checks remote
        filters methods
        recipe
        data
        cleaning mixture
        metrics
        models
        inference
        training feedback
        reward
        samples judges benchmarks
        evaluation
        cost merging buckets
        evaluate
        """,
    "evo": """
        printable significance
        places screen local_server starter
        config
        record planning
        history cluster storage
        prepare search replay
        reuse
        progress feedback
        run export
        samples
        rounds proxies
        dry_run
        report quickstart
        tracking
        launching
        api
        cli
        """,
}
LEVEL = {
    f"{package}.{room}": level
    for package, layers in LAYERS.items()
    for level, line in enumerate(layers.split("\n"))
    for room in line.split()
}


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names of what is imported, as module and as module.name, but for type checking."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports(node)


def room_of(name: str) -> str:
    return ".".join(name.split(".")[:2])


def upward(room: str, source: str) -> list[str]:
    """Rooms of its package that a source of `room` imports though they do not stand below it."""
    found = {room_of(name) for name in imports(ast.parse(source))} - {room}
    package = room.split(".")[0] + "."
    return sorted(
        other
        for other in found
        if other.startswith(package) and LEVEL.get(other, -1) >= LEVEL[room]
    )


def rooms() -> dict[Path, str]:
    """The room of each module of the two packages, but for the packages' own docstrings."""
    found = {path: path.relative_to(ROOT).with_suffix("").parts for path in modules()}
    return {
        path: ".".join(parts[:2])
        for path, parts in found.items()
        if parts[0] in LAYERS and parts[1] != "__init__"
    }


@pytest.mark.parametrize("path", rooms(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_stands_below_its_room(path: Path) -> None:
    assert upward(rooms()[path], path.read_text(encoding="utf-8")) == []


def test_every_room_is_on_a_level_and_every_level_has_rooms() -> None:
    assert set(rooms().values()) == set(LEVEL)


@pytest.mark.parametrize(
    ("room", "source", "wrong"),
    [
        ("fitness.data", "from fitness.models import base", ["fitness.models"]),
        ("fitness.data", "def f():\n    from fitness import models", ["fitness.models"]),
        ("fitness.data", "if TYPE_CHECKING:\n    from fitness import models", []),
        ("fitness.training", "import fitness.feedback.items", ["fitness.feedback"]),
        ("fitness.training", "from fitness.mixture.mixing import Rows\nimport torch", []),
        (
            "evo.search",
            "from evo.rounds import loop\nfrom fitness.evaluate import trl",
            ["evo.rounds"],
        ),
    ],
)
def test_the_check_finds_an_import_upward(room: str, source: str, wrong: list[str]) -> None:
    assert upward(room, source) == wrong


def test_no_room_has_more_than_16_modules() -> None:
    crowded = Counter(path.parent.relative_to(ROOT).as_posix() for path in modules())
    assert {folder: n for folder, n in crowded.items() if n > 16} == {}
