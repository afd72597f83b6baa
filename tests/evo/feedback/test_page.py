"""The page in a real browser, as people use it."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from fitness.feedback.items import Draft, Item
from tests.evo.browsing import needs_chromium
from tests.evo.feedback.sitting import facts, opened, run_with_samples, served

pytestmark = needs_chromium
SINGLES = [Item(f"prompt {n}", (Draft(f"draft {n}"),)) for n in range(4)]
PAIRS = [Item(f"question {n}", (Draft("left one"), Draft("right one"))) for n in range(6)]


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """A person at the page: the page, signed in under a name, each in a browser of their own."""
    contexts = []

    def visit(url: str, name: str = "Ada") -> Any:
        contexts.append(browser.new_context())
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.goto(url)
        page.fill("#name", name)
        page.press("#name", "Enter")
        page.wait_for_selector("#judge:visible, #done:visible")
        return page

    yield visit
    for context in contexts:
        context.close()


def settled(page: Any) -> None:
    page.wait_for_selector("body:not([aria-busy])")


def press(page: Any, key: str) -> None:
    page.keyboard.press(key)
    settled(page)


def shown(page: Any) -> str:
    return str(page.get_attribute("#judge", "data-item"))


def pressed(page: Any) -> list[str]:
    return [text.split()[0] for text in page.locator("[aria-pressed=true]").all_inner_texts()]


def said(folder: Path, *parts: str) -> list[Any]:
    lines = [json.loads(x) for x in (folder / "judgements.jsonl").read_text().splitlines()]
    return [[x[p] for p in parts] for x in lines if x["fact"] == "judgement"]


def test_a_draft_is_judged_in_every_way_by_the_keyboard_alone(
    tmp_path: Path, visit: Callable[..., Any]
) -> None:
    with served(tmp_path, SINGLES, labels=("dull", "long")) as server:
        page = visit(server.url)
        first = shown(page)
        press(page, "Enter")
        assert "first, or skip" in page.inner_text("#message")
        for key in ("4", "q", "e"):
            press(page, key)
        assert pressed(page) == ["4", "dull", "long"]
        press(page, "q")
        assert pressed(page) == ["4", "long"]
        page.keyboard.press("c")
        assert page.input_value("#text") == "draft 0"
        page.fill("#text", "a better draft")
        press(page, "Control+Enter")
        assert page.inner_text("#said-correction") == "a better draft"
        page.keyboard.press("w")
        page.keyboard.type("1 dull start, szc")  # none of which is a command there
        press(page, "Control+Enter")
        press(page, "Enter")
        assert shown(page) != first
        press(page, "s")
        assert said(tmp_path, "kind", "value") == [
            ["rating", 4],
            ["labels", ["dull"]],
            ["labels", ["dull", "long"]],
            ["labels", ["long"]],
            ["correction", "a better draft"],
            ["critique", "1 dull start, szc"],
            ["skip", None],
        ]
        for key in ("c", "w", "s", "z", "Enter", "q", "e"):
            assert page.locator(f"kbd:visible:text-is('{key}')").count() == 1


def test_of_two_drafts_one_is_preferred_blind(tmp_path: Path, visit: Callable[..., Any]) -> None:
    sides = set()
    with served(tmp_path, PAIRS) as server:
        page = visit(server.url)
        for _ in PAIRS[1:]:
            side = "a" if page.inner_text("#draft-a") == "right one" else "b"
            sides.add(side)
            press(page, side)
        page.click("#tie")
        page.wait_for_selector("#done:visible")
    assert [v for (v,) in said(tmp_path, "value")] == ["second"] * 5 + ["tie"]
    assert sides == {"a", "b"}


def test_undo_goes_back_several_steps(tmp_path: Path, visit: Callable[..., Any]) -> None:
    with served(tmp_path, SINGLES[:2]) as server:
        page = visit(server.url)
        first = shown(page)
        for key in ("2", "5", "Enter", "s"):
            press(page, key)
        page.wait_for_selector("#done:visible")
        press(page, "z")
        assert page.inner_text("#prompt") == "prompt 1"
        press(page, "z")
        assert (shown(page), pressed(page)) == (first, ["5"])
        press(page, "z")
        assert pressed(page) == ["2"]
        page.click("#undo")
        settled(page)
        assert pressed(page) == []
        assert page.is_disabled("#undo")
        assert server.store.standing.judgements() == []


def test_two_people_at_once_never_see_the_same_item(
    tmp_path: Path, visit: Callable[..., Any]
) -> None:
    with served(tmp_path, SINGLES) as server:
        people = [visit(server.url, name) for name in ("Ada", "Bob")]
        seen = []
        for _ in range(2):
            for page in people:
                seen.append(shown(page))
            for page in people:
                press(page, "3")
                press(page, "Enter")
        for page in people:
            page.wait_for_selector("#done:visible")
        assert sorted(seen) == sorted(item.id for item in SINGLES)
        assert page.inner_text("#progress") == "2 judged by you, 4 of 4 in all"


def test_a_reload_in_the_middle_changes_nothing(tmp_path: Path, visit: Callable[..., Any]) -> None:
    with served(tmp_path, SINGLES, labels=("dull",)) as server:
        page = visit(server.url)
        for key in ("1", "Enter", "3", "q"):
            press(page, key)
        before = shown(page)
        page.reload()
        page.wait_for_selector("#judge:visible")
        assert (shown(page), pressed(page)) == (before, ["3", "dull"])
        assert page.inner_text("#who") == "Ada"


def test_a_server_killed_after_any_click_has_lost_nothing(
    tmp_path: Path, visit: Callable[..., Any]
) -> None:
    run = run_with_samples(tmp_path / "run")
    own = tmp_path / "own.jsonl"
    own.write_text('{"prompt": "p", "completion": "c"}\n{"prompt": "p", "completions": ["a", "b"]}')
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    clicks = [
        lambda page: page.click("#ratings >> text=4"),
        lambda page: page.click("#labels >> text=dull"),
        lambda page: page.click("#next"),
        lambda page: page.click("#prefer-b"),
    ]
    state = None
    for kept, click in enumerate(clicks, 1):
        with opened(run, "--items", own, "--labels", "dull", "--port", port) as (process, url):
            page = visit(url)
            assert state in (None, (shown(page), pressed(page)))
            click(page)
            settled(page)
            state = shown(page), pressed(page)
            process.kill()
            process.wait()
            page.keyboard.press("z")
            page.wait_for_selector("#message:has-text('does not answer')")
        written = [fact for fact in facts(run) if fact["fact"] in ("judgement", "next")]
        assert len(written) == kept
    with opened(run, "--items", own, "--port", port) as (_, url):
        assert visit(url).is_visible("#done")
    assert [fact.get("kind") for fact in written] == ["rating", "labels", None, "preference"]


def test_who_has_no_token_sees_nothing(tmp_path: Path, browser: Any) -> None:
    with served(tmp_path, SINGLES) as server:
        page = browser.new_page()
        for place in ("/", "/wrong/"):
            answer = page.goto(f"http://127.0.0.1:{server.server_port}{place}")
            assert answer.status == 403
            assert "evo feedback" in page.inner_text("body")
        page.close()


class _Elsewhere(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><link rel=icon href='data:,'><p>elsewhere</p>")

    def log_message(self, *_: Any) -> None:
        pass


def test_a_page_of_another_origin_cannot_judge(tmp_path: Path, browser: Any) -> None:
    other = HTTPServer(("127.0.0.1", 0), _Elsewhere)
    thread = threading.Thread(target=other.serve_forever, args=(0.01,))
    thread.start()
    page = browser.new_page()
    try:
        with served(tmp_path, SINGLES) as server:
            page.goto(f"http://127.0.0.1:{other.server_port}/")
            for mode, kind in (("cors", "application/json"), ("no-cors", "text/plain")):
                outcome = page.evaluate(
                    """([url, mode, kind]) => fetch(url, {method: "POST", mode,
                        headers: {"Content-Type": kind}, body: '{"annotator": "Eve"}'})
                        .then((answer) => answer.type, () => "refused")""",
                    [server.url + "look", mode, kind],
                )
                assert outcome in ("refused", "opaque")
            assert not server.store.standing.holders
    finally:
        page.close()
        other.shutdown()
        thread.join()
        other.server_close()


def test_html_and_a_text_of_100_kb_are_shown_as_text(
    tmp_path: Path, visit: Callable[..., Any]
) -> None:
    html = "<img src=x onerror=alert(1)><script>alert(2)</script></div><b>&amp;</b>\u202e"
    long = "x" * 60_000 + "\n" * 200 + "word " * 8_000
    items = [Item(html, (Draft(html),)), Item(long, (Draft(long), Draft(html)))]
    with served(tmp_path, items, labels=(html,)) as server:
        page = visit(server.url, "<b>Ada</b>")
        alerts: list[str] = []
        asked: list[str] = []

        def refuse(dialog: Any) -> None:
            alerts.append(dialog.message)
            dialog.dismiss()

        page.on("dialog", refuse)
        page.on("request", lambda request: asked.append(request.url))
        assert page.text_content("#prompt") == page.text_content("#draft-a") == html
        assert page.locator("#judge img, #judge b, #judge script").count() == 0
        for key in ("q", "5"):
            press(page, key)
        page.keyboard.press("w")
        page.fill("#text", html)
        press(page, "Control+Enter")
        assert page.text_content("#said-critique") == html
        press(page, "Enter")
        assert page.text_content("#prompt") == long
        wide, high = page.evaluate(
            "[document.body.scrollWidth - innerWidth, document.body.scrollHeight / innerHeight]"
        )
        assert wide <= 0
        assert high < 2.5  # the texts scroll in boxes of their own
        press(page, "t")
        page.wait_for_selector("#done:visible")
    assert alerts == []
    assert all(url.startswith(server.url) for url in asked)


def test_a_correction_of_100_kb_is_kept(tmp_path: Path, visit: Callable[..., Any]) -> None:
    long = "«x» " * 25_000
    with served(tmp_path, SINGLES) as server:
        page = visit(server.url)
        page.keyboard.press("c")
        page.fill("#text", long)
        page.click("#next")  # saves what is in the editor first
        page.wait_for_selector("#prompt:text-is('prompt 1')")
    assert said(tmp_path, "kind", "value") == [["correction", long]]


def test_criteria_are_rated_in_turn_and_what_was_said_can_be_changed(
    tmp_path: Path, visit: Callable[..., Any]
) -> None:
    criteria = {"coherence": "Does it <b>follow</b>?"}
    with served(tmp_path, [SINGLES[0], PAIRS[0]], criteria=criteria) as server:
        page = visit(server.url)
        assert page.text_content(".guideline") == criteria["coherence"]
        for key in ("4", "2", "Enter", "n"):
            press(page, key)
        page.wait_for_selector("#done:visible")
        page.click("#review")
        page.wait_for_selector("#reviewed:visible")
        both, one = page.locator("#judged .said").all_inner_texts()
        assert (both, one) == ("both bad", "rating/coherence: 4; rating: 2")
        page.click("#judged li:last-child button")
        page.wait_for_selector("#judge:visible")
        press(page, "5")
        with page.expect_download() as download:
            page.click("#export")
        lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
        kept = [json.loads(line) for line in lines]
    assert [(one["kind"], one["value"]) for one in kept] == [
        ("rating/coherence", 4),
        ("rating", 5),
        ("preference", "neither"),
    ]
    assert [value for (value,) in said(tmp_path, "value")] == [4, 2, "neither", 5]
