"""Rounds: evolve, let the best write, filter, pool, judge, and evolve again with the pool.

Each round is a run folder of its own within the run, with a spec that follows from the whole's and
from the rounds before. The run's own ledger holds what came of each round, so that resuming is the
same code: finished rounds are read, and the one that was under way goes on.
"""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evo import config as configuration
from evo import history, run
from evo.config import Constraint, SearchConfig
from evo.config.checks import importing_from
from evo.config.rounds import POOL
from evo.config.sections import SEED_STEP
from evo.export.model import export
from evo.history.rounds import POOL_FILE, folder_of, over, rank
from evo.prepare.task import prepare, versions
from evo.progress.live import Progress
from evo.record import run_folder
from evo.record.ledger import FILE, Fact, Ledger, read
from evo.rounds import judging, pooling
from evo.rounds.recall import Recall
from evo.rounds.spec import Legacy, different, first_spec, spec_after
from evo.rounds.writing import jobs_of, writers
from evo.samples.generate import prompts_in
from evo.search.evaluations import Evaluations
from fitness.errors import InputError
from fitness.feedback.judgements import JUDGE, by_judge
from fitness.models import folders

BEST = "best"  # the folder of the round's best model, where rounds begin with it
Watching = Callable[[SearchConfig, Path], AbstractContextManager[Progress]]


def launch(config: SearchConfig, folder: Path, watching: Watching) -> bool:
    """A new run of rounds; whether it finished (or waits for people, or was asked to stop)."""
    with run_folder.new(folder):
        run.check_new(config, folder)
        check(config)
        facts = {"config": configuration.to_plain(config), "versions": versions()}
        with (
            Ledger.create(folder, {**facts, "time": time.time()}) as ledger,
            importing_from(Path(config.import_from)),
        ):
            configuration.write_config(config, folder / "config.yaml")
            return _drive(config, folder, ledger, watching)


def resume(folder: Path, overrides: Sequence[str], watching: Watching) -> bool:
    """Go on with the round that was under way, and with those after it."""
    facts = read(folder)
    begun = configuration.of(facts)
    if not (folder / "config.yaml").exists():
        configuration.write_config(begun, folder / "config.yaml")
    config = configuration.load(folder / "config.yaml", overrides)
    run.check_changes(folder, begun, config)
    if run.finished(facts) and config == begun:
        return True
    with Ledger(folder) as ledger, importing_from(Path(config.import_from)):
        changed = {} if config == begun else {"config": configuration.to_plain(config)}
        ledger.append("resumed", time=time.time(), versions=versions(), **changed)
        return _drive(config, folder, ledger, watching)


def check(config: SearchConfig) -> None:
    """Everything that a later round would stumble over. Raises InputError."""
    rounds = config.rounds
    assert rounds is not None
    prepare(first_spec(config))
    if rounds.prompts:
        prompts_in(Path(rounds.prompts), folders.locate(config.model.base))
    judge = rounds.annotator.removeprefix(JUDGE) if by_judge(rounds.annotator) else ""
    for model in (rounds.second, "" if "://" in judge else judge):
        if model:
            folders.locate(model)
    room = folders.context(folders.locate(config.model.base))
    if room is not None and rounds.writing.max_new_tokens >= room:
        raise InputError(
            f"rounds.writing.max_new_tokens is {rounds.writing.max_new_tokens}, which leaves no "
            f"room for a beginning in the base model's context of {room} tokens; lower it"
        )
    if config.domains and len(config.objectives) == 1:
        warnings.warn(
            "rounds measure nothing but what they improve: what the model forgets is not seen; "
            "name a domain of general text, or another objective",
            stacklevel=2,
        )


def _drive(config: SearchConfig, folder: Path, ledger: Ledger, watching: Watching) -> bool:
    assert config.rounds is not None
    done = over(ledger.facts)
    if done and "pool" not in done[-1] and not _ended(config, done):
        done.pop()  # it was to be the last one, and has written nothing yet
    while not (why := _ended(config, done)):
        number = len(done) + 1
        own = folder_of(folder, number)
        spec = _spec(config, folder, done)
        with watching(spec, own) as watch:
            earlier = done if config.rounds.begin == "base" else []  # else other models
            measured = [folder_of(folder, fact["round"]) for fact in earlier]
            ahead = run.Round(
                partial(_write, config, spec, own, done),
                Recall(config, own / "artifacts", measured),
                first=not done,
            )
            if not (own / FILE).exists():
                finished = run.launch(spec, own, watch, ahead)
            else:
                again = _owes_samples(config, read(own), done)
                finished = run.go_on(own, spec, watch, ahead, again=again)
            if not finished:
                ledger.append("stopped", time=time.time())
                return False
            facts = read(own)
            found = _outcome(facts, done)
            if not _ended(config, [*done, found]):
                left, found["pool"] = _pool(config, folder, done, facts, found)
                if left:
                    ledger.append("waiting", round=number, judgements=left, time=time.time())
                    return False
            done.append(ledger.append(**found, time=time.time()))
            watch(done[-1])
    ledger.append("finished", why=why, time=time.time())
    return True


def _ended(config: SearchConfig, done: Sequence[Fact]) -> str:
    """Why there are no more rounds; empty where there is another."""
    rounds = config.rounds
    assert rounds is not None
    if not done:
        return ""
    best = min(done, key=rank)
    if rounds.target is not None:
        target = Constraint.parse(rounds.target)
        value = best["measurements"].get(target.name)
        if best["violation"] == 0 and value is not None and not target.excess({target.name: value}):
            return f"the target is met: {target.name} is {value:.4g}"
    since = len(done) - best["round"]
    if since >= rounds.patience:
        return f"no better model in the last {since} of them"
    if len(done) >= rounds.limit:
        return f"the limit of {rounds.limit} is reached"
    if "pool" in done[-1] and not _files(Path(), done[-1]):
        return "nothing that was written can be learned"
    return ""


def _spec(config: SearchConfig, folder: Path, done: Sequence[Fact]) -> SearchConfig:
    """Of the next round."""
    if not done:
        return first_spec(config)
    assert config.rounds is not None
    best, last = min(done, key=rank), done[-1]
    genomes = [best["genome"], *best["front"], *last["front"]]
    where, seed = None, config.seed
    if config.rounds.begin == "best":
        where = folder_of(folder, best["round"]) / BEST
        if not where.exists():
            export(where.parent, "best", where, trusted=True)  # this run goes on by now
        seed += SEED_STEP**2 * len(done)  # else the data would come in the order it came in before
    files = _files(folder_of(folder, last["round"]), last)
    scores = {name for one in pooling.read_pool(files.get(POOL)) for name in one.scores}
    spec = spec_after(config, Legacy(files, different(genomes), where, frozenset(scores)))
    return spec.model_copy(update={"seed": seed})


def _files(own: Path, fact: Fact) -> dict[str, Path]:
    """What a round leaves to learn from, by source."""
    pool = {POOL: own / POOL_FILE} if fact["pool"]["pool"] else {}
    return {**pool, **{name: own / f"{name}.jsonl" for name in fact["pool"]["judged"]}}


def _outcome(facts: Sequence[Fact], done: Sequence[Fact]) -> dict[str, Any]:
    """What a round whose winner is named came to, by its own facts."""
    winner = history.winner(facts)
    row = history.scores(facts).query("individual == @winner").iloc[0].to_dict()
    known = history.Columns.of(facts).measurements
    genomes = {f["id"]: f["genome"] for f in facts if f["fact"] == "individual"}
    first = history.loss_columns(facts)[0]
    found: dict[str, Any] = {
        "fact": "round",
        "round": len(done) + 1,
        "individual": winner,
        "genome": genomes[winner],
        "front": [genomes[one] for one in writers(facts)],
        "seeds": int(row["seeds"]),
        "loss": float(row[first]),
        "violation": float(row["violation"]),
        "measurements": {name: float(row[column]) for name, column in known.items()},
    }
    return found


def _owes_samples(config: SearchConfig, facts: Sequence[Fact], done: Sequence[Fact]) -> bool:
    """Whether a round ended as the last one, before more were asked for."""
    if not run.finished(facts) or _ended(config, [*done, _outcome(facts, done)]):
        return False
    return not pooling.written(facts)


def _write(
    config: SearchConfig,
    spec: SearchConfig,
    own: Path,
    done: Sequence[Fact],
    evaluations: Evaluations,
) -> None:
    """Have the best of a round write, unless it is the last one."""
    facts = read(own)
    if _ended(config, [*done, _outcome(facts, done)]):
        return
    jobs = jobs_of(config, spec, facts, len(done) + 1, evaluations)
    for job in jobs:
        evaluations.request(job)
    results = [evaluations.result(job) for job in jobs]
    if all(one.status != "ok" for one in results):
        raise InputError(
            f"round {len(done) + 1}: nobody could write: {results[0].message.strip()[-500:]}"
        )


def _pool(
    config: SearchConfig,
    folder: Path,
    done: Sequence[Fact],
    facts: Sequence[Fact],
    found: Mapping[str, Any],
) -> tuple[int, dict[str, Any]]:
    """Score and pool what a round wrote, and have it judged: how many judgements are still
    missing, and what came of it all. `facts` are its own, and `found` its outcome."""
    rounds = config.rounds
    assert rounds is not None
    number = found["round"]
    own = folder_of(folder, number)
    before = _files(folder_of(folder, done[-1]["round"]), done[-1]) if done else {}
    earlier = pooling.read_pool(before.get(POOL))
    rng = np.random.default_rng([config.seed, number])
    real = pooling.real_texts(config, found["genome"]["mixture"], rng)
    scored = own / "written.jsonl"
    if not scored.exists():
        samples = pooling.score(config, pooling.samples_of(facts, own), earlier, real)
        pooling.write_samples(scored, samples)
    samples = pooling.read_pool(scored)
    left, judged = judging.judge(rounds, folder, own, number, samples, seed=config.seed)
    if left:
        return left, {}
    said = partial(judging.score, folder, seed=config.seed)
    made = pooling.pooled(rounds, samples, earlier, real, own / POOL_FILE, said)
    return 0, {**asdict(made), **judged}
