"""Simulated mixtures beside fine-tunes: the table, and the figure drawn from it."""

from pathlib import Path

import pytest
from scipy.stats import spearmanr

from evo import history
from evo.report.figures import View, charts
from tests.evo.facts import read
from tests.evo.search.test_loop import search
from tests.evo.search.test_simulation import SPEC, cluster, cost, spec

__all__ = ["spec"]  # a fixture


def test_each_fine_tune_stands_beside_its_mixture_as_simulated(tmp_path: Path, spec: Path) -> None:
    search(tmp_path / "run", spec, cluster(), cost=cost)
    facts = read(tmp_path / "run")
    found = history.simulated(facts)
    bred = [fact["id"] for fact in facts if fact["fact"] == "individual"]
    assert set(found["individual"]) == set(bred) - {0, 1, 2}  # without the experts
    # the sums of this made-up model are .1 above what is trained
    assert (found["simulated"] - found["trained"]).median() == pytest.approx(0.1, abs=0.01)
    assert spearmanr(found["simulated"], found["trained"]).statistic > 0.9
    chart = charts(View.of(facts))["simulation"]
    assert f"{len(found)} fine-tunes" in chart.caption
    assert sum(len(trace["x"]) for trace in chart.figure["data"][:2]) == len(found)


def test_without_simulation_there_is_no_figure(tmp_path: Path, spec: Path) -> None:
    spec.write_text(SPEC.replace("replicates: 1", 'replicates: 1, simulate: "off"'))
    search(tmp_path / "run", spec, cluster(), cost=cost)
    facts = read(tmp_path / "run")
    assert history.simulated(facts).empty
    assert "simulation" not in charts(View.of(facts))
