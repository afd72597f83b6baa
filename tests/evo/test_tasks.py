"""Searches of tasks other than causal language modelling: what is refused, and one to its end."""

import json
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evo import config as configuration
from evo.cli import DONE, main
from evo.config import ConfigError
from evo.export.formats import export_as
from evo.export.model import export
from evo.prepare.lengths import cut_records
from evo.prepare.task import prepare
from fitness.errors import InputError
from fitness.metrics.spans import Tagged, tag_scores
from tests.evo.facts import read
from tests.fitness.classes import NAMES, encoder, write_labelled
from tests.fitness.quickstart import CORPUS
from tests.fitness.sentences import write_tagged

CLASSIFICATION = """\
name: classes
model: {base: quickstart, task: classification, labels: [austen, devil, factbook, python]}
sources:
  plain: {path: plain.jsonl, kind: label}
  wrong: {path: wrong.jsonl, kind: label}
domains:
  held:
    selection: {path: selection.jsonl, kind: label}
    test: {path: test.jsonl, kind: label}
recipe: {sequence_length: 32, batch_size: 8, learning_rate: 0.003, adapter: lora}
genome:
  mixture: {type: simplex}
  learning_rate: {type: float, low: 1.0e-3, high: 1.0e-2, log: true}
objectives: {held/f1: maximize}
baselines: [uniform, only wrong]
search: {strategy: nsga2, population: 4, replicates: 1}
budget: {evaluations: 5, tokens: 10240}
resources: {workers: 2}
comparison: {seeds: 1}
"""
TAGGING = """\
name: entities
model: {base: quickstart, task: token_classification, labels: [O, B-DATE, I-DATE, B-PLACE, I-PLACE]}
sources:
  plain: {path: plain.jsonl, kind: tags}
  wrong: {path: wrong.jsonl, kind: tags}
domains:
  held:
    selection: {path: selection.jsonl, kind: tags}
    test: {path: test.jsonl, kind: tags}
recipe: {sequence_length: 48, batch_size: 8, learning_rate: 0.003, adapter: lora}
genome:
  mixture: {type: simplex}
  learning_rate: {type: float, low: 1.0e-3, high: 1.0e-2, log: true}
objectives: {held/f1: maximize}
baselines: [uniform, only wrong]
search: {strategy: nsga2, population: 4, replicates: 1}
budget: {evaluations: 5, tokens: 15360}
resources: {workers: 2}
comparison: {seeds: 1}
"""
MASKED = f"""\
name: masked
model: {{base: encoder, task: masked}}
sources:
  austen: {{path: {CORPUS}/sources/austen.jsonl, limit: 60}}
  devil: {{path: {CORPUS}/sources/devil.jsonl, limit: 60}}
domains:
  devil: {{path: {CORPUS}/sources/devil.jsonl, limit: 100}}
recipe: {{sequence_length: 32, batch_size: 8}}
genome:
  mixture: {{type: simplex}}
  mask_share: {{type: float, low: 0.1, high: 0.5}}
objectives: {{devil/loss: minimize}}
search: {{strategy: random, population: 4, replicates: 1}}
budget: {{evaluations: 4, tokens: 2560}}
"""


def written(folder: Path, text: str, old: str = "", new: str = "") -> Path:
    """The spec beside its data, one of its parts replaced."""
    assert old in text
    write_labelled(folder / "plain.jsonl", first=0, last=40)
    moved = dict(zip(NAMES, NAMES[1:] + NAMES[:1], strict=True))
    write_labelled(folder / "wrong.jsonl", first=40, last=80, names=moved)
    write_labelled(folder / "selection.jsonl", first=80, last=100)
    write_labelled(folder / "test.jsonl", first=100, last=120)
    path = folder / "search.yaml"
    path.write_text(text.replace(old, new, 1))
    return path


def written_tags(folder: Path, old: str = "", new: str = "") -> Path:
    """The spec of a tagger beside its data, one of its parts replaced."""
    assert old in TAGGING
    write_tagged(folder / "plain.jsonl", first=0, last=200)
    write_tagged(folder / "wrong.jsonl", first=200, last=300, outside=True)
    write_tagged(folder / "selection.jsonl", first=300, last=370)
    write_tagged(folder / "test.jsonl", first=370, last=436)
    path = folder / "search.yaml"
    path.write_text(TAGGING.replace(old, new, 1))
    return path


TEXT = f"{{path: {CORPUS}/sources/devil.jsonl}}"
OTHER_KINDS = f"{{path: {CORPUS}/sources/devil.jsonl, kind: completion}}"
PROMPTS = "prompts:\n  asked: {selection: plain.jsonl, test: plain.jsonl, metrics: [chrf]}\nrecipe:"


@pytest.mark.parametrize(
    ("spec", "old", "new", "told"),
    [
        (CLASSIFICATION, "{path: plain.jsonl, kind: label}", TEXT,
         r"sources\.plain\.kind: classification cannot learn from kind text; take kind label, or"),
        (CLASSIFICATION, ", task: classification, labels: [austen, devil, factbook, python]", "",
         r"sources\.plain\.kind: causal cannot learn from kind label; .* model\.task classif"),
        (CLASSIFICATION, "selection: {path: selection.jsonl, kind: label}\n    "
         "test: {path: test.jsonl, kind: label}", TEXT[1:-1],
         r"domains\.held\.kind: classification cannot learn from kind text"),
        (CLASSIFICATION, "recipe:", PROMPTS,
         r"prompts: a model whose task is classification generates no text; leave them out"),
        (CLASSIFICATION, "adapter: lora", "method: preference",
         r"recipe\.method: preference (needs generated text|needs a source)"),
        (CLASSIFICATION, "adapter: lora", "isolate_documents: true",
         r"recipe\.isolate_documents: only a causal model can keep documents apart"),
        (CLASSIFICATION, "adapter: lora", "infill_share: 0.1",
         r"recipe\.infill_share: only a causal model learns to infill, .* classification; leave"),
        (MASKED, "mask_share: {type", "infill_share: {type",
         r"genome\.infill_share: only a causal model learns to infill, model\.task is masked"),
        (CLASSIFICATION, "population: 4", "population: 4, bucket: 2",
         r"search\.bucket: (buckets train only causal models|cannot be combined)"),
        (CLASSIFICATION, "adapter: lora", "start: parent",
         r"recipe\.start: no warm start with task classification; leave it at scratch"),
        (CLASSIFICATION, "resources:", "evaluator: {trl: {}}\nresources:",
         r"model\.task: classification is supported only by evomix's own trainer"),
        (CLASSIFICATION, "learning_rate: {type", "mask_share: {type",
         r"genome\.mask_share: has no effect unless model\.task is masked; leave it out"),
        (CLASSIFICATION, "held/f1", "held/perplexity", r"unknown measurement held/perplexity"),
        (CLASSIFICATION, "held/f1", "held/F1", r"measurement held/F1; did you mean held/f1"),
        (CLASSIFICATION, "{held/f1: maximize}", "{held/loss: minimise}", r"minimize"),
        (CLASSIFICATION, "classification,", "clasification,",
         r"model\.task: .*'clasification'; did you mean classification"),
        (CLASSIFICATION, "[austen, devil, factbook, python]", "[austen]",
         r"model\.labels: one label, austen, is not enough to classify by; give two"),
        (CLASSIFICATION, "[austen, devil, factbook, python]", "[1, 2, 1]",
         r"model\.labels: label '1' is given twice; keep one of them"),
        (CLASSIFICATION, "[austen, devil, factbook, python]", "[true, false]", r"model\.labels"),
        (MASKED, "task: masked", "task: masked, labels: [a, b]",
         r"model\.labels: only classification and token_classification have labels, .* is masked"),
        (MASKED, f"{{path: {CORPUS}/sources/austen.jsonl, limit: 60}}", OTHER_KINDS,
         r"sources\.austen\.kind: masked cannot learn from kind completion; take kind text, or"),
        (MASKED, "high: 0.5", "high: 1.5", r"genome\.mask_share\.high"),
        (MASKED, "batch_size: 8", "batch_size: 8, method: reinforce", r"recipe\.method: reinforce"),
    ],
)  # fmt: skip
def test_what_does_not_go_with_a_task_is_told(
    spec: str, old: str, new: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=told):
        configuration.load(written(tmp_path, spec, old, new))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("B-DATE,", "DATE,", r"model\.labels: 'DATE' is not BIO; a label is O, B-TYPE or I-TYPE"),
        ("[O, ", "[", r"model\.labels: has no O, the tag of words outside of entities; add it"),
        ("task: token_classification", "task: ner", r"did you mean token_classification"),
        ("plain.jsonl, kind: tags", "plain.jsonl, kind: label",
         r"plain\.kind: token_classification cannot learn from kind label; take kind tags, or"),
        ("kind: tags}\n  wrong", "kind: entities}\n  wrong", r"did you mean tags"),
        ("adapter: lora", "start: parent", r"recipe\.start: no warm start with task"),
        ("population: 4", "population: 4, bucket: 2", r"search\.bucket: (buckets train|cannot be)"),
        ("held/f1", "held/perplexity", r"unknown measurement held/perplexity"),
    ],
)  # fmt: skip
def test_what_does_not_go_with_tags_is_told(old: str, new: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        configuration.load(written_tags(tmp_path, old, new))


def test_a_held_out_tag_outside_the_set_is_told_with_file_and_line(tmp_path: Path) -> None:
    config = configuration.load(written_tags(tmp_path, "B-PLACE", "B-PLACES"))
    told = r"selection: .*selection\.jsonl:\d+: tag 'B-PLACE' is not among .*mean 'B-PLACES'"
    with pytest.raises(InputError, match=told):
        prepare(config)


def test_sentences_that_are_cut_are_told(tmp_path: Path) -> None:
    config = configuration.load(written_tags(tmp_path, "sequence_length: 48", "sequence_length: 9"))
    told = list(cut_records(config, prepare(config).task))
    assert len(told) == 4
    assert "(sentences lose their last words, which are not scored)" in told[0]


def test_labels_that_nobody_gives_are_listed_before_anything_trains(tmp_path: Path) -> None:
    given = ", labels: [austen, devil, factbook, python]"
    config = configuration.load(written(tmp_path, CLASSIFICATION, given))
    with pytest.raises(InputError, match=r"model\.labels: missing, .* \[austen, devil, factbook,"):
        prepare(config)


def test_a_label_outside_the_set_is_told_with_file_and_line(tmp_path: Path) -> None:
    config = configuration.load(written(tmp_path, CLASSIFICATION, "[austen", "[austin"))
    told = r"selection: .*selection\.jsonl:1: label 'austen' is not among .*mean 'austin'"
    with pytest.raises(InputError, match=told):
        prepare(config)


def test_a_sequence_longer_than_the_encoder_reads_is_refused(tmp_path: Path) -> None:
    encoder(tmp_path / "encoder")
    old = "sequence_length: 32, batch_size: 8"
    path = written(tmp_path, MASKED, old, "sequence_length: 200, batch_size: 8")
    with pytest.raises(InputError, match="200 is longer than the base model's context of 128"):
        prepare(configuration.load(path))


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@pytest.mark.filterwarnings("ignore:.*longer than sequence_length")
def test_the_best_classifier_of_a_search_predicts_as_measured(tmp_path: Path) -> None:
    from transformers import pipeline

    spec, run = written(tmp_path, CLASSIFICATION), tmp_path / "run"
    assert main(["launch", str(spec), "--run", str(run)]) == DONE
    facts = read(run)
    found = [fact for fact in facts if fact["fact"] == "evaluation"]
    assert {fact["status"] for fact in found} == {"ok"}
    tested = [f["measurements"]["held/f1"] for f in found if f["split"] == "test" and f["fidelity"]]
    assert max(tested) > 0.75 > 0.4 > min(tested), "what was mislabelled is not learned from"
    assert "held/f1" in (run / "report.html").read_text()

    to = tmp_path / "best"
    export(run, "best", to)
    best = next(fact["individual"] for fact in facts if fact["fact"] == "winner")
    measured = next(f for f in found if f["individual"] == best and f["split"] == "selection")
    lines = [json.loads(line) for line in (tmp_path / "selection.jsonl").read_text().splitlines()]
    classify = pipeline("text-classification", model=str(to), device="cpu")
    guesses: Any = classify([line["text"] for line in lines], truncation=True, max_length=32)
    right = sum(guess["label"] == line["label"] for guess, line in zip(guesses, lines, strict=True))
    assert right / len(lines) == measured["measurements"]["held/accuracy"] > 0.75
    with pytest.raises(InputError, match=r"--as trl .*causal"):
        export_as(run, "best", "trl", tmp_path / "trl")


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@pytest.mark.filterwarnings("ignore:.*longer than sequence_length")
def test_the_best_tagger_of_a_search_finds_entities_as_measured(tmp_path: Path) -> None:
    from transformers import pipeline

    spec, run = written_tags(tmp_path), tmp_path / "run"
    assert main(["launch", str(spec), "--run", str(run)]) == DONE
    facts = read(run)
    found = [fact for fact in facts if fact["fact"] == "evaluation"]
    assert {fact["status"] for fact in found} == {"ok"}
    tested = [f["measurements"]["held/f1"] for f in found if f["split"] == "test" and f["fidelity"]]
    assert max(tested) > 0.5 > 0.1 > min(tested), "what is never tagged is not learned from"
    assert "held/f1" in (run / "report.html").read_text()

    to = tmp_path / "best"
    export(run, "best", to)
    tag = pipeline("token-classification", str(to), device="cpu")
    sentences = []
    for line in (tmp_path / "selection.jsonl").read_text().splitlines():
        words, tags = (json.loads(line)[name] for name in ("tokens", "tags"))
        text = " ".join(words)
        answers: Any = tag(text)  # a token's start may be the space before its word
        guesses = {a["start"] + (text[a["start"]] == " "): a["entity"] for a in answers}
        begins = accumulate((len(word) + 1 for word in words[:-1]), initial=0)
        sentences.append(Tagged(np.zeros(1), tags, [guesses.get(at, "O") for at in begins]))
    best = next(fact["individual"] for fact in facts if fact["fact"] == "winner")
    measured = next(f for f in found if f["individual"] == best and f["split"] == "selection")
    f1 = tag_scores(sentences)["f1"]
    assert f1 == pytest.approx(measured["measurements"]["held/f1"], abs=0.02)
    assert f1 > 0.5
