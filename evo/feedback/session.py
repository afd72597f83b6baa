"""A sitting of people who judge a run: what they are shown, by which settings, until it ends."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from evo.feedback.server import Server
from evo.files import write_whole
from evo.ledger import ledger_file, read
from fitness.errors import InputError
from fitness.facts import as_line
from fitness.feedback.conversion import THRESHOLD, records
from fitness.feedback.importing import read_judgements
from fitness.feedback.items import add_items, items_of, own_items, read_items
from fitness.feedback.standing import Settings
from fitness.feedback.store import FOLDER, Store, read_standing

PAIRS = 3  # of drafts for each prompt


def feedback_of(run: Path) -> Path:
    """The feedback folder of a run; InputError if there is no such run."""
    return ledger_file(run).parent / FOLDER


def collect(
    run: Path, *, items: Path | None, named: Sequence[str], pairs: int, seed: int
) -> tuple[int, int]:
    """Add what a file holds, or else what individuals wrote; how many are new, and all.

    Without a file, a run that left no samples is an error only if there is nothing else to judge.
    """
    folder = feedback_of(run)
    if items is not None:
        new = add_items(folder, list(own_items(items)))
    else:
        from evo.feedback.drafts import answers, individuals  # pandas

        facts = read(run)
        try:
            written = answers(facts, individuals(facts, named))
            new = add_items(folder, items_of(written, pairs=pairs, rng=np.random.default_rng(seed)))
        except InputError:
            if not read_items(folder):
                raise
            new = 0
    return new, len(read_items(folder))


def serve(
    run: Path,
    *,
    port: int,
    labels: Sequence[str] | None,
    repeat: float | None,
    seed: int | None,
    release: Sequence[str],
    ready: Callable[[str], None],
) -> None:
    """Serve the page until interrupted; `ready` is called with its address.

    Settings that are None stay what they were when the run was last judged.
    """
    with Store(feedback_of(run)) as store:
        before = store.standing.settings
        store.set(
            Settings(
                before.labels if labels is None else tuple(labels),
                before.repeat if repeat is None else repeat,
                before.seed if seed is None else seed,
            )
        )
        for annotator in release:
            store.release(annotator)
        with Server(store, port) as server:
            ready(server.url)
            with suppress(KeyboardInterrupt):
                server.serve_forever()


def export(run: Path, shape: str, path: Path, *, threshold: int = THRESHOLD) -> int:
    """Write what was judged as records of a shape; how many there are."""
    folder = feedback_of(run)
    found = records(
        read_items(folder), read_standing(folder).judgements(), shape, threshold=threshold
    )
    if not found:
        raise InputError(
            f"{run} holds no judgements that make records of shape {shape}; see `evo feedback "
            f"report {run}` for what there is"
        )
    write_whole(path, b"".join(map(as_line, found)))
    return len(found)


def take_in(run: Path, path: Path, annotator: str) -> tuple[int, int, int]:
    """Import judgements; how many, how many of them were new, and how many items were."""
    with Store(feedback_of(run)) as store:
        known = sorted({judgement.annotator for judgement in store.standing.judgements()})
        found = read_judgements(path, store.items, annotator=annotator, annotators=known)
        before = len(store.items)
        new = store.take_in(path.name, found.items, list(found.judgements))
        return len(found.judgements), new, len(store.items) - before
