import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.evo.browsing import CHROMIUM
from tests.evo.here import Here


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Launches and resumes evaluate in this process, without Ray."""
    monkeypatch.setattr("evo.run.Cluster", Here)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # chromium refuses root otherwise
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield found
        found.close()
