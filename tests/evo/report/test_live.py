"""The page of `evo watch`: who is answered, what it shows, and that it follows the run."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from evo.record.ledger import Ledger
from evo.report.live import Server
from fitness.errors import InputError
from tests.evo.browsing import answering, needs_chromium
from tests.evo.synthetic_ledger import ledger


@contextmanager
def serving(run: Path) -> Iterator[Server]:
    with Server(run) as server, answering(server):
        yield server


def get(server: Server, place: str, **headers: str) -> tuple[int, dict[str, str], str]:
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.request("GET", place, headers=headers)
    answer = connection.getresponse()
    told = answer.status, dict(answer.getheaders()), answer.read().decode()
    connection.close()
    return told


def written(run: Path, facts: list[Any]) -> Path:
    first, *rest = facts
    with Ledger.create(run, first) as book:
        for fact in rest:
            book.append(**fact)
    return run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return written(tmp_path / "run", ledger(evaluations=12, population=4)[:14])


def state(server: Server) -> Any:
    return json.loads(get(server, f"/{server.token}/state")[2])


def test_the_state_and_the_report_are_those_of_the_run_now(run: Path) -> None:
    with serving(run) as server:
        before = state(server)
        assert before["title"].endswith(": stopped")
        assert not before["running"]
        (_, rows), *_ = before["sections"]
        assert "of 12" in dict(rows)["evaluations"]
        status, headers, page = get(server, f"/{server.token}/report.html")
        assert status == 200
        assert page.startswith("<!doctype html>")
        assert headers["Content-Security-Policy"] == "frame-ancestors 'self'"
        assert not (run / "report.html").exists(), "it only reads"
        with Ledger(run) as book:
            for fact in ledger(evaluations=12, population=4)[14:]:
                book.append(**fact)
            assert state(server)["running"] is False, "the ledger says finished"
        assert state(server)["title"].endswith(": finished")
        assert state(server)["ledgers"][""] > before["ledgers"][""]
        assert get(server, f"/{server.token}/report.html")[2] != page


@pytest.mark.parametrize(
    ("place", "headers", "status"),
    [
        ("/", {}, 403),
        ("/wrong/state", {}, 403),
        ("/{token}", {}, 403),
        ("/{token}/state", {"Host": "evil.example"}, 403),
        ("/{token}/state", {"Origin": "http://evil.example"}, 403),
        ("/{token}/ledger.jsonl", {}, 404),
        ("/{token}/../../etc/passwd", {}, 404),
        ("/{token}/round-1/report.html", {}, 404),
        ("/{token}/live.js", {}, 200),
    ],
)
def test_nobody_without_the_token_and_no_file_but_its_own_is_answered(
    run: Path, place: str, headers: dict[str, str], status: int
) -> None:
    with serving(run) as server:
        answer = get(server, place.format(token=server.token), **headers)
        assert answer[0] == status
        assert server.token not in answer[2]


def test_rounds_have_a_page_each(tmp_path: Path) -> None:
    facts = ledger(evaluations=12, population=4)
    config = {**facts[0]["config"], "rounds": {"limit": 2}}
    run = written(tmp_path / "run", [{**facts[0], "config": config}])
    written(run / "round-1", facts)
    with serving(run) as server:
        assert [title for title, _ in state(server)["sections"]] == ["", "round 1"]
        page = get(server, f"/{server.token}/report.html")[2]
        assert 'href="round-1/report.html"' in page
        assert get(server, f"/{server.token}/round-1/report.html")[0] == 200
        before = state(server)["ledgers"]
        assert before[""] > before["round-1"], "the report of all rounds has those of each"


def test_a_proxy_has_a_page_and_leaves_that_of_the_run_as_it_is(run: Path) -> None:
    with serving(run) as server:
        before = state(server)["ledgers"]
        written(run / "proxy-1", ledger(evaluations=12, population=4))
        assert state(server)["ledgers"].keys() == {"", "proxy-1"}
        assert state(server)["ledgers"][""] == before[""]
        assert get(server, f"/{server.token}/proxy-1/report.html")[0] == 200


def test_a_folder_that_goes_is_told_to_the_page(run: Path) -> None:
    with serving(run) as server:
        (run / "ledger.jsonl").unlink()
        status, _, text = get(server, f"/{server.token}/state")
        assert status == 500
        assert "is not a run folder" in json.loads(text)["error"]


def test_a_folder_without_a_run_and_a_taken_port_are_refused(tmp_path: Path, run: Path) -> None:
    with pytest.raises(InputError, match="is not a run folder"):
        Server(tmp_path)
    with serving(run) as server, pytest.raises(InputError, match=r"port \d+ .* name another with"):
        Server(run, server.server_port)


@pytest.mark.slow
@needs_chromium
def test_the_page_follows_the_run(run: Path, browser: Any) -> None:
    with serving(run) as server:
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.extend([said.text] * (said.type == "error")))
        page.goto(server.url)
        page.get_by_text("stopped").first.wait_for()
        frame = page.frame_locator("#report")
        frame.locator(".js-plotly-plot").first.wait_for()
        frame.locator("footer").scroll_into_view_if_needed()
        top = page.evaluate("report.contentWindow.scrollY")
        assert top > 0
        with Ledger(run) as book:
            for fact in ledger(evaluations=12, population=4)[14:]:
                book.append(**fact)
        page.get_by_text("finished").first.wait_for()
        frame.get_by_text("Closing comparison").first.wait_for(state="attached")
        written(run / "proxy-1", ledger(evaluations=12, population=4, seed=1))
        page.get_by_role("link", name="proxy-1").click()
        shown = page.frame(name="report")
        shown.wait_for_url("**/proxy-1/report.html*")
        with Ledger(run / "proxy-1") as book:
            book.append(**ledger(evaluations=12, population=4)[-1])
        shown.wait_for_url("**/proxy-1/report.html?*")
        assert errors == []
        page.close()
