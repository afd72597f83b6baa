"""The report in a browser: nothing runs off a phone's screen, tables sort, text can be copied."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evo import history
from evo.report import write
from tests.evo.synthetic_ledger import ledger

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no chromium is installed (apt-get install chromium)"
    ),
]

# Of what is neither within something that scrolls by itself nor inside a drawing.
BEYOND = """() => [...document.querySelectorAll("main *")]
    .filter((one) => !one.closest("svg") && !one.parentElement.closest(".scroll, .tall, pre"))
    .filter((one) => one.getBoundingClientRect().right > innerWidth + 0.5)
    .map((one) => `${one.tagName} ${one.className}`)"""
CLIPPED = """() => [...document.querySelectorAll("#comparison text, #learning text, #progress text")]
    .filter((one) => {
        const box = one.getBoundingClientRect();
        return box.width && (box.left < -0.5 || box.right > innerWidth + 0.5);
    })
    .map((one) => one.textContent)"""
PANELS = """() => [...document.querySelectorAll("#comparison .plotly .bg, #comparison .bglayer .bg")]
    .map((one) => one.getBoundingClientRect()).map(({left, width}) => [left, width])"""
COLUMN = """(place) => [...document.querySelectorAll("#individuals tbody tr")]
    .map((row) => row.cells[place].dataset.value)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # chromium refuses root otherwise
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield found
        found.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    facts = ledger(objectives=("target/loss", "general/loss", "jargon/chrf"))
    for fact in facts:
        for name in ("prompt", "reference", "output"):
            for sample in (fact.get("details") or {}).get("samples", ()):
                sample[name] += " and a word_that_has_no_place_to_be_broken_at" * 3
    path = tmp_path_factory.mktemp("run") / "report.html"
    write(facts, path)
    return path


def opened(browser: Any, report: Path, width: int) -> Any:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(report.as_uri())
    page.wait_for_selector("#cost .main-svg")
    return page


@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_runs_off_the_screen(browser: Any, report: Path, width: int) -> None:
    page = opened(browser, report, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(BEYOND) == []
    assert page.evaluate(CLIPPED) == []
    panels = page.evaluate(PANELS)
    assert len(panels) == 3
    lefts = {round(left) for left, _ in panels}
    assert len(lefts) == (1 if width == 400 else 3)  # below one another, or side by side
    assert all(wide > 180 for _, wide in panels)
    cells = page.locator(".samples td").evaluate_all(
        "(all) => all.map((one) => one.getBoundingClientRect().width)"
    )
    assert min(cells) > (300 if width == 400 else 80)
    assert page.errors == []
    page.close()


def test_the_table_of_individuals_sorts_by_each_heading_and_is_copied_as_csv(
    browser: Any, report: Path
) -> None:
    page = opened(browser, report, 1400)
    head = page.locator("#individuals th button")
    place = head.all_text_contents().index("target/loss")
    head.nth(place).click()
    rising = [float(value) for value in page.evaluate(COLUMN, place) if value]
    assert rising == sorted(rising)
    assert page.evaluate(COLUMN, place)[-1] == ""  # what failed stands last, both ways
    head.nth(place).click()
    assert [float(v) for v in page.evaluate(COLUMN, place) if v] == rising[::-1]
    assert page.evaluate(COLUMN, place)[-1] == ""
    text = page.evaluate("csv(document.getElementById('individuals'))")
    lines = text.splitlines()
    assert lines[0].startswith("individual,what,target/loss")
    assert len(lines) == 1 + len(set(history.search_rows(ledger())["individual"]))
    page.locator('button[data-copy="copy-2"]').click()
    page.wait_for_selector('button[data-copy="copy-2"]:text("copied")')
    assert page.errors == []
    page.close()
