"""Use of imported scores, from the new run's own ledger: its guides, and what it recalls."""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from evo.config import SearchConfig, decode
from evo.config.genomes import filled_genes
from evo.record import trust
from evo.reuse.matching import common_genes
from evo.reuse.repeatable import deciding
from evo.reuse.scoring import scored
from evo.search.recall import Elsewhere, Recall
from fitness.errors import InputError
from fitness.evaluation import Evaluation, EvaluationSpec, Status
from fitness.models import weights
from population.guides import Guide
from population.individual import Individual
from population.space import SearchSpace

Facts = Iterable[Mapping[str, Any]]
REMEDY = "which the spec of this run cannot have; restore the ledger from a copy"


def guides_of(config: SearchConfig, facts: Facts) -> list[Guide]:
    """A guide for each earlier run that was imported."""
    imported = [fact for fact in facts if fact["fact"] == "imported" and fact["guide"]]
    return [_guide(config, fact) for fact in imported]


def _guide(config: SearchConfig, fact: Mapping[str, Any]) -> Guide:
    genes = filled_genes(config)
    try:
        space = SearchSpace(
            common_genes({name: genes[name] for name in fact["genes"] if name in genes}, genes)
        )
        records = [
            Individual(
                one["individual"],
                space.repair(one["genome"]),
                fidelity=one["fidelity"],
                seeds=one["seeds"],
            )
            for one in fact["guide"]
        ]
    except ValueError as error:
        raise _odd(fact, error) from None
    measured = [one["measurements"] for one in fact["guide"]]
    return Guide(
        f"guide: {fact['run']}",
        space,
        tuple(
            scored(config, record, values, fact["base"])
            for record, values in zip(records, measured, strict=True)
        ),
    )


def recall_of(config: SearchConfig, facts: Facts, artifacts: Path) -> Recall:
    """Recall of the evaluations that were imported; `artifacts` are those of the new run."""
    recall = Recall(artifacts, partial(deciding, config))
    for fact in facts:
        if fact["fact"] != "imported":
            continue
        for one in fact["recalled"]:
            number, where = one["individual"], (one["seed"], one["fidelity"], one["split"])
            try:
                recipe = decode(config, one["genome"]) if one["fidelity"] else {}
            except ValueError as error:
                raise _odd(fact, error) from None
            evaluation = Evaluation(
                EvaluationSpec(number, {}, *where),
                Status.OK,
                measurements=one["measurements"],
                details=one["details"],
            )
            recall.add(recipe, Elsewhere(fact["run"], evaluation, _checkpoint(fact, number)))
    return recall


def _odd(fact: Mapping[str, Any], error: ValueError) -> InputError:
    return InputError(f"what was imported of {fact['run']} has a genome, {REMEDY} ({error})")


def _checkpoint(fact: Mapping[str, Any], individual: int) -> Path | None:
    """A checkpoint of the earlier run, if it is still there; None if it names code or has links."""
    if "folder" not in fact:
        return None
    found = weights.folder_of(Path(fact["folder"]) / "artifacts", individual)
    if not found.is_dir() or trust.code_of_model("", found):
        return None
    links = [path for path in (found.parent, found, *found.iterdir()) if path.is_symlink()]
    return None if links else found
