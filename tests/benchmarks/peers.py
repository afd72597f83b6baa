"""A search of 24 individuals beside Ray Tune, Optuna and TRL: `make bench NAME=peers`, an hour.

The quickstart's model, text, hyperparameters and token budget, two workers of one thread, in turns;
what one would write otherwise is in `tune_trl.py`. Wall time is from the start of the process to
the last score; the closing comparison, which only we have, comes after it.
"""

import argparse
import json
import math
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evo.config import load
from tests.benchmarks import tune_trl
from tests.evo.driving import LEDGER, command, environment
from tests.fitness.quickstart import CORPUS, MODEL

WORKERS, BATCH, LENGTH = 2, 16, 96
TOKENS = 122_880
OBJECTIVE = "target/loss"
RUNGS = ("search.rungs=[0.25]",)


def spec(evaluations: int, tokens: int, seed: int) -> dict[str, Any]:
    """The quickstart without prompts and replicates, which the others have not."""
    sources = {name: {"path": one.path} for name, one in load("quickstart").sources.items()}
    return {
        "name": "peers",
        "seed": seed,
        "model": {"base": str(MODEL)},
        "sources": sources,
        "domains": {"target": held_out("jargon"), "general": held_out("general")},
        "recipe": {
            "batch_size": BATCH,
            "sequence_length": LENGTH,
            "decay": "linear",
            "learning_rate": 1e-3,
            "warmup_share": 0.1,
            "weight_decay": 0.01,
        },
        "genome": {
            "mixture": {"type": "simplex"},
            "learning_rate": {"type": "float", "low": 3e-4, "high": 6e-3, "log": True},
            "warmup_share": {"type": "float", "low": 0.0, "high": 0.3},
            "decay": {"type": "choice", "options": ["constant", "linear", "cosine"]},
            "weight_decay": {"type": "float", "low": 0.001, "high": 0.3, "log": True},
        },
        "objectives": {OBJECTIVE: "minimize"},
        "baselines": ["uniform"],
        "search": {"population": min(8, evaluations), "parallel": WORKERS, "replicates": 1},
        "budget": {"evaluations": evaluations, "tokens": tokens},
        "resources": {"workers": WORKERS, "cpus": 1},
        "comparison": {"seeds": 1},
    }


def held_out(name: str, **settings: Any) -> dict[str, Any]:
    """A domain of the quickstart."""
    return {
        split: {"path": str(CORPUS / f"held_out/{name}.{split}.jsonl"), **settings}
        for split in ("selection", "test")
    }


def ours(asked: Mapping[str, Any], folder: Path, settings: Sequence[str] = ()) -> dict[str, Any]:
    """A search by the `evo` command."""
    folder.mkdir()
    file, run = folder / "search.yaml", folder / "run"
    file.write_text(json.dumps(asked))
    line: list[object] = ["launch", file, "--run", run]
    line += [word for one in settings for word in ("--set", one)]
    begun = time.time()
    done = subprocess.run(
        command(*line), env=environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    trained = finetunes(run)
    whole = [f for f in trained if f["fidelity"] == 1 and f["status"] == "ok"]
    return {
        "individuals": len({fact["individual"] for fact in trained}),
        "wall": max(fact["finished"] for fact in trained) - begun,
        "best": min(fact["measurements"][OBJECTIVE] for fact in whole),
        "seconds": {
            "start": min(fact["started"] for fact in trained) - begun,
            "train": sum(fact["cost"].get("train_seconds", 0.0) for fact in trained),
            "score": sum(fact["cost"].get("evaluate_seconds", 0.0) for fact in trained),
        },
    }


def finetunes(run: Path) -> list[dict[str, Any]]:
    """The facts of a run's evaluations on the selection split but that of the untouched base."""
    lines = (run / LEDGER).read_bytes().split(b"\n")[:-1]
    facts = [json.loads(line) for line in lines if b'"evaluation"' in line]
    return [
        fact
        for fact in facts
        if fact["fact"] == "evaluation" and fact["split"] == "selection" and fact["fidelity"] > 0
    ]


def theirs(asked: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A search by Tune, Optuna and TRL."""
    begun = time.time()
    trials = tune_trl.run(asked, folder)
    return {
        "individuals": len(trials),
        "wall": max(trial["ended"] for trial in trials) - begun,
        "best": min(trial[OBJECTIVE] for trial in trials),
        "seconds": {
            "start": min(trial["begun"] for trial in trials) - begun,
            **{part: sum(trial[part] for trial in trials) for part in tune_trl.PARTS},
        },
    }


def rate(found: Mapping[str, Any]) -> float:
    """Individuals an hour."""
    return float(3600 * found["individuals"] / found["wall"])


def main() -> None:
    options = _options()
    turns: list[dict[str, Any]] = []
    few = math.ceil(options.evaluations * 0.45)  # with rungs: about as many individuals
    with tempfile.TemporaryDirectory() as temporary:
        for turn in range(options.turns):
            asked = spec(options.evaluations, options.tokens, seed=turn)
            shorter = spec(few, options.tokens, seed=turn)
            folder = Path(temporary)
            found = {
                "evomix": ours(asked, folder / f"evomix-{turn}"),
                "evomix, a rung": ours(shorter, folder / f"rungs-{turn}", RUNGS),
                "peers": theirs(asked, folder / f"peers-{turn}"),
            }
            turns.append(found)
            for name, one in found.items():
                told = ", ".join(f"{part} {spent:.0f}" for part, spent in one["seconds"].items())
                print(
                    f"turn {turn}, {name:14}: {one['individuals']} individuals in "
                    f"{one['wall']:.0f} s, {rate(one):.0f} an hour, best {one['best']:.4f}; "
                    f"seconds of workers: {told}",
                    flush=True,
                )
    ratios = {
        name: statistics.median(rate(turn[name]) / rate(turn["peers"]) for turn in turns)
        for name in ("evomix", "evomix, a rung")
    }
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f} times the individuals an hour of the peers")
    print("BENCH " + json.dumps({"name": "peers", "ratios": ratios, "turns": turns}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=peers", description=__doc__)
    parser.add_argument("--turns", type=int, default=3, help="searches of each (default 3)")
    parser.add_argument("--evaluations", type=int, default=24, help="of each (default 24)")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of each fine-tune")
    return parser.parse_args()


if __name__ == "__main__":
    main()
