"""The local server of the page on which people judge: one folder, one port, one token.

There are ten addresses, each answer is small, and the slow part, an fsync under the store's lock,
is serial anyway.
"""

import json
from http import HTTPStatus
from importlib import resources

from evo.feedback.screen import ACTIONS, exported, screen
from evo.local_server import LocalRequest, LocalServer, Refused
from fitness.errors import InputError
from fitness.feedback.store import Conflict, Store

BODY_BYTES = 4 * 2**20  # the longest correction, if every character takes an escape
PAGES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "style.css": ("style.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
}
EXPORT = "judgements.jsonl"


class Server(LocalServer):
    """HTTP server of the page for one store, until it is shut down: its address lets one judge."""

    def __init__(self, store: Store, port: int = 0) -> None:
        """Listen, on a free port if `port` is 0; InputError if it is taken."""
        self.store = store
        super().__init__(_Request, port)


class _Request(LocalRequest):
    server: Server
    command_name = "feedback"

    def do_GET(self) -> None:
        try:
            name = self.place()
            if name == EXPORT:
                self._download(exported(self.server.store))
                return
            if name not in PAGES:
                raise Refused(HTTPStatus.NOT_FOUND, "there is no such page")
        except Refused as refused:
            self.answer_json(refused.status, {"error": str(refused)})
            return
        file, kind = PAGES[name]
        self.answer(
            HTTPStatus.OK, kind, (resources.files("evo.feedback") / "page" / file).read_bytes()
        )

    def do_POST(self) -> None:
        try:
            action = ACTIONS.get(self.place())
            if action is None:
                raise Refused(HTTPStatus.NOT_FOUND, "there is no such action")
            request = self._body()
        except Refused as refused:
            self.answer_json(refused.status, {"error": str(refused)})
            return
        try:
            more = action(self.server.store, request) or {}
            shown = {**screen(self.server.store, request), **more}
        except Conflict as conflict:
            shown = screen(self.server.store, request)
            self.answer_json(HTTPStatus.CONFLICT, {"error": str(conflict), "screen": shown})
        except InputError as error:
            self.answer_json(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        except OSError as error:
            message = f"could not be saved: {error.strerror or error}; nothing was changed"
            self.answer_json(HTTPStatus.INSUFFICIENT_STORAGE, {"error": message})
        else:
            self.answer_json(HTTPStatus.OK, {"screen": shown})

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

    def _download(self, content: bytes) -> None:
        """Answer with a file that the browser saves and never shows."""
        where = {"Content-Disposition": f'attachment; filename="{EXPORT}"'}
        self.answer(HTTPStatus.OK, "application/x-ndjson; charset=utf-8", content, where)
