"""Simulated mixtures beside fine-tunes on them: how well sums of experts foretold their scores."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from evo.history.tables import FULL, Columns, Facts, objectives, once, search_rows
from evo.record.facts import Simulated, mixture
from population.gaussian_process import GaussianProcess, fit
from population.space import SearchSpace, Simplex


@once
def simulated(facts: Facts) -> pd.DataFrame:
    """First objective of each fine-tune and of its mixture as simulated, without the experts.

    Columns: individual, trained, simulated. Trained is under the search's first seed. A mixture
    that was not simulated itself is interpolated between those that were, by a Gaussian process.
    Empty if nothing was simulated.
    """
    columns = ["individual", "trained", "simulated"]
    batches = [fact for fact in facts if fact["fact"] == "simulation" and fact["scores"]]
    if not batches or not objectives(facts):
        return pd.DataFrame(columns=columns)
    objective = next(iter(objectives(facts)))
    column = Columns.of(facts).measurements[objective]
    rows = search_rows(facts)
    rows = rows[(rows["fidelity"] == FULL) & (rows["status"] == "ok")].drop_duplicates("individual")
    trained = dict(zip(rows["individual"], rows[column], strict=True))
    sources, experts = batches[0]["sources"], batches[0]["experts"]
    known = _scores(batches, objective)
    if len(known) < 2:
        return pd.DataFrame(columns=columns)
    genomes = {f["id"]: mixture(f["genome"]) for f in facts if f["fact"] == "individual"}
    asked = [one for one in trained if one not in experts and genomes[one]]
    values = _interpolated(known, [genomes[one] for one in asked], sources)
    found = zip(asked, [trained[one] for one in asked], values, strict=True)
    return pd.DataFrame(found, columns=columns)


def _scores(
    batches: Sequence[Simulated], objective: str
) -> list[tuple[Mapping[str, float], float]]:
    return [
        (shares, scores[objective])
        for batch in batches
        for shares, scores in zip(batch["mixtures"], batch["scores"], strict=True)
        if objective in scores
    ]


def _interpolated(
    known: Sequence[tuple[Mapping[str, float], float]],
    mixtures: Sequence[Mapping[str, float]],
    sources: Sequence[str],
) -> list[float]:
    """Values (n,) at mixtures, by a process through the known ones."""
    if not mixtures:
        return []
    space = SearchSpace({"mixture": Simplex(tuple(sources))})

    def points(every: Iterable[Mapping[str, float]]) -> np.ndarray:
        return np.array([space.encode({"mixture": shares}) for shares in every])

    values = np.array([value for _, value in known])
    middle, width, ones = values.mean(), values.std() or 1.0, np.ones(len(known))
    data = points(shares for shares, _ in known), (values - middle) / width, ones
    mean, _ = GaussianProcess(*data, fit(*data)).predict(points(mixtures))
    return list(middle + width * mean)
