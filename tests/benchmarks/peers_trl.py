"""A search of 24 individuals beside Ray Tune, Optuna and TRL: `make bench NAME=peers_trl`, an hour.

What one would write otherwise, as their documentation has it: `Tuner` with `OptunaSearch` over a
function that interleaves the sources with `interleave_datasets` and trains with `SFTTrainer`, text
packed to rows of one length. The quickstart's model, text, hyperparameters and token budget, two
workers of one thread, in turns. Both are scored by our held-out loss, which is faster than TRL's
own. Wall time is from the start of the process to the last score; the closing comparison, which
only we have, comes after it. `pip install trl tensorboardX` first.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.evo.driving import LEDGER, ROOT, command, environment
from tests.fitness.quickstart import CORPUS, MODEL

SOURCES = ("jargon", "devil", "wordnet", "python", "austen", "licences", "factbook")
DOMAINS = {"target": "jargon", "general": "general"}
WORKERS, BATCH, LENGTH = 2, 16, 96
TOKENS = 122_880
SPLITS = ("selection", "test")
OBJECTIVE = "target/loss"
RUNGS = ("search.rungs=[0.25]",)


def spec(evaluations: int, tokens: int, seed: int) -> dict[str, Any]:
    """The quickstart without prompts and replicates, which the others have not."""
    held_out = {
        name: {s: {"path": str(CORPUS / "held_out" / f"{file}.{s}.jsonl")} for s in SPLITS}
        for name, file in DOMAINS.items()
    }
    return {
        "name": "peers",
        "seed": seed,
        "model": {"base": str(MODEL)},
        "sources": {name: {"path": str(source_file(name))} for name in SOURCES},
        "domains": held_out,
        "recipe": {"batch_size": BATCH, "sequence_length": LENGTH, "decay": "linear"},
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


def source_file(name: str) -> Path:
    return CORPUS / "sources" / f"{name}.jsonl"


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
    facts = [json.loads(text) for text in (run / LEDGER).read_text().splitlines()]
    trained = [
        fact
        for fact in facts
        if fact["fact"] == "evaluation" and fact["split"] == "selection" and fact["fidelity"] > 0
    ]
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


def theirs(asked: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A search by `tune_search`, in a process of its own."""
    folder.mkdir()
    result = folder / "result.json"
    line = [sys.executable, "-m", "tests.benchmarks.peers_trl", "--child", str(folder)]
    begun = time.time()
    done = subprocess.run(
        [*line, json.dumps(asked)],
        cwd=ROOT,
        env=environment(
            OMP_NUM_THREADS=1, HF_DATASETS_CACHE=folder / "datasets", RAY_USAGE_STATS_ENABLED=0
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-4000:])
    trials = json.loads(result.read_text())
    parts = ("import", "data", "trainer", "train", "score", "processor")
    return {
        "individuals": len(trials),
        "wall": max(trial["ended"] for trial in trials) - begun,
        "best": min(trial[OBJECTIVE] for trial in trials),
        "seconds": {
            "start": min(trial["begun"] for trial in trials) - begun,
            **{part: sum(trial[part] for trial in trials) for part in parts},
        },
    }


def tune_search(asked: Mapping[str, Any], folder: Path) -> None:
    """Tune, Optuna and TRL as documented."""
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    from tests.fitness.quickstart import token_file

    files = {
        name: token_file(f"held_out/{file}.selection.jsonl", folder / "tokens")
        for name, file in DOMAINS.items()
    }
    steps = asked["budget"]["tokens"] // (BATCH * LENGTH)
    space = {
        **{f"share_{name}": tune.uniform(0.0, 1.0) for name in SOURCES},
        "learning_rate": tune.loguniform(3e-4, 6e-3),
        "warmup_share": tune.uniform(0.0, 0.3),
        "decay": tune.choice(["constant_with_warmup", "linear", "cosine"]),
        "weight_decay": tune.loguniform(0.001, 0.3),
    }
    ray.init(num_cpus=WORKERS, include_dashboard=False, logging_level="ERROR")
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(train, steps=steps, files=files), {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(metric=OBJECTIVE, mode="min", seed=asked["seed"]),
            num_samples=asked["budget"]["evaluations"],
            max_concurrent_trials=WORKERS,
        ),
        run_config=tune.RunConfig(storage_path=str(folder / "tune"), verbose=0),
    )
    results = tuner.fit()
    if results.errors:
        raise SystemExit(str(results.errors[0]))
    (folder / "result.json").write_text(
        json.dumps([{**one.metrics, "config": None} for one in results], default=str)
    )


def train(config: dict[str, Any], *, steps: int, files: Mapping[str, Any]) -> None:
    """One trial: interleave, fine-tune, score; reports the seconds of each part."""
    begun, marks = time.time(), [time.perf_counter()]

    def mark() -> None:
        marks.append(time.perf_counter())

    from datasets import interleave_datasets, load_dataset
    from ray import tune
    from trl import SFTConfig, SFTTrainer

    from fitness.held_out import held_out_loss

    mark()
    # As Optuna's FAQ has it: uniform draws become a Dirichlet draw of concentration one.
    raw = {name: -math.log(max(1e-12, config[f"share_{name}"])) for name in SOURCES}
    total = math.fsum(raw.values())
    mixture = interleave_datasets(
        [load_dataset("json", data_files=str(source_file(n)), split="train") for n in SOURCES],
        probabilities=[raw[name] / total for name in SOURCES],
        seed=0,
    )
    mark()
    with tempfile.TemporaryDirectory() as output:
        trainer = SFTTrainer(
            model=str(MODEL),
            args=SFTConfig(
                output_dir=output,
                max_steps=steps,
                per_device_train_batch_size=BATCH,
                max_length=LENGTH,
                packing=True,
                packing_strategy="wrapped",
                learning_rate=config["learning_rate"],
                warmup_steps=config["warmup_share"],
                lr_scheduler_type=config["decay"],
                weight_decay=config["weight_decay"],
                adam_beta2=0.98,
                bf16=False,
                gradient_checkpointing=False,
                use_cpu=True,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=mixture,
        )
        mark()
        trainer.train()
    mark()
    model = trainer.model.eval()
    scores = {f"{name}/loss": held_out_loss(model, file, LENGTH) for name, file in files.items()}
    mark()
    names = ("import", "data", "trainer", "train", "score")
    spent = {n: after - before for n, before, after in zip(names, marks, marks[1:], strict=False)}
    processor = time.process_time()  # of the whole trial: Tune gives each a new process
    tune.report({**scores, **spent, "begun": begun, "ended": time.time(), "processor": processor})


def rate(found: Mapping[str, Any]) -> float:
    """Individuals an hour."""
    return float(3600 * found["individuals"] / found["wall"])


def main() -> None:
    options = _options()
    if options.child:
        folder, asked = options.child
        tune_search(json.loads(asked), Path(folder))
        return
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
    print("BENCH " + json.dumps({"name": "peers_trl", "ratios": ratios, "turns": turns}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=peers_trl", description=__doc__)
    parser.add_argument("--turns", type=int, default=3, help="searches of each (default 3)")
    parser.add_argument("--evaluations", type=int, default=24, help="of each (default 24)")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of each fine-tune")
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "SPEC"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
