"""Toy searches that take over the scores of earlier ones, without Ray."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evo import config as configuration
from evo.config import SearchConfig
from evo.prepare.task import versions
from evo.record.artifacts import Artifacts
from evo.record.ledger import Ledger
from evo.reuse.earlier import read_for
from evo.reuse.imports import Import, imported
from evo.reuse.use import guides_of, recall_of
from evo.search.decisions import Decisions
from evo.search.loop import compare, evolve
from evo.search.requests import Requests, StopRequests
from fitness.cost import cost_of
from fitness.evaluation import Task
from population.individual import Individual
from tests.evo.search.test_loop import InProcess
from tests.evo.toy import write_spec

TASK = Task("tests.evo.toy:score")


def spec(folder: Path, *changes: tuple[str, str], more: str = "", **settings: Any) -> Path:
    """The toy's spec in a folder of its own, with texts of it changed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = write_spec(folder, **{"evaluations": 12, "replicates": 1, **settings})
    text = path.read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text + more)
    return path


def imports(path: Path, *earlier: Path, **fingerprints: Any) -> list[Import]:
    """The imports of a launch of a spec."""
    config = configuration.load(path)
    return imported(config, fingerprints, read_for(config, earlier))


def search(
    run: Path,
    path: Path,
    earlier: Sequence[Path] = (),
    cluster: InProcess | None = None,
    fingerprints: dict[str, Any] | None = None,
) -> Individual:
    """Launch, or resume where there is a ledger, to the end."""
    config = configuration.load(path)
    if not (run / "ledger.jsonl").exists():
        header = {
            "config": configuration.to_plain(config),
            "fingerprints": fingerprints or {},
            "versions": versions(),
            "time": 0.0,
        }
        found = imports(path, *earlier, **(fingerprints or {}))
        Ledger.create(run, header, [one.fact for one in found]).close()
    with Ledger(run) as ledger:
        artifacts = run / "artifacts"
        decisions = Decisions(config, ledger)
        recalled = recall_of(config, ledger.facts, artifacts)
        stand_in: Any = cluster or InProcess(TASK)
        number = decisions.individual
        requests = Requests(config, ledger, stand_in, number, StopRequests(), recalled)
        guides = guides_of(config, ledger.facts)
        kept = Artifacts(artifacts)
        winner = evolve(config, {}, cost_of(TASK), decisions, requests, kept, guides)
        compare(config, winner, decisions, requests)
    return winner


def written(
    run: Path,
    config: SearchConfig,
    scores: Sequence[tuple[Mapping[str, Any], Mapping[str, float]]],
    fingerprints: Mapping[str, Any] | None = None,
    **values: Any,
) -> Path:
    """A run folder with individuals of these genomes and measurements; none: it failed."""
    header = {
        "config": configuration.to_plain(config),
        "fingerprints": fingerprints or {},
        "versions": versions(),
        "time": 0.0,
    }
    with Ledger.create(run, header) as ledger:
        bred = {"parents": [], "operator": "sample", "generation": 0}
        known = {"seed": config.seed, "fidelity": 1.0, "split": "selection", "details": {}}
        times = {"cost": {}, "message": "", "worker": "", "started": 0.0, "finished": 1.0}
        for number, (genome, measured) in enumerate(scores):
            ledger.append("individual", id=number, genome=genome, **bred)
            status = {"status": "ok" if measured else "diverged", "measurements": measured}
            one = {"individual": number, **known, **times, **status, **values}
            ledger.append("evaluation", **one)
    return run
