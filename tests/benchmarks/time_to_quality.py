"""Time until a search matches the final result of Ray Tune, Optuna and TRL: `NAME=time_to_quality`.

In turns, a seed each: their search to its full budget, then ours until its best fine-tune by the
selection split has at most the test loss of theirs. Both also score the test split of each
fine-tune as one more domain, `unseen`, which nothing chooses by. Ratios of wall time, from the
start of the process; also to when theirs had found its own best. On the quickstart 5 seeds of 24
fine-tunes; `--model FOLDER` takes that model with an adapter instead. About ten minutes a seed.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import peers, tune_trl
from tests.evo import driving
from tests.fitness.quickstart import CORPUS, corpus_path

UNSEEN = "unseen/loss"
OBJECTIVE = peers.OBJECTIVE
WITHOUT = {"seeds": 0}  # no closing comparison, which theirs has not


def quickstart(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    asked = peers.spec(options.evaluations, options.tokens or peers.TOKENS, seed)
    return {**asked, "domains": with_unseen(asked["domains"]), "comparison": WITHOUT}


def larger(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """The search of `runs/smollm2.yaml`, with an adapter on the last 8 layers."""
    asked = peers.spec(options.evaluations, options.tokens or 15_360, seed)
    domains = {name: peers.held_out(name, limit=24) for name in ("jargon", "general")}
    names = ("jargon", "devil", "wordnet")
    sources = {name: {"path": str(CORPUS / corpus_path(f"sources/{name}"))} for name in names}
    return {
        **asked,
        "comparison": WITHOUT,
        "model": {"base": str(options.model.resolve())},
        "sources": sources,
        "domains": with_unseen({"target": domains["jargon"], "general": domains["general"]}),
        "recipe": {
            **asked["recipe"],
            "adapter": "lora",
            "lora_layers": 8,
            "lora_rank": 8,
            "lora_alpha": 16,
            "precision": "float32",  # which every CPU computes in by itself
            "batch_size": 8,
            "sequence_length": 64,
        },
        "genome": {
            **asked["genome"],
            "learning_rate": {"type": "float", "low": 5e-5, "high": 2e-3, "log": True},
        },
    }


def with_unseen(domains: Mapping[str, Any]) -> dict[str, Any]:
    test = domains["target"]["test"]
    return {**domains, "unseen": {"selection": test, "test": test}}


def theirs(asked: Mapping[str, Any], folder: Path) -> dict[str, float]:
    """Test loss of their best by the selection split; when it was there, when all was."""
    begun = time.time()
    trials = tune_trl.run(asked, folder)
    best = min(trials, key=lambda trial: trial[OBJECTIVE])
    return {
        "unseen": best[UNSEEN],
        "found": best["ended"] - begun,
        "seconds": max(trial["ended"] for trial in trials) - begun,
    }


def ours(
    asked: Mapping[str, Any], folder: Path, wanted: float, settings: Sequence[str]
) -> dict[str, Any]:
    """Run our search until its best by selection split has a test loss of at most `wanted`."""
    folder.mkdir()
    file, run = folder / "search.yaml", folder / "run"
    file.write_text(json.dumps(asked))
    begun = time.time()
    line = [word for one in settings for word in ("--set", one)]
    driver = driving.start("launch", file, "--run", run, *line)
    found: dict[str, Any] = {"seconds": None, "evaluations": 0, "unseen": None}
    try:
        while driver.poll() is None and found["seconds"] is None:
            time.sleep(0.2)
            trained = _finished(run)
            found["evaluations"] = len(trained)
            if not trained:
                continue
            best = min(trained, key=lambda fact: fact["measurements"][OBJECTIVE])
            found["unseen"] = best["measurements"][UNSEEN]
            if found["unseen"] <= wanted:
                found["seconds"] = max(fact["finished"] for fact in trained) - begun
    finally:
        if driver.poll() is None:
            driver.terminate()
        told, _ = driver.communicate()
    if not found["evaluations"]:
        raise SystemExit(told)
    return found


def _finished(run: Path) -> list[dict[str, Any]]:
    """Whole fine-tunes so far."""
    if not (run / driving.LEDGER).exists():
        return []
    found = peers.finetunes(run)
    return [fact for fact in found if fact["status"] == "ok" and fact["fidelity"] == 1]


def main() -> None:
    options = _options()
    turns: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for seed in range(options.first, options.first + options.turns):
            asked = (larger if options.model else quickstart)(options, seed)
            folder = Path(temporary)
            end = theirs(asked, folder / f"theirs-{seed}")
            reached = ours(asked, folder / f"ours-{seed}", end["unseen"], options.set)
            turns.append({"theirs": end, "ours": reached})
            when = f"{reached['seconds']:.0f} s" if reached["seconds"] else "never"
            print(
                f"seed {seed}: theirs {end['unseen']:.4f} on the test split, found after "
                f"{end['found']:.0f} s of {end['seconds']:.0f}; ours as good after {when}, with "
                f"{reached['evaluations']} fine-tunes ({reached['unseen']:.4f})",
                flush=True,
            )
    figures = {
        "of their search": _median(turns, "seconds"),
        "of when they had found it": _median(turns, "found"),
        "reached": sum(turn["ours"]["seconds"] is not None for turn in turns),
    }
    print(f"median of {len(turns)} seeds: {figures}")
    print("BENCH " + json.dumps({"name": "time_to_quality", **figures, "turns": turns}))


def _median(turns: Sequence[Mapping[str, Any]], of: str) -> float:
    """The share of their time that ours took; infinite where it did not get there."""
    shares = [(turn["ours"]["seconds"] or float("inf")) / turn["theirs"][of] for turn in turns]
    return statistics.median(shares)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=time_to_quality", description=__doc__)
    parser.add_argument("--turns", type=int, default=5, help="seeds (default 5)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--evaluations", type=int, default=24, help="of a search (default 24)")
    parser.add_argument("--tokens", type=int, help="of each fine-tune")
    parser.add_argument("--model", type=Path, help="folder of another model than the quickstart's")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of ours")
    return parser.parse_args()


if __name__ == "__main__":
    main()
