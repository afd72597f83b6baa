"""The report in a browser: nothing runs off a phone's screen, tables sort, text can be copied."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evo import history
from evo.report import write
from tests.evo.browsing import needs_chromium
from tests.evo.synthetic_ledger import ledger

pytestmark = [
    pytest.mark.slow,
    needs_chromium,
]

# Of what is neither within something that scrolls by itself nor inside a drawing.
BEYOND = """() => [...document.querySelectorAll("main *")]
    .filter((one) => !one.closest("svg") && !one.parentElement.closest(".scroll, .tall, pre"))
    .filter((one) => one.getBoundingClientRect().right > innerWidth + 0.5)
    .map((one) => `${one.tagName} ${one.className}`)"""
CLIPPED = """() => ["comparison", "learning", "progress"]
    .flatMap((name) => [...document.querySelectorAll(`#${name} text`)])
    .filter((one) => {
        const box = one.getBoundingClientRect();
        return box.width && (box.left < -0.5 || box.right > innerWidth + 0.5);
    })
    .map((one) => one.textContent)"""
PANELS = """() => [...document.querySelectorAll("#comparison .bglayer .bg")]
    .map((one) => one.getBoundingClientRect()).map(({left, width}) => [left, width])"""
COLUMN = """(place) => [...document.querySelectorAll("#individuals tbody tr")]
    .map((row) => row.cells[place].dataset.value)"""


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


@pytest.fixture(scope="module", params=[400, 1400])
def page(request: pytest.FixtureRequest, browser: Any, report: Path) -> Iterator[Any]:
    """The report at a width in pixels, whose scripts raise nothing in all that is done with it."""
    errors: list[str] = []
    found = browser.new_page(viewport={"width": request.param, "height": 900})
    found.set_default_timeout(180_000)  # a busy machine takes its time over 5 MB of drawing
    found.on("pageerror", lambda error: errors.append(str(error)))
    found.goto(report.as_uri())
    found.wait_for_selector("#cost .main-svg")
    yield found
    assert errors == []
    found.close()


def test_nothing_runs_off_the_screen(page: Any) -> None:
    narrow = page.viewport_size["width"] == 400
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.evaluate(BEYOND) == []
    assert page.evaluate(CLIPPED) == []
    panels = page.evaluate(PANELS)
    lefts = {round(left) for left, _ in panels}
    assert (len(panels), len(lefts)) == (3, 1 if narrow else 3)  # below one another, or beside
    assert all(wide > 180 for _, wide in panels)
    cells = page.locator(".samples td").evaluate_all(
        "(all) => all.map((one) => one.getBoundingClientRect().width)"
    )
    assert min(cells) > (300 if narrow else 80)


def test_the_table_of_individuals_sorts_by_each_heading_and_is_copied_as_csv(page: Any) -> None:
    head = page.locator("#individuals th button")
    place = head.all_text_contents().index("target/loss")
    head.nth(place).click()
    rising = [float(value) for value in page.evaluate(COLUMN, place) if value]
    assert rising == sorted(rising)
    assert page.evaluate(COLUMN, place)[-1] == ""  # what failed stands last, both ways
    head.nth(place).click()
    assert [float(v) for v in page.evaluate(COLUMN, place) if v] == rising[::-1]
    assert page.evaluate(COLUMN, place)[-1] == ""
    lines = page.evaluate("csv(document.getElementById('individuals'))").splitlines()
    assert lines[0].startswith("individual,what,target/loss")
    assert len(lines) == 1 + history.search_rows(ledger())["individual"].nunique()
    page.locator('button[data-copy="copy-2"]').click()
    page.wait_for_selector('button[data-copy="copy-2"]:text("copied")')
