"""The fine-tunes that the check runs, on the quickstart's model and text: seconds even on a CPU."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fitness.data.documents import Source
from fitness.data.sources import tokenise
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import Evaluation, EvaluationSpec, Split, Status, Task
from fitness.models.heads import Head
from tests.fitness.classes import HEAD, encoder, labelled
from tests.fitness.quickstart import (
    BATCH,
    CORPUS,
    LENGTH,
    MODEL,
    STEPS,
    small_recipe,
    small_task,
)
from tests.fitness.records import PAIRS, rated, record_file

HELD_OUT = Source(path="held_out/jargon.selection.jsonl", limit=4)
JARGON = Source(path="sources/jargon.jsonl", limit=20)
LORA: dict[str, Any] = {"adapter": "lora", "learning_rate": 1e-2}
PAIRED = {**LORA, "method": "preference", "mixture": {"jargon": 0.5, "pairs": 0.5}}
REINFORCED = {
    **LORA,
    "method": "reinforce",
    "reinforce_group": 2,
    "reinforce_new_tokens": 8,
    "mixture": {"jargon": 0.5, "asked": 0.5},
}
CAUSAL: Mapping[str, Mapping[str, Any]] = {
    "all weights": {},
    "lora": LORA,
    "dora": {**LORA, "adapter": "dora"},
    "documents apart": {"isolate_documents": True},
    "completions": {**LORA, "mixture": {"pairs": 1.0}},
    "dpo": PAIRED,
    "ipo": {**PAIRED, "preference_loss": "ipo"},
    "kto": {**PAIRED, "mixture": {"jargon": 0.5, "ratings": 0.5}},
}
HEADS = ("classes", "masked")
ROUNDED = {**LORA, "precision": "bfloat16"}


def causal(folder: Path, **changes: Any) -> Task:
    """Text, pairs, ratings and prompts; three steps, the last a sequence short."""
    held_out = tokenise("held out", HELD_OUT, CORPUS, MODEL, folder)
    domains = {"target": {"selection": held_out, "test": held_out}}
    task = small_task(folder, domains=domains)
    asked = [{"prompt": pair["prompt"], "reference": pair["chosen"]} for pair in PAIRS]
    sources = {
        **task.sources,
        "pairs": record_file(PAIRS, "preference", folder),
        "ratings": record_file(rated(PAIRS), "rating", folder),
        "asked": record_file(asked, "prompt", folder),
    }
    tokens = STEPS * BATCH * LENGTH - 20
    return replace(task, sources=sources, budget_tokens=tokens, **changes)


def heads(folder: Path) -> dict[str, Task]:
    """An encoder that classifies texts, and one that predicts masked tokens."""
    bert = folder / "bert"
    if not bert.exists():
        encoder(bert)
    halves: tuple[Split, Split] = ("selection", "test")
    split = {half: labelled(folder, bert, first=0, last=12) for half in halves}
    texts = Task(
        "builtin",
        bert,
        head=HEAD,
        sources={"passages": labelled(folder, bert, first=12, last=40)},
        domains={"passages": split},
        budget_tokens=STEPS * BATCH * LENGTH,
        held_out_length=LENGTH,
    )
    jargon = tokenise("jargon", JARGON, CORPUS, bert, folder)
    masked = replace(
        texts,
        head=Head("masked"),
        sources={"jargon": jargon},
        domains={"target": {"selection": jargon, "test": jargon}},
    )
    return {"classes": texts, "masked": masked}


def run(evaluator: Evaluator, number: int = 0, **values: Any) -> Evaluation:
    """A fine-tune on a worker; what `EvaluationSpec` names is the spec's, the rest a recipe's."""
    spec = {name: values.pop(name) for name in list(values) if name in EvaluationSpec.__slots__}
    recipe = small_recipe(**values).model_dump(mode="json")
    evaluation = evaluator.evaluate(EvaluationSpec(number, recipe, **{"seed": 0, **spec}))
    if evaluation.status is not Status.OK:
        raise RuntimeError(f"{values}: {evaluation.status}: {evaluation.message}")
    return evaluation


def prepare(folder: Path) -> None:
    """Make what `losses` reads, so that two processes read the same."""
    (folder / "text").mkdir()
    causal(folder / "text")
    heads(folder)


def losses(folder: Path, kinds: set[str]) -> dict[str, dict[str, float]]:
    """Every loss that training and scoring know, at each step and on held-out text, by kind."""
    found: dict[str, dict[str, float]] = {"float32": {}, "bfloat16": {}}

    def take(precision: str, kind: str, evaluation: Evaluation) -> None:
        curve = evaluation.details.get("learning_curve", [])
        values = {str(tokens): loss for tokens, loss in curve}
        values |= {n: v for n, v in evaluation.measurements.items() if n.endswith("/loss")}
        found[precision] |= {f"{kind} {name}": value for name, value in values.items()}

    task = causal(folder / "text", prompt_sets={}, prompts={})
    worker = Evaluator(task)
    take("float32", "base", run(worker, fidelity=0.0))
    for kind in (name for name in CAUSAL if name in kinds):
        take("float32", kind, run(worker, **CAUSAL[kind]))
    take("bfloat16", "bfloat16", run(worker, **ROUNDED))
    for kind in (name for name in HEADS if name in kinds):
        other = heads(folder)[kind]
        mixture = {name: 1 / len(other.sources) for name in other.sources}
        take("float32", kind, run(Evaluator(other), mixture=mixture, **LORA))
    return found
