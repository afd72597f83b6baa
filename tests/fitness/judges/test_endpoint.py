"""Speaking through a real server of this machine, which fails in all the ways that servers do."""

import json
import math
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from fitness.errors import InputError
from fitness.inference.connection import ATTEMPTS, Refused
from fitness.judges.endpoint import VOTES, Endpoint, odds_among, place_of
from fitness.judges.protocol import Answer
from fitness.judges.speakers import Local
from fitness.models.base import Base
from tests.fitness.judges.talking import MODEL_NAME, SECRET, Served, serving, talking, top_tokens

CHAT = [{"role": "user", "content": "What is a bug"}]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return Base(talking(tmp_path_factory.mktemp("talking") / "model"))


@pytest.fixture
def served(base: Base, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving(base) as found:
        yield found


def answer(endpoint: Endpoint, samples: int = 1) -> list[list[Answer]]:
    return endpoint.answers([CHAT], samples, temperature=1.0, max_new_tokens=5, seed=3)


def test_each_answer_is_asked_for_under_a_seed_of_its_own(served: Served, base: Base) -> None:
    first = answer(served.endpoint(), 3)
    expected = [
        Local(base, MODEL_NAME).answers([CHAT], 1, temperature=1.0, max_new_tokens=5, seed=3 + n)[
            0
        ][0]
        for n in range(3)
    ]
    assert first == answer(served.endpoint(), 3) == [expected]
    assert sorted(one["seed"] for one in served.asked[:3]) == [3, 4, 5]
    assert not any("n" in one for one in served.asked)
    assert served.authorised == [None] * 6


def test_failures_of_a_moment_are_waited_out(served: Served) -> None:
    endpoint = served.endpoint()
    served.failures = [500, 503, 429]
    assert answer(endpoint) == answer(served.endpoint())
    assert len(served.asked) == 3 + 2


def test_pauses_grow_and_follow_what_the_server_asks_for(served: Served) -> None:
    endpoint, pauses = served.endpoint(), served.pauses
    served.failures = [500, 500, 500]
    answer(endpoint)
    assert pauses == [0.5, 1.0, 2.0]
    served.failures, served.headers = [429, 429], {"Retry-After": "7"}
    answer(endpoint)
    assert pauses[3:] == [7.0, 7.0]
    served.failures, served.headers = [429], {"Retry-After": "86400"}
    answer(endpoint)
    assert pauses[5:] == [30.0]


def test_a_server_that_only_fails_is_given_up_on(served: Served) -> None:
    served.refusing = 502
    with pytest.raises(InputError, match=rf"no answer in {ATTEMPTS} attempts.*HTTP 502"):
        answer(served.endpoint())
    assert len(served.asked) == ATTEMPTS
    assert len(served.pauses) == ATTEMPTS - 1


def test_a_server_that_is_not_there_is_said_to_be() -> None:
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        place = place_of(f"http://127.0.0.1:{taken.getsockname()[1]}/v1#m")
        pauses: list[float] = []
        with pytest.raises(InputError, match=r"(?s)127\.0\.0\.1.*refused.*start the server"):
            answer(Endpoint(place, pause=pauses.append))
    assert len(pauses) == ATTEMPTS - 1


def test_a_server_that_never_answers_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = place_of(f"http://127.0.0.1:{silent.getsockname()[1]}/v1#m")
        with pytest.raises(InputError, match=r"(?i)timed out|timeout"):
            answer(Endpoint(place, pause=lambda _: None, seconds=0.05))


@pytest.mark.parametrize(
    "body", [b"<html>welcome</html>", b"{}", b"[]", b'{"choices": []}', b"\xff\xfe", b""]
)
def test_what_is_no_completion_is_said_to_be(served: Served, body: bytes) -> None:
    served.body = body
    with pytest.raises(InputError, match="no chat completion"):
        answer(served.endpoint())
    assert len(served.asked) == 1


@pytest.mark.parametrize(
    "choice", [{}, {"message": None}, {"message": "m"}, {"message": {"content": None}}, 5]
)
def test_an_answer_without_text_is_blank(served: Served, choice: object) -> None:
    served.body = json.dumps({"choices": [choice]}).encode()
    assert answer(served.endpoint()) == [[Answer("", True)]]


def test_half_a_character_is_no_text(served: Served) -> None:
    served.body = b'{"choices": [{"message": {"content": "a\\ud800b"}}]}'
    assert answer(served.endpoint()) == [[Answer("a?b", True)]]


def test_a_question_that_a_server_refuses_is_no_end_of_all(served: Served) -> None:
    served.refusing = 400
    with pytest.raises(Refused, match="HTTP 400"):
        answer(served.endpoint())
    served.refusing = 404
    with pytest.raises(InputError, match=r"check the path.*'quick'") as caught:
        answer(served.endpoint())
    assert not isinstance(caught.value, Refused)


def test_a_redirect_is_not_followed(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    for status in (302, 307, 308):
        served.refusing, served.headers = status, {"Location": served.url}
        with pytest.raises(InputError, match="a redirect"):
            answer(served.endpoint())
    assert len(served.asked) == 3


def test_a_proxy_has_no_part_in_what_this_machine_is_asked(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert answer(served.endpoint())
    assert served.pauses == []


@pytest.mark.parametrize("status", [200, 400, 401, 404, 500])
def test_the_key_is_sent_and_never_told(
    served: Served, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("MY_KEY", f" {SECRET}\n")
    served.key, served.refusing = SECRET, 0 if status == 200 else status
    served.say = lambda *_: f"you are {SECRET}"
    endpoint = served.endpoint(key_variable="MY_KEY")
    if status == 200:
        told = answer(endpoint)[0][0].text
        assert told == "you are ***"
    else:
        with pytest.raises(InputError) as caught:
            answer(endpoint)
        told = str(caught.value)
        assert ("MY_KEY" in told) is (status == 401)
    assert SECRET not in told
    assert SECRET not in endpoint.identity
    assert served.authorised[0] == f"Bearer {SECRET}"


def test_a_wrong_key_is_not_tried_again(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.key = SECRET
    with pytest.raises(InputError, match="requests without a key; set OPENAI_API_KEY"):
        answer(served.endpoint())
    monkeypatch.setenv("OPENAI_API_KEY", "wrong-key")
    with pytest.raises(InputError, match="the key in OPENAI_API_KEY") as caught:
        answer(served.endpoint())
    assert "wrong-key" not in str(caught.value)
    assert len(served.asked) == 2


def test_a_key_that_no_header_can_have_is_refused_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("two\nlines", "schlüssel", "a b"):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        with pytest.raises(InputError, match="OPENAI_API_KEY") as caught:
            Endpoint(place_of("https://example.org#m"))
        assert key not in str(caught.value)


def test_a_key_goes_over_the_network_encrypted_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    Endpoint(place_of("http://10.0.0.7:8000/v1#m"))
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    for here in ("http://localhost:1/v1#m", "http://[::1]:1#m", "https://example.org/v1#m"):
        Endpoint(place_of(here))
    for there in ("http://10.0.0.7:8000/v1#m", "http://localhost.example.org/v1#m"):
        with pytest.raises(InputError, match="in the clear") as caught:
            Endpoint(place_of(there))
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "http://localhost:8000/v1",
        "ftp://localhost/v1#m",
        "http://#m",
        "http://localhost:port/v1#m",
        "http://[::1/v1#m",
        "https://me:hidden@example.org/v1#m",
        "https://example.org/v1?key=hidden#m",
    ],
)
def test_what_is_no_address_is_said_without_its_secrets(text: str) -> None:
    with pytest.raises(InputError) as caught:
        place_of(text)
    assert "hidden" not in str(caught.value)


def test_an_address_may_be_short_or_whole() -> None:
    for text in ("http://h:1#a/b", "http://h:1/v1/#a/b", "http://h:1/v1/chat/completions#a/b"):
        place = place_of(text)
        assert (place.url, place.model) == ("http://h:1/v1/chat/completions", "a/b")
    assert place_of("https://h/api/v1#m").url == "https://h/api/v1/chat/completions"


def test_odds_are_by_the_log_probabilities_of_the_first_token(served: Served, base: Base) -> None:
    top = {one["token"]: one["logprob"] for one in top_tokens(base, CHAT, 20)}
    this, *_, other = (token.strip() for token in top if token.strip().isalpha())
    odds = served.endpoint().odds([CHAT, CHAT], this, other)
    assert odds == pytest.approx([odds_among(top, this, other)] * 2, abs=1e-9)
    assert odds[0] > 0
    for asked in served.asked:
        assert (asked["logprobs"], asked["top_logprobs"], asked["max_tokens"]) == (True, 20, 1)


def test_odds_sum_the_spellings_of_a_word() -> None:
    top = {"Yes": math.log(0.3), " yes": math.log(0.1), "No": math.log(0.2), "Maybe": -3.0}
    assert odds_among(top, "Yes", "No") == pytest.approx(math.log(2))
    assert odds_among({"Yes": -0.5, "What": -4.0}, "Yes", "No") == pytest.approx(3.5)
    assert odds_among({"Yes": -0.5, "What": -4.0}, "No", "Yes") == pytest.approx(-3.5)
    assert odds_among({"<think>": -0.1, "What": -4.0}, "Yes", "No") == 0


def test_strange_log_probabilities_do_no_harm(served: Served) -> None:
    told = [("Yes", 1e6), ("No", -1e6), ("Nope", "x"), ("no", math.nan), ("yes", -math.inf)]
    for top in (told[:2], [*told[:2], *told[3:]]):
        found = [{"token": token, "logprob": logp} for token, logp in top]
        choice: dict[str, Any] = {"logprobs": {"content": [{"top_logprobs": found}]}}
        served.body = json.dumps({"choices": [choice]}).encode()
        assert served.endpoint().odds([CHAT], "Yes", "No") == [1e6]
    found = [{"token": token, "logprob": logp} for token, logp in told]
    choice = {"logprobs": {"content": [{"top_logprobs": found}]}, "message": {"content": "No"}}
    served.body = json.dumps({"choices": [choice]}).encode()
    with pytest.warns(UserWarning, match="votes"):
        assert served.endpoint().odds([CHAT], "Yes", "No")[0] < 0


@pytest.mark.parametrize("logprobs", ["missing", "refused"])
def test_a_server_without_log_probabilities_is_asked_for_votes(
    served: Served, logprobs: str
) -> None:
    served.logprobs = logprobs
    for said, odds in (("Yes.", 17.0), (" no", 1 / 17), ("Perhaps", 1.0)):
        served.say = lambda *_, said=said: said
        with pytest.warns(UserWarning, match=f"by {VOTES} votes"):
            found = served.endpoint().odds([CHAT], "Yes", "No")
        assert found == pytest.approx([math.log(odds)])
    assert len(served.asked) == 3 * (1 + VOTES)
