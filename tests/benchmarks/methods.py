"""Methods that learn from a checker, side by side: `make bench NAME=methods`, 40 minutes.

The task is that of `runs/checked_rounds.yaml`: prompts "word: gloss, Category:", and exact match is
all that is told of an answer. Rejection sampling learns right answers, DPO compares right with
wrong ones (both in two rounds, the second on answers of the first one's winner), RLOO and GRPO
reinforce. Each has as many answers of as many tokens: two pools of 4 to each prompt, or one pass of
reinforcement in groups of 8. In the last search the method is a gene: half of the
answers are the pool of the base, the other half are for reinforcement, so that a winner that does
not reinforce has had half. Prompts to answer are learned by reinforcement alone, so that no method
learns their labels.

Tokens are counted for one winner, at most 4 an answer: a pool once, though all fine-tunes of a
search learn from it. Errors are over the seeds; `items` is the binomial error of a
share of so many prompts. `--keep FOLDER` keeps the runs, and goes on with what is there.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from evo.config import decode
from evo.history.comparison import BASE, WINNER, comparison
from evo.history.rounds import best, rounds
from evo.history.tables import spec as config_of
from evo.history.tables import winner
from evo.record.facts import Facts, details
from evo.record.ledger import read
from tests.benchmarks.comparison import mean_error
from tests.benchmarks.launches import finished
from tests.fitness.quickstart import CORPUS

MEASURED = "categories/exact_match"
RIGHT = {"exact_match": 1, "ended": 1}
TOKENS = 4  # of an answer at most
LENGTH = 96  # tokens of a sequence; an answer that is reinforced takes one of the budget
GROUP = 8
PER_PROMPT = 4  # answers in each of two pools: together as many as GROUP
PASSES = 3  # over the pool or the pairs
LONGEST = 300  # characters of a prompt: none is truncated
Spec = dict[str, Any]


def asked(count: int, seed: int, to: Path) -> Path:
    """File of `count` of the training prompts, others for each seed."""
    lines = (CORPUS / "prompts/categories.train.jsonl").read_text().splitlines()
    lines = [line for line in lines if len(json.loads(line)["prompt"]) <= LONGEST]
    chosen = np.random.default_rng(seed).permutation(len(lines))[:count]
    to.write_text("".join(f"{lines[place]}\n" for place in sorted(chosen)))
    return to


def spec_of(name: str, options: argparse.Namespace, changes: Mapping[str, Any]) -> Spec:
    """A search on the task; `changes` are added, section by section."""
    prompts = CORPUS / "prompts"
    spec: Spec = {
        "name": name,
        "model": {"base": "quickstart"},
        "prompts": {
            "categories": {
                "selection": str(prompts / "categories.selection.jsonl"),
                "test": str(prompts / "categories.test.jsonl"),
                "max_new_tokens": TOKENS,
                "metrics": ["exact_match"],
            }
        },
        "recipe": {"warmup_share": 0.1, "decay": "linear", "batch_size": 8}
        | {"sequence_length": LENGTH, "learning_rate": 2e-3},
        "genome": {
            "mixture": {"type": "simplex"},
            "learning_rate": {"type": "float", "low": 5e-4, "high": 8e-3, "log": True},
        },
        "objectives": {MEASURED: "maximize"},
        "baselines": [],
        "search": {"parallel": 2, "population": options.evaluations, "replicates": 1}
        | {"simulate": "off"},
        "budget": {"evaluations": options.evaluations},
        "resources": {"timeout": 900},
        "comparison": {"seeds": 1},
    }
    for section, values in changes.items():
        spec[section] = {**spec.get(section, {}), **values}
    return spec


def pooled(prompts: Path, **more: Any) -> Spec:
    """The sections of two rounds on pools of answers to the prompts."""
    writing = {"per_prompt": PER_PROMPT, "max_new_tokens": TOKENS, "temperature": 1.0, "top_p": 1.0}
    given = {"first": "generate", "limit": 2, "patience": 2, "prompts": str(prompts)}
    given |= {"filters": ["exact_match"], "require": RIGHT, "most_per_prompt": 4, "writers": 1}
    return {"rounds": {**given, "writing": writing, **more}}


def reinforced(advantage: str) -> Spec:
    """The fields of a recipe that reinforces right answers."""
    fields = {"method": "reinforce", "rewards": {"exact_match": 1.0}, "reinforce_group": GROUP}
    return {**fields, "reinforce_advantage": advantage, "reinforce_new_tokens": TOKENS}


def alone(prompts: Path, options: argparse.Namespace) -> dict[str, Spec]:
    """The searches with one method each."""
    pool, pairs = ({"tokens": 400_000, "epochs": {name: PASSES}} for name in ("pool", "pairs"))
    weak = {"learning_rate": {"type": "float", "low": 1e-4, "high": 2e-3, "log": True}}
    dpo = {
        "recipe": {"method": "preference", "learning_rate": 5e-4},
        "genome": {"mixture": {"type": "simplex", "floor": {"pairs": 1.0}}, **weak}
        | {"preference_beta": {"type": "float", "low": 0.03, "high": 1, "log": True}},
    }
    found = {
        "rejection": {**pooled(prompts), "budget": pool},
        "dpo": {**pooled(prompts, pairs=PER_PROMPT), **dpo, "budget": pairs},
    }
    for name in ("rloo", "grpo"):
        found[name] = {
            "sources": {"asked": {"path": str(prompts), "kind": "prompt"}},
            "recipe": {**reinforced(name), "learning_rate": 5e-4},
            "genome": {**weak, "reinforce_kl": {"type": "choice", "options": [0.0, 0.05]}},
            "budget": {"tokens": options.prompts * GROUP * LENGTH},
        }
    return {name: spec_of(name, options, changes) for name, changes in found.items()}


def mixed(written: Path, prompts: Path, options: argparse.Namespace) -> Spec:
    """The search in which the method is a gene, on the pool and the pairs of a round 0."""
    reinforcing = {"when": {"method": "reinforce"}}
    changes = {
        "sources": {
            "pool": {"path": str(written / "pool.jsonl"), "kind": "sample", "require": RIGHT}
            | {"most_per_prompt": 4},
            "pairs": {"path": str(written / "pairs.jsonl"), "kind": "preference"},
            "asked": {"path": str(prompts), "kind": "prompt", "methods": ["reinforce"]},
        },
        "recipe": reinforced("rloo"),
        "genome": {
            "method": {"type": "choice", "options": ["supervised", "preference", "reinforce"]},
            "learning_rate": {"type": "float", "low": 1e-4, "high": 8e-3, "log": True},
            "preference_beta": {"type": "float", "low": 0.03, "high": 1, "log": True}
            | {"when": {"method": "preference"}},
            "reinforce_advantage": {"type": "choice", "options": ["rloo", "grpo"], **reinforcing},
        },
        # half of the answers, where all of the mixture is reinforced; patience stops the others
        "budget": {"tokens": options.prompts * PER_PROMPT * LENGTH, "patience": 5}
        | {"evaluations": 2 * options.evaluations},
        "search": {"population": options.evaluations},
    }
    return spec_of("mixed", options, changes)


def searched(run: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Exact match of the winner and the base on the test prompts, and the winner's answers."""
    facts: Facts = read(run)
    answers = 0
    if config_of(facts).rounds is not None:
        found = [one for one in rounds(run, facts) if one.fact]
        top = best(found)
        answers = top.number * PER_PROMPT * options.prompts
        facts = top.facts
    elif "pool" in config_of(facts).sources:
        answers = PER_PROMPT * options.prompts
    rows = comparison(facts).query("measurement == @MEASURED").set_index("contender")
    name = WINNER if WINNER in rows.index else BASE
    told: dict[str, Any] = {"test": float(rows["mean"][name]), "base": float(rows["mean"][BASE])}
    told["items"] = int(rows["items"][name])
    won = winner(facts)
    if won is None:
        return {**told, "method": "none", "mixture": {}, "answers": 0}
    genome = next((f["genome"] for f in facts if f["fact"] == "individual" and f["id"] == won), {})
    recipe = decode(config_of(facts), genome)
    told["method"] = recipe["method"]
    told["mixture"] = {name: round(share, 3) for name, share in recipe["mixture"].items()}
    if recipe["method"] == "reinforce":
        drawn = [
            (details(fact).get("cumulative_tokens") or {}).get("asked", 0)
            for fact in facts
            if fact["fact"] == "evaluation" and fact["individual"] == won
        ]
        answers += max(drawn) // LENGTH
    return {**told, "answers": answers}


def runs_of(seed: int, folder: Path, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Every search under one seed."""
    prompts = asked(options.prompts, seed, folder / f"asked-{seed}.jsonl")
    found: dict[str, dict[str, Any]] = {}

    def search(name: str, spec: Spec) -> None:
        file = folder / f"{name}-{seed}.yaml"
        file.write_text(yaml.safe_dump(spec, sort_keys=False))
        began = time.monotonic()
        run = finished(folder / f"{name}-{seed}", file, f"seed={seed}")
        found[name] = searched(run, options)
        print(f"seed {seed}, {name}, {time.monotonic() - began:.0f} s: {found[name]}", flush=True)

    for name, spec in alone(prompts, options).items():
        search(name, spec)
    search("mixed", mixed(folder / f"dpo-{seed}/round-0", prompts, options))
    return found


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        by_seed = [runs_of(seed, folder.resolve(), options) for seed in range(options.seeds)]
    figures: dict[str, Any] = {}
    print(f"{'':12}{'test':>16}{'gain on the base':>24}{'items':>9}{'tokens':>9}")
    for name in by_seed[0]:
        each = [one[name] for one in by_seed]
        mean, error = mean_error([one["test"] for one in each])
        gain, gain_error = mean_error([one["test"] - one["base"] for one in each])
        binomial = math.sqrt(mean * (1 - mean) / each[0]["items"])
        tokens, _ = mean_error([TOKENS * one["answers"] for one in each])
        figures[name] = {"test": (mean, error), "gain": (gain, gain_error), "items": binomial}
        figures[name] |= {"generated_tokens": tokens}
        shown = f"{gain:+.3f} ± {gain_error:.3f}"
        test = f"{mean:.3f} ± {error:.3f}"
        print(f"{name:12}{test:>16}{shown:>24}{f'± {binomial:.3f}':>9}{tokens:>9.0f}")
    preferred = [{"method": one["mixed"]["method"], **one["mixed"]["mixture"]} for one in by_seed]
    print(f"preferred where the method is a gene: {preferred}")
    bench = {"name": "methods", "seeds": options.seeds, "prompts": options.prompts}
    bench |= {"evaluations": options.evaluations, "base": by_seed[0]["rejection"]["base"]}
    print("BENCH " + json.dumps({**bench, "figures": figures, "preferred": preferred}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=methods", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="(default 5)")
    parser.add_argument("--prompts", type=int, default=512, help="to learn from (default 512)")
    parser.add_argument(
        "--evaluations", type=int, default=4, help="of each search; twice with the gene (default 4)"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the runs, or go on")
    return parser.parse_args()


if __name__ == "__main__":
    main()
