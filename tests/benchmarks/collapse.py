"""A collapse on purpose, and the guards against it: `make bench NAME=collapse`, 15 minutes.

A model is fine-tuned on real text, and then five times again, each time beginning with the model
before, on what that one wrote. Without guards it learns nothing else, and only what was written
last. With guards half of what it learns is real (`rounds.real_share`), everything that was ever
written is kept, the filters' middle is learned, and a model that is worse on the selection split
than the best before it is not built upon, as `rounds.begin: best` has it. The recipe, tokens, and
how much is written are the same. `own_loss` is of the model that was just trained, `test_loss` of
the one that is kept. Contaminated samples are left out in both: nothing can turn that off. One
thread; values are means over the seeds. `--plot FILE.png` draws both (`pip install matplotlib`).
"""

import argparse
import json
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from evo import config as configuration
from evo.config.rounds import POOL, Rounds
from evo.prepare.task import prepare
from evo.rounds import pooling
from evo.samples.texts import documents
from fitness.data.samples import Sample, sample_in
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import Ancestor, EvaluationSpec, Writing
from fitness.models import weights
from fitness.samples.diversity import diversity
from fitness.samples.write import Generation
from tests.fitness.quickstart import CORPUS, MODEL

ROUNDS = 5
WRITTEN = 400
WRITING = Generation(samples=WRITTEN, from_documents=0, from_nothing=1, max_new_tokens=64)
CUTS = {"keep_realness": 0.6, "keep_perplexity_low": 0.1, "keep_perplexity_high": 0.9}
SPEC: dict[str, Any] = {
    "name": "collapse",
    "sources": {"jargon": {"path": str(CORPUS / "sources" / "jargon.jsonl")}},
    "domains": {
        "target": {
            split: {"path": str(CORPUS / "held_out" / f"jargon.{split}.jsonl")}
            for split in ("selection", "test")
        }
    },
    "recipe": {"learning_rate": 1e-3, "batch_size": 16, "sequence_length": 96},
    "genome": {"mixture": {"type": "simplex"}},
    "objectives": {"target/loss": "minimize"},
    "budget": {"evaluations": 16, "tokens": 61440},
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--plot", type=Path)
    given = options.parse_args()
    arms: dict[str, list[list[dict[str, float]]]] = {"unguarded": [], "guarded": []}
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as folder:
            for arm, courses in arms.items():
                courses.append(course(Path(folder) / arm, seed, guarded=arm == "guarded"))
                for number, row in enumerate(courses[-1]):
                    told = "  ".join(f"{name} {value:.4f}" for name, value in row.items())
                    print(f"seed {seed} {arm} {number}: {told}", flush=True)
    means = {
        arm: [
            {name: statistics.fmean(c[number][name] for c in courses) for name in courses[0][0]}
            for number in range(ROUNDS + 1)
        ]
        for arm, courses in arms.items()
    }
    lost = {
        arm: {
            name: {
                "mean": statistics.fmean(changes := [c[-1][name] - c[0][name] for c in courses]),
                "standard_error": statistics.stdev(changes) / len(changes) ** 0.5
                if len(changes) > 1
                else None,
            }
            for name in ("test_loss", "own_loss", "distinct_2", "entropy")
        }
        for arm, courses in arms.items()
    }
    if given.plot:
        draw(means, given.plot)
    record = {"name": "collapse", "seeds": given.seeds, "change": lost, "by_round": means}
    print(f"BENCH {json.dumps(record)}")


def course(folder: Path, seed: int, *, guarded: bool) -> list[dict[str, float]]:
    """Scores of each model: the first one, trained on real text, and its successors."""
    model, pool = MODEL, list[Sample]()
    best: tuple[float, float, Path] | None = None  # selected, tested, and its folder
    found: list[dict[str, float]] = []
    for number in range(ROUNDS + 1):
        own = folder / str(number)
        own.mkdir(parents=True)
        mixture = {"jargon": 1.0}
        if number and pool:
            mixture = {"jargon": 0.5, POOL: 0.5} if guarded else {POOL: 1.0}
        latest, samples = trained(own, model, mixture, pool, seed, cut=guarded)
        best = latest if best is None else min(best, latest)
        kept = best if guarded else latest
        model = kept[2]
        written = [one.completion for one in samples]
        losses = {"test_loss": kept[1], "own_loss": latest[1]}
        found.append({**losses, **diversity(written, _real(seed))})
        if guarded:
            config = configuration.from_plain(_spec(MODEL, None)).model_copy(
                update={"rounds": Rounds(like=("jargon",))}
            )
            samples = pooling.score(config, samples, pool, _real(seed))
        pool = [*pool, *samples] if guarded else samples
    return found


def _real(seed: int) -> list[str]:
    config = configuration.from_plain(_spec(MODEL, None))
    return documents(config, {"jargon": 1.0}, 2000, np.random.default_rng(seed))


def trained(
    own: Path,
    model: Path,
    mixture: dict[str, float],
    pool: list[Sample],
    seed: int,
    *,
    cut: bool,
) -> tuple[tuple[float, float, Path], list[Sample]]:
    """A fine-tune of a model: its losses, selected and tested, its folder, and what it writes."""
    file = None
    if POOL in mixture:
        file = own / "pool.jsonl"
        pooling.write_samples(file, pool)
    config = configuration.from_plain(_spec(model, file))
    task = replace(prepare(config).task, artifacts=own)
    evaluator = Evaluator(task)
    cuts = CUTS if cut and POOL in mixture else {}
    recipe = configuration.decode(config, {"mixture": mixture, **cuts})
    spec = EvaluationSpec(0, recipe, seed)
    done = evaluator.evaluate(spec)
    assert done.status == "ok", done.message
    tested = evaluator.evaluate(replace(spec, split="test"))
    asked = replace(
        spec,
        split="samples",
        parents=(0,),
        ancestors=(Ancestor(0, recipe, seed),),
        writing=Writing(WRITING, filters=("perplexity",)),
    )
    written = evaluator.evaluate(asked)
    assert written.status == "ok", written.message
    samples = [sample_in(record, "here") for record in written.details["samples"]]
    weights.assemble(model, weights.folder_of(own, 0), own / "model")
    selected_loss, tested_loss = (one.measurements["target/loss"] for one in (done, tested))
    return (selected_loss, tested_loss, own / "model"), samples


def _spec(model: Path, pool: Path | None) -> dict[str, Any]:
    sources = dict(SPEC["sources"])
    if pool is not None:
        sources[POOL] = {"path": str(pool), "kind": "sample"}
    genome = {"mixture": {"type": "simplex", "over": list(sources)}}
    return {**SPEC, "model": {"base": str(model)}, "sources": sources, "genome": genome}


def draw(means: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Test loss and diversity of both, by round."""
    import matplotlib.pyplot as plt

    names = {
        "test_loss": "target/loss (nats), test split",
        "distinct_2": "distinct pairs of words (share)",
        "self_bleu": "self-BLEU",
    }
    figure, panels = plt.subplots(1, len(names), figsize=(12, 3.6), layout="constrained")
    for panel, (name, title) in zip(panels, names.items(), strict=True):
        for arm, colour in (("unguarded", "#c4283b"), ("guarded", "#2563c9")):
            panel.plot([row[name] for row in means[arm]], "o-", color=colour, label=arm)
            if name == "test_loss" and arm == "guarded":
                own = [row["own_loss"] for row in means[arm]]
                label = "guarded, model that was not kept"
                panel.plot(own, "o--", color=colour, alpha=0.5, label=label)
        panel.set_ylabel(title)
        panel.set_xlabel("times it learned from its own writing")
        panel.grid(color="#e9ecf1")
    panels[0].legend(frameon=False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
