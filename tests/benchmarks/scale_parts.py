"""Parts of the scale benchmark, each called in a process of its own; all take texts."""

import gc
import json
import statistics
import sys
import time
import types
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evo import history
from evo.record.ledger import Ledger
from fitness.evaluation import Evaluation, EvaluationSpec, Status, Task
from population.individual import Individual
from tests.evo.facts import Fact, read
from tests.evo.synthetic_ledger import ledger

SAMPLES = 8  # of 250 characters, as many as the quickstart's
APPENDS = 300
ROUNDS = 20
WARM = 200  # individuals, before anything is measured


def long_run(folder: str, count: str) -> dict[str, float]:
    """Seconds to read and analyse a run of `count` individuals, and its size in memory."""
    from evo.report import page

    run = Path(folder)
    run.mkdir()
    size = _write(run, int(count))
    found: dict[str, float] = {"megabytes": size / 2**20}
    before = _resident()
    found["read_seconds"], facts = _timed(lambda: read(run))
    found["resident_kilobytes_each"] = (_resident() - before) / 2**10 / int(count)
    del facts
    gc.collect()
    before = _resident()
    found["open_seconds"], opened = _timed(lambda: Ledger(run))
    found["driver_kilobytes_each"] = (_resident() - before) / 2**10 / int(count)
    opened.close()
    del opened
    parts: dict[str, Callable[[list[Fact]], Any]] = {
        "status": history.status,
        "table": history.table,
        "csv": lambda facts: history.table(facts).to_csv(),
        "page": page,
    }
    for name, part in parts.items():
        facts = read(run)
        found[f"{name}_seconds"], value = _timed(partial(part, facts))
        if name == "page":
            found["page_megabytes"] = len(value) / 2**20
    return found


def _write(run: Path, count: int) -> int:
    """A ledger of `count` individuals of the usual size; its bytes."""
    header, base, *rest = ledger(evaluations=400, population=50, failures=False, seeds=0)
    born = [fact for fact in rest if fact["fact"] == "individual"]
    tried = [fact for fact in rest if fact["fact"] == "evaluation"]
    rng = np.random.default_rng(0)
    with (run / "ledger.jsonl").open("w", encoding="utf-8") as file:
        for fact in (header, base):
            file.write(json.dumps(fact) + "\n")
        for slot in range(count):
            model = slot if slot < 3 else 3 + slot % (len(born) - 3)
            parents = [] if slot < 50 else sorted({int(i) for i in rng.integers(slot, size=2)})
            generation = slot // 50
            individual = born[model] | {"id": slot, "generation": generation, "parents": parents}
            shift = float(rng.normal(0, 0.02)) + 0.3 / (1 + slot / 500)
            measured = {n: v + shift for n, v in tried[model]["measurements"].items()}
            details = tried[model]["details"] | _details(shift)
            other = {"individual": slot, "measurements": measured, "details": details}
            when = {"started": header["time"] + slot, "finished": header["time"] + slot + 1}
            file.write(json.dumps(individual) + "\n")
            file.write(json.dumps(tried[model] | other | when) + "\n")
        return file.tell()


def _details(salt: float) -> Fact:
    """Samples of the usual size, no two alike."""
    words = "a sentence of some length that a model may well have written"
    parts = ("prompt", "reference", "output")
    samples = [dict.fromkeys(parts, f"{words}{salt}{i}") for i in range(SAMPLES)]
    return {"samples": {"prompts": samples}}


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.perf_counter()
    value = call()
    return time.perf_counter() - begun, value


def _resident() -> int:
    """Bytes of memory of this process."""
    import psutil

    return psutil.Process().memory_info().rss


def append(folder: str) -> dict[str, float]:
    """Milliseconds to write an evaluation and wait until it is on disk."""
    _, _, _, fact, *_ = ledger(evaluations=1, seeds=0)
    values = {name: value for name, value in fact.items() if name != "fact"}
    with Ledger.create(Path(folder), {"config": {}, "time": 0.0}) as opened:
        each = [_timed(lambda: opened.append("evaluation", **values))[0] for _ in range(APPENDS)]
    return {"median_ms": 1000 * statistics.median(each)}


def driver(folder: str, count: str) -> dict[str, float]:
    """A whole search with answers that cost nothing: milliseconds and memory an individual."""
    from tests.evo.search.test_loop import search
    from tests.evo.toy import write_spec

    Path(folder).mkdir()
    search(Path(folder) / "warm", write_spec(Path(folder), evaluations=WARM), _Answering())
    spec = write_spec(Path(folder), evaluations=int(count))
    before = _resident()
    seconds, _ = _timed(lambda: search(Path(folder) / "run", spec, _Answering()))
    gc.collect()
    kept = (_resident() - before) / 2**10 / int(count)
    return {"milliseconds_each": 1000 * seconds / int(count), "kilobytes_each": kept}


class _Answering:
    """Stands in for the cluster: random losses at once, with details of the usual size."""

    def __init__(self) -> None:
        self._queue: deque[Any] = deque()
        self._rng = np.random.default_rng(0)
        self.busy = 0
        self.size = 1

    def submit(self, spec: Any) -> None:
        self._queue.append(spec)

    def poll(self, seconds: float) -> list[Any]:
        spec = self._queue.popleft()
        target, general = 4 + self._rng.random(2)
        measured = {"target": float(target), "general": float(general - 2)}
        return [Evaluation(spec, Status.OK, measured, {"tokens": 1}, _details(self._rng.random()))]


def nsga2(count: str) -> dict[str, float]:
    """Milliseconds of ask + tell an individual around 1,000 and around `count` of them."""
    from population.genes import Choice, Float, Simplex
    from population.space import SearchSpace
    from population.strategies import make
    from tests.population.genomes import mixture, number

    space = SearchSpace(
        {
            "mixture": Simplex(over=tuple("abcdefg")),
            "rate": Float(1e-4, 1e-1, log=True),
            "kind": Choice(("x", "y")),
        }
    )
    strategy = make("nsga2", space, population=16, budget=int(count))
    spent = np.zeros(int(count))
    for slot in range(int(count)):
        rng = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(slot,)))
        begun = time.perf_counter()
        individual = strategy.ask(slot, rng)
        strategy.tell(individual)
        spent[slot] = time.perf_counter() - begun
        share = mixture(individual.genome)
        rate = np.log10(number(individual.genome, "rate"))
        losses = (float((share["a"] - 0.5) ** 2 + abs(rate + 2)), float(share["a"] + share["b"]))
        begun = time.perf_counter()
        strategy.tell(replace(individual, losses=losses))
        spent[slot] += time.perf_counter() - begun
    last = slice(-1000, None)
    return {
        "at_1000": float(1000 * spent[WARM:1000].mean()),
        f"at_{count}": float(1000 * spent[last].mean()),
    }


def surrogate(count: str) -> dict[str, float]:
    """Milliseconds of ask + tell for the last hundred of `count`: 24 losses over 64 sources."""
    from population.composition import Composition, Term
    from population.genes import Float, Simplex
    from population.space import SearchSpace
    from population.strategies import make
    from tests.population.genomes import mixture

    sources, losses = 64, 24
    space = SearchSpace(
        {
            "mixture": Simplex(over=tuple(f"source{n}" for n in range(sources))),
            "rate": Float(1e-4, 1e-1, log=True),
        }
    )
    mean = Composition((Term(dict.fromkeys(range(losses), 1 / losses)),))
    strategy = make("surrogate", space, population=16, budget=int(count), composition=mean)
    helps = np.random.default_rng(0).dirichlet(np.full(sources, 0.3), losses)
    spent = []
    for slot in range(int(count)):
        rng = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(slot,)))
        begun = time.perf_counter()
        asked = slot >= int(count) - 100  # the kernels of an earlier ask are not needed
        individual = strategy.ask(slot, rng) if asked else Individual(slot, space.sample(rng))
        strategy.tell(individual)
        parts = (helps @ np.array([*mixture(individual.genome).values()]) + 0.01) ** -0.3
        scored = replace(individual, losses=(float(parts.mean()),), parts=tuple(parts.tolist()))
        strategy.tell(scored)
        if asked:
            spent.append(1000 * (time.perf_counter() - begun))
    later = spent[1:]  # the first estimates all kernels, since none was asked for before
    return {"median": statistics.median(later), "largest": max(later), "first": spent[0]}


def dispatch(workers: str) -> dict[str, float]:
    """Milliseconds the driver needs an evaluation, Ray itself left out, with so many workers.

    Ray is stood in for by answers that are ready at once, one a poll, which is the worst case.
    """
    sys.modules["ray"] = _no_ray(int(workers))
    from evo.cluster.queue import Cluster
    from evo.config import Resources

    cluster = Cluster(Resources(workers=int(workers)), Task("tests.benchmarks.scale:one_second"))
    while cluster._pending:  # names, then loads
        cluster.poll(0.0)
    count = ROUNDS * int(workers) if int(workers) < 100 else 2000
    begun = time.perf_counter()
    for slot in range(count):
        cluster.submit(EvaluationSpec(slot, {}, 0))
    done = 0
    while done < count:
        done += len(cluster.poll(0.0))
    return {"each": 1000 * (time.perf_counter() - begun) / count}


def _no_ray(workers: int) -> types.ModuleType:
    """The part of ray's interface that `evo.cluster.queue` uses, within this process."""
    ray = types.ModuleType("ray")
    errors = ("OutOfMemoryError", "RayActorError", "ObjectLostError", "RayTaskError", "RayError")
    names = (*errors, "RaySystemError")
    exceptions = types.SimpleNamespace(**{name: type(name, (Exception,), {}) for name in names})

    class Answer:
        def __init__(self, value: Any) -> None:
            self.value = value

    class Actor:
        def __init__(self, *_: Any) -> None:
            self.name = types.SimpleNamespace(remote=lambda: Answer("here/1"))
            self.load = types.SimpleNamespace(remote=lambda _: Answer([]))
            self.evaluate = types.SimpleNamespace(
                remote=lambda spec: Answer(Evaluation(spec, Status.OK, {"loss": 1.0}))
            )

    def wait(refs: list[Any], num_returns: int = 1, timeout: float = 0) -> tuple[list, list]:
        return refs[:1], refs[1:]

    for name, value in {
        "exceptions": exceptions,
        "wait": wait,
        "get": lambda answer: answer.value,
        "put": lambda value: value,
        "nodes": lambda: [{"Alive": True, "Resources": {"CPU": workers}}],
        "init": lambda **_: None,
        "remote": lambda **_: lambda _: types.SimpleNamespace(remote=Actor),
        "_private": types.SimpleNamespace(worker=types.SimpleNamespace()),
    }.items():
        setattr(ray, name, value)
    return ray
