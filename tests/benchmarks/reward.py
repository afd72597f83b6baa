"""The neural reward model against the linear one: `make bench NAME=reward`, 40 minutes.

The annotator is simulated (`annotator.py`): a rule that likes short definitions without repetition
and strange words, and errs in one judgement of ten, so that no model can agree with more than nine
of ten on average. It prefers one of two drafts that the quickstart's model writes after "word:".
Both reward models learn the same 50, 200 and 1,000 preferences and are held against HELD_OUT others
after other words; the neural one is a search over its learning rate, which reads SELECTION more to
choose and to stop, and the linear one needs none.

Then the policy gradient on the neural one of most judgements, with the length guard on and off:
what the models write after words of neither, its mean reward, the rule's score without errors and
the length in words. Answers may be twice as long as any that was judged, so that there is room to
be rewarded for length alone. Errors are over the seeds. `--keep FOLDER` goes on with what is there.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from evo.history.comparison import BASE, WINNER, comparison
from evo.record.ledger import read
from fitness.data.prompts import Prompts
from fitness.feedback.items import Draft, Item
from fitness.feedback.judgements import Judgement, checked
from fitness.metrics.comparisons import comparison_scores
from fitness.models.base import Base
from fitness.reward.model import fitted
from fitness.samples.write import Generation, write
from tests.benchmarks.annotator import ERRORS, quality
from tests.benchmarks.comparison import mean_error
from tests.benchmarks.launches import finished
from tests.evo.driving import evo
from tests.fitness.quickstart import CORPUS, MODEL

JUDGEMENTS = (50, 200, 1000)
SELECTION, HELD_OUT = 200, 400  # pairs
WORDS = 128  # prompts of each split, for the policy gradient
TOKENS, LONGER = 24, 48  # of drafts at most, and of answers that are reinforced
LENGTH, GROUP = 64, 4
Pair = dict[str, str]
Figures = dict[str, float]


def rule(prompts: Sequence[str], references: Sequence[Any], outputs: Sequence[str]) -> list[float]:
    """The annotator's opinion of answers, without errors: a metric."""
    return [quality(text) for text in outputs]


def words(seed: int) -> list[str]:
    """Prompts "word:", in an order by the seed."""
    lines = (CORPUS / "prompts/categories.train.jsonl").read_text().splitlines()
    names = dict.fromkeys(json.loads(line)["prompt"].split(":")[0] + ":" for line in lines)
    return [str(one) for one in np.random.default_rng(seed).permutation(list(names))]


def preferred(prompts: Sequence[str], seed: int) -> list[Pair]:
    """A judged pair of the base's drafts after each prompt, where the rule tells them apart."""
    settings = Generation(per_prompt=2, max_new_tokens=TOKENS, temperature=1.0, top_p=1.0)
    given = Prompts(list(prompts), [""] * len(prompts))
    drafts = write(Base(MODEL), settings, prompts=given, individual=0, seed=seed)
    rng = np.random.default_rng(seed)
    found = []
    for one, other in zip(drafts[::2], drafts[1::2], strict=True):
        texts = sorted((one.completion, other.completion), key=quality)
        if quality(texts[0]) < quality(texts[1]) and all(text.strip() for text in texts):
            worse, better = texts if rng.random() >= ERRORS else texts[::-1]
            found.append({"prompt": one.prompt, "chosen": better, "rejected": worse})
    return found


def linear(judged: Sequence[Pair], held: Sequence[Pair]) -> Figures:
    """Held-out scores of the linear reward model."""
    rng = np.random.default_rng(0)
    items: dict[str, Item] = {}
    said: list[Judgement] = []
    for pair in judged:
        first, second = ("chosen", "rejected") if rng.random() < 0.5 else ("rejected", "chosen")
        item = Item(pair["prompt"], (Draft(pair[first]), Draft(pair[second])))
        items[item.id] = item
        side = "first" if first == "chosen" else "second"
        said.append(checked(item, "rule", "preference", side))
    reward = fitted(items, said, seed=0)
    assert reward is not None
    prompts = [pair["prompt"] for pair in held]
    chosen, rejected = (
        reward.scores(prompts, [pair[side] for pair in held])[0] for side in ("chosen", "rejected")
    )
    return comparison_scores(chosen - rejected)


def measured(run: Path, contender: str = WINNER) -> Figures:
    """Test-split means of a contender, by measurement without its set."""
    rows = comparison(read(run)).query("contender == @contender")
    names = rows["measurement"].str.split("/").str[-1]
    return dict(zip(names, rows["mean"].astype(float), strict=True))


def spec_of(name: str, evaluations: int, **sections: Any) -> dict[str, Any]:
    """A search over the learning rate alone."""
    recipe = {"decay": "linear", "batch_size": 8, "sequence_length": LENGTH}
    rate = {"type": "float", "low": 2e-4, "high": 4e-3, "log": True}
    return {
        "name": name,
        "genome": {"mixture": {"type": "simplex"}, "learning_rate": rate},
        "baselines": [],
        "search": {"parallel": 2, "population": evaluations, "replicates": 1, "simulate": "off"},
        "resources": {"timeout": 900},
        "comparison": {"seeds": 1},
        **sections,
        "recipe": {**recipe, **sections.get("recipe", {})},
        "budget": {"evaluations": evaluations, **sections["budget"]},
    }


class Bench:
    """The runs of one seed in a folder."""

    def __init__(self, folder: Path, seed: int, options: argparse.Namespace) -> None:
        self._folder, self._seed, self._options = folder, seed, options

    def run(self, name: str, spec: dict[str, Any]) -> Path:
        """A search with these settings, finished."""
        file = self._folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(spec, sort_keys=False))
        began = time.monotonic()
        run = finished(self._folder / name, file, f"seed={self._seed}")
        print(f"seed {self._seed}, {name}, {time.monotonic() - began:.0f} s", flush=True)
        return run

    def lines(self, name: str, records: Sequence[Pair]) -> str:
        """Records in a file; its path."""
        path = self._folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(one) + "\n" for one in records))
        return str(path)

    def pairs(self) -> list[Pair]:
        """Every judged pair: those to learn, those to select by, and those held out."""
        file = self._folder / "judged.jsonl"
        if not file.exists():
            most = max(self._options.judgements) + SELECTION + HELD_OUT
            prompts = words(self._seed)[: -2 * WORDS]
            found = preferred(prompts[: round(most * 1.2)], self._seed)  # some pairs are even
            self.lines("judged", found[:most])
        return [json.loads(line) for line in file.read_text().splitlines()]

    def neural(self, count: int, pairs: Sequence[Pair]) -> Path:
        """The search for a reward model that learns `count` judgements."""
        held = {
            "selection": pairs[:-HELD_OUT][-SELECTION:],
            "test": pairs[-HELD_OUT:],
        }
        domain = {
            split: {"path": self.lines(split, these), "kind": "preference"}
            for split, these in held.items()
        }
        judged = self.lines(f"judged-{count}", pairs[:count])
        spec = spec_of(
            f"judged-{count}",
            self._options.evaluations,
            model={"base": "quickstart", "task": "reward"},
            sources={"judged": {"path": judged, "kind": "preference"}},
            domains={"held": domain},
            objectives={"held/loss": "minimize"},
            budget={"tokens": 10**6, "epochs": 8, "patience": 3},
        )
        return self.run(f"neural-{count}", spec)

    def reinforced(self, model: Path, guard: str) -> Path:
        """The policy gradient on a reward model."""
        name, every = f"reward:{model}", [{"prompt": one} for one in words(self._seed)]
        splits = {"selection": every[-2 * WORDS : -WORDS], "test": every[-WORDS:]}
        files = {split: self.lines(f"words-{split}", these) for split, these in splits.items()}
        asked = self.lines("asked", every[: -2 * WORDS])
        metrics = [name, "tests.benchmarks.reward:rule", "mean_length"]
        written = {**files, "max_new_tokens": LONGER, "temperature": 1.0, "metrics": metrics}
        spec = spec_of(
            guard,
            2,
            model={"base": "quickstart"},
            sources={"asked": {"path": asked, "kind": "prompt"}},
            prompts={"words": written},
            recipe={"method": "reinforce", "rewards": {name: 1.0}, "reinforce_length": guard}
            | {"reinforce_new_tokens": LONGER, "reinforce_group": GROUP},
            objectives={"words/reward_model": "maximize"},
            budget={"tokens": self._options.answers * LENGTH},
        )
        return self.run(guard, spec)

    def figures(self) -> dict[str, Figures]:
        """All of it, by contender."""
        pairs = self.pairs()
        found: dict[str, Figures] = {}
        model = self._folder / "reward-model"
        for count in self._options.judgements:
            found[f"linear {count}"] = linear(pairs[:count], pairs[-HELD_OUT:])
            run = self.neural(count, pairs)
            found[f"neural {count}"] = measured(run)
        if not model.exists():
            done = evo("export", run, "--to", model)
            if done.returncode:
                raise SystemExit(done.stderr)
        for guard in ("free", "guarded"):
            run = self.reinforced(model, guard)
            found[guard], found["untouched"] = measured(run), measured(run, BASE)
        return found


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        by_seed = []
        for seed in range(options.seeds):
            (folder / str(seed)).mkdir(parents=True, exist_ok=True)
            by_seed.append(Bench(folder / str(seed), seed, options).figures())
            print(f"seed {seed}: {by_seed[-1]}", flush=True)
    figures: dict[str, Any] = {}
    for name in by_seed[0]:
        each = [one[name] for one in by_seed]
        figures[name] = {score: mean_error([one[score] for one in each]) for score in each[0]}
        shown = (
            f"{score} {mean:.3f} ± {error:.3f}" for score, (mean, error) in figures[name].items()
        )
        print(f"{name:12}", ", ".join(shown))
    bench = {"name": "reward", "seeds": options.seeds, "answers": options.answers}
    print("BENCH " + json.dumps({**bench, "held_out": HELD_OUT, "figures": figures}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=reward", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="(default 5)")
    parser.add_argument(
        "--judgements", type=int, nargs="+", default=JUDGEMENTS, help="(default 50 200 1000)"
    )
    parser.add_argument(
        "--evaluations", type=int, default=4, help="of each reward model's search (default 4)"
    )
    parser.add_argument(
        "--answers", type=int, default=2048, help="to reinforce, in each fine-tune (default 2048)"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the runs, or go on")
    return parser.parse_args()


if __name__ == "__main__":
    main()
