"""A made-up but realistic ledger, for tests of what reads one; no model is trained.

The landscape follows the quickstart: a target with little text of its own, where about half
target and half a related source is best, while training at all costs some of the general domain.
"""

import heapq
from typing import Any

import numpy as np

Fact = dict[str, Any]

SOURCES = ("jargon", "devil", "wordnet", "python", "austen", "licences", "factbook")
BASE = {"target/loss": 4.83, "general/loss": 3.02, "jargon/chrf": 11.2}
START = 1_760_000_000.0
SEARCH = 1_000_000  # keeps the noise of closing seeds apart from that of the search


def ledger(
    *,
    evaluations: int = 40,
    population: int = 10,
    objectives: tuple[str, ...] = ("target/loss", "general/loss"),
    constraints: tuple[str, ...] = ("general/loss <= 3.28",),
    failures: bool = True,
    seeds: int = 5,
    workers: int = 2,
    skill: float = 1.0,
    extra_sources: tuple[str, ...] = (),
    seed: int = 0,
) -> list[Any]:
    """Facts of a finished search. `skill` 0 breeds children at random and names a poor winner."""
    sources = (*SOURCES, *extra_sources)
    rng = np.random.default_rng(seed)
    clock = _Clock(workers)
    facts: list[Fact] = [_search(evaluations, population, objectives, constraints, seeds, workers)]
    facts[0]["config"]["sources"] = {name: {"path": f"{name}.jsonl"} for name in sources}
    facts.append(_evaluation(clock, 0, 0, 0.0, "selection", dict(BASE), 3.0))
    anchors = {
        "uniform": dict.fromkeys(sources, 1 / len(sources)),
        "proportional": _shares(sources, [0.02, 0.1, 0.2, 0.28, 0.2, 0.12, 0.08]),
        f"only {sources[0]}": {sources[0]: 1.0},
    }
    scored: list[tuple[float, int, Fact]] = []
    genomes: dict[int, Fact] = {}
    for slot in range(evaluations):
        generation = slot // population
        operator, parents = "random", []
        genome = _genome(rng, sources)
        if slot < len(anchors):
            name = list(anchors)[slot]
            operator = f"anchor: {name}"
            genome = {**_genome(rng, sources), "learning_rate": 1e-3, "mixture": anchors[name]}
            genome |= {"adapter": "none", "decay": "cosine", "weight_decay": 0.01}
            genome.pop("lora_rank", None)
        elif generation and skill:
            elite = sorted(scored)[: max(2, len(scored) // 4)]
            first, second = (elite[int(i)][1] for i in rng.integers(len(elite), size=2))
            operator = f"crossover+{('sphere', 'dirichlet', 'logit')[int(rng.integers(3))]}"
            parents = sorted({first, second})
            genome = _child(rng, genomes[first], genomes[second], genome)
        genomes[slot] = genome
        facts.append(
            {
                "fact": "individual",
                "id": slot,
                "genome": genome,
                "parents": parents,
                "operator": operator,
                "generation": generation,
                "learned_from": generation * population - 1,
            }
        )
        status = "ok"
        if failures and slot >= len(anchors) and genome["learning_rate"] > 7e-3:
            status = "diverged"
        elif failures and slot % 17 == 13:
            status = "timed_out"
        if failures and slot == 11:
            facts.append(
                {
                    "fact": "lost",
                    "individual": slot,
                    "seed": 0,
                    "split": "selection",
                    "attempt": 1,
                    "worker": "node-a/411",
                    "message": "the worker process died (signal 9)",
                    "time": clock.now(),
                }
            )
        scores = _scores(genome, SEARCH + slot)
        seconds = float(9 * rng.lognormal(0, 0.1)) * (4 if status == "timed_out" else 1)
        facts.append(_evaluation(clock, slot, 0, 1.0, "selection", scores, seconds, genome, status))
        if status == "ok":
            scored.append((scores["target/loss"] + (scores["general/loss"] > 3.28), slot, genome))
    best = sorted(scored)
    winner = best[0 if skill else len(best) // 2][1] if best else None
    if winner is not None:
        facts.append(
            {"fact": "winner", "individual": winner, "split": "selection", "time": clock.end}
        )
        for closing in range(1, seeds + 1):
            if closing == 1:
                facts.append(_evaluation(clock, 0, closing, 0.0, "test", dict(BASE), 3.0))
            for slot in sorted({winner, *range(min(len(anchors), evaluations))}):
                scores = _scores(genomes[slot], 100 * slot + closing)
                facts.append(
                    _evaluation(clock, slot, closing, 1.0, "test", scores, 9.0, genomes[slot])
                )
    facts.append({"fact": "finished", "time": clock.end})
    return facts


def _search(
    evaluations: int,
    population: int,
    objectives: tuple[str, ...],
    constraints: tuple[str, ...],
    seeds: int,
    workers: int,
) -> Fact:
    higher = ("chrf", "exact_match", "distinct_1", "distinct_2")
    directions = {name: "maximize" if name.endswith(higher) else "minimize" for name in objectives}
    config = {
        "name": "quickstart",
        "seed": 0,
        "model": {"base": "quickstart", "dtype": "float32"},
        "recipe": {"learning_rate": 1e-3, "batch_size": 16, "sequence_length": 96},
        "genome": {
            "mixture": {"type": "simplex", "floor": 0.0},
            "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
            "weight_decay": {"type": "float", "low": 0.0, "high": 0.2},
            "adapter": {"type": "choice", "options": ["none", "lora"]},
            "lora_rank": {"type": "int", "low": 2, "high": 64, "when": {"adapter": "lora"}},
            "decay": {"type": "choice", "options": ["constant", "linear", "cosine"]},
        },
        "objectives": directions,
        "constraints": list(constraints),
        "baselines": ["uniform", "proportional", "only jargon"],
        "search": {"strategy": "nsga2", "population": population},
        "budget": {"evaluations": evaluations, "tokens": 122880},
        "resources": {"workers": workers, "cpus": 1, "gpus": 0},
        "evaluator": "builtin",
        "comparison": {"seeds": seeds},
    }
    return {
        "fact": "search",
        "format": 1,
        "config": config,
        "fingerprints": {"model": "ab12", "tokenizer": "cd34", "sources": {}, "domains": {}},
        "versions": {"evomix": "0.1.0", "python": "3.11.2", "torch": "2.13.0"},
        "time": START,
    }


def _shares(sources: tuple[str, ...], weights: list[float]) -> dict[str, float]:
    padded = np.array([*weights, *[0.05] * (len(sources) - len(weights))])
    return dict(zip(sources, (padded / padded.sum()).tolist(), strict=True))


def _genome(rng: np.random.Generator, sources: tuple[str, ...]) -> Fact:
    concentration = float(rng.choice([0.3, 1.0, 3.0]))
    weights = rng.dirichlet([concentration] * len(sources)).tolist()
    genome = {
        "mixture": _shares(sources, weights),
        "learning_rate": float(10 ** rng.uniform(-4, -2)),
        "weight_decay": float(rng.uniform(0, 0.2)),
        "adapter": str(rng.choice(["none", "lora"])),
        "decay": str(rng.choice(["constant", "linear", "cosine"])),
    }
    if genome["adapter"] == "lora":
        genome["lora_rank"] = int(rng.integers(2, 65))
    return genome


def _child(rng: np.random.Generator, a: Fact, b: Fact, fresh: Fact) -> Fact:
    names = tuple(fresh["mixture"])
    roots = [np.sqrt([g["mixture"].get(n, 0.0) for n in names]) for g in (a, b)]
    step = roots[0] + roots[1] + rng.normal(0, 0.15, len(names))
    genome = {
        "mixture": _shares(names, (step.clip(0) ** 2).tolist()),
        "learning_rate": float(
            np.clip(
                np.sqrt(a["learning_rate"] * b["learning_rate"]) * rng.lognormal(0, 0.3), 1e-4, 1e-2
            )
        ),
        "weight_decay": float(np.clip(a["weight_decay"] + rng.normal(0, 0.02), 0, 0.2)),
        "adapter": a["adapter"],
        "decay": b["decay"],
    }
    if genome["adapter"] == "lora":
        genome["lora_rank"] = int(a["lora_rank"])
    return genome


def _scores(genome: Fact, noise: int) -> dict[str, float]:
    """Measurements of a genome: nats per token and chrF."""
    rng = np.random.default_rng(noise)
    shares = genome["mixture"]
    own = shares.get("jargon", 0.0)
    related = shares.get("devil", 0.0) + shares.get("wordnet", 0.0)
    distance = (own - 0.45) ** 2 + 0.6 * (related - 0.5) ** 2
    rate = np.log10(genome["learning_rate"] / 2e-3)
    lora = 0.05 if genome["adapter"] == "lora" else 0.0
    target = 4.43 + 0.95 * distance + 0.12 * rate**2 + lora + rng.normal(0, 0.012)
    strength = 10 ** (np.log10(genome["learning_rate"]) + 3)
    general = 3.02 + 0.1 * strength**0.5 * (0.6 + own) - 0.9 * lora + rng.normal(0, 0.008)
    return {
        "target/loss": float(target),
        "general/loss": float(general),
        "jargon/chrf": float(11 + 12 * (4.85 - target) + rng.normal(0, 0.4)),
    }


class _Clock:
    """Workers that take the next evaluation as soon as they are free."""

    def __init__(self, workers: int) -> None:
        self.free = [(START + 4.0, worker) for worker in range(workers)]
        self.end = START

    def now(self) -> float:
        return self.free[0][0]

    def run(self, seconds: float) -> tuple[float, float, str]:
        started, worker = heapq.heappop(self.free)
        finished = started + seconds
        heapq.heappush(self.free, (finished + 0.15, worker))
        self.end = max(self.end, finished)
        return started, finished, f"node-a/{400 + worker}"


def _evaluation(
    clock: _Clock,
    individual: int,
    seed: int,
    fidelity: float,
    split: str,
    measurements: dict[str, float],
    seconds: float,
    genome: Fact | None = None,
    status: str = "ok",
) -> Fact:
    started, finished, worker = clock.run(seconds)
    details: Fact = {}
    if genome is not None and status == "ok":
        shares = genome["mixture"]
        details = {
            "shares": shares,
            "epochs": {name: 3 * share for name, share in shares.items()},
            "learning_curve": [
                [tokens, measurements["target/loss"] + 0.5 * 2 ** (-tokens / 24_576)]
                for tokens in range(0, 122_881, 12_288)
            ],
        }
    if split == "test" and seed == 1:
        details["samples"] = [
            {
                "prompt": "hacker: /n./ ",
                "reference": "A person who enjoys exploring the details of programmable systems.",
                "output": " A person who is able to be used in the sense of a system that"
                + (" is a program of the same" if genome else " the court of the state"),
            },
            {
                "prompt": "kludge: ",
                "reference": "A clever programming trick intended to solve a nasty case.",
                "output": " <b>1.</b> /n./ A piece of code & a hack",
            },
        ]
    messages = {
        "diverged": "loss is not finite at step 31 of 80",
        "timed_out": "longer than 30 s; raise resources.timeout or lower budget.tokens",
    }
    training = seconds - 1.3 if fidelity else 0.0
    return {
        "fact": "evaluation",
        "individual": individual,
        "seed": seed,
        "fidelity": fidelity,
        "split": split,
        "status": status,
        "measurements": measurements if status == "ok" else {},
        "cost": {
            "tokens": 122880 if fidelity else 0,
            "flops": 3.2e11 if fidelity else 0.0,
            "train_seconds": training,
            "evaluate_seconds": 1.1 if status == "ok" else 0.0,
        },
        "details": details,
        "message": messages.get(status, ""),
        "worker": worker,
        "started": started,
        "finished": finished,
    }
