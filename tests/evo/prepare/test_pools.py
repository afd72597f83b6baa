"""A search with a pool of samples among its sources, from its spec to what was kept of them."""

from dataclasses import replace
from pathlib import Path

import pytest

from evo import config as configuration
from evo.cli import main
from evo.planning.controls import NOTHING_GENERATED, UNFILTERED
from evo.prepare.task import Prepared, prepare
from fitness.data.samples import Sample
from fitness.errors import InputError
from tests.evo.facts import read
from tests.fitness.quickstart import CORPUS
from tests.fitness.samples.pools import JARGON, good, numbered, sample, written

SPEC = """\
name: pool
model: {{base: quickstart}}
sources:
  jargon: {{path: {corpus}/sources/jargon.jsonl}}
  pool: {{path: pool.jsonl, kind: sample}}
domains:
  target:
    selection: {{path: {corpus}/held_out/jargon.test.jsonl, limit: 10}}
    test: {{path: held_out.jsonl}}
prompts:
  asked: {{selection: asked.jsonl, test: asked.jsonl, max_new_tokens: 4, metrics: [chrf]}}
recipe: {{sequence_length: 48, batch_size: 4}}
genome:
  mixture: {{type: simplex}}
  keep_realness: {{type: float, low: 0.1, high: 1}}
objectives: {{target/loss: minimize}}
baselines: [uniform]
search: {{strategy: random, population: 4, replicates: 1}}
budget: {{evaluations: 4, tokens: 1920}}
resources: {{workers: 1}}
comparison: {{seeds: 1}}
"""
COUNT = 20


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """The test split holds a text that no sample has."""
    (tmp_path / "held_out.jsonl").write_text('{"text": "%s"}\n' % ("to be or not to be " * 20))
    (tmp_path / "asked.jsonl").write_text(
        '{"prompt": "What is the question of them all?", "reference": ["To be or what?", "2b"]}\n'
    )
    written(pool(), tmp_path)
    path = tmp_path / "search.yaml"
    path.write_text(SPEC.format(corpus=CORPUS))
    return path


def pool() -> list[Sample]:
    return numbered(good(COUNT), realness=[n / COUNT for n in range(COUNT)])


def prepared(spec: Path, *overrides: str) -> Prepared:
    return prepare(configuration.load(spec, overrides))


def test_samples_of_what_is_measured_on_are_left_out_and_told(spec: Path) -> None:
    clean = prepared(spec).task.sources["pool"]
    copies = [
        sample(" that I ask of you", "What is the question of them all?", realness=1.0),
        sample(" to be or not to be to be or", "he said", realness=1.0),
        replace(sample(" quite harmless in itself", "a", realness=1.0), suffix="or not to be " * 4),
    ]
    written([*copies, *pool()], spec.parent)
    with pytest.warns(UserWarning, match=r"sources.pool: 3 of its 23 samples contain text of the "):
        found = prepared(spec)
    assert found.task.sources["pool"].rows == clean.rows == COUNT
    assert found.fingerprints["sources"]["pool"] != clean.fingerprint

    written(copies, spec.parent)
    with (
        pytest.warns(UserWarning, match="3 of its 3"),
        pytest.raises(InputError, match=r"sources\.pool: every sample contains"),
    ):
        prepared(spec)


def test_a_cut_by_a_score_that_the_samples_lack_is_refused(spec: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"keep_length_low is a threshold of the score length, .* not have, they "
        "have 'realness'; score them",
    ):
        prepared(spec, "recipe.keep_length_low=0.1")
    with pytest.raises(InputError, match="keep_own is a threshold of the score own"):
        prepared(spec, "recipe.keep_own=0.9")
    prepared(spec, "recipe.keep_length_low=0")
    written(good(5), spec.parent)
    with pytest.raises(InputError, match=r"keep_realness is a threshold .* they have none"):
        prepared(spec)


def test_samples_without_a_completion_cannot_be_learned_from(spec: Path) -> None:
    written([sample("", text[:40], realness=0.5) for text in JARGON[:3]], spec.parent)
    with pytest.raises(InputError, match="none of its 3 has a completion"):
        prepared(spec)


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@pytest.mark.filterwarnings("ignore:.*are longer than sequence_length")
def test_a_search_chooses_among_samples_and_records_how_many_were_kept(spec: Path) -> None:
    run = spec.parent / "run"
    assert main(["launch", str(spec), "--run", str(run)]) == 0
    facts = read(run)
    genomes = {fact["id"]: fact["genome"] for fact in facts if fact["fact"] == "individual"}
    every = [f for f in facts if f["fact"] == "evaluation" and f["fidelity"] > 0]
    assert {fact["status"] for fact in every} == {"ok"}
    trained = [fact for fact in every if fact["individual"] in genomes]
    controls = {fact["id"]: fact["name"] for fact in facts if fact["fact"] == "control"}
    assert set(controls.values()) == {NOTHING_GENERATED, UNFILTERED}
    tested = {controls[f["individual"]]: f for f in every if f["individual"] in controls}
    assert tested[UNFILTERED]["details"]["samples_kept"]["pool"] == COUNT
    assert "pool" not in tested[NOTHING_GENERATED]["details"]["shares"]
    for fact in trained:
        share = genomes[fact["individual"]].get("keep_realness", 1.0)
        kept = fact["details"]["samples_kept"]["pool"]
        assert kept == pytest.approx(share * COUNT, abs=1)
    assert len({fact["details"]["samples_kept"]["pool"] for fact in trained}) > 1
    assert main(["resume", str(run)]) == 0
    assert main(["report", str(run)]) == 0
