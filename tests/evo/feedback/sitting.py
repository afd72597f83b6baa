"""A run whose models wrote something, without training any; and its page, served or driven."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evo.feedback.server import Server
from fitness.feedback.items import Item, add_items
from fitness.feedback.standing import Settings
from fitness.feedback.store import FOLDER, Store
from tests.evo.browsing import answering
from tests.evo.driving import start
from tests.evo.synthetic_ledger import ledger


def run_with_samples(run: Path) -> Path:
    """A finished run; individual i answered `ask n` with a text of its own, on either split."""
    facts = ledger(evaluations=6, population=3, seeds=1, failures=False)
    for fact in facts:
        if fact["fact"] == "evaluation" and fact["fidelity"] == 1:
            written = f"{fact['split']} answer of {fact['individual']}"
            samples = [
                {"prompt": f"ask {n}", "reference": "", "output": f"{written} to {n}"}
                for n in range(3)
            ]
            fact["details"] = {"samples": {"asked": samples}}
    run.mkdir(parents=True)
    (run / "ledger.jsonl").write_text("".join(json.dumps(fact) + "\n" for fact in facts))
    return run


@contextmanager
def served(folder: Path, items: list[Item], **settings: Any) -> Iterator[Server]:
    """A server in a thread of this process."""
    add_items(folder, items)
    with Store(folder) as store:
        store.set(Settings(**settings))
        with Server(store) as server, answering(server):
            yield server


@contextmanager
def opened(run: Path, *options: object) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """`evo feedback RUN` in a process of its own, and the address it printed."""
    process = start("feedback", run, *options)
    try:
        assert process.stdout is not None
        told = ""
        while not told.startswith("http"):
            told = process.stdout.readline()
            assert told, "ended before it served"
        yield process, told.strip()
    finally:
        process.kill()
        process.communicate()


def facts(run: Path) -> list[dict[str, Any]]:
    lines = (run / FOLDER / "judgements.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]
