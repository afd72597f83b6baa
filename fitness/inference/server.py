"""Answers by an OpenAI-compatible server that loads adapters while it runs, as vLLM does.

Prompts and answers are tokens: /completions with `return_token_ids` (vLLM 0.10.2 and later), a
request for each answer, since the seed is of a whole request. An adapter is loaded by its folder,
which the server must see under the same path; vLLM does that with --enable-lora and, in its
environment, VLLM_ALLOW_RUNTIME_LORA_UPDATING=True.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from fitness.errors import InputError
from fitness.inference.connection import KEY_VARIABLE, Connection, address, shown
from fitness.inference.sampling import Continuation, Numbers, next_logps

if TYPE_CHECKING:
    from transformers import PreTrainedModel

AT_ONCE = 64  # requests; the server batches them
FORM = "http://host:port/v1"
SEEDS = 2**31
COMPARED = 8  # tokens
APART = 0.5  # nats by which rounding, or a base in fewer bits, may change a log-probability
# Else the server would take its own, or those of the model's generation_config.json.
PLAIN = {
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


def url_of(text: str) -> str:
    """The address of a server's API, without a slash at its end. Raises InputError."""
    parts = address(text, FORM)
    if parts.fragment:
        raise InputError(f"a server is given as {FORM}, without a # and what follows it")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/v1'}"


class Server:
    """A server of the base model, to which adapters are added. InputError if it cannot be used."""

    def __init__(self, url: str, **settings: Any) -> None:
        """Ask for the name of its model; `settings` as of Connection."""
        self.url = url_of(url)
        self._connection = Connection(self.url, key_variable=KEY_VARIABLE, **settings)
        self.model, self._longest = self._base()

    def check(self, model: "PreTrainedModel", tokens: Sequence[int]) -> None:
        """Raise InputError if another model than this one answers there.

        Compared are the log-probabilities of its likeliest tokens after the given ones.
        """
        body = {"max_tokens": COMPARED, "temperature": 0.0, "logprobs": 1, "seed": 0, **PLAIN}
        choice = self._completed(self.model, list(tokens), body)
        vocabulary = model.config.get_text_config().vocab_size
        found = _continuation(choice, [], COMPARED, vocabulary).tokens
        try:
            theirs = np.array(choice["logprobs"]["token_logprobs"], dtype=np.float64)
        except (LookupError, TypeError, ValueError):
            raise InputError(f"{self.url}: tells no log-probabilities, as vLLM does") from None
        prefixes = [[*tokens, *found[:place]] for place in range(len(found))]
        logps = next_logps(model, prefixes, pad=int(tokens[0]))
        ours = logps[np.arange(len(found)), found]
        if theirs.shape != ours.shape or not np.abs(ours - theirs).max(initial=0.0) <= APART:
            raise InputError(
                f"{self.url}: {self.model!r} there is not model.base: log-probabilities of "
                f"{found} are {np.round(theirs, 2)}, here {np.round(ours, 2)}; serve model.base "
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
        try:
            self._connection.ask(f"{self.url}/load_lora_adapter", given, about, quick=True)
            yield name
        finally:  # after a load whose answer was lost, too
            with suppress(InputError):  # it may be gone: the server has room for so many
                given = {"lora_name": name}
                self._connection.ask(f"{self.url}/unload_lora_adapter", given, about, quick=True)

    def continued(
        self,
        name: str,
        encoded: Sequence[Sequence[int]],
        numbers: Numbers,
        *,
        vocabulary: int,
        ends: Sequence[int],
        max_new_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        num_beams: int = 1,
    ) -> list[Continuation]:
        """Like `sampling.continued`, by the model of this name; seeds follow from the numbers.

        `vocabulary` is the number of tokens that there are. InputError for beam search, which is
        not in the protocol, and for what is no answer.
        """
        if num_beams > 1:
            raise InputError(f"num_beams is {num_beams}, and {self.url} has no beam search")
        needed = max_new_tokens + max(map(len, encoded), default=0)
        if needed > self._longest:  # else the others would be generated first, for nothing
            raise InputError(
                f"{self.url}: takes {self._longest:g} tokens with their answer, and the longest "
                f"prompt with max_new_tokens {max_new_tokens} needs {needed}; raise its "
                "--max-model-len"
            )
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
            return _continuation(choice, ends, max_new_tokens, vocabulary)

        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            return list(pool.map(answered, range(len(encoded))))
        finally:  # after an error, without waiting for what others are asked
            pool.shutdown(wait=False, cancel_futures=True)

    def _base(self) -> tuple[str, float]:
        """Name of the only model there that is no adapter, and how many tokens it takes."""
        raw = self._connection.ask(f"{self.url}/models", None, "the path (usually /v1)", quick=True)
        cards = _read(raw, lambda told: [one for one in told["data"] if not one.get("parent")])
        names = [one["id"] for one in cards or () if isinstance(one.get("id"), str)]
        roots = {one.get("root") or one["id"] for one in cards or () if one.get("id") in names}
        if len(roots) != 1:  # one model may have several names
            served = ", ".join(names) or "none"
            raise InputError(
                f"{self.url}: serves {served} of the models that /models lists; it must serve "
                "model.base alone"
            )
        lengths = [one.get("max_model_len") for one in cards]
        longest = min((one for one in lengths if isinstance(one, int)), default=math.inf)
        return str(names[0]), longest

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


def _continuation(
    choice: dict[str, Any], ends: Sequence[int], most: int, vocabulary: int
) -> Continuation:
    """The tokens of a choice; the one that ended it may be the last of them, or told beside.

    InputError for what no model with so large a vocabulary answers in so many tokens.
    """
    tokens, finish = choice["token_ids"], choice.get("finish_reason")
    sound = all(type(one) is int and 0 <= one < vocabulary for one in tokens)
    if not sound or len(tokens) > most or finish not in ("stop", "length"):
        some = json.dumps(tokens)[:60]
        raise InputError(f"a server answered {some} in at most {most} tokens, ended by {finish!r}")
    if tokens and tokens[-1] in ends:
        return Continuation(tokens[:-1], tokens[-1])
    if finish == "length" or not ends:
        return Continuation(tokens)
    reason = choice.get("stop_reason")
    return Continuation(tokens, reason if reason in ends else ends[0])


def _read(raw: bytes, what: Callable[[Any], Any]) -> Any:
    """A part of a JSON answer; None where it has none."""
    try:
        return what(json.loads(raw))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
