"""A feedback session on a run: collecting items, serving the page, importing and exporting."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np

from evo.feedback.pool import pool_items
from evo.feedback.server import Server
from evo.record.ledger import ledger_file, read
from fitness.errors import InputError
from fitness.facts import as_lines
from fitness.feedback.conversion import THRESHOLD, records
from fitness.feedback.importing import read_judgements
from fitness.feedback.items import Item, add_items, items_of, own_items, read_items
from fitness.feedback.judgements import Judgement
from fitness.feedback.standing import Settings
from fitness.feedback.store import FOLDER, Store, read_standing
from fitness.files import write_whole
from fitness.reward.choice import chosen
from fitness.reward.model import LEAST, enough

Choose = Literal["active", "random"]
PAIRS = 3  # of drafts for each prompt
COUNT = 50  # items that are chosen


def feedback_of(run: Path) -> Path:
    """The feedback folder of a run; InputError if there is no such run."""
    return ledger_file(run).parent / FOLDER


def judged(run: Path) -> tuple[dict[str, Item], list[Judgement]]:
    """Items of a run and people's judgements of them; both empty if there is no feedback yet."""
    folder = feedback_of(run)
    return read_items(folder), read_standing(folder).judgements()


def collect(
    run: Path,
    *,
    items: Path | None = None,
    pool: Path | None = None,
    named: Sequence[str],
    pairs: int,
    seed: int,
    choose: Choose | None = None,
    count: int = COUNT,
) -> tuple[int, int]:
    """Add items from a file, a pool, or the samples of individuals; return counts of new and all.

    All items are added, or, with `choose`, `count` new ones: at random or the most informative.
    Without a file or pool, a run without samples is an error only if it has no other items.
    """
    folder = feedback_of(run)
    rng = np.random.default_rng(seed)
    scores: dict[str, dict[str, float]] = {}
    if items is not None:
        candidates = list(own_items(items))
    elif pool is not None:
        candidates, scores = pool_items(pool, pairs=pairs, rng=rng)
    else:
        from evo.feedback.drafts import answers, individuals  # pandas
        from evo.history.rounds import search_of

        try:
            facts = read(search_of(run))
            candidates = items_of(answers(facts, individuals(facts, named)), pairs=pairs, rng=rng)
        except InputError:
            if not read_items(folder):
                raise
            candidates = []
    if choose is not None:
        candidates = _chosen(run, candidates, choose, count, scores, rng)
    return add_items(folder, candidates), len(read_items(folder))


def _chosen(
    run: Path,
    candidates: Sequence[Item],
    choose: Choose,
    count: int,
    scores: Mapping[str, Mapping[str, float]],
    rng: np.random.Generator,
) -> list[Item]:
    items, judgements = judged(run)
    new = [item for item in candidates if item.id not in items]
    if choose == "random":
        return [new[place] for place in rng.permutation(len(new))[:count]]
    if not enough(items, judgements):
        warnings.warn(
            f"--choose active: not enough judgements yet to learn from; it takes {LEAST} ratings, "
            "preferences and corrections that do not all say the same; chosen at random",
            stacklevel=2,
        )
    return chosen(new, count, items=items, judgements=judgements, rng=rng, scores=scores)


def serve(
    run: Path,
    *,
    port: int,
    labels: Sequence[str] | None,
    repeat: float | None,
    seed: int | None,
    criteria: Mapping[str, str] | None = None,
    raters: int | None = None,
    release: Sequence[str],
    ready: Callable[[str], None],
) -> None:
    """Serve the page until interrupted; `ready` is called with its address.

    Settings that are None keep their values of the run's last session.
    """
    with Store(feedback_of(run)) as store:
        before = store.standing.settings
        store.set(
            Settings(
                before.labels if labels is None else tuple(labels),
                before.repeat if repeat is None else repeat,
                before.seed if seed is None else seed,
                before.criteria if criteria is None else criteria,
                before.raters if raters is None else raters,
            )
        )
        for annotator in release:
            store.release(annotator)
        with Server(store, port) as server:
            ready(server.url)
            with suppress(KeyboardInterrupt):
                server.serve_forever()


def export(run: Path, shape: str, path: Path, *, threshold: int = THRESHOLD) -> int:
    """Write the judgements as records of a shape; return the number of records."""
    folder = feedback_of(run)
    found = records(
        read_items(folder), read_standing(folder).judgements(), shape, threshold=threshold
    )
    if not found:
        raise InputError(
            f"{run} holds no judgements that make records of shape {shape}; see `evo feedback "
            f"report {run}` for what there is"
        )
    write_whole(path, as_lines(found))
    return len(found)


def take_in(run: Path, path: Path, annotator: str) -> tuple[int, int, int]:
    """Import judgements; return counts of judgements, new judgements and new items."""
    folder = feedback_of(run)
    if not folder.exists():  # none is made for a file that cannot be read
        read_judgements(path, {}, annotator=annotator)
    with Store(folder) as store:
        known = sorted({judgement.annotator for judgement in store.standing.judgements()})
        found = read_judgements(path, store.items, annotator=annotator, annotators=known)
        before = len(store.items)
        new = store.take_in(path.name, found.items, list(found.judgements))
        return len(found.judgements), new, len(store.items) - before
