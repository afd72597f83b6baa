"""A search over methods, from its spec to its report: preferences and prompts beside text."""

import json
from pathlib import Path

import pytest

from evo import config as configuration
from evo.cli import main
from evo.prepare.task import prepare
from fitness.errors import InputError
from tests.evo.facts import read
from tests.fitness.quickstart import CORPUS
from tests.fitness.records import PAIRS

SPEC = """\
name: methods
model: {{base: quickstart}}
sources:
  jargon: {{path: {corpus}/sources/jargon.jsonl}}
  pairs: {{path: pairs.jsonl, kind: preference}}
  asked: {{path: asked.jsonl, kind: prompt{methods}}}
domains:
  target:
    selection: {{path: {corpus}/held_out/jargon.selection.jsonl, limit: 10}}
    test: {{path: {corpus}/held_out/jargon.test.jsonl, limit: 10}}
  pairs:
    selection: {{path: held_out.jsonl, kind: preference}}
    test: {{path: held_out.jsonl, kind: preference}}
recipe: {{sequence_length: 48, batch_size: 4, reinforce_new_tokens: 8, reinforce_group: 2}}
genome:
  mixture: {{type: simplex, floor: 0.2}}
  method: {{type: choice, options: [supervised, preference, reinforce]}}
  preference_loss: {{type: choice, options: [sigmoid, kto], when: {{method: preference}}}}
objectives: {{pairs/accuracy: maximize, target/loss: minimize}}
baselines: [uniform]
search: {{strategy: random, population: 6, replicates: 1}}
budget: {{evaluations: 6, tokens: 1920}}
resources: {{workers: 1}}
comparison: {{seeds: 1}}
"""


def spec(folder: Path, *, reference: str = "") -> Path:
    """A spec whose prompts only reinforcement learns from, unless they have a reference."""
    learned, held_out = PAIRS[:6], PAIRS[6:]
    for name, pairs in (("pairs", learned), ("held_out", held_out)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    asked = [{"prompt": pair["prompt"], "reference": reference} for pair in PAIRS]
    (folder / "asked.jsonl").write_text("".join(json.dumps(one) + "\n" for one in asked))
    path = folder / "search.yaml"
    path.write_text(
        SPEC.format(corpus=CORPUS, methods="" if reference else ", methods: [reinforce]")
    )
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_search_over_methods_measures_preferences(tmp_path: Path) -> None:
    run = tmp_path / "run"
    path = spec(tmp_path)
    assert main(["launch", str(path), "--run", str(run), "--set", "seed=1"]) == 0
    facts = read(run)
    evaluations = [fact for fact in facts if fact["fact"] == "evaluation"]
    assert {fact["status"] for fact in evaluations} == {"ok"}
    assert all(0 <= fact["measurements"]["pairs/accuracy"] <= 1 for fact in evaluations)
    genomes = {fact["id"]: fact["genome"] for fact in facts if fact["fact"] == "individual"}
    assert {genome["method"] for genome in genomes.values()} == {
        "supervised",
        "preference",
        "reinforce",
    }
    for fact in evaluations:
        if fact["fidelity"]:
            genome = genomes[fact["individual"]]
            wanted = configuration.decode(configuration.load(path), genome)["mixture"]
            assert ("asked" in wanted) == (genome["method"] == "reinforce")
            assert fact["details"]["shares"] == pytest.approx(wanted, abs=0.15)
    assert (run / "report.html").exists()


def test_prompts_without_references_cannot_be_learned_from(tmp_path: Path) -> None:
    everywhere = "sources.asked.methods=[supervised, reinforce]"
    config = configuration.load(spec(tmp_path), [everywhere])
    with pytest.raises(InputError, match=r"sources.asked: supervised learns .* has a reference"):
        prepare(config)
