"""Simulated mixtures beside fine-tunes on them: how well sums of experts foretold their scores."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from evo.history.tables import FULL, Columns, Facts, objectives, once, search_rows
from evo.record.facts import Simulated, mixture
from population.gaussian_process import GaussianProcess, fit


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
    values = np.array([value for _, value in known])
    middle, width = values.mean(), values.std() or 1.0
    points, ones = _points([shares for shares, _ in known], sources), np.ones(len(known))
    kernel = fit(points, (values - middle) / width, ones)
    process = GaussianProcess(points, (values - middle) / width, ones, kernel)
    mean, _ = process.predict(_points(mixtures, sources))
    return list(middle + width * mean)


def _points(mixtures: Sequence[Mapping[str, float]], sources: Sequence[str]) -> np.ndarray:
    """Roots of shares (n, sources), as genomes encode them."""
    shares = np.array([[one.get(source, 0.0) for source in sources] for one in mixtures])
    totals = shares.sum(axis=1, keepdims=True)
    return np.asarray(np.sqrt(shares / np.where(totals > 0, totals, 1.0)))
