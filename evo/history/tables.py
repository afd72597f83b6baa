"""Tables computed from the ledger's facts alone: evaluations, scores, baselines, winner.

Times are unix seconds and durations seconds. Losses are objectives oriented so that lower is
better. The *base* is the untouched model, recorded with fidelity 0; it has no genes, and the
number 0, which an individual has as well: `kind` tells a base, a baseline, an individual and a
control (the winner on other data) from one another.
"""

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar

import numpy as np
import pandas as pd

from evo import config as configuration
from evo.config import Constraint, SearchConfig
from evo.planning.lineages import FULL
from evo.printable import escaped
from evo.record.facts import (
    Control,
    Details,
    Evaluated,
    Facts,
    Gene,
    Genome,
    Individual,
    cost,
    details,
)
from evo.record.spec import recorded
from fitness.files import write_whole
from fitness.metrics import Measurement
from population.individual import ANCHOR

UNTOUCHED = 0.0
BASE = "base"

P = ParamSpec("P")
Answer = TypeVar("Answer")
_cache: tuple[Facts, int, dict[Any, Any]] = ((), 0, {})


def once(
    derive: Callable[Concatenate[Facts, P], Answer],
) -> Callable[Concatenate[Facts, P], Answer]:
    """Cache the results of a function of facts until it is called with other facts.

    Facts never change and new ones are only appended, so identity and length are a sufficient key.
    Callers must not modify the results.
    """

    @wraps(derive)
    def cached(facts: Facts, *args: P.args, **named: P.kwargs) -> Answer:
        global _cache
        cache = _cache  # another thread may replace it meanwhile
        if cache[0] is not facts or cache[1] != len(facts):
            cache = _cache = (facts, len(facts), {})
        answers, key = cache[2], (derive, *args, *named.items())
        if key not in answers:
            answers[key] = derive(facts, *args, **named)
        answer: Answer = answers[key]
        return answer

    return cached


@dataclass(frozen=True)
class Columns:
    """Columns of the table by kind, as {name in the ledger: column}.

    A column carries the bare name, or `<kind>.<name>` where something earlier has taken it.
    """

    genes: dict[str, str]
    measurements: dict[str, str]
    costs: dict[str, str]

    FIRST: ClassVar = (
        *("individual", "generation", "parents", "operator", "name"),
        *("status", "seed", "fidelity", "split", "attempts", "same_as"),
        *("inherited_from", "cumulative_tokens"),
    )
    LAST: ClassVar = (
        *("violation", "started", "finished", "duration", "worker", "message"),
        "kind",  # last of those that every run has, as it came last
    )

    @classmethod
    def of(cls, facts: Facts) -> "Columns":
        """Columns for every name in the facts, in the order of first appearance."""
        return _columns(facts)

    @classmethod
    def _named(cls, facts: Facts) -> "Columns":
        taken = {*cls.FIRST, *cls.LAST}

        def named(kind: str, names: list[str]) -> dict[str, str]:
            columns = {n: f"{kind}.{n}" if n in taken else n for n in dict.fromkeys(names)}
            taken.update(columns.values())
            return columns

        shapes = dict.fromkeys(_shape(f["genome"]) for f in facts if f["fact"] == "individual")
        seen = [f for f in facts if f["fact"] == "evaluation"]
        measured = [name for f in seen for name in f["measurements"]]
        return cls(
            named("gene", [name for shape in shapes for name in _flat_names(shape)]),
            named(
                "measurement",
                [*objectives(facts), *(c.name for c in constraints(facts)), *measured],
            ),
            named("cost", [name for f in seen for name in cost(f)]),
        )


@once
def _columns(facts: Facts) -> Columns:
    return Columns._named(facts)


@once
def spec(facts: Facts) -> SearchConfig:
    """The spec of a run of any version, to read its results by; see `evo.record.spec`."""
    return recorded(configuration.recorded_in(facts))


def objectives(facts: Facts) -> dict[str, int]:
    """Sign by objective, in the spec's order: 1 is minimised, -1 maximised."""
    return {one.name: one.sign for one in configuration.objectives(spec(facts))}


def constraints(facts: Facts, split: str = "selection") -> list[Constraint]:
    """The spec's constraints, with the limits that follow from what the base measures on a split.

    On the test split, where it is measured under several seeds, that is its mean.
    """
    absolute = configuration.constraints(spec(facts))
    if all(constraint.factor is None for constraint in absolute):
        return list(absolute)
    base = [
        fact["measurements"]
        for fact in facts
        if fact["fact"] == "evaluation"
        and (fact["fidelity"], fact["split"], fact["status"]) == (0, split, "ok")
    ]
    means = {name: fmean(one[name] for one in base) for name in (base[0] if base else {})}
    return list(configuration.constraints(spec(facts), means))


def sign(facts: Facts, measurement: str) -> int:
    """Sign of a measurement: 1 if lower is better, -1 if higher is, 0 if unknown."""
    return objectives(facts).get(measurement, meaning(facts, measurement).sign)


def meaning(facts: Facts, measurement: str) -> Measurement:
    """Unit and direction of a measurement or an aggregate."""
    return configuration.meaning(spec(facts), measurement)


def loss_columns(facts: Facts) -> list[str]:
    """The columns that hold the losses, in the order of the objectives."""
    return [f"losses.{name}" for name in objectives(facts)]


@once
def table(facts: Facts) -> pd.DataFrame:
    """One row per evaluation, in the order of the ledger.

    `attempts` counts workers that died too (an earlier version did not record of which fidelity);
    `same_as` names the individual of equal genome whose evaluation was copied, at no cost.
    `cumulative_tokens` are those of its whole lineage: more than its own if it started from the
    weights of individuals, `inherited_from`.
    """
    columns = Columns.of(facts)
    bred = bred_in(facts)
    genes = {id: gene_values(f["genome"], columns.genes) for id, f in bred.items()}
    lost: Counter[tuple[Any, ...]] = Counter()
    rows = []
    for fact in facts:
        if fact["fact"] == "lost":
            lost[fact["individual"], fact["seed"], fact["split"], fact.get("fidelity")] += 1
        elif fact["fact"] == "evaluation":
            untouched = fact["fidelity"] == UNTOUCHED
            own = (fact["individual"], fact["seed"], fact["split"])
            rows.append(
                {
                    **_parentage(None if untouched else bred.get(fact["individual"]), untouched),
                    "attempts": 1 + lost[*own, fact["fidelity"]] + lost[*own, None],
                    **({} if untouched else genes.get(fact["individual"], {})),
                    **_evaluated(fact, columns),
                }
            )
    frame = pd.DataFrame(rows)
    realised = [c for c in map(str, frame) if c.startswith(("realised.", "epochs."))]
    numeric = [*columns.measurements.values(), *columns.costs.values(), "started", "finished"]
    numeric.append("cumulative_tokens")
    known = [*Columns.FIRST, *columns.genes.values(), *columns.measurements.values()]
    known += [*loss_columns(facts), *columns.costs.values(), *Columns.LAST, *realised]
    frame = frame.reindex(columns=list(dict.fromkeys(known)))
    frame[numeric] = frame[numeric].apply(pd.to_numeric, errors="coerce").astype(float)
    whole = [c for c in columns.genes.values() if _whole(genes, c)]
    frame[["generation", "same_as", *whole]] = frame[["generation", "same_as", *whole]].astype(
        "Int64"
    )
    frame["duration"] = frame["finished"] - frame["started"]
    frame.loc[frame["same_as"].notna(), "duration"] = 0.0
    return oriented(frame, facts, columns)


@once
def scores(facts: Facts) -> pd.DataFrame:
    """One row per individual that has a score, by id; columns as in `table`, numbers averaged.

    And `seeds`, over how many, with `errors.<objective>`, the standard errors of these means.
    """
    columns = Columns.of(facts)
    rows = search_rows(facts)
    rows = rows[(rows["fidelity"] == FULL) & (rows["status"] == "ok")]
    mean = [*columns.measurements.values(), *columns.costs.values(), "duration"]
    frame = rows.drop_duplicates("individual").set_index("individual").sort_index()
    groups = rows.groupby("individual")
    frame[mean] = groups[mean].mean()
    frame["seeds"] = groups.size()
    for name in objectives(facts):
        frame[f"errors.{name}"] = groups[columns.measurements[name]].sem()
    return oriented(frame.reset_index(), facts, columns)


@once
def search_rows(facts: Facts) -> pd.DataFrame:
    """The rows of `table` in which the search tried something, failures included."""
    rows = table(facts)
    return rows[(rows["split"] == "selection") & (rows["fidelity"] > UNTOUCHED)].reset_index(
        drop=True
    )


@once
def baselines(facts: Facts) -> dict[str, int]:
    """Individual by the name of the baseline it is; the untouched base is not among them."""
    return {
        f["operator"].removeprefix(ANCHOR): f["id"]
        for f in facts
        if f["fact"] == "individual" and f["operator"].startswith(ANCHOR)
    }


@once
def winner(facts: Facts) -> int | None:
    """The individual named before the test split was read, or None."""
    named = [f["individual"] for f in facts if f["fact"] == "winner"]
    return named[-1] if named else None


def oriented(frame: pd.DataFrame, facts: Facts, columns: Columns) -> pd.DataFrame:
    """The table with its losses and violations computed from its measurements."""
    measured = frame["status"] == "ok"
    for name, orientation in objectives(facts).items():
        frame[f"losses.{name}"] = orientation * frame[columns.measurements[name]].where(measured)
    broken = pd.Series(0.0, index=frame.index)
    for constraint in constraints(facts):
        column = columns.measurements[constraint.name]
        excess = [constraint.excess({constraint.name: value}) for value in frame[column]]
        broken += np.where(frame[column].isna(), np.inf, excess)
    frame["violation"] = broken.where(measured)
    return frame


def to_csv(frame: pd.DataFrame, path: str) -> None:
    """Write the table; `-` is standard output, where a terminal gets no control characters."""
    text = str(frame.to_csv(index=False, lineterminator="\n"))
    if path == "-" and sys.stdout.isatty():
        text = escaped(text)
    _write(path, text.encode())


def to_parquet(frame: pd.DataFrame, path: str) -> None:
    """Write the table; `-` is standard output. Genes of mixed types become text."""
    texts = {
        str(column): frame[column].map(str, na_action="ignore")
        for column in frame.columns
        if frame[column].dtype == object
    }
    content = frame.assign(**texts).to_parquet(None, index=False)
    _write(path, content)


def _write(path: str, content: bytes) -> None:
    if path == "-":
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
    else:
        write_whole(Path(path), content)


def _shape(genome: Genome) -> tuple[Any, ...]:
    """Names in a genome, each mixture with the names of its sources."""
    return tuple((n, tuple(v)) if isinstance(v, Mapping) else n for n, v in genome.items())


def _flat_names(shape: tuple[Any, ...]) -> list[str]:
    """Flat names of a genome: `<gene>`, or `<gene>.<source>` for each source of a mixture."""
    names = []
    for part in shape:
        names += [part] if isinstance(part, str) else [f"{part[0]}.{source}" for source in part[1]]
    return names


def gene_values(genome: Genome, names: Mapping[str, str]) -> dict[str, Gene]:
    """Value by column; a source that an active mixture leaves out has a share of 0."""
    found: dict[str, Gene] = {}
    for name, column in names.items():
        gene, _, source = name.partition(".")
        if name in genome:
            found[column] = genome[name]
        elif isinstance(value := genome.get(gene), dict):
            found[column] = value.get(source, 0.0)
    return found


def _whole(genes: Mapping[int, Mapping[str, Any]], column: str) -> bool:
    return all(type(values.get(column, 0)) is int for values in genes.values())


def bred_in(facts: Facts) -> dict[int, Individual | Control]:
    """Individuals and controls by number."""
    return {f["id"]: f for f in facts if f["fact"] == "individual" or f["fact"] == "control"}


def _evaluated(fact: Evaluated, columns: Columns) -> dict[str, Any]:
    """Values of an evaluation itself, by column."""
    more = details(fact)
    return {
        **{name: fact[name] for name in ("individual", "status", "seed", "fidelity", "split")},
        "same_as": more.get("same_as"),
        "inherited_from": " ".join(map(str, more.get("inherited_from", ()))),
        "cumulative_tokens": _total(more.get("cumulative_tokens")),
        **_renamed(fact["measurements"], columns.measurements),
        **_renamed(cost(fact), columns.costs),
        **{name: fact.get(name) for name in ("started", "finished", "worker", "message")},
        **_realised(more),
    }


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names[name]: value for name, value in values.items()}


def _parentage(fact: Individual | Control | None, untouched: bool) -> dict[str, Any]:
    """How an individual was bred, its name, and its kind, by column."""
    parentage = {"generation": None, "parents": "", "operator": ""}
    if untouched or fact is None:
        name, kind = (BASE, BASE) if untouched else ("", "individual")
        return {**parentage, "name": name, "kind": kind}
    if fact["fact"] == "control":
        return {**parentage, "name": fact["name"], "kind": "control"}
    operator, anchored = fact["operator"], fact["operator"].startswith(ANCHOR)
    return {
        "generation": fact["generation"],
        "parents": " ".join(map(str, fact["parents"])),
        "operator": operator,
        "name": operator.removeprefix(ANCHOR) if anchored else "",
        "kind": "baseline" if anchored else "individual",
    }


def _total(tokens: Mapping[str, int] | None) -> int | None:
    return None if tokens is None else sum(tokens.values())


def _realised(more: Details) -> dict[str, float]:
    """Shares and epochs that were trained on, by column."""
    shares, epochs = more.get("shares") or {}, more.get("epochs") or {}
    return {f"realised.{n}": v for n, v in shares.items()} | {
        f"epochs.{n}": v for n, v in epochs.items()
    }
