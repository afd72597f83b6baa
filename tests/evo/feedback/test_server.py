"""Real HTTP on this machine: who is answered, and what is saved before the answer."""

import json
import socket
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from evo.feedback.server import BODY_BYTES, Server
from fitness.errors import InputError
from fitness.feedback.importing import read_judgements
from fitness.feedback.items import Draft, Item
from fitness.feedback.store import Store
from tests.evo.feedback.sitting import served

ONE = Item("p", (Draft("draft", 7, 0),))
TWO = [Item(f"q{n}", (Draft("x", 1, 0), Draft("y", 2, 0))) for n in range(8)]


def call(
    server: Server, method: str, place: str, body: bytes = b"", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, place, body or None, sent)
    answer = connection.getresponse()
    told = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return told


def post(server: Server, action: str, **asked: Any) -> tuple[int, dict[str, Any]]:
    body = json.dumps({"annotator": "Ada", **asked}).encode()
    place = f"/{server.token}/{action}"
    status, _, answer = call(server, "POST", place, body, Content_Type="application/json")
    return status, json.loads(answer)


def test_a_judgement_is_on_disk_before_it_is_answered(tmp_path: Path) -> None:
    with served(tmp_path, [ONE]) as server:
        _, told = post(server, "look")
        item = told["screen"]["item"]
        assert (item["prompt"], item["drafts"], item["said"]) == ("p", ["draft"], {})
        status, told = post(server, "judge", item=item["id"], kind="rating", value=4)
        last = json.loads((tmp_path / "judgements.jsonl").read_text().splitlines()[-1])
        assert (status, told["screen"]["item"]["said"]) == (200, {"rating": 4})
        assert (last["fact"], last["value"], last["annotator"]) == ("judgement", 4, "Ada")
        _, told = post(server, "next", item=item["id"])
        assert told["screen"]["item"] is None
        assert told["screen"]["progress"] == {"mine": 1, "all": 1, "items": 1}
        _, told = post(server, "undo")
        assert told["screen"]["item"]["said"] == {"rating": 4}


def test_a_preference_is_kept_by_draft_whatever_was_shown_first(tmp_path: Path) -> None:
    shown = set()
    with served(tmp_path, TWO) as server:
        for _ in TWO:
            item = post(server, "look")[1]["screen"]["item"]
            assert not {"individual", "seed"} & item.keys()
            side = "ab"[item["drafts"].index("y")]
            shown.add(side)
            assert post(server, "judge", item=item["id"], kind="preference", value=side)[0] == 200
        assert {j.value for j in server.store.standing.judgements()} == {"second"}
    assert shown == {"a", "b"}


@pytest.mark.parametrize("place", ["/", "/wrong/", "/wrong/look", "//", "/TOKEN", "/TOKENx/"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_wrong_or_missing_token_is_refused(tmp_path: Path, place: str, method: str) -> None:
    with served(tmp_path, [ONE]) as server:
        place = place.replace("TOKEN", server.token)
        status, headers, answer = call(
            server, method, place, b"{}", Content_Type="application/json"
        )
    assert status == 403
    assert server.token.encode() not in answer + repr(headers).encode()


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://example.org"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Host": "example.org"},
        {"Host": "127.0.0.1"},
    ],
)
def test_another_origin_or_host_is_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    body = json.dumps({"annotator": "Ada"}).encode()
    with served(tmp_path, [ONE]) as server:
        place = f"/{server.token}/look"
        status, _, _ = call(
            server, "POST", place, body, **{"Content_Type": "application/json", **headers}
        )
        assert status == 403
        assert call(server, "GET", f"/{server.token}/", b"", **headers)[0] == 403
        assert not server.store.standing.holders


def test_its_own_origin_by_either_name_is_answered(tmp_path: Path) -> None:
    with served(tmp_path, [ONE]) as server:
        for name in ("127.0.0.1", "localhost"):
            host = f"{name}:{server.server_port}"
            place = f"/{server.token}/page.js"
            assert call(server, "GET", place, Host=host, Origin=f"http://{host}")[0] == 200


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{}", {"Content_Type": "text/plain"}, 415),
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b"\xff", {}, 400),
        (b"{}", {"Content_Length": str(BODY_BYTES + 1)}, 413),
        (b"{}", {"Content_Length": "-1"}, 411),
        (b'{"annotator": " "}', {}, 400),
        (b'{"annotator": ["Ada"]}', {}, 400),
    ],
)
def test_a_body_that_is_no_request_is_refused(
    tmp_path: Path, body: bytes, headers: dict[str, str], status: int
) -> None:
    with served(tmp_path, [ONE]) as server:
        sent = {"Content_Type": "application/json", **headers}
        told, _, answer = call(server, "POST", f"/{server.token}/look", body, **sent)
        assert told == status
        assert json.loads(answer)["error"]
        assert not server.store.standing.holders


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    with served(tmp_path, [ONE]) as server:
        assert post(server, "guess")[0] == 404
        for name in ("guess", "../server.py", "%2e%2e/server.py", "page/index.html"):
            assert call(server, "GET", f"/{server.token}/{name}")[0] == 404


def test_a_judgement_that_cannot_be_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with served(tmp_path, [ONE]) as server:
        item = post(server, "look")[1]["screen"]["item"]["id"]
        status, told = post(server, "judge", item=item, kind="rating", value=9)
        assert (status, "1 to 5" in told["error"]) == (400, True)
        status, told = post(server, "judge", item=item, kind="preference", value="c")
        assert (status, "a, b, tie or neither" in told["error"]) == (400, True)
        status, told = post(server, "judge", item="other", kind="rating", value=3)
        assert (status, told["screen"]["item"]["id"]) == (409, item)
        assert server.store.standing.judgements() == []


def test_a_full_disk_is_said_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path, [ONE]) as server:
        item = post(server, "look")[1]["screen"]["item"]["id"]

        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr("os.fsync", full)
            status, told = post(server, "judge", item=item, kind="rating", value=4)
        assert (status, "No space left" in told["error"]) == (507, True)
        assert post(server, "look")[1]["screen"]["item"]["said"] == {}


def test_only_this_machine_is_listened_to_and_nothing_else_may_be_loaded(tmp_path: Path) -> None:
    with served(tmp_path, [ONE]) as server:
        assert server.server_address[0] == "127.0.0.1"
        _, headers, page = call(server, "GET", f"/{server.token}/")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert b"http" not in page
    assert b" style=" not in page
    assert b" onclick" not in page


def test_the_token_is_in_no_file_of_the_run_nor_on_standard_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with served(tmp_path, [ONE]) as server:
        post(server, "look")
        call(server, "GET", f"/{server.token}/nowhere")
        with socket.create_connection(("127.0.0.1", server.server_port)) as line:
            line.sendall(f"BREW /{server.token}/ HTTP/9\r\n\r\n".encode())
            assert line.recv(100)
        for path in tmp_path.rglob("*"):
            assert server.token.encode() not in path.read_bytes()
        with Store(tmp_path / "other") as other, Server(other) as second:
            assert second.token != server.token
    captured = capfd.readouterr()
    assert server.token not in captured.out + captured.err


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with served(tmp_path, [ONE]) as server, Store(tmp_path / "other") as other:
        for port in (server.server_port, 70_000):
            with pytest.raises(InputError, match=f"port {port} .*--port"):
                Server(other, port)


def test_a_rating_is_asked_for_by_each_criterion_with_its_guideline(tmp_path: Path) -> None:
    criteria = {"coherence": "Does it <b>follow</b>?", "10": "Is it a ten?"}
    with served(tmp_path, [ONE], criteria=criteria) as server:
        told = post(server, "look")[1]["screen"]
        assert [one["guideline"] for one in told["criteria"]] == [*criteria.values()]
        item = told["item"]["id"]
        status, told = post(server, "judge", item=item, kind="rating/coherence", value=2)
        assert (status, told["screen"]["item"]["said"]) == (200, {"rating/coherence": 2})
        for kind in ("rating/wit", "rating/", "rating/<b>", "rating/../x"):
            assert post(server, "judge", item=item, kind=kind, value=2)[0] == 400
        assert [j.kind for j in server.store.judgements()] == ["rating/coherence"]


def test_one_reviews_and_changes_what_one_said_but_not_what_others_did(tmp_path: Path) -> None:
    long = Item("p" * 1000, TWO[0].drafts)
    with served(tmp_path, [ONE, long]) as server:
        item = post(server, "look")[1]["screen"]["item"]["id"]
        post(server, "judge", item=item, kind="rating", value=4)
        post(server, "next", item=item)
        assert post(server, "judge", item=long.id, kind="preference", value="neither")[0] == 200
        other, one = post(server, "review")[1]["screen"]["judged"]
        assert (one["id"], one["said"], one["drafts"]) == (ONE.id, {"rating": 4}, ["draft"])
        assert (other["said"], len(other["prompt"])) == ({"preference": "neither"}, 201)
        assert not {"individual", "seed"} & one.keys()
        assert post(server, "review", annotator="Bob")[1]["screen"]["judged"] == []
        for by in ("Bob", "judge:m", " "):
            assert post(server, "reopen", annotator=by, item=ONE.id)[0] == 400
        assert post(server, "reopen", item="nowhere")[0] == 400
        told = post(server, "reopen", item=ONE.id)[1]["screen"]
        assert (told["item"]["id"], told["item"]["said"]) == (ONE.id, {"rating": 4})
        assert "judged" not in told
        post(server, "judge", item=ONE.id, kind="rating", value=1)
        assert [j.value for j in server.store.judgements()] == [1, "neither"]


def test_the_judgements_are_downloaded_by_who_has_the_token_alone(tmp_path: Path) -> None:
    html = Item("<script>alert(1)</script>", (Draft("\u2028\n<b>", 7, 3),))
    with served(tmp_path, [html], criteria={"wit": "Is it?"}) as server:
        post(server, "look")
        post(server, "judge", item=html.id, kind="rating/wit", value=3)
        status, headers, content = call(server, "GET", f"/{server.token}/judgements.jsonl")
        assert status == 200
        assert headers["Content-Disposition"] == 'attachment; filename="judgements.jsonl"'
        assert headers["Content-Type"].startswith("application/x-ndjson")
        assert headers["X-Content-Type-Options"] == "nosniff"
        for place in ("/judgements.jsonl", "/wrong/judgements.jsonl"):
            assert call(server, "GET", place)[0] == 403
        for more in ({"Origin": "https://example.org"}, {"Host": "example.org"}):
            assert call(server, "GET", f"/{server.token}/judgements.jsonl", b"", **more)[0] == 403
        assert post(server, "judgements.jsonl")[0] == 404
    path = tmp_path / "downloaded.jsonl"
    path.write_bytes(content)
    found = read_judgements(path, {}, annotator="Eve")
    assert [(j.item, j.annotator, j.kind, j.value) for j in found.judgements] == [
        (html.id, "Ada", "rating/wit", 3)
    ]
    assert not {"individual", "seed"} & json.loads(content).keys()
