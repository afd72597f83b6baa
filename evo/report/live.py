"""The report of a run as it goes, on a page of this machine: `evo watch`, which only reads.

The page asks for the state every two seconds, and for the report once the ledger has grown.
"""

from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from importlib import resources
from pathlib import Path
from threading import Lock

from evo.local_server import HEADERS, LocalRequest, LocalServer, Refused
from evo.progress.status import GOING, sections, status
from evo.record.facts import Facts
from evo.record.ledger import FILE, ledger_file, read
from evo.report.rounds import page
from fitness.errors import InputError

PAGES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "live.css": ("live.css", "text/css; charset=utf-8"),
    "live.js": ("live.js", "text/javascript; charset=utf-8"),
}
REPORT = "report.html"
INNER = ("round-*", "proxy-*")  # folders of searches within a run
POLICY = "Content-Security-Policy"
# A report brings a policy of its own, which is as strict and knows its scripts; both would apply.
FRAMED = {POLICY: "frame-ancestors 'self'"}
FRAMING = {POLICY: f"frame-src 'self'; {HEADERS[POLICY]}"}


class Server(LocalServer):
    """HTTP server of a run's reports, until it is shut down."""

    def __init__(self, run: Path, port: int = 0) -> None:
        """Listen, on a free port if `port` is 0; InputError if it is taken, or without a run."""
        self.run = run
        self._turn = Lock()  # for what is kept below
        self._read: tuple[int, Facts] = (_size(run), read(run))
        self._pages: dict[Path, tuple[int, bytes]] = {}  # bytes of ledgers and report, by folder
        super().__init__(_Request, port)

    @property
    def folders(self) -> dict[str, Path]:
        """Folders with a report by their names; the run's own has none."""
        inner = (file.parent for kind in INNER for file in sorted(self.run.glob(f"{kind}/{FILE}")))
        return {"": self.run} | {folder.name: folder for folder in inner}

    def report_of(self, folder: Path) -> bytes:
        """The report as HTML, rendered once for each state of the ledgers."""
        with self._turn:
            size = _size(folder)
            if folder not in self._pages or self._pages[folder][0] != size:
                facts = self._facts() if folder == self.run else read(folder)
                self._pages[folder] = (size, page(folder, facts).encode())
            return self._pages[folder][1]

    def state(self) -> dict[str, object]:
        """Content above the report; `ledgers` are their bytes by folder, which grow with it."""
        with self._turn:
            now = status(self.run, self._facts())
        return {
            "title": f"{now['name']}: {now['state']}",
            "running": now["state"] in GOING,
            "ledgers": {name: _size(folder) for name, folder in self.folders.items()},
            "sections": sections(now),
        }

    def _facts(self) -> Facts:
        """The run's facts, read again once there are more."""
        if (size := _size(self.run)) != self._read[0]:
            self._read = (size, read(self.run))
        return self._read[1]


def _size(folder: Path) -> int:
    """Bytes of the ledgers that a report is made of: those of the rounds are part of the run's."""
    rounds_of = folder.glob(f"{INNER[0]}/{FILE}")
    return sum(file.stat().st_size for file in (ledger_file(folder), *rounds_of))


class _Request(LocalRequest):
    server: Server
    command_name = "watch"

    def do_GET(self) -> None:
        try:
            self._answered(self.place())
        except Refused as refused:
            self.answer_json(refused.status, {"error": str(refused)})
        except (InputError, OSError) as error:  # the folder is gone, or was damaged meanwhile
            self.answer_json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": str(error)})

    def _answered(self, name: str) -> None:
        if name == "state":
            self.answer_json(HTTPStatus.OK, self.server.state())
            return
        if name in PAGES:
            file, kind = PAGES[name]
            content = (resources.files("evo.report") / "page" / file).read_bytes()
            self.answer(HTTPStatus.OK, kind, content, FRAMING)
            return
        folder, _, file = name.rpartition("/")
        folders = self.server.folders
        if file != REPORT or folder not in folders:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such page")
        shown = self.server.report_of(folders[folder])
        self.answer(HTTPStatus.OK, "text/html; charset=utf-8", shown, FRAMED)


def serve(run: Path, port: int, ready: Callable[[str], None]) -> None:
    """Serve the report until interrupted; `ready` is called with its address."""
    with Server(run, port) as server:
        ready(server.url)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
