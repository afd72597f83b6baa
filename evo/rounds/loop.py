"""Rounds: search, generate samples with the best, filter, judge, pool, and search again.

Each round is a run folder of its own within the run, with a spec derived from the run's spec and
from the rounds before. The run's own ledger records the result of each round, so that a launch and
a resume are the same code: finished rounds are read, and an unfinished one is resumed.
"""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from evo import config as configuration
from evo import history, run
from evo.config import Constraint, SearchConfig, measured_by
from evo.config.budget import SEED_STEP
from evo.config.checks import importing_from
from evo.config.genomes import learned_shares
from evo.config.rounds import PAIRS, POOL, Rounds
from evo.export.model import export
from evo.history.rounds import POOL_FILE, folder_of, over, rank
from evo.prepare.outlook import check_server
from evo.prepare.task import prepare, versions
from evo.progress.live import Progress
from evo.record import run_folder
from evo.record.facts import Facts, Pool, typed
from evo.record.facts import Round as RoundFact
from evo.record.ledger import FILE, Ledger, read
from evo.record.state import state
from evo.rounds import judging, opening, pooling
from evo.rounds.recall import recall_of
from evo.rounds.spec import Legacy, different, first_spec, spec_after
from evo.rounds.writing import jobs_of, writers
from evo.search.requests import Requests
from fitness.checks.table import CHECKS, check_references
from fitness.data.prompts import prompts_in
from fitness.errors import InputError
from fitness.feedback.judgements import JUDGE, by_judge
from fitness.filters import REALNESS
from fitness.models import folders
from fitness.samples.separation import Separation

BEST = "best"  # the folder of the round's best model, if the next round starts from it
Watching = Callable[[SearchConfig, Path], AbstractContextManager[Progress]]


def launch(config: SearchConfig, folder: Path, watching: Watching) -> bool:
    """Launch a new run of rounds; False if it was stopped or waits for people's judgements."""
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


def resume(folder: Path, config: SearchConfig, watching: Watching) -> bool:
    """Resume the unfinished round, and continue with those after it; True if all finished."""
    facts = read(folder)
    begun = configuration.of(facts)
    run.check_changes(folder, begun, config)
    if state(facts) == "finished" and config == begun:
        return True
    with Ledger(folder) as ledger, importing_from(Path(config.import_from)):
        run_folder.tidy(folder)
        changed = {} if config == begun else {"config": configuration.to_plain(config)}
        ledger.append("resumed", time=time.time(), versions=versions(), **changed)
        return _drive(config, folder, ledger, watching)


def check(config: SearchConfig) -> None:
    """Check what later rounds need, before the first. Raises InputError."""
    rounds = config.rounds
    assert rounds is not None
    prepare(first_spec(config))
    check_server(config)
    if rounds.prompts:
        _check_prompts(Path(rounds.prompts), rounds, folders.locate(config.model.base))
    judge = rounds.annotator.removeprefix(JUDGE) if by_judge(rounds.annotator) else ""
    for model in (rounds.second, "" if "://" in judge else judge):
        if model:
            folders.locate(model)
    room = folders.context(folders.locate(config.model.base))
    if room is not None and rounds.writing.max_new_tokens >= room:
        raise InputError(
            f"rounds.writing.max_new_tokens is {rounds.writing.max_new_tokens}, which leaves no "
            f"room for a prompt in the base model's context of {room} tokens; lower it"
        )
    improved = {name for one in config.objectives for name in measured_by(config, one)}
    if config.domains and len(improved) == 1:
        warnings.warn(
            "rounds measure only the objective that they improve, so that forgetting is not "
            "noticed; add the loss of a domain of general text to objectives",
            stacklevel=2,
        )


def _check_prompts(file: Path, rounds: Rounds, base: Path) -> None:
    """Raise InputError if a check among the filters has no reference, or one that it cannot use."""
    prompts, checks = prompts_in(file, base), [name for name in rounds.filters if name in CHECKS]
    if checks and "" in prompts.references:
        place = prompts.references.index("") + 1
        raise InputError(
            f"rounds.prompts: {file}: prompt {place} has no reference, which {checks[0]} among "
            "rounds.filters compares with; add it, or leave the filter out"
        )
    check_references(checks, prompts.references, f"rounds.prompts: {file}")


def _drive(config: SearchConfig, folder: Path, ledger: Ledger, watching: Watching) -> bool:
    assert config.rounds is not None
    done = over(typed(ledger.facts))
    if done and "pool" not in done[-1] and not _ended(config, done):
        done.pop()  # it was the last one under the old limit, and has generated no samples yet
    while not (why := _ended(config, done)):
        number = _next(config, done)
        own = folder_of(folder, number)
        spec = _spec(config, folder, done)
        with watching(spec, own) as watch:
            # Else the base, or the tokens of a fine-tune, differ between rounds.
            alike = config.rounds.begin == "base" and not config.budget.by_data
            measured = [folder_of(folder, fact["round"]) for fact in (done if alike else ())]
            ahead = run.Round(
                partial(_write, config, spec, own, done),
                recall_of(config, own / "artifacts", measured),
                first=not done,
                instead=None if number else partial(opening.measure, spec),
            )
            if not (own / FILE).exists():
                finished = run.launch(spec, own, watch, ahead)
            else:
                again = _owes_samples(config, read(own), done)
                finished = run.continue_search(own, spec, watch, ahead, again=again)
            if not finished:
                ledger.append("stopped", time=time.time())
                return False
            facts = read(own)
            outcome = _outcome(config, facts, done)
            if not _ended(config, [*done, outcome]):
                left, pool = _pool(config, folder, done, facts, outcome)
                outcome["pool"] = pool
                if left:
                    ledger.append("waiting", round=number, judgements=left, time=time.time())
                    return False
            done.append(outcome)
            watch(ledger.append(**outcome, time=time.time()))
    ledger.append("finished", why=why, time=time.time())
    return True


def _next(config: SearchConfig, done: Sequence[RoundFact]) -> int:
    """Number of the next round: 0 is what the untouched base generates."""
    assert config.rounds is not None
    if done:
        return done[-1]["round"] + 1
    return opening.NUMBER if config.rounds.first == "generate" else 1


def _ended(config: SearchConfig, done: Sequence[RoundFact]) -> str:
    """Reason why there are no more rounds; empty if there is another."""
    rounds = config.rounds
    assert rounds is not None
    if not done or not done[-1]["round"]:
        return ""
    best = min(done, key=rank)
    if rounds.target is not None:
        target = Constraint.parse(rounds.target)
        value = best["measurements"].get(target.name)
        if best["violation"] == 0 and value is not None and not target.excess({target.name: value}):
            return f"the target is met: {target.name} is {value:.4g}"
    since = done[-1]["round"] - best["round"]
    if since >= rounds.patience:
        return f"no better model in the last {since} of them"
    if done[-1]["round"] >= rounds.limit:
        return f"the limit of {rounds.limit} is reached"
    if "pool" in done[-1] and not _files(Path(), done[-1]):
        return "none of the generated samples can be learned"
    return ""


def _spec(config: SearchConfig, folder: Path, done: Sequence[RoundFact]) -> SearchConfig:
    """Spec of the next round."""
    if not done:
        return first_spec(config)
    assert config.rounds is not None
    searched = [one for one in done if one["round"]]
    best, last = min(searched or done, key=rank), done[-1]
    genomes = [best["genome"], *best["front"], *last["front"]] if searched else []
    where, seed = None, config.seed
    if config.rounds.begin == "best" and searched:
        where = folder_of(folder, best["round"]) / BEST
        if not where.exists():
            # Trusted: a launch or resume has checked the code of this run already.
            export(where.parent, "best", where, trusted=True)
        seed += SEED_STEP**2 * len(done)  # a new seed, else data would come in the same order again
    files = _files(folder_of(folder, last["round"]), last)
    spec = spec_after(config, Legacy(files, different(genomes), where, _scores(files, last)))
    return spec.model_copy(update={"seed": seed})


def _scores(files: Mapping[str, Path], last: RoundFact) -> frozenset[str]:
    """Scores that samples of the pool have, less realness if its discriminator cannot tell them."""
    scores = {name for one in pooling.read_pool(files.get(POOL)) for name in one.scores}
    apart = Separation.of(last["pool"].get("discriminator"))
    if apart is not None and not apart.usable:
        scores.discard(REALNESS)
    return frozenset(scores)


def _files(own: Path, fact: RoundFact) -> dict[str, Path]:
    """Files with a round's pool and judgements as training data, by source."""
    pool = {POOL: own / POOL_FILE} if fact["pool"]["pool"] else {}
    if fact["pool"].get(PAIRS):
        pool[PAIRS] = own / pooling.PAIRS_FILE
    return {**pool, **{name: own / f"{name}.jsonl" for name in fact["pool"]["judged"]}}


def _outcome(config: SearchConfig, facts: Facts, done: Sequence[RoundFact]) -> RoundFact:
    """Result of a round whose winner is known, as values of the `round` fact."""
    if not (number := _next(config, done)):
        return opening.result(facts)
    winner = history.winner(facts)
    assert winner is not None
    row = history.scores(facts).query("individual == @winner").iloc[0].to_dict()
    measurements = history.Columns.of(facts).measurements
    genomes = {f["id"]: f["genome"] for f in facts if f["fact"] == "individual"}
    first = history.loss_columns(facts)[0]
    return {
        "fact": "round",
        "round": number,
        "individual": winner,
        "genome": genomes[winner],
        "front": [genomes[one] for one in writers(facts)],
        "seeds": int(row["seeds"]),
        "loss": float(row[first]),
        "violation": float(row["violation"]),
        "measurements": {name: float(row[column]) for name, column in measurements.items()},
    }


def _owes_samples(config: SearchConfig, facts: Facts, done: Sequence[RoundFact]) -> bool:
    """True if a round finished as the last one, and a raised limit now needs its samples."""
    if state(facts) != "finished" or _ended(config, [*done, _outcome(config, facts, done)]):
        return False
    return not pooling.written(facts)


def _write(
    config: SearchConfig,
    spec: SearchConfig,
    own: Path,
    done: Sequence[RoundFact],
    requests: Requests,
) -> None:
    """Generate samples with the best individuals of a round, unless it is the last one."""
    facts = read(own)
    if _ended(config, [*done, _outcome(config, facts, done)]):
        return
    number = _next(config, done)
    results = requests.all_of(jobs_of(config, spec, facts, number))
    if all(one.status != "ok" for one in results):
        raise InputError(
            f"round {number}: no individual could generate samples: "
            f"{results[0].message.strip()[-500:]}"
        )


def _pool(
    config: SearchConfig,
    folder: Path,
    done: Sequence[RoundFact],
    facts: Facts,
    outcome: RoundFact,
) -> tuple[int, Pool]:
    """Score a round's samples, have them judged, and add them to the pool.

    Returns the number of judgements still missing, and the counts for the `round` fact. `facts`
    are those of the round's ledger, and `outcome` its result.
    """
    rounds = config.rounds
    assert rounds is not None
    number = outcome["round"]
    own = folder_of(folder, number)
    before = _files(folder_of(folder, done[-1]["round"]), done[-1]) if done else {}
    earlier = pooling.read_pool(before.get(POOL))
    rng = np.random.default_rng([config.seed, number])
    real = pooling.real_texts(config, learned_shares(config, outcome["genome"]), rng)
    scored = own / "written.jsonl"
    if not scored.exists():
        samples = pooling.score(config, pooling.samples_of(facts, own), earlier, real)
        pooling.write_samples(scored, samples)
    samples = pooling.read_pool(scored)
    left, judged = judging.judge(rounds, folder, own, number, samples, seed=config.seed)
    if left:
        return left, {}
    score = partial(judging.score, folder, seed=config.seed)
    counts = pooling.pooled(
        rounds, samples, earlier, real, own / POOL_FILE, score, seed=config.seed
    )
    return 0, cast(Pool, {**asdict(counts), **judged})
