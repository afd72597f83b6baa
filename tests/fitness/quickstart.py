"""The embedded default's own model and text, cut small: real fine-tunes in a second."""

from pathlib import Path
from typing import Any

import numpy as np

import evo.quickstart
from fitness.data.documents import Source
from fitness.data.prompts import Prompts, PromptSet
from fitness.data.sources import TokenFile, tokenise
from fitness.data.tokenizer import load_tokenizer
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import Evaluation, EvaluationSpec, Task
from fitness.mixture.decks import deck_of
from fitness.mixture.infilling import Infilling
from fitness.mixture.mixing import Batch, Mixing
from fitness.recipe import Recipe

FOLDER = Path(evo.quickstart.__file__).parent
MODEL = FOLDER / "model"
CORPUS = FOLDER / "corpus"
STEPS, BATCH, LENGTH = 3, 4, 48
DATA = f"""\
sources:
  jargon: {{path: {CORPUS}/sources/jargon.jsonl}}
  devil: {{path: {CORPUS}/sources/devil.jsonl}}
domains:
  target:
    selection: {{path: {CORPUS}/held_out/jargon.selection.jsonl, limit: 8}}
    test: {{path: {CORPUS}/held_out/jargon.test.jsonl, limit: 8}}
"""  # of a spec; further domains may follow it
MIXTURE = {"jargon": 0.5, "wordnet": 0.5}
ASKED = ("seed", "fidelity", "split", "continue_from", "keep_state")


def corpus_path(name: str) -> str:
    """Path below CORPUS of a name, as `sources/jargon`; `sources/wordnet` is a folder."""
    return name if (CORPUS / name).is_dir() else f"{name}.jsonl"


def token_file(path: str, cache: Path, *, limit: int | None = None) -> TokenFile:
    return tokenise(path, Source(path=path, limit=limit), CORPUS, MODEL, cache)


def small_task(cache: Path, **changes: Any) -> Task:
    """Two sources, one domain of 20 documents, two prompts answered at random."""
    domain = {
        "selection": token_file("held_out/jargon.selection.jsonl", cache, limit=20),
        "test": token_file("held_out/jargon.test.jsonl", cache, limit=20),
    }
    asked = Prompts(["abbrev: n. ", "bug: n. "], ["a common abbreviation", "an unwanted property"])
    settings = PromptSet(
        selection="-", test="-", max_new_tokens=4, temperature=0.8, metrics=("mean_length",)
    )
    values: dict[str, Any] = {
        "model": MODEL,
        "sources": {name: token_file(corpus_path(f"sources/{name}"), cache) for name in MIXTURE},
        "domains": {"target": domain},
        "prompt_sets": {"jargon": settings},
        "prompts": {"jargon": {"selection": asked, "test": asked}},
        "budget_tokens": STEPS * BATCH * LENGTH,
        "held_out_length": LENGTH,
    }
    return Task("builtin", **{**values, **changes})


def tokens_of(file: TokenFile) -> np.ndarray:
    """The tokens of a source of text, (tokens,)."""
    tokens = file.open()
    assert isinstance(tokens, np.ndarray)
    return tokens


def small_recipe(**changes: Any) -> Recipe:
    values = {"mixture": MIXTURE, "batch_size": BATCH, "sequence_length": LENGTH}
    return Recipe(**{**values, **changes})


def batches_of(task: Task, recipe: Recipe, *, seed: int = 0) -> list[Batch]:
    tokenizer = load_tokenizer(MODEL)
    end, turning = tokenizer.eos_token_id, Infilling.of(recipe, tokenizer, seed)
    mixing = Mixing(
        recipe.mixture,
        {name: deck_of(file.open(), recipe, end, turning) for name, file in task.sources.items()},
        budget_tokens=task.budget_tokens,
        sequence_length=recipe.sequence_length,
        seed=seed,
    )
    return list(mixing.batches(recipe.batch_size))


def evaluate(evaluator: Evaluator, *, individual: int = 0, **recipe: Any) -> Evaluation:
    """One evaluation; the spec's own fields are told from the recipe's by name."""
    asked = {k: recipe.pop(k) for k in ASKED if k in recipe}
    plain = small_recipe(**recipe).model_dump(mode="json")
    return evaluator.evaluate(EvaluationSpec(individual, plain, **{"seed": 0, **asked}))
