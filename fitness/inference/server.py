"""Answers by an OpenAI-compatible server that loads adapters while it runs, as vLLM does.

Prompts and answers are tokens: /completions with `return_token_ids` (vLLM 0.10.2 and later), a
request for each answer, since the seed is of a whole request. An adapter is loaded by its folder,
which the server must see under the same path; vLLM does that with --enable-lora and, in its
environment, VLLM_ALLOW_RUNTIME_LORA_UPDATING=True.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from fitness.errors import InputError
from fitness.inference.connection import KEY_VARIABLE, Connection, address, shown
from fitness.inference.sampling import Continuation, Numbers, next_logps

if TYPE_CHECKING:
    from transformers import PreTrainedModel

AT_ONCE = 64  # requests; the server batches them
FORM = "http://host:port/v1"
SEEDS = 2**31
APART = 0.5  # nats by which rounding, or a base in fewer bits, may change a log-probability
# Else the server would take the defaults of the model's generation_config.json.
PLAIN = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}


def url_of(text: str) -> str:
    """The address of a server's API, without a slash at its end. Raises InputError."""
    parts = address(text, FORM)
    if parts.fragment:
        raise InputError(f"a server is given as {FORM}, without #{parts.fragment}")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/v1'}"


class Server:
    """A server of the base model, to which adapters are added. InputError if it cannot be used."""

    def __init__(self, url: str, **settings: Any) -> None:
        """Ask for the name of its model; `settings` as of Connection."""
        self.url = url_of(url)
        self._connection = Connection(self.url, key_variable=KEY_VARIABLE, **settings)
        self.model = self._base()

    def check(self, model: "PreTrainedModel", tokens: Sequence[int]) -> None:
        """Raise InputError if another model than this one answers there.

        Compared is the log-probability of the likeliest token after the given ones.
        """
        body = {"max_tokens": 1, "temperature": 0.0, "logprobs": 1, "seed": 0, **PLAIN}
        choice = self._completed(self.model, list(tokens), body)
        try:
            (token,), (theirs,) = choice["token_ids"], choice["logprobs"]["token_logprobs"]
            (logps,) = next_logps(model, [list(tokens)], pad=int(tokens[0]))
            apart = abs(float(logps[int(token)]) - float(theirs))
        except (LookupError, TypeError, ValueError):
            raise InputError(
                f"{self.url}: gives no token_ids or no log-probabilities; it needs vLLM 0.10.2 or "
                "newer, or a server that gives them in the same form"
            ) from None
        if not apart <= APART:
            raise InputError(
                f"{self.url}: {self.model!r} there gives the token {token} a log-probability of "
                f"{float(theirs):.2f}, model.base {float(logps[int(token)]):.2f}; serve model.base "
                "there, or leave model.server out"
            )

    @contextmanager
    def lent(self, adapter: Path | None) -> Iterator[str]:
        """Name under which the base with an adapter's folder answers, until it is unloaded.

        Without an adapter it is the base's own.
        """
        if adapter is None:
            yield self.model
            return
        name = f"evomix-{adapter.name}-{uuid4().hex[:12]}"  # several workers may lend the same one
        about = (
            "that it runs with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, and sees "
            f"{adapter.resolve()}"
        )
        given = {"lora_name": name, "lora_path": str(adapter.resolve())}
        self._connection.ask(f"{self.url}/load_lora_adapter", given, about)
        try:
            yield name
        finally:
            given = {"lora_name": name}
            self._connection.ask(f"{self.url}/unload_lora_adapter", given, about)

    def continued(
        self,
        name: str,
        encoded: Sequence[Sequence[int]],
        numbers: Numbers,
        *,
        ends: Sequence[int],
        max_new_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        num_beams: int = 1,
    ) -> list[Continuation]:
        """Like `sampling.continued`, by the model of this name; seeds follow from the numbers.

        InputError for beam search, which is not in the protocol.
        """
        if num_beams > 1:
            raise InputError(f"num_beams is {num_beams}, and {self.url} has no beam search")
        body = {
            "max_tokens": max_new_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "stop_token_ids": list(ends),
            **PLAIN,
        }

        def answered(place: int) -> Continuation:
            seed = int(numbers(place)[0] * SEEDS)
            choice = self._completed(name, list(encoded[place]), {**body, "seed": seed})
            return _continuation(choice, ends)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(answered, range(len(encoded))))

    def _base(self) -> str:
        """Name of the only model there that is no adapter."""
        raw = self._connection.ask(f"{self.url}/models", None, "the path (usually /v1)")
        found = _read(raw, lambda told: [one for one in told["data"] if not one.get("parent")])
        names = [str(one.get("id")) for one in found or () if isinstance(one, dict)]
        if len(names) != 1:
            served = ", ".join(names) or "none"
            raise InputError(
                f"{self.url}: serves {served} of the models that /models lists; it must serve "
                "model.base alone"
            )
        return names[0]

    def _completed(self, name: str, prompt: list[int], body: dict[str, Any]) -> dict[str, Any]:
        asked = {"model": name, "prompt": prompt, "return_token_ids": True, **body}
        about = f"the path (usually /v1) and the model {name!r}"
        raw = self._connection.ask(f"{self.url}/completions", asked, about)
        choice = _read(raw, lambda told: told["choices"][0])
        if not isinstance(choice, dict) or not isinstance(choice.get("token_ids"), list):
            raise InputError(
                f"{self.url}: answered without token_ids: {shown(raw)!r}; it needs vLLM 0.10.2 or "
                "newer, or a server that gives them in the same form"
            )
        return choice


def _continuation(choice: dict[str, Any], ends: Sequence[int]) -> Continuation:
    """The tokens of a choice; the one that ended it may be the last of them, or told beside."""
    tokens = [int(token) for token in choice["token_ids"]]
    if tokens and tokens[-1] in ends:
        return Continuation(tokens[:-1], tokens[-1])
    if choice.get("finish_reason") != "stop":
        return Continuation(tokens)
    reason = choice.get("stop_reason")
    return Continuation(tokens, reason if reason in ends else ends[0])


def _read(raw: bytes, what: Callable[[Any], Any]) -> Any:
    """A part of a JSON answer; None where it has none."""
    try:
        return what(json.loads(raw))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
