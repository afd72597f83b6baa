"""Examples: the notebook, run by Jupyter's own kernel, and the strategies as a library."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.evo.driving import ROOT

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"


def text_of(cell: Any, kind: str) -> str:
    return "".join(str(one["data"].get(kind, "")) for one in cell.outputs if "data" in one)


@pytest.mark.slow
def test_the_notebook_runs_and_shows_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, resources=where).execute()
    _, launched, progress, mixture, closing, said, history = (
        cell for cell in notebook.cells if cell.cell_type == "code"
    )
    page = text_of(launched, "text/html")
    assert "finished" in page
    assert "target/loss" in page
    for figure in (progress, mixture):
        assert "'data': [{" in text_of(figure, "application/vnd.plotly.v1+json")
    assert "only jargon" in text_of(closing, "text/html")
    assert said.outputs[-1]["text"].startswith("A hacker is")
    assert "expert: jargon" in text_of(history, "text/html")


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert not any(cell.get("outputs") for cell in cells)


def test_the_strategies_run_as_a_library_as_the_page_says() -> None:
    page = (ROOT / "docs/how-to/plugins.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], names)
    assert names["asked"].id == 31
    assert names["strategy"].possible_parents()
