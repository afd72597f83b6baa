"""Records for trackers, from the facts of a ledger alone: a search, its evaluations, its end.

A key names a record within its search, an identity within a tracker. Both follow from the facts, so
that a record has the same ones in every process. Times are Unix seconds.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from evo import config as configuration
from evo import history
from evo.history import proxies, rounds
from evo.history.tables import FULL, UNTOUCHED, bred_in
from evo.record.facts import Evaluated, Facts, Genome, cost, details, launch_of
from evo.record.ledger import in_use, read
from evo.record.state import state

IDENTITY = 16  # hexadecimal digits
SCORED = ("selection", "test")
ROW = ("kind", "operator", "parents", "generation", "worker")  # columns of the table
Point = tuple[int, float]  # step, value


@dataclass(frozen=True, slots=True)
class Search:
    """A search, whose evaluations belong to it; `within` is the search that it is a part of."""

    name: str
    identity: str
    params: Mapping[str, str]
    started: float
    within: "Search | None" = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation that has ended, and the best values of the search after it.

    `curves` have points (tokens, value) by name. `number` counts the evaluations of the search.
    """

    key: str
    name: str
    identity: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    curves: Mapping[str, Sequence[Point]]
    started: float
    finished: float
    number: int
    best: Mapping[str, float]

    @property
    def failed(self) -> bool:
        """True if the evaluation has no scores."""
        return self.tags["status"] != "ok"


@dataclass(frozen=True, slots=True)
class End:
    """State of a search without a driver, with the closing comparison where there is one."""

    key: str
    state: str
    verdict: str
    results: Mapping[str, float]
    evaluations: int
    time: float


def searches(run: Path) -> Iterator[tuple[Search, Path, Facts]]:
    """The searches of a run with folder and facts: the run itself, its proxies, its rounds."""
    facts = read(run)
    whole = _search(run, facts)
    yield whole, run, facts
    parts: list[tuple[Path, Facts]] = [(own, read(own)) for own in proxies.folders(run, facts)]
    if rounds.has(facts):
        parts += [(one.folder, one.facts) for one in rounds.rounds(run, facts)]
    for folder, own in parts:
        yield _search(folder, own, whole), folder, own


def _search(folder: Path, facts: Facts, within: Search | None = None) -> Search:
    name = folder.resolve().name if within is None else f"{within.name}/{folder.name}"
    launch = launch_of(facts)
    spec = _flat(configuration.recorded_in(facts))
    versions = _flat({"versions": launch.get("versions", {})})
    identity = _identity("" if within is None else within.identity, folder.name, launch["time"])
    return Search(name, identity, {**spec, **versions}, launch["time"], within)


def evaluations(search: Search, facts: Facts) -> list[Evaluation]:
    """Evaluations of a search that score a split, in the order of the ledger."""
    rows = history.table(facts)
    every = [fact for fact in facts if fact["fact"] == "evaluation"]
    best, so_far = _best(facts), dict[str, float]()
    spec = history.spec(facts)
    recipes = {number: _recipe(spec, bred["genome"]) for number, bred in bred_in(facts).items()}
    found: list[Evaluation] = []
    for fact, (_, row) in zip(every, rows.iterrows(), strict=True):
        if fact["split"] not in SCORED:
            continue
        if fact["split"] == "selection" and fact["fidelity"] > UNTOUCHED:
            so_far = next(best)
        recipe = {} if fact["fidelity"] == UNTOUCHED else recipes.get(fact["individual"], {})
        found.append(_evaluation(search, fact, row, recipe, len(found) + 1, so_far))
    return found


def _best(facts: Facts) -> Iterator[dict[str, float]]:
    """Best values of each objective after each row of `search_rows`."""
    series = {name: history.best_so_far(facts, name).tolist() for name in history.objectives(facts)}
    for values in zip(*series.values(), strict=True):
        pairs = zip(series, values, strict=True)
        yield {name: value for name, value in pairs if math.isfinite(value)}


def _evaluation(
    search: Search,
    fact: Evaluated,
    row: pd.Series,
    recipe: Mapping[str, str],
    number: int,
    best: Mapping[str, float],
) -> Evaluation:
    key = f"{fact['individual']} {fact['seed']} {fact['fidelity']:g} {fact['split']}"
    named = str(row["name"] or f"individual {fact['individual']}")
    share = "" if fact["fidelity"] in (UNTOUCHED, FULL) else f", {fact['fidelity']:g} of the tokens"
    tags = {
        **{name: str(row[name]) for name in ROW},
        **{name: str(fact[name]) for name in ("individual", "seed", "split", "status")},
        "fidelity": f"{fact['fidelity']:g}",
        "same_as": str(details(fact).get("same_as", "")),
        "message": fact.get("message") or "",
    }
    return Evaluation(
        key,
        f"{named}, {fact['split']}, seed {fact['seed']}{share}",
        _identity(search.identity, key),
        recipe,
        {name: text for name, text in tags.items() if text not in ("", "None", "<NA>", "nan")},
        {**fact["measurements"], **{f"cost/{name}": value for name, value in cost(fact).items()}},
        _curves(fact),
        fact["started"],
        fact["finished"],
        number,
        best,
    )


def _recipe(spec: configuration.SearchConfig, genome: Genome) -> dict[str, str]:
    """The complete recipe of a genome; its genes alone if this version refuses it."""
    try:
        return _flat(configuration.decode(spec, genome))
    except ValidationError:
        return _flat(genome)


def _curves(fact: Evaluated) -> dict[str, list[Point]]:
    """Losses by tokens: of training, and on held-out text where early stopping checked."""
    more = details(fact)
    curves = {"train/loss": more.get("learning_curve"), "stopping/loss": more.get("held_out_curve")}
    return {
        name: [(round(tokens), value) for tokens, value in points]
        for name, points in curves.items()
        if points
    }


def end(run: Path, folder: Path, facts: Facts) -> End | None:
    """State and results of a search; None while a driver works on it."""
    if in_use(run) or in_use(folder):
        return None
    now = state(facts, alive=False)
    several = rounds.has(facts)
    told = rounds.verdict(rounds.rounds(folder, facts)) if several else history.verdict(facts)
    results = {} if several else _results(facts)
    scored = sum(fact["fact"] == "evaluation" and fact["split"] in SCORED for fact in facts)
    return End(f"end {len(facts)}", now, told.text, results, scored, _time(facts))


def _results(facts: Facts) -> dict[str, float]:
    """Means of the closing comparison and their standard errors, as test/<contender>/<measurement>.

    Names hold no spaces: trackers group by what stands before a slash.
    """
    found: dict[str, float] = {}
    for row in history.comparison(facts).to_dict("records"):
        name = f"test/{row['contender']}/{row['measurement']}".replace(" ", "_")
        values = {name: row["mean"], f"{name}/standard_error": row["standard_error"]}
        found |= {label: value for label, value in values.items() if math.isfinite(value)}
    return found


def _time(facts: Facts) -> float:
    """Time of the last fact that has one."""
    times = (fact.get("finished") or fact.get("time") for fact in reversed(facts))
    return float(next(time for time in times if time))


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Leaves of nested mappings as text, by their path `a.b`; without those that are not set."""
    found: dict[str, str] = {}
    for name, value in values.items():
        path = f"{before}{name}"
        if isinstance(value, Mapping):
            found |= _flat(value, f"{path}.")
        elif value is not None and value not in ([], ""):
            found[path] = value if isinstance(value, str) else json.dumps(value)
    return found


def _identity(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:IDENTITY]
