"""Discrimination of real target text by each filter: `make bench NAME=filters`, 3 minutes.

Good samples are held-back text of the quickstart's target domain. Bad ones, of a kind at a time,
are mixed with them 1:1: the area under the ROC curve says how often a filter prefers a good one.
All that is chosen, changed or written is drawn anew for each seed.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from fitness.data.documents import Source
from fitness.data.prompts import Prompts, PromptSet, read_prompts
from fitness.data.samples import Sample
from fitness.filters import CONTAMINATION, FILTERS, filter_of, needs
from fitness.inference.sampling import generate
from fitness.models.base import Base
from fitness.samples.contamination import CONTAMINATED, contamination
from fitness.samples.references import evaluated_texts, texts_of
from fitness.samples.scoring import Given, scored
from fitness.training.supervised import finetune
from tests.fitness.quickstart import (
    CORPUS,
    MODEL,
    batches_of,
    corpus_path,
    small_recipe,
    small_task,
)

PROMPT, COMPLETION = 6, 40  # words
CHANGED = 0.1  # of the words of a copy
OTHERS = ("devil", "wordnet", "python", "austen", "licences", "factbook")
SCORES = (
    *("perplexity", "likelihood", "realness", "realness of the target"),
    *("duplicate", "copied", "contamination", "repetition", "length"),
)
Draw = Callable[[list[Sample], np.random.Generator], list[Sample]]


def texts(*names: str) -> list[str]:
    return [text for name in names for text in texts_of(Source(path=corpus_path(name)), CORPUS)]


def cut(document: str) -> list[Sample]:
    """A text as samples of PROMPT and COMPLETION words, in place of what a model would write."""
    said = document.split()
    size = PROMPT + COMPLETION
    parts = [said[begin : begin + size] for begin in range(0, len(said), size)]
    return [
        sample(" ".join(part[:PROMPT]), " " + " ".join(part[PROMPT:]))
        for part in parts
        if len(part) >= 2 * PROMPT
    ]


def sample(prompt: str, completion: str) -> Sample:
    return Sample(prompt, completion, individual=0, seed=0)


def changed(text: str, pool: Sequence[str], rng: np.random.Generator) -> str:
    """Replace a tenth of a text's words, at least one, by others."""
    said = text.split()
    count = max(1, round(CHANGED * len(said)))
    for place in rng.choice(len(said), count, replace=False):
        said[place] = pool[int(rng.integers(len(pool)))]
    return " ".join(said)


class Kinds:
    """The kinds of bad samples; each draws as many as there are good ones (less empty ones)."""

    def __init__(self, base: Base, count: int) -> None:
        self._base, self._count = base, count
        self._spoilt = list(chain.from_iterable(map(cut, TARGET[1::2])))
        self._training = list(chain.from_iterable(map(cut, texts("sources/jargon"))))
        self._test = list(chain.from_iterable(map(cut, texts("held_out/jargon.test"))))
        self._others = list(chain.from_iterable(map(cut, texts("held_out/general.selection"))))
        self._words = " ".join(texts("sources/jargon")).split()
        self._prompts = [
            sample(prompt, f" {reference}")
            for asked in (prompts_of("jargon"), prompts_of("categories"))
            for prompt, reference in zip(asked.prompts, asked.references, strict=True)
        ]
        self.all: dict[str, Draw] = {
            "shuffled words": lambda good, rng: [
                sample(one.prompt, " " + " ".join(rng.permutation(one.completion.split())))
                for one in self._some(self._spoilt, rng)
            ],
            "repeated loops": lambda good, rng: [
                sample(one.prompt, " " + " ".join((one.completion.split()[:6] * 7)[:COMPLETION]))
                for one in self._some(self._spoilt, rng)
            ],
            "written by the base": lambda good, rng: self._written(rng),
            "other domains": lambda good, rng: self._some(self._others, rng),
            "copies in the pool": lambda good, rng: [
                self._copy(one, rng) for one in self._some(good, rng)
            ],
            "training text": lambda good, rng: self._some(self._training, rng),
            "training text, changed": lambda good, rng: [
                self._copy(one, rng) for one in self._some(self._training, rng)
            ],
            "test text, changed": lambda good, rng: [
                self._copy(one, rng) for one in self._some(self._test, rng)
            ],
            "test prompts, changed": lambda good, rng: [
                self._copy(one, rng) for one in self._some(self._prompts, rng)
            ],
        }

    def _some(self, samples: Sequence[Sample], rng: np.random.Generator) -> list[Sample]:
        repeated = len(samples) < self._count
        places = rng.choice(len(samples), self._count, replace=repeated)
        return [samples[place] for place in places]

    def _copy(self, one: Sample, rng: np.random.Generator) -> Sample:
        prompt = changed(one.prompt, self._words, rng)
        return sample(prompt, " " + changed(one.completion, self._words, rng))

    def _written(self, rng: np.random.Generator) -> list[Sample]:
        """Completions of the frozen base after the prompts of the held-out text."""
        prompts = [one.prompt for one in self._some(self._spoilt, rng)]
        answers = generate(
            self._base.model,
            self._base.tokenizer,
            prompts,
            max_new_tokens=60,
            temperature=1.0,
            seed=int(rng.integers(2**31)),
        )
        written = [sample(*both) for both in zip(prompts, answers, strict=True)]
        return [one for one in written if one.completion.strip()]


TARGET = texts("held_out/jargon.selection")


def prompts_of(name: str) -> Prompts:
    path = str(CORPUS / f"prompts/{name}.test.jsonl")
    return read_prompts(name, path, PromptSet(selection=path, test=path), MODEL)


def second_model(folder: Path) -> Base:
    """The base, fine-tuned on the target's own training text: for the filter `likelihood`."""
    base, recipe = Base(MODEL), small_recipe(batch_size=16, sequence_length=96)
    task = small_task(folder / "tokens", budget_tokens=40 * 16 * 96)
    with base.prepared(recipe, seed=0) as model:
        finetune(model, recipe, batches_of(task, recipe), steps=40, seed=0)
        model.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
    return Base(folder)


def scores_of(pool: list[Sample], base: Base, second: Base, seed: int) -> dict[str, np.ndarray]:
    """Scores of all filters of evomix, and of realness against the target's training text alone."""
    given = Given(
        seed=seed,
        base=base,
        second=second,
        real=texts(*(f"sources/{name}" for name in ("jargon", *OTHERS))),
        training=lambda: texts(*(f"sources/{name}" for name in ("jargon", *OTHERS))),
        evaluated=EVALUATED,
    )
    target = Given(seed=seed, real=texts("sources/jargon"))
    every = scored(pool, [name for name in FILTERS if needs(name) != "judgements"], given)
    narrow = scored(pool, ["realness"], target)
    found = {
        name: np.array([one.scores[name] for one in every])
        for name in SCORES
        if name != "realness of the target"
    }
    return {**found, "realness of the target": np.array([o.scores["realness"] for o in narrow])}


EVALUATED = evaluated_texts(
    [(Source(path=f"held_out/{name}.test.jsonl"), None) for name in ("jargon", "general")],
    [prompts_of("jargon"), prompts_of("categories")],
    CORPUS,
)


def preference(name: str, values: np.ndarray) -> np.ndarray:
    """Higher is better. Of a band, lower is: an area below one half is badness on its low side."""
    known = name.split()[0]
    highest = filter_of(known).keeps == "highest" and known != CONTAMINATION
    return values if highest else -values


def main() -> None:
    options = _options()
    base = Base(MODEL)
    good = list(chain.from_iterable(map(cut, TARGET[::2])))
    kinds = Kinds(base, len(good)).all
    areas: dict[str, dict[str, list[float]]] = {kind: {} for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        second = second_model(Path(folder))
        for seed in range(options.seeds):
            for kind, draw in kinds.items():
                bad = draw(good, drawing(kind, seed))
                found = scores_of([*good, *bad], base, second, seed)
                labels = [1] * len(good) + [0] * len(bad)
                for name in SCORES:
                    area = roc_auc_score(labels, preference(name, found[name]))
                    areas[kind].setdefault(name, []).append(float(area))
    mean = {k: {n: float(np.mean(v)) for n, v in one.items()} for k, one in areas.items()}
    spread = max(float(np.std(v)) for one in areas.values() for v in one.values())
    print(f"{len(good)} good samples, as many bad ones, {options.seeds} seeds; area under ROC:")
    print(f"{'':24}" + " ".join(f"{name[:13]:>13}" for name in SCORES))
    for kind, one in mean.items():
        print(f"{kind:24}" + " ".join(f"{one[name]:13.2f}" for name in SCORES))
    print(f"largest standard deviation over seeds {spread:.3f}")
    removed = removed_of(good, kinds, options.copies)
    for kind, (count, of) in removed.items():
        print(f"removed as contaminated: {count:,} of {of:,}, {kind}")
    figures = {"good": len(good), "auc": mean, "spread": spread, "removed": removed}
    print("BENCH " + json.dumps({"name": "filters", "seeds": options.seeds, **figures}))


def drawing(kind: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, len(kind), *kind.encode()])


def removed_of(
    good: list[Sample], kinds: Mapping[str, Draw], draws: int
) -> dict[str, tuple[int, int]]:
    """Removed samples and their number: of copies, all of which must go, and of other texts."""
    pools = {kind: kinds[kind] for kind in kinds if kind.startswith("test")}
    found = {}
    for kind, draw in pools.items():
        bad = [one for seed in range(draws) for one in draw(good, drawing(kind, seed))]
        found[kind] = (dropped(bad), len(bad))
    found["good"] = (dropped(good), len(good))
    others = [
        one for name in ("jargon", *OTHERS) for t in texts(f"sources/{name}") for one in cut(t)
    ]
    found["training sources"] = (dropped(others), len(others))
    return found


def dropped(samples: list[Sample]) -> int:
    return sum(score >= CONTAMINATED for score in contamination(samples, EVALUATED))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=filters", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="draws of each kind (default 3)")
    parser.add_argument("--copies", type=int, default=20, help="draws to remove (default 20)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
