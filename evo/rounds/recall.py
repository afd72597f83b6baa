"""Evaluations of earlier rounds, for the recall of a later one."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from evo.config import SearchConfig, decode
from evo.config import of as config_of
from evo.record.facts import Evaluated, details
from evo.record.ledger import read
from evo.rounds.spec import different
from evo.search.recall import Elsewhere, Recall
from evo.search.results import from_fact
from fitness.models import weights


def recall_of(config: SearchConfig, artifacts: Path, folders: Sequence[Path]) -> Recall:
    """Recall of what rounds of the same base model have evaluated, in their folders.

    Only fine-tunes that use none of the sources that rounds add, whose contents differ in each
    round, and that start from scratch.
    """
    recall = Recall(artifacts, partial(_deciding, sources=config.sources.keys()))
    for folder in folders:
        facts = read(folder)
        individuals = {f["id"]: f["genome"] for f in facts if f["fact"] == "individual"}
        spec = config_of(facts)
        for fact in facts:
            if fact["fact"] != "evaluation" or fact["individual"] not in individuals:
                continue
            if _measured(fact):
                number = fact["individual"]
                kept = weights.folder_of(folder / "artifacts", number)
                recipe = decode(spec, individuals[number])
                recall.add(recipe, Elsewhere(folder.name, from_fact(dict(fact)), kept))
    return recall


def _deciding(recipe: Mapping[str, Any], *, sources: Collection[str]) -> Mapping[str, Any] | None:
    """A recipe without thresholds of an absent pool; None for one that uses a round's sources."""
    (plain,) = different([recipe])
    return plain if plain["mixture"].keys() <= sources else None


def _measured(fact: Evaluated) -> bool:
    """True for a fine-tune from scratch that succeeded, and was not copied."""
    if fact["status"] != "ok" or fact["split"] == "samples":
        return False
    return not (details(fact).get("same_as") or details(fact).get("inherited_from"))
