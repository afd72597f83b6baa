"""Earlier searches and what they measured, read from run folders, or from tables with roles."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evo import config as configuration
from evo.config import ConfigError, SearchConfig
from evo.config.file import nearest
from evo.config.genomes import filled_genes
from evo.history.rounds import search_of
from evo.record.facts import Details, Evaluated, Facts, details, launch_of
from evo.record.ledger import FILE, read
from evo.replay.table import Table, read_table
from fitness.errors import InputError
from population.individual import ANCHOR, EXPERT
from population.space import AnyGene, Genome, Simplex

ROLES = "roles.yaml"  # beside a table
SPLITS = ("selection", "test")
UNUSED = ("samples", "recalled")  # details that are not taken over


@dataclass(frozen=True, slots=True)
class Scored:
    """A successful evaluation, with its measurements but no aggregates of them."""

    individual: int
    seed: int
    fidelity: float
    split: str
    measurements: Mapping[str, float]
    details: Details


@dataclass(frozen=True)
class Earlier:
    """An earlier search: its genes and genomes, and its successful evaluations.

    A table of finished runs has no `config`: it does not say on what model and data they were.
    """

    name: str
    genes: Mapping[str, AnyGene]
    genomes: Mapping[int, Mapping[str, Any]]  # by individual
    evaluations: Sequence[Scored]
    unused: Mapping[str, int] = field(default_factory=dict)  # individuals without scores, by why
    baselines: frozenset[int] = frozenset()  # and experts: what any such search begins with
    folder: Path | None = None
    config: SearchConfig | None = None
    fingerprints: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, object] = field(default_factory=dict)


def read_for(config: SearchConfig, paths: Sequence[Path]) -> list[Earlier]:
    """Read run folders and tables for a launch; a table is a file, with its roles beside it.

    Nothing that they name is executed. Raises InputError for one without any scores, and for a
    launch that cannot take them.
    """
    if paths and config.rounds is not None:
        raise InputError(
            "--from: this spec has rounds, whose first one would take the scores and whose others "
            "would not; leave out rounds, or name the best genomes under `known`"
        )
    for place, path in enumerate(paths):
        if path.resolve() in [other.resolve() for other in paths[:place]]:
            raise InputError(f"--from: {path} is named twice; name it once")
    for path in paths:
        if path.name == FILE and path.is_file():
            raise InputError(
                f"--from: {path} is the ledger of a run; name its folder {path.parent}"
            )
    return [_of_table(path) if path.is_file() else _of_run(path) for path in paths]


def _of_run(path: Path) -> Earlier:
    """An earlier run, by its folder."""
    if not (path / FILE).is_file():
        near = nearest(str(path), sorted(str(one.parent) for one in path.parent.glob(f"*/{FILE}")))
        why = "it has no ledger.jsonl" if path.is_dir() else "there is no such folder or file"
        remedy = f"did you mean {near}?" if near else "name the folder `evo launch` printed"
        raise InputError(f"--from: {path} is not a run folder: {why}; {remedy}")
    folder = search_of(path).resolve()
    facts = read(folder)
    try:
        config = configuration.of(facts)
    except ConfigError as error:
        raise InputError(f"--from: {path}: {error}") from None
    bred = {fact["id"]: fact for fact in facts if fact["fact"] == "individual"}
    evaluations, unused = _scored(facts, config)
    if not any(one.fidelity for one in evaluations):
        failed = unused["failed"]
        why = (
            f"all {failed} individuals that it evaluated failed"
            if failed
            else "none of its individuals has been evaluated"
        )
        raise InputError(f"--from: {path} has no scores: {why}; leave it out")
    launch = launch_of(facts)
    return Earlier(
        folder.name,
        filled_genes(config),
        {number: fact["genome"] for number, fact in bred.items()},
        evaluations,
        unused,
        frozenset(n for n, one in bred.items() if one["operator"].startswith((ANCHOR, EXPERT))),
        folder,
        config,
        launch.get("fingerprints") or {},
        launch.get("versions") or {},
    )


def _scored(facts: Facts, config: SearchConfig) -> tuple[list[Scored], Counter[str]]:
    """Evaluations that succeeded and were not copied; counts of the individuals without one."""
    bred = {fact["id"] for fact in facts if fact["fact"] == "individual"}
    found: list[Scored] = []
    reasons = dict.fromkeys(bred, "not evaluated yet")
    for fact in facts:
        if fact["fact"] != "evaluation" or fact["individual"] not in bred or fact["fidelity"] > 1:
            continue
        if fact["split"] not in SPLITS:
            continue
        if fact["status"] != "ok":
            reasons[fact["individual"]] = "failed"
        elif details(fact).get("same_as") is not None:
            reasons[fact["individual"]] = "equal to another of its individuals"
        else:
            found.append(_without_aggregates(fact, config))
    measured = {one.individual for one in found if one.fidelity and one.split == "selection"}
    return found, Counter(why for number, why in reasons.items() if number not in measured)


def _without_aggregates(fact: Evaluated, config: SearchConfig) -> Scored:
    names = config.aggregates
    kept: Any = {n: value for n, value in details(fact).items() if n not in UNUSED}
    if "items" in kept:
        kept["items"] = {n: value for n, value in kept["items"].items() if n not in names}
    measured = {n: value for n, value in fact["measurements"].items() if n not in names}
    where = fact["individual"], fact["seed"], fact["fidelity"], fact["split"]
    return Scored(*where, measured, kept)


def _of_table(path: Path) -> Earlier:
    roles = path.parent / ROLES
    if not roles.is_file():
        raise InputError(
            f"--from: {path} is taken for a table of finished runs, and {roles}, which says what "
            "its columns are, is missing; write it as for `evo replay`, or name a run folder"
        )
    table = read_table(path, roles)
    evaluations = [
        Scored(row, 0, 1.0, "selection", dict(zip(table.columns, values, strict=True)), {})
        for row, values in enumerate(table.measured.tolist())
    ]
    genomes = dict(enumerate(map(_genome, table.genomes)))
    return Earlier(path.name, _genes(table), genomes, evaluations)


def _genes(table: Table) -> dict[str, AnyGene]:
    """The genes of a table, with plain names of sources."""
    return {
        name: Simplex(tuple(_plain(name, one) for one in gene.over))
        if isinstance(gene, Simplex)
        else gene
        for name, gene in table.space.genes.items()
    }


def _genome(genome: Genome) -> Genome:
    """A genome of a table, with plain names of sources."""
    return {
        name: {_plain(name, source): share for source, share in value.items()}
        if isinstance(value, dict)
        else value
        for name, value in genome.items()
    }


def _plain(gene: str, column: str) -> str:
    """Source of a column: `evo history` writes the share of `a` as `mixture.a`."""
    return column.removeprefix(f"{gene}.")
