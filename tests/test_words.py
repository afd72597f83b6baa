"""Docstrings open with a sentence that stands without the signature of what they describe."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("evo", "fitness", "population", "tests")
# A docstring that opens with one of these completes the name of the function instead.
BARE = {"What", "Who", "Whose", "Of", "As", "By", "With"}
DESCRIBED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def openings(path: Path) -> list[tuple[int, str]]:
    """Line and first line of each docstring in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = (node for node in ast.walk(tree) if isinstance(node, DESCRIBED))
    texts = ((getattr(node, "lineno", 1), ast.get_docstring(node)) for node in nodes)
    return [(line, text.splitlines()[0]) for line, text in texts if text]


def is_bare(opening: str) -> bool:
    return opening.split()[0].strip(".,:;") in BARE


def test_no_docstring_opens_with_a_bare_what_who_whose_of_as_by_or_with() -> None:
    offenders = [
        f"{path.relative_to(ROOT)}:{line}: {opening}"
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for line, opening in openings(path)
        if is_bare(opening)
    ]
    assert not offenders, "\n".join(["docstrings to rewrite:", *offenders])


def test_a_bare_opening_is_found(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text('"""Of a batch."""\n\nclass A:\n    """Words of it."""\n', encoding="utf-8")
    assert openings(file) == [(1, "Of a batch."), (3, "Words of it.")]
    assert [is_bare(opening) for _, opening in openings(file)] == [True, False]
