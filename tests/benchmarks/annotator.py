"""Improvement of a model by human feedback: `make bench NAME=annotator`, 5 minutes.

The people are simulated, by a rule that errs in one judgement of ten: it likes short definitions
that do not repeat themselves, stay within the Jargon File's words and end in a full stop. It rates,
prefers and corrects what the quickstart's model writes after training prompts; the base is then
fine-tuned on real text together with what was said, three rounds long, and the rule without its
errors scores what comes out after held-out prompts. Beside that: fine-tunes without people on as
many tokens, items chosen actively against random ones, and the reward model alone under either.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from fitness.data.documents import Source
from fitness.data.prompts import Prompts, PromptSet
from fitness.data.samples import Sample, to_lines
from fitness.data.sources import TokenFile, tokenise
from fitness.evaluate import held_out
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import EvaluationSpec, Status, Task
from fitness.feedback.conversion import records
from fitness.feedback.items import Draft, Item, items_of
from fitness.feedback.judgements import Judgement, checked
from fitness.recipe import Recipe
from fitness.reward.choice import chosen
from fitness.reward.model import fitted
from fitness.samples.references import texts_of
from fitness.samples.scoring import Given, scored
from fitness.text import words
from tests.benchmarks.comparison import mean_error
from tests.fitness.quickstart import CORPUS, MODEL, token_file

ERRORS = 0.1
STEPS = (40, 60, 80, 120, 160, 200)  # judgements, of the reward model alone
TIMES = 3  # that each prompt is answered
PAIRS = 2  # of drafts for each prompt
SHORT = (4, 12)  # words
RATINGS = (0.5, 0.6, 0.75, 0.9)  # qualities from which a draft gets 2, 3, 4 and 5
GOOD = 4  # what is rated so is not corrected
REAL = {"jargon": 0.6, "devil": 0.4}
PEOPLE = {"completion": 0.6, "preference": 0.4, "pool": 0.6}  # the last with --pool
SHARE = 0.7  # of a fine-tune's tokens, that what people said has
CHOICES = ("random", "active")
KEPT = 0.3  # of the last model's own drafts, by the reward model, with --pool

VOCABULARY = set(
    words(
        " ".join(
            text
            for name in ("sources/jargon", "held_out/jargon.selection", "held_out/jargon.test")
            for text in texts_of(Source(path=f"{name}.jsonl"), CORPUS)
        )
    )
)


def quality(text: str) -> float:
    """The rule's score of a completion, 0 to 1: the mean of its four criteria."""
    said = words(text)
    if not said:
        return 0.0
    length = min(1, len(said) / SHORT[0], SHORT[1] / len(said))
    new = len(set(said)) / len(said)
    genre = sum(word in VOCABULARY for word in said) / len(said) / (1 + ("\n" in text.strip()))
    return (length + new + genre + text.rstrip().endswith(".")) / 4


def mended(text: str) -> str:
    """The rule's correction of a draft: its first line without repetition and strange words, cut
    short and ended; blank where nothing is left."""
    line, *_ = text.strip().split("\n")
    kept = [one for one in line.split() if all(word in VOCABULARY for word in words(one))]
    kept = list(dict.fromkeys(kept))[: SHORT[1]]
    return " " + " ".join(kept).rstrip(".,;:-") + "." if len(kept) >= SHORT[0] else ""


def judged(item: Item, rng: np.random.Generator) -> Iterator[Judgement]:
    """A preference; or a rating, and a correction of what is not good. One in ten is wrong."""

    def errs() -> bool:
        return bool(rng.random() < ERRORS)

    texts = [draft.text for draft in item.drafts]
    if item.pair:
        first = (quality(texts[0]) > quality(texts[1])) != errs()
        yield checked(item, "rule", "preference", "first" if first else "second")
        return
    rating = 1 + int(np.searchsorted(RATINGS, quality(texts[0]), side="right"))
    yield checked(item, "rule", "rating", int(rng.integers(1, 6)) if errs() else rating)
    better = mended(texts[0])
    if rating < GOOD and better.strip() and better != texts[0]:
        wrong = " " + " ".join(texts[0].split()[:2])
        yield checked(item, "rule", "correction", wrong if errs() else better)


def asked(split: str) -> list[str]:
    """The prompts of a split; those of `selection` are trained on, those of `test` only scored."""
    path = CORPUS / f"prompts/jargon.{split}.jsonl"
    return [json.loads(line)["prompt"] for line in path.read_text().splitlines()] * TIMES


@dataclass(frozen=True)
class Written:
    """Drafts of one model after the training prompts, and texts after the held-out ones."""

    drafts: dict[tuple[str, str], list[Draft]]
    held_out: list[tuple[str, str]]

    @property
    def score(self) -> float:
        return float(np.mean([quality(text) for _, text in self.held_out]))


class Trainer:
    """Fine-tunes of the base, each on real text and what people said so far."""

    def __init__(self, folder: Path, tokens: int) -> None:
        self._folder = folder
        self._real = {name: token_file(f"sources/{name}.jsonl", folder) for name in REAL}
        settings = PromptSet(selection="-", test="-", temperature=0.8, metrics=("mean_length",))
        prompts = {"drafts": asked("selection"), "held_out": asked("test")}
        self._task = Task(
            "builtin",
            model=MODEL,
            sources=self._real,
            prompt_sets=dict.fromkeys(prompts, settings),
            prompts={
                name: {"selection": Prompts(texts, [""] * len(texts))}
                for name, texts in prompts.items()
            },
            budget_tokens=tokens,
        )

    def written(self, said: Mapping[str, TokenFile], seed: int) -> Written:
        share = SHARE if said else 0.0
        mixture = {name: (1 - share) * part for name, part in REAL.items()}
        whole = sum(PEOPLE[name] for name in said)
        mixture |= {name: share * PEOPLE[name] / whole for name in said}
        settings = {"method": "preference", "learning_rate": 2e-3, "decay": "linear"}
        recipe = Recipe.model_validate({"mixture": mixture, **settings, "keep_reward": KEPT})
        task = replace(self._task, sources={**self._real, **said})
        spec = EvaluationSpec(0, recipe.model_dump(mode="json"), seed)
        found = Evaluator(task).evaluate(spec)
        if found.status is not Status.OK:
            raise SystemExit(found.message)
        samples = found.details["samples"]
        drafts: dict[tuple[str, str], list[Draft]] = {}
        for one in samples["drafts"]:
            drafts.setdefault(("drafts", one["prompt"]), []).append(Draft(one["output"]))
        return Written(drafts, [(one["prompt"], one["output"]) for one in samples["held_out"]])

    def sources(
        self, items: Mapping[str, Item], judgements: Sequence[Judgement]
    ) -> dict[str, TokenFile]:
        """The feedback as sources."""
        found = {}
        for shape in ("completion", "preference"):
            lines = [json.dumps(one) + "\n" for one in records(items, judgements, shape)]
            if lines:
                path = self._folder / f"{shape}.jsonl"
                path.write_text("".join(lines))
                source = Source(path=str(path), kind=shape)
                found[shape] = tokenise(shape, source, self._folder, MODEL, self._folder)
        return found

    def pool(
        self, written: Written, items: Mapping[str, Item], judgements: Sequence[Judgement]
    ) -> dict[str, TokenFile]:
        """A model's own drafts with their rewards, as a source."""
        samples = [
            Sample(prompt, draft.text, individual=0, seed=0, ended=draft.text.endswith("."))
            for (_, prompt), drafts in written.drafts.items()
            for draft in drafts
            if draft.text.strip()
        ]
        samples = scored(samples, ["reward"], Given(items=items, judgements=judgements))
        path = self._folder / "pool.jsonl"
        path.write_text("".join(to_lines(samples)))
        source = Source(path=str(path), kind="sample")
        return {"pool": tokenise("pool", source, self._folder, MODEL, self._folder)}


@dataclass(frozen=True)
class Point:
    """After so many judgements: the rule's score of the model that learned from them, and how far
    the reward model ranks what it writes after held-out prompts as the rule does."""

    judgements: int
    score: float
    agreement: float | None


def rounds(
    trainer: Trainer, first: Written, choice: str, seed: int, options: argparse.Namespace
) -> list[Point]:
    budget = options.judgements
    items: dict[str, Item] = {}
    said: list[Judgement] = []
    points, written = [Point(0, first.score, None)], first
    for number in range(1, options.rounds + 1):
        rng = np.random.default_rng([seed, number])
        candidates = items_of(written.drafts, pairs=PAIRS, rng=rng)
        candidates = [one for one in candidates if one.id not in items]
        known = said if choice == "active" else []
        until = round(budget * number / options.rounds)
        wanted = chosen(candidates, budget, items=items, judgements=known, rng=rng)
        _ask(wanted, until, items, said, rng)
        sources = trainer.sources(items, said)
        if options.pool:
            sources |= trainer.pool(written, items, said)
        written = trainer.written(sources, seed)
        points.append(Point(len(said), written.score, agreement(items, said, first)))
    return points


def ranked(first: Written, choice: str, seed: int, draw: int) -> list[float]:
    """The reward model's agreement with the rule after each of STEPS judgements, all of what the
    first model wrote: nothing is trained, so only the choice differs."""
    rng = np.random.default_rng([seed, draw])
    candidates = items_of(first.drafts, pairs=PAIRS, rng=rng)
    items: dict[str, Item] = {}
    said: list[Judgement] = []
    found = []
    for until in STEPS:
        known = said if choice == "active" else []
        rest = [one for one in candidates if one.id not in items]
        _ask(chosen(rest, until, items=items, judgements=known, rng=rng), until, items, said, rng)
        found.append(agreement(items, said, first) or 0.0)
    return found


def _ask(
    wanted: Sequence[Item],
    until: int,
    items: dict[str, Item],
    said: list[Judgement],
    rng: np.random.Generator,
) -> None:
    """Have items judged, one after another, until there are so many judgements."""
    for item in wanted:
        if len(said) >= until:
            return
        items[item.id] = item
        said += list(judged(item, rng))[: until - len(said)]


def agreement(
    items: Mapping[str, Item], said: Sequence[Judgement], written: Written
) -> float | None:
    """Rank correlation of the reward model with the rule, over what the first model writes."""
    reward = fitted(items, said, seed=0)
    if reward is None:
        return None
    prompts, texts = zip(*written.held_out, strict=True)
    means, _ = reward.scores(prompts, texts)
    return float(spearmanr(means, [quality(text) for text in texts]).statistic)


def main() -> None:
    options = _options()
    import torch

    torch.set_num_threads(1)
    held_out.SAMPLES = 10**6  # of what a model writes all is needed, not a few
    started = time.monotonic()
    found: dict[str, list[list[Point]]] = {choice: [] for choice in CHOICES}
    alone: dict[str, list[np.ndarray]] = {choice: [] for choice in CHOICES}
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(Path(folder), options.tokens)
            first = trainer.written({}, seed)
            for choice in CHOICES:
                points = rounds(trainer, first, choice, seed, options)
                found[choice].append(points)
                draws = [ranked(first, choice, seed, draw) for draw in range(options.draws)]
                alone[choice].append(np.mean(draws, axis=0))
                told = ", ".join(f"{one.judgements}: {one.score:.3f}" for one in points)
                print(f"seed {seed}, {choice}: {told}", flush=True)
    figures = {choice: _curve(runs) for choice, runs in found.items()}
    gains = {
        choice: mean_error([points[-1].score - points[0].score for points in runs])
        for choice, runs in found.items()
    }
    ahead = mean_error(
        [
            active[-1].score - random[-1].score
            for active, random in zip(found["active"], found["random"], strict=True)
        ]
    )
    for choice, curve in figures.items():
        for point in curve:
            print(
                f"{choice:8} {point['judgements']:4} judgements: score {point['score'][0]:.3f} "
                f"± {point['score'][1]:.3f}, reward model {_told(point['agreement'])}"
            )
    ranking = {
        choice: [mean_error(one) for one in zip(*runs, strict=True)]
        for choice, runs in alone.items()
    }
    nearer = [
        mean_error(one) for one in zip(*np.subtract(alone["active"], alone["random"]), strict=True)
    ]
    for choice, errors in {**ranking, "active less random": nearer}.items():
        steps = zip(STEPS, errors, strict=True)
        print(
            f"the reward model alone, {choice}: "
            + ", ".join(f"{count}: {mean:.3f} ± {error:.3f}" for count, (mean, error) in steps)
        )
    for choice, (mean, error) in gains.items():
        print(f"{choice}: gained {mean:.3f} ± {error:.3f}")
    print(f"active less random at the end: {ahead[0]:.3f} ± {ahead[1]:.3f}")
    seconds = time.monotonic() - started
    print(
        "BENCH "
        + json.dumps(
            {"name": "annotator", "seeds": options.seeds, "tokens": options.tokens}
            | {"pool": options.pool}
            | {"curves": figures, "gains": gains, "active_less_random": ahead}
            | {"steps": STEPS, "ranking": ranking, "ranking_active_less_random": nearer}
            | {"seconds": round(seconds)}
        )
    )


def _curve(runs: Sequence[Sequence[Point]]) -> list[dict[str, Any]]:
    curve = []
    for points in zip(*runs, strict=True):
        agreements = [one.agreement for one in points if one.agreement is not None]
        curve.append(
            {
                "judgements": points[0].judgements,
                "score": mean_error([one.score for one in points]),
                "agreement": mean_error(agreements) if agreements else None,
            }
        )
    return curve


def _told(agreement: tuple[float, float] | None) -> str:
    return "none" if agreement is None else f"{agreement[0]:.3f} ± {agreement[1]:.3f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=annotator", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="(default 5)")
    parser.add_argument(
        "--draws", type=int, default=4, help="of the reward model alone, a seed (default 4)"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="(default 3); with 0 the reward model alone"
    )
    parser.add_argument("--tokens", type=int, default=40_960, help="a fine-tune (default 40,960)")
    parser.add_argument("--judgements", type=int, default=200, help="in all (default 200)")
    parser.add_argument(
        "--pool", action="store_true", help="learn what the model wrote itself and is liked, too"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
