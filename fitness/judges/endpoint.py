"""A model behind an OpenAI-compatible server: vLLM, llama.cpp, Ollama, `transformers serve`.

Only what all of them understand is sent: one answer a request, since several refuse `n`. The key is
read from an environment variable and leaves this process in the `Authorization` header alone.
"""

import http.client
import ipaddress
import json
import math
import os
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fitness.data.chats import Chat
from fitness.errors import InputError
from fitness.judges.protocol import Answer, Refused
from fitness.judges.speakers import says

KEY_VARIABLE = "OPENAI_API_KEY"
ATTEMPTS = 5
FIRST_PAUSE, LONGEST_PAUSE = (
    0.5,
    30.0,
)  # seconds; each is twice the one before, or as the server asks
PATIENCE_SECONDS = 300.0  # for one answer
AT_ONCE = 8  # requests
ANSWER_BYTES = 10_000_000
TOP = 20  # log-probabilities of a token: the most that the protocol gives
VOTES = 8  # in place of log-probabilities
AGAIN = (408, 429)  # and 500 and above
UNFIT = (400, 413, 422)  # this request cannot be answered, but another may


@dataclass(frozen=True, slots=True)
class Place:
    """Address of a server, and the name of the model on it."""

    url: str
    model: str

    @property
    def here(self) -> bool:
        """True if the server is on this machine, so that no one else can read the connection."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


def place_of(text: str) -> Place:
    """Parse URL#model. Raises InputError, without the credentials in it, for an invalid one."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"a server is given as http://host:port/v1#model ({error})") from None
    if parts.scheme not in ("http", "https") or not host or not parts.fragment:
        raise InputError(
            f"a server is given as http://host:port/v1#model, got {parts.scheme}://{host or ''}"
            f"{parts.path}#{parts.fragment}"
        )
    if parts.username is not None or parts.password is not None or parts.query:
        raise InputError(
            f"{parts.scheme}://{host}: a URL with a password or a query is kept nowhere safe; put "
            f"the key in the environment variable {KEY_VARIABLE}, or in the one named by "
            "--key-variable"
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
        self._variable = key_variable
        self._key = os.environ.get(key_variable, "").strip()
        self._pause = pause
        self._seconds = seconds
        if not self._key.isascii() or not all("!" <= sign <= "~" for sign in self._key):
            raise InputError(f"{key_variable}: holds no key but characters that no header can have")
        if self._key and place.url.startswith("http://") and not place.here:
            raise InputError(
                f"{place.url}: the key in {key_variable} would go over the network in the clear; "
                f"use https, or unset {key_variable} where the server needs none"
            )
        # A redirect would take the key elsewhere, and a proxy has no part in this machine's talk.
        proxies = [urllib.request.ProxyHandler({})] if place.here else []
        self._opener = urllib.request.build_opener(_NoRedirect, *proxies)

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
        raw = self._post(json.dumps({"model": self.place.model, **body}).encode())
        try:
            return json.loads(raw)["choices"][0]
        except (ValueError, LookupError, TypeError, RecursionError):
            raise InputError(
                f"{self.place.url}: answered what is no chat completion: {_shown(raw)!r}; is it an "
                "OpenAI-compatible server, and is its path right (usually /v1)?"
            ) from None

    def _post(self, body: bytes) -> bytes:
        """The body of a good answer, without the key if the server sent it back."""
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        wait, why = FIRST_PAUSE, ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self._pause(min(wait, LONGEST_PAUSE))
                wait = FIRST_PAUSE * 2**attempt
            request = urllib.request.Request(self.place.url, body, headers, method="POST")
            try:
                with self._opener.open(request, timeout=self._seconds) as response:
                    return self._without_key(response.read(ANSWER_BYTES))
            except urllib.error.HTTPError as error:
                with error:
                    if error.code not in AGAIN and error.code < 500:
                        raise self._refusal(error) from None
                    why = f"HTTP {error.code} {self._told(error)}"
                    wait = max(wait, _seconds_in(error.headers.get("Retry-After", "")))
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", error)
                why = f"{type(reason).__name__}: {reason}"
        raise InputError(
            f"{self.place.url}: no answer in {ATTEMPTS} attempts, the last of them: {why.strip()}; "
            "start the server, or check the address; what was answered so far is kept"
        )

    def _refusal(self, error: urllib.error.HTTPError) -> InputError:
        why, url = self._told(error), self.place.url
        if error.code in UNFIT:
            return Refused(f"{url}: HTTP {error.code} {why}")
        if error.code in (401, 403):  # what it tells may hold a part of the key
            return InputError(
                f"{url}: HTTP {error.code}, it does not accept "
                + (f"the key in {self._variable}" if self._key else "requests without a key")
                + f"; set {self._variable}, or name another variable with --key-variable"
            )
        if error.code in range(300, 400):
            return InputError(f"{url}: HTTP {error.code}, a redirect; give the address behind it")
        return InputError(
            f"{url}: HTTP {error.code} {why}; check the path (usually /v1) and the model "
            f"{self.place.model!r}"
        )

    def _told(self, error: urllib.error.HTTPError) -> str:
        """Error message of the server, shortened."""
        try:
            raw = self._without_key(error.read(ANSWER_BYTES))
        except (OSError, http.client.HTTPException):
            return ""
        try:
            reply = json.loads(raw)
            message = reply["error"]
            return str(message["message"] if isinstance(message, dict) else message)[:200]
        except (ValueError, LookupError, TypeError, RecursionError):
            return _shown(raw)

    def _without_key(self, raw: bytes) -> bytes:
        return raw.replace(self._key.encode(), b"***") if self._key else raw


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


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        return None


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


def _seconds_in(header: str) -> float:
    try:
        seconds = float(header)
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) else 0.0


def _shown(raw: bytes) -> str:
    return " ".join(raw[:200].decode(errors="replace").split())[:120]
