"""Hooks of mkdocs: the reference, generated from the code, and a check that nothing is fetched.

A page says where a part goes with a line `<!-- generated: NAME -->`; no copy is kept.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import reference

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "tests" / "benchmarks" / "RESULTS.md"
MARK = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio)\b[^>]*?\bsrc=["']?(?:https?:)?//"""
    r"""|<link\b(?![^>]*\brel=["']?(?:canonical|next|prev))[^>]*?\bhref=["']?(?:https?:)?//"""
    r"""|url\(["']?(?:https?:)?//""",
    re.IGNORECASE,
)


def results() -> str:
    """The measured results, kept beside the benches; without their title."""
    text = RESULTS.read_text(encoding="utf-8")
    return text.partition("\n")[2].replace("../../docs/", "")


def gpu_checks() -> str:
    """The table of checks on a GPU, kept beside them."""
    text = (ROOT / "tests" / "gpu" / "README.md").read_text(encoding="utf-8")
    return "\n".join(line for line in text.splitlines() if line.startswith("|"))


PARTS: dict[str, Callable[[], str]] = {
    **reference.PARTS,
    "results": results,
    "gpu_checks": gpu_checks,
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the generated parts of a page; KeyError for a part that there is not."""
    return MARK.sub(lambda found: PARTS[found[1]](), markdown)


def on_post_build(config: Any) -> None:
    """Refuse a site that would fetch anything from a network when it is read."""
    if found := list(fetched(Path(config.site_dir))):
        raise SystemExit("the documentation would fetch from a network: " + "; ".join(found))


def fetched(site: Path) -> Iterator[str]:
    """What the pages and style sheets of a site fetch from elsewhere, each with its file."""
    for path in sorted((*site.rglob("*.html"), *site.rglob("*.css"))):
        for found in FETCHED.findall(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(site)}: {found}"
