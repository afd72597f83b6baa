"""The local server of the page on which people judge: one folder, one port, one token.

Python's own `http.server` with a thread for each request is enough: there are ten addresses, each
answer is small, and the slow part, an fsync under the store's lock, is serial anyway.
The server listens on the loopback interface only. A request without the token gets no data, and a
page of another origin cannot send requests with it.
"""

import hmac
import json
import secrets
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any

from evo.feedback.screen import ACTIONS, exported, screen
from fitness.errors import InputError
from fitness.feedback.store import Conflict, Store

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")  # accepted in the Host header
BODY_BYTES = 4 * 2**20  # the longest correction, if every character takes an escape
PATIENCE = 30.0  # seconds that a request may take to arrive
PAGES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "style.css": ("style.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
}
EXPORT = "judgements.jsonl"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Server(ThreadingHTTPServer):
    """HTTP server of the page for one store, until it is shut down."""

    daemon_threads = True
    request_queue_size = 128  # connections of a burst that wait; 5 by default, the rest are reset

    def __init__(self, store: Store, port: int = 0) -> None:
        """Listen, on a free port if `port` is 0; InputError if it is taken."""
        self.store = store
        self.token = secrets.token_urlsafe(24)
        try:
            super().__init__((HOST, port), _Request)
        except (OSError, OverflowError) as error:
            raise InputError(
                f"port {port} of {HOST} cannot be listened to ({error}); "
                "name another with --port, or leave it out for a free one"
            ) from None

    @property
    def url(self) -> str:
        """URL of the page, with the token: anybody who has it may judge."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a browser that disconnects; print any other error on standard error."""
        import sys

        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Refused(Exception):
    """A request that is answered only with an HTTP status and a message."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Request(BaseHTTPRequestHandler):
    server: Server
    timeout = PATIENCE
    server_version = "evomix"
    sys_version = ""

    def do_GET(self) -> None:
        try:
            name = self._place()
            if name == EXPORT:
                self._download(exported(self.server.store))
                return
            if name not in PAGES:
                raise Refused(HTTPStatus.NOT_FOUND, "there is no such page")
        except Refused as refused:
            self._answer_json(refused.status, {"error": str(refused)})
            return
        file, kind = PAGES[name]
        self._answer(
            HTTPStatus.OK, kind, (resources.files("evo.feedback") / "page" / file).read_bytes()
        )

    def do_POST(self) -> None:
        try:
            action = ACTIONS.get(self._place())
            if action is None:
                raise Refused(HTTPStatus.NOT_FOUND, "there is no such action")
            request = self._body()
        except Refused as refused:
            self._answer_json(refused.status, {"error": str(refused)})
            return
        try:
            more = action(self.server.store, request) or {}
            shown = {**screen(self.server.store, request), **more}
        except Conflict as conflict:
            shown = screen(self.server.store, request)
            self._answer_json(HTTPStatus.CONFLICT, {"error": str(conflict), "screen": shown})
        except InputError as error:
            self._answer_json(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        except OSError as error:
            message = f"could not be saved: {error.strerror or error}; nothing was changed"
            self._answer_json(HTTPStatus.INSUFFICIENT_STORAGE, {"error": message})
        else:
            self._answer_json(HTTPStatus.OK, {"screen": shown})

    def _place(self) -> str:
        """Last part of the path, after the token; Refused for a wrong host, origin or token."""
        hosts = [f"{name}:{self.server.server_port}" for name in NAMES]
        if self.headers.get_all("Host", []) not in [[host] for host in hosts]:
            raise Refused(HTTPStatus.FORBIDDEN, "not the host that this page is served under")
        origin = self.headers.get("Origin")
        if origin is not None and origin not in [f"http://{host}" for host in hosts]:
            raise Refused(HTTPStatus.FORBIDDEN, "a page of another origin may not ask")
        _, _, rest = self.path.partition("?")[0].partition("/")
        token, slash, name = rest.partition("/")
        if not slash or not hmac.compare_digest(token.encode(), self.server.token.encode()):
            raise Refused(
                HTTPStatus.FORBIDDEN, "open the whole address that `evo feedback` printed last"
            )
        return name

    def _body(self) -> dict[str, object]:
        if self.headers.get_content_type() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a request is application/json")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "a request says how long it is")
        if int(length) > BODY_BYTES:
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request may have {BODY_BYTES} bytes"
            )
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise Refused(HTTPStatus.BAD_REQUEST, "a request is a JSON object")
        return body

    def _answer_json(self, status: HTTPStatus, answer: dict[str, Any]) -> None:
        self._answer(status, "application/json", json.dumps(answer).encode())

    def _download(self, content: bytes) -> None:
        """Answer with a file that the browser saves and never shows."""
        where = {"Content-Disposition": f'attachment; filename="{EXPORT}"'}
        self._answer(HTTPStatus.OK, "application/x-ndjson; charset=utf-8", content, where)

    def _answer(
        self, status: HTTPStatus, kind: str, content: bytes, more: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in {**HEADERS, **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing, since the line of a request contains the token."""
