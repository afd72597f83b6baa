"""A model behind an OpenAI-compatible server: vLLM, llama.cpp, Ollama, `transformers serve`.

Only what all of them understand is sent: one answer a request, since several refuse `n`. The key is
read from an environment variable and leaves this process in the `Authorization` header alone.
"""

import json
import math
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from fitness.data.chats import Chat
from fitness.errors import InputError
from fitness.inference.connection import (
    KEY_VARIABLE,
    PATIENCE_SECONDS,
    Connection,
    Refused,
    address,
    shown,
)
from fitness.judges.protocol import Answer
from fitness.judges.speakers import says

AT_ONCE = 8  # requests
TOP = 20  # log-probabilities of a token: the most that the protocol gives
VOTES = 8  # in place of log-probabilities
FORM = "http://host:port/v1#model"


@dataclass(frozen=True, slots=True)
class Place:
    """Address of a server, and the name of the model on it."""

    url: str
    model: str


def place_of(text: str) -> Place:
    """Parse URL#model. Raises InputError, without the credentials in it, for an invalid one."""
    parts = address(text, FORM)
    if not parts.fragment:
        raise InputError(
            f"a server is given as {FORM}, got {parts.scheme}://{parts.hostname}{parts.path}#"
        )
    path = parts.path.rstrip("/").removesuffix("/chat/completions") or "/v1"
    return Place(f"{parts.scheme}://{parts.netloc}{path}/chat/completions", parts.fragment)


class Endpoint:
    """A model on a server. Raises InputError if the server cannot be used."""

    def __init__(
        self,
        place: Place,
        *,
        key_variable: str = KEY_VARIABLE,
        pause: Callable[[float], None] = time.sleep,
        seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """Connect to the server; `pause` waits so many seconds before another attempt."""
        self.place = place
        self.name = place.model
        self.identity = f"{place.url}#{place.model}"
        self._connection = Connection(
            place.url, key_variable=key_variable, pause=pause, seconds=seconds
        )

    def answers(
        self,
        chats: Sequence[Chat],
        samples: int,
        *,
        temperature: float,
        max_new_tokens: int,
        seed: int,
    ) -> list[list[Answer]]:
        """Sample so many answers to each chat, each under a seed of its own."""
        bodies = [
            {
                "messages": list(chat),
                "temperature": temperature,
                "max_tokens": max_new_tokens,
                "seed": (seed + sample) % 2**31,
            }
            for chat in chats
            for sample in range(samples)
        ]
        said = self._all(lambda one: _answer(self._choice(one)), bodies)
        return [said[begin : begin + samples] for begin in range(0, len(said), samples)]

    def odds(self, chats: Sequence[Chat], this: str, other: str) -> list[float]:
        """Log-odds that a chat is answered by one word rather than by another, (chats,).

        By the log-probabilities of the first token; if the server gives none, by VOTES sampled
        answers, (this + 1/2) / (other + 1/2), with a warning.
        """
        found = self._all(lambda chat: self._odds(chat, this, other), chats)
        if any(voted for _, voted in found):
            warnings.warn(
                f"{self.place.url} tells no log-probabilities: odds are by {VOTES} votes, which "
                "are coarse and take as many requests",
                stacklevel=2,
            )
        return [odds for odds, _ in found]

    def _odds(self, chat: Chat, this: str, other: str) -> tuple[float, bool]:
        """The log-odds of a chat, and True if they are from votes."""
        body = {"messages": list(chat), "max_tokens": 1, "temperature": 0, "seed": 0}
        try:
            choice = self._choice({**body, "logprobs": True, "top_logprobs": TOP})
            top = _top_logprobs(choice)
        except Refused:  # perhaps for asking for log-probabilities; if not, then so are the votes
            top = {}
        if top:
            return odds_among(top, this, other), False
        votes = [
            _answer(self._choice({**body, "max_tokens": 4, "temperature": 1, "seed": seed})).text
            for seed in range(VOTES)
        ]
        ayes, noes = (sum(says(vote, word) for vote in votes) for word in (this, other))
        return math.log((ayes + 0.5) / (noes + 0.5)), True

    def _all(self, ask: Callable[[Any], Any], bodies: Sequence[Any]) -> list[Any]:
        """Answers to several requests sent at the same time, in order."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(ask, bodies))

    def _choice(self, body: dict[str, Any]) -> Any:
        """The single choice in a response, as the protocol has it."""
        about = f"the path (usually /v1) and the model {self.place.model!r}"
        raw = self._connection.ask(self.place.url, {"model": self.place.model, **body}, about)
        try:
            return json.loads(raw)["choices"][0]
        except (ValueError, LookupError, TypeError, RecursionError):
            raise InputError(
                f"{self.place.url}: answered what is no chat completion: {shown(raw)!r}; is it an "
                "OpenAI-compatible server, and is its path right (usually /v1)?"
            ) from None


def odds_among(top: dict[str, float], this: str, other: str) -> float:
    """Log-odds by the log-probabilities of the likeliest tokens.

    A word that is not among them gets the probability of the last of them, its upper bound; 0 if
    neither word is.
    """
    last = min(top.values())
    masses = [
        math.fsum(math.exp(logp) for token, logp in top.items() if says(token, word))
        for word in (this, other)
    ]
    if not any(masses):
        return 0.0
    ayes, noes = (math.log(mass) if mass else last for mass in masses)
    return ayes - noes


def _answer(choice: Any) -> Answer:
    """Text of a choice; empty if the server gives none."""
    fields = choice if isinstance(choice, dict) else {}
    message = fields.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    text = content if isinstance(content, str) else ""
    whole = text.encode(errors="replace").decode()  # half a surrogate pair is no text
    return Answer(whole, fields.get("finish_reason") != "length")


def _top_logprobs(choice: Any) -> dict[str, float]:
    """The likeliest first tokens with their log-probabilities; empty if the server gives none."""
    try:
        tokens = choice["logprobs"]["content"][0]["top_logprobs"]
        found: dict[str, float] = {}
        for one in tokens:
            token, logp = str(one["token"]), min(float(one["logprob"]), 0.0)
            if math.isfinite(logp):
                found[token] = max(logp, found.get(token, logp))
        return found
    except (LookupError, TypeError, ValueError):
        return {}
