"""Servers in a thread and Chromium, for tests of pages; those that need it are marked."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest

from evo.local_server import LocalServer

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium is installed (apt-get install chromium)"
)


@contextmanager
def answering(server: LocalServer) -> Iterator[None]:
    """Let a server answer in a thread of this process."""
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
