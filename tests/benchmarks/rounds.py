"""Three rounds of runs/self_improvement.yaml, and what they were worth: `make bench NAME=rounds`.

A quarter of an hour on two cores. `--run RUN` takes a run that exists already. After the rounds,
the best round's recipe is trained under five fresh seeds on three diets of equal tokens: nothing
generated, what the filters leave of the pool, and all of it. The share of the pool is the winner's,
or a quarter where the winner has none. Values are of the test split.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from evo import config as configuration
from evo import history
from evo.config.rounds import POOL
from evo.history import rounds as told
from evo.history.comparison import WINNER
from evo.prepare.task import prepare
from evo.rounds.spec import Legacy, spec_after
from fitness.data.samples import read_samples
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import EvaluationSpec
from fitness.mixture.thresholds import score_of_field
from fitness.recipe import Recipe
from tests.evo.driving import ROOT, command, environment
from tests.evo.facts import read

SPEC = ROOT / "runs" / "self_improvement.yaml"
SEEDS = range(11, 16)
SHARE = 0.25
CUTS = {"keep_realness": 0.5, "keep_perplexity_low": 0.1, "keep_perplexity_high": 0.9}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--run", type=Path)
    given = options.parse_args().run
    with tempfile.TemporaryDirectory() as folder:
        run, seconds = given or Path(folder) / "run", None
        if given is None:
            started = time.time()
            subprocess.run(command("launch", SPEC, "--run", run), env=environment(), check=True)
            seconds = time.time() - started
        found = told.rounds(run, read(run))
        name = next(iter(history.objectives(found[0].facts)))
        by_round = {}
        for one in found:
            row = one.tested(WINNER, name)
            assert row is not None
            by_round[one.number] = (float(row["mean"]), float(row["standard_error"]))
            shares = {kind: round(share, 3) for kind, share in one.shares.items()}
            print(f"round {one.number}: {by_round[one.number]}, {shares}")
        diets = of_diets(run, name)
    verdict = told.verdict(found)
    print(verdict.text, *verdict.notes, sep="\n")
    first, last = by_round[1], by_round[found[-1].number]
    error = (first[1] ** 2 + last[1] ** 2) ** 0.5
    record = {
        "name": "rounds",
        "seconds": seconds,
        "measurement": name,
        "by_round": {n: {"mean": m, "standard_error": e} for n, (m, e) in by_round.items()},
        "better_by": first[0] - last[0],
        "standard_errors": (first[0] - last[0]) / error if error else None,
        "generated_share": {one.number: one.shares["generated"] for one in found},
        "diets": diets,
    }
    print(f"BENCH {json.dumps(record)}")


def of_diets(run: Path, name: str) -> dict[str, Any]:
    """Mean and standard error of the best recipe on each diet, on the pool of the last round."""
    facts = read(run)
    config = configuration.of(facts)
    over = [one for one in told.rounds(run, facts) if one.fact]
    best = told.best(over)
    pool = [one.folder / "pool.jsonl" for one in over if "pool" in (one.fact or {})][-1]
    assert best.fact is not None
    genome: dict[str, Any] = dict(best.fact["genome"])
    shares = {n: s for n, s in genome["mixture"].items() if n in config.sources}
    real = {n: s / sum(shares.values()) for n, s in shares.items()}
    share = best.shares["generated"] or SHARE
    mixed = {**{n: s * (1 - share) for n, s in real.items()}, POOL: share}
    whole = {n: f.default for n, f in Recipe.model_fields.items() if score_of_field(n)}
    own = {n: v for n, v in genome.items() if score_of_field(n)} if best.shares["generated"] else {}
    diets = {
        "nothing generated": {**genome, **whole, "mixture": real},
        "filtered": {**genome, **(own or {**whole, **CUTS}), "mixture": mixed},
        "unfiltered": {**genome, **whole, "mixture": mixed},
    }
    scores = frozenset(name for one in read_samples(pool) for name in one.scores)
    spec = spec_after(config, Legacy({POOL: pool}, [genome], scores=scores))
    evaluator = Evaluator(prepare(spec).task)
    found: dict[str, Any] = {"share": share}
    for diet, changed in diets.items():
        recipe = configuration.decode(spec, changed)
        values = []
        for seed in SEEDS:
            asked = EvaluationSpec(0, recipe, seed, split="test")
            values.append(evaluator.evaluate(asked).measurements[name])
        error = statistics.stdev(values) / len(values) ** 0.5
        found[diet] = {"mean": statistics.fmean(values), "standard_error": error}
        print(f"{diet}: {name} {statistics.fmean(values):.4f} ± {error:.4f}")
    return found


if __name__ == "__main__":
    main()
