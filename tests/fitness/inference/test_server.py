"""A server that generates: the same answers as here, adapters lent and taken back, and failures."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fitness.errors import InputError
from fitness.inference.endings import ending_tokens
from fitness.inference.sampling import Continuation, continued, numbers_of
from fitness.inference.server import Server, url_of
from fitness.models import weights
from fitness.models.base import Base
from tests.fitness.inference.serving import NAME, Vllm, vllm
from tests.fitness.quickstart import MODEL, small_recipe

NUMBERS = numbers_of(0, 8)
VOCABULARY = 1024
HOW: dict[str, Any] = {"vocabulary": VOCABULARY, "ends": [0], "max_new_tokens": 8}


@pytest.fixture
def served() -> Iterator[Vllm]:
    with vllm() as running:
        yield running


@pytest.fixture(scope="module")
def base() -> Base:
    return Base(MODEL)


def server_of(served: Vllm) -> Server:
    return Server(served.url, pause=lambda _: None)


def prompts_of(base: Base) -> list[list[int]]:
    texts = ["A hacker is", "The gloss of a word", "To be or not"]
    return [base.tokenizer(text)["input_ids"] for text in texts]


def both(served: Vllm, base: Base, adapter: Path | None, model: Any) -> list[list[Continuation]]:
    """Greedy answers of the server and of the model here."""
    how: dict[str, Any] = {"ends": ending_tokens(base.model, base.tokenizer), "max_new_tokens": 8}
    server, prompts = server_of(served), prompts_of(base)
    with server.lent(adapter) as name:
        theirs = server.continued(name, prompts, NUMBERS, vocabulary=VOCABULARY, **how)
    return [theirs, continued(model, prompts, NUMBERS, **how)]


def test_the_base_answers_as_it_does_here(served: Vllm, base: Base) -> None:
    theirs, ours = both(served, base, None, base.model)
    assert theirs == ours
    assert served.asked[-1][1]["model"] == NAME
    assert {asked["top_k"] for _, asked in served.asked} == {-1}, "not the model's own default"


def test_an_adapter_answers_as_it_does_here_and_is_taken_back(
    served: Vllm, base: Base, tmp_path: Path
) -> None:
    before = continued(base.model, prompts_of(base), NUMBERS, ends=[0], max_new_tokens=8)
    with base.prepared(small_recipe(adapter="lora"), seed=0) as model:
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.data.normal_(std=0.05)
        model.eval()
        weights.keep(model, tmp_path / "individual-3")
        theirs, ours = both(served, base, tmp_path / "individual-3", model)
    assert theirs == ours != before
    assert served.loaded == {}
    names = [asked["lora_name"] for path, asked in served.asked if "lora" in path]
    assert len(set(names)) == 1
    assert names[0].startswith("evomix-individual-3-")


@pytest.mark.parametrize("inside", [True, False])
def test_the_token_that_ended_an_answer_is_known_wherever_it_is_told(
    served: Vllm, base: Base, inside: bool
) -> None:
    served.end_inside = inside
    prompt = prompts_of(base)[0]
    [answer] = continued(base.model, [prompt], NUMBERS, ends=[0], max_new_tokens=8)
    end = answer.tokens[3]
    server = server_of(served)
    found = server.continued(NAME, [prompt], NUMBERS, **{**HOW, "ends": [end]})
    cut = answer.tokens[: answer.tokens.index(end)]
    assert found == [Continuation(cut, end)]


def test_sampled_answers_have_seeds_of_their_own(served: Vllm, base: Base) -> None:
    prompts = prompts_of(base)[:1] * 4
    found = server_of(served).continued(NAME, prompts, NUMBERS, **HOW, temperature=1.0)
    assert len({tuple(one.tokens) for one in found}) == 4


def test_another_model_is_refused(served: Vllm, base: Base) -> None:
    server = server_of(served)
    server.check(base.model, prompts_of(base)[0])
    served.shift = -1.0
    with pytest.raises(InputError, match=r"(?s)'served' there is not model.base: .*serve model.b"):
        server.check(base.model, prompts_of(base)[0])


def test_what_a_server_lacks_is_told(served: Vllm, base: Base, tmp_path: Path) -> None:
    server = server_of(served)
    with (
        pytest.raises(InputError, match=r"no adapter in .*; check that it runs with --enable-lora"),
        server.lent(tmp_path),
    ):
        pass
    served.adapters = False
    with (
        pytest.raises(InputError, match=r"404 not found.*LORA_UPDATING=True, and sees"),
        server.lent(tmp_path),
    ):
        pass
    served.tells_tokens = False
    with pytest.raises(InputError, match=r"answered without token_ids: .*vLLM 0\.10\.2"):
        server.continued(NAME, [[1]], NUMBERS, **HOW)
    with pytest.raises(InputError, match="num_beams is 3"):
        server.continued(NAME, [[1]], NUMBERS, **HOW, num_beams=3)
    served.longest = 10
    with pytest.raises(InputError, match=r"takes 10 tokens .* needs 11; raise its --max-model-len"):
        server_of(served).continued(NAME, [[1], [1] * 3], NUMBERS, **HOW)
    served.down = True
    with pytest.raises(InputError, match="no answer in 2 attempts, the last of them: HTTP 503"):
        server_of(served)


@pytest.mark.parametrize(
    "instead",
    [
        *({"token_ids": [one]} for one in (-1, VOCABULARY, 10**30, "a", None, 5.0, True, [5])),
        {"token_ids": [1] * 9},
        {"finish_reason": "abort"},
    ],
)
def test_what_no_model_answers_is_refused(served: Vllm, instead: dict[str, Any]) -> None:
    server, served.instead = server_of(served), instead
    with pytest.raises(InputError, match=r"a server answered .* in at most 8 tokens, ended by"):
        server.continued(NAME, [[1]], NUMBERS, **HOW)


def test_an_adapter_that_the_server_let_go_by_itself_costs_nothing(
    served: Vllm, base: Base, tmp_path: Path
) -> None:
    with base.prepared(small_recipe(adapter="lora"), seed=0) as model:
        weights.keep(model, tmp_path / "individual-3")
    served.unloads = False
    server = server_of(served)
    with server.lent(tmp_path / "individual-3") as name:
        assert server.continued(name, [[1]], NUMBERS, **HOW)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("gpu:8000", "a server is given as http://host:port/v1, got 'gpu:8000'"),
        ("http://gpu:8000/v1#secret", "without a # and what follows it"),
        ("me:secret@gpu/v1", "is given as http://host:port/v1$"),
        ("http://me:sec/ret@gpu/v1", "is given as http://host:port/v1$"),
        ("http://a..b/v1", "got 'http://a..b/v1'"),
        ("http://gpu/v\u00e9", "is given as"),
        ("http://gpu /v1", "is given as"),
        ("http://me:secret@gpu/v1", "a password"),
        ("http://gpu:x/v1", "is given as"),
        ("", "is given as"),
    ],
)
def test_no_address_is_told_without_secrets(given: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as raised:
        url_of(given)
    assert "secret" not in str(raised.value)


def test_an_address_has_a_path() -> None:
    assert url_of("http://gpu:8000") == url_of("http://gpu:8000/v1/") == "http://gpu:8000/v1"
