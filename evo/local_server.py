"""Pages for this machine alone: an HTTP server with one port and one token.

Python's own `http.server` with a thread for each request is enough for a few addresses. The server
listens on the loopback interface only. A request without the token gets no data, and a page of
another origin cannot send requests with it.
"""

import hmac
import json
import secrets
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from fitness.errors import InputError

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")  # accepted in the Host header
PATIENCE = 30.0  # seconds that a request may take to arrive
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


class LocalServer(ThreadingHTTPServer):
    """HTTP server on the loopback interface, until it is shut down."""

    daemon_threads = True
    request_queue_size = 128  # connections of a burst that wait; 5 by default, the rest are reset

    def __init__(self, handler: "type[LocalRequest]", port: int = 0) -> None:
        """Listen, on a free port if `port` is 0; InputError if it is taken."""
        self.token = secrets.token_urlsafe(24)
        try:
            super().__init__((HOST, port), handler)
        except (OSError, OverflowError) as error:
            raise InputError(
                f"port {port} of {HOST} cannot be listened to ({error}); "
                "name another with --port, or leave it out for a free one"
            ) from None

    @property
    def url(self) -> str:
        """URL of the first page, with the token: anybody who has it is answered."""
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


class LocalRequest(BaseHTTPRequestHandler):
    """A request to a LocalServer: its place after the token, and answers with safe headers."""

    server: LocalServer
    command_name: ClassVar[str]  # of the `evo` command that printed the address
    timeout = PATIENCE
    server_version = "evomix"
    sys_version = ""

    def place(self) -> str:
        """Path after the token; Refused for a wrong host, origin or token."""
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
                HTTPStatus.FORBIDDEN,
                f"open the whole address that `evo {self.command_name}` printed last",
            )
        return name

    def answer_json(self, status: HTTPStatus, content: Mapping[str, Any]) -> None:
        self.answer(status, "application/json", json.dumps(content).encode())

    def answer(
        self, status: HTTPStatus, kind: str, content: bytes, more: Mapping[str, str] | None = None
    ) -> None:
        """Answer with the safe headers; `more` are added, or replace them."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in {**HEADERS, **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing, since the line of a request contains the token."""
