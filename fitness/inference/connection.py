"""JSON over HTTP: requests that are sent again, and a key that leaves in a header alone.

The key is read from an environment variable, and is never part of what is told.
"""

import http.client
import ipaddress
import json
import math
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

from fitness.errors import InputError

KEY_VARIABLE = "OPENAI_API_KEY"
ATTEMPTS = 5
# Seconds; each is twice the one before, or as the server asks.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
PATIENCE_SECONDS = 300.0  # for one answer
QUICK_ATTEMPTS, QUICK_SECONDS = 2, 30.0  # of requests that take no time to answer
ANSWER_BYTES = 10_000_000
LONG_KEY = 12  # characters; a shorter one may be a part of any answer
AGAIN = (408, 429)  # and 500 and above
UNFIT = (400, 413, 422)  # this request cannot be answered, but another may


class Refused(InputError):
    """A request that cannot be answered, such as one too long; others may be."""


def address(text: str, form: str) -> SplitResult:
    """Parse a server's address. InputError, with the `form` it should have, for another.

    An error shows no credentials that it may hold.
    """
    shown = f", got {text.partition('#')[0]!r}" if text and "@" not in text else ""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError:  # of a UnicodeError too
        raise InputError(f"a server is given as {form}{shown}") from None
    plain = all("!" <= sign <= "~" for sign in text)
    if parts.scheme not in ("http", "https") or not host or not plain:
        raise InputError(f"a server is given as {form}{shown}")
    if parts.username is not None or parts.password is not None or parts.query:
        raise InputError(
            f"{parts.scheme}://{host}: a URL with a password or a query is kept nowhere safe; put "
            f"the key in the environment variable {KEY_VARIABLE}"
        )
    return parts


def is_here(url: str) -> bool:
    """True if a server is on this machine, so that no one else can read the connection."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Connection:
    """Requests to the addresses of one server. InputError if it cannot be used."""

    def __init__(
        self,
        url: str,
        *,
        key_variable: str = KEY_VARIABLE,
        pause: Callable[[float], None] = time.sleep,
        seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """Connect to nothing yet; `pause` waits so many seconds before another attempt."""
        self._variable = key_variable
        self._key = os.environ.get(key_variable, "").strip()
        self._pause = pause
        self._seconds = seconds
        if not self._key.isascii() or not all("!" <= sign <= "~" for sign in self._key):
            raise InputError(f"{key_variable}: holds no key but characters that no header can have")
        here = is_here(url)
        if self._key and url.startswith("http://") and not here:
            raise InputError(
                f"{url}: the key in {key_variable} would go over the network in the clear; "
                f"use https, or unset {key_variable} where the server needs none"
            )
        # A redirect would take the key elsewhere, and a proxy has no part in this machine's talk.
        proxies = [urllib.request.ProxyHandler({})] if here else []
        self._opener = urllib.request.build_opener(_NoRedirect, *proxies)

    def ask(
        self, url: str, body: Mapping[str, Any] | None, about: str, *, quick: bool = False
    ) -> bytes:
        """The body of a good answer, without the key if the server sent it back.

        With no request body it is a GET. `about` is what an unknown address may be a wrong name of.
        `quick` is for requests that take no time to answer. Raises Refused.
        """
        attempts, seconds = (QUICK_ATTEMPTS, QUICK_SECONDS) if quick else (ATTEMPTS, self._seconds)
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        content = None if body is None else json.dumps(body).encode()
        wait, why = FIRST_PAUSE, ""
        for attempt in range(attempts):
            if attempt:
                self._pause(min(wait, LONGEST_PAUSE))
                wait = FIRST_PAUSE * 2**attempt
            request = urllib.request.Request(url, content, headers)
            try:
                with self._opener.open(request, timeout=seconds) as response:
                    raw = response.read(ANSWER_BYTES)
                    return raw if len(self._key) < LONG_KEY else self._without_key(raw)
            except urllib.error.HTTPError as error:
                with error:
                    if error.code not in AGAIN and error.code < 500:
                        raise self._refusal(url, about, error) from None
                    why = f"HTTP {error.code} {self._told(error)}"
                    wait = max(wait, _seconds_in(error.headers.get("Retry-After", "")))
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", error)
                why = f"{type(reason).__name__}: {reason}"
        raise InputError(
            f"{url}: no answer in {attempts} attempts, the last of them: {why.strip()}; "
            "start the server, or check the address"
        )

    def _refusal(self, url: str, about: str, error: urllib.error.HTTPError) -> InputError:
        why = self._told(error)
        if error.code in UNFIT:
            return Refused(f"{url}: HTTP {error.code} {why}")
        if error.code in (401, 403):  # what it tells may hold a part of the key
            return InputError(
                f"{url}: HTTP {error.code}, it does not accept "
                + (f"the key in {self._variable}" if self._key else "requests without a key")
                + f"; set {self._variable}, or the variable that --key-variable names"
            )
        if error.code in range(300, 400):
            return InputError(f"{url}: HTTP {error.code}, a redirect; give the address behind it")
        return InputError(f"{url}: HTTP {error.code} {why}; check {about}")

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
            return shown(raw)

    def _without_key(self, raw: bytes) -> bytes:
        return raw.replace(self._key.encode(), b"***") if self._key else raw


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        return None


def _seconds_in(header: str) -> float:
    try:
        seconds = float(header)
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) else 0.0


def shown(raw: bytes) -> str:
    return " ".join(raw[:200].decode(errors="replace").split())[:120]
