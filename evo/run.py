"""Launch and resume: check everything, lock the folder, start the cluster, search, compare."""

import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evo import config as configuration
from evo.cluster.gauges import gauges
from evo.cluster.queue import Cluster
from evo.config import SearchConfig
from evo.config.budget import DECIDES
from evo.planning.schedule import idle_workers, most_busy
from evo.prepare.outlook import AUTO, outlook, rounds, settled, slow_bfloat16
from evo.prepare.task import Prepared, prepare, versions
from evo.progress.live import Progress
from evo.record import run_folder
from evo.record.artifacts import Artifacts
from evo.record.elapsed import running_time, sessions
from evo.record.facts import Facts, launch_of
from evo.record.ledger import FILE, Ledger, read
from evo.record.state import state
from evo.reuse.earlier import Earlier
from evo.reuse.imports import imported, notes
from evo.reuse.use import guides_of, recall_of
from evo.search.decisions import Decisions
from evo.search.loop import compare, evolve
from evo.search.requests import Recalled, Requests, Stopped, StopRequests
from fitness.cost import cost_of
from fitness.errors import InputError
from fitness.suggest import listed
from population.strategies import find


@dataclass(frozen=True)
class Round:
    """Additions to a search that is one of several rounds."""

    then: Callable[[Requests], None]  # called after the comparison, before the run finishes
    recalled: Recalled  # looks up evaluations of earlier rounds
    first: bool = True
    instead: Callable[[Decisions, Requests], None] | None = None  # of a search and its comparison


MAY_CHANGE = (
    *("resources.", "track.", "mirror:", "model.server", "evaluator.timeout"),
    *("budget.evaluations", "comparison."),
    *("rounds.limit", "rounds.patience", "rounds.target"),
    *("rounds.judgements", "rounds.annotator"),
)


def launch(
    config: SearchConfig,
    run: Path,
    watch: Progress,
    round: Round | None = None,
    earlier: Sequence[Earlier] = (),
) -> bool:
    """Launch a new run in the folder `run`; False if it was stopped before it finished.

    Scores of `earlier` searches are imported. InputError if nothing of them can be used.
    """
    with run_folder.new(run):
        check_new(config, run)
        prepared = _prepared(config, watch)
        config = _with_outlook(config, prepared, watch, notes=round is None or round.first)
        imported(config, prepared.fingerprints, earlier)  # so that an error comes before Ray
        with _cluster(config, prepared, run, watch) as cluster:
            config = _measured(config, cluster, watch)
            with _created(config, prepared, run, watch, earlier, workers=cluster.size) as ledger:
                return _drive(config, prepared, ledger, cluster, run, watch, round)


def begin(
    config: SearchConfig, run: Path, watch: Progress, earlier: Sequence[Earlier] = ()
) -> SearchConfig:
    """Check and record the launch of a search that `continue_search` runs after others.

    Returns the config with everything that is `auto` measured. Errors as of `launch`.
    """
    check_new(config, run)
    prepared = _prepared(config, watch)
    config = _with_outlook(config, prepared, watch)
    imported(config, prepared.fingerprints, earlier)  # so that an error comes before Ray
    if _measures(config):
        with _cluster(config, prepared, run, watch) as cluster:
            config = _measured(config, cluster, watch)
    _created(config, prepared, run, watch, earlier).close()
    return config


def _created(
    config: SearchConfig,
    prepared: Prepared,
    run: Path,
    watch: Progress,
    earlier: Sequence[Earlier],
    **known: Any,
) -> Ledger:
    """The ledger of a new run, with its launch and what it imports; and the spec beside it."""
    imports = imported(config, prepared.fingerprints, earlier)  # with what was measured
    for note in (note for one in imports for note in notes(one)):
        watch.note(note)
    search = {
        "config": configuration.to_plain(config),
        "fingerprints": prepared.fingerprints,
        "versions": versions(),
        **known,
        "begun": watch.begun,
        "time": time.time(),
    }
    ledger = Ledger.create(run, search, [one.fact for one in imports])
    try:
        configuration.write_config(config, run / "config.yaml")
        for fact in ledger.facts:
            watch(fact)
    except BaseException:
        ledger.close()
        raise
    return ledger


def reloaded(run: Path, facts: Facts, overrides: Sequence[str]) -> SearchConfig:
    """The config of a run's config.yaml with overrides; the file is written again if it is gone."""
    if not (run / "config.yaml").exists():
        configuration.write_config(configuration.of(facts), run / "config.yaml")
    return configuration.load(run / "config.yaml", overrides)


def continue_search(
    run: Path,
    config: SearchConfig,
    watch: Progress,
    round: Round | None = None,
    *,
    again: bool = False,
) -> bool:
    """Resume a run with a config in which only what MAY_CHANGE lists has changed.

    A finished run with the same config is resumed only if `again`. True if the run finished.
    """
    facts = read(run)
    watch.earlier = running_time(sessions(facts))
    begun = configuration.of(facts)
    config = settled_as(begun, config)
    check_changes(run, begun, config)
    prepared = _prepared(config, watch)
    _check_data(run, launch_of(facts)["fingerprints"], prepared.fingerprints)
    if state(facts) == "finished" and config == begun and not again:
        return True
    if config != begun:  # else the launch printed the warnings
        _with_outlook(config, prepared, watch)
    with Ledger(run) as ledger, _cluster(config, prepared, run, watch) as cluster:
        run_folder.tidy(run)
        watch.recall(ledger.facts)
        changed = {} if config == begun else {"config": configuration.to_plain(config)}
        resumed = {"versions": versions(), "workers": cluster.size}
        resumed |= {"begun": watch.begun, "time": time.time()}
        watch(ledger.append("resumed", **resumed, **changed))
        return _drive(config, prepared, ledger, cluster, run, watch, round)


def _drive(
    config: SearchConfig,
    prepared: Prepared,
    ledger: Ledger,
    cluster: Cluster,
    run: Path,
    watch: Progress,
    round: Round | None,
) -> bool:
    asked = StopRequests()
    ledger.on_append = watch
    artifacts = run / "artifacts"
    guides = guides_of(config, ledger.facts)
    recalled = round.recalled if round else recall_of(config, ledger.facts, artifacts)
    decisions = Decisions(config, ledger)
    requests = Requests(config, ledger, cluster, decisions.individual, asked, recalled)
    if idle := idle_workers(config.search, cluster.size):
        warnings.warn(idle, stacklevel=2)
    with _signals(asked, lambda: watch.interrupted(asked.times, cluster.busy)):
        try:
            cost = cost_of(prepared.task)
            kept = Artifacts(artifacts, mirrored=config.mirror is not None)
            if round is not None and round.instead is not None:
                round.instead(decisions, requests)
            else:
                winner = evolve(config, prepared.sizes, cost, decisions, requests, kept, guides)
                compare(config, winner, decisions, requests)
                kept.tidy()
            if round is not None:
                round.then(requests)
        except Stopped:
            ledger.append("stopped", time=time.time())
            return False
    ledger.append(
        "finished",
        time=time.time(),
        busy_seconds=cluster.busy_seconds,
        driver_seconds=time.process_time(),
    )
    return True


def settled_as(begun: SearchConfig, config: SearchConfig) -> SearchConfig:
    """The config with what its launch settled in place of `auto`.

    The specs of rounds and proxies are derived anew on a resume, and say `auto` again.
    """
    known = {"simulate": begun.search.simulate, "bucket": begun.search.bucket}
    settled = {name: now for name, now in known.items() if getattr(config.search, name) == AUTO}
    recipe = config.recipe
    if recipe.get("precision") == AUTO:
        recipe = {**recipe, "precision": begun.recipe.get("precision", AUTO)}
    search = config.search.model_copy(update=settled)
    budget = config.budget
    same = ("epochs", "learned_tokens")
    if budget.by_data and all(getattr(budget, n) == getattr(begun.budget, n) for n in same):
        budget = budget.model_copy(update={"tokens": begun.budget.tokens})
    return config.model_copy(update={"search": search, "recipe": recipe, "budget": budget})


def check_new(config: SearchConfig, run: Path) -> None:
    """Raise InputError if the folder has a run already, naming where its spec differs."""
    if (run / FILE).exists():
        changed = _difference(configuration.of(read(run)), config)
        raise InputError(
            f"{run} has a run already; `evo resume {run}` continues it"
            + (f". This spec differs from it: {'; '.join(changed)}" if changed else "")
        )


def _prepared(config: SearchConfig, watch: Progress) -> Prepared:
    watch.enter("checking the model and the data")
    return prepare(config)


def _with_outlook(
    config: SearchConfig, prepared: Prepared, watch: Progress, *, notes: bool = True
) -> SearchConfig:
    """The config with `auto` values chosen for this machine.

    Prints the same warnings, and with `notes` the same notes, as a dry run.
    """
    seen = outlook(config, prepared)
    for note in seen.notes if notes else ():
        watch.note(note)
    for warning in seen.warnings:
        warnings.warn(warning, stacklevel=3)
    return seen.config


def _measured(config: SearchConfig, cluster: Cluster, watch: Progress) -> SearchConfig:
    """The config with `auto` precision and bucket size set to what a worker measures as fastest."""
    builtin = config.form.trains
    if _doubts_bfloat16(config):
        watch.enter("measuring whether bfloat16 is fast")
        cost = cluster.bfloat16_cost()  # infinite for a trainer that is not ours
        config = settled(config, cost)
        if slow := slow_bfloat16(config, cost):
            warnings.warn(slow, stacklevel=2)
    if config.search.bucket != "auto":
        return config
    watch.enter("measuring how large a bucket trains fastest")
    size = cluster.fastest_bucket(config.recipe) if builtin else 1
    search = config.search.model_copy(update={"bucket": size})
    return config.model_copy(update={"search": search})


def _doubts_bfloat16(config: SearchConfig) -> bool:
    """True if workers must say how fast bfloat16 is: `auto`, or perhaps slow on other machines."""
    elsewhere = config.resources.address != "local" and not config.resources.gpus
    wary = config.form.trains and elsewhere and rounds(config)
    return wary or config.recipe.get("precision") == AUTO


def _measures(config: SearchConfig) -> bool:
    """True if a launch has something to measure on the workers."""
    return config.search.bucket == "auto" or _doubts_bfloat16(config)


@contextmanager
def _cluster(
    config: SearchConfig, prepared: Prepared, run: Path, watch: Progress
) -> Iterator[Cluster]:
    artifacts = (run / "artifacts").resolve()
    place = f"{artifacts.parent.name}/{artifacts.name}"
    mirror = None if config.mirror is None else (config.mirror, place)
    task = replace(prepared.task, artifacts=artifacts, server=config.model.server, mirror=mirror)
    paths = [Path.cwd(), Path(config.import_from)]
    address = config.resources.address
    watch.enter("starting Ray" if address == "local" else f"joining the Ray cluster at {address}")
    cluster = Cluster(config.resources, task, import_paths=paths)
    cluster.on_look = watch.look
    try:
        if address != "local" and config.resources.workers is None:
            cluster.grow(most_busy(config.search)[1] or 0)
        watch.follow(cluster.doing, gauges(address, run.name))
        yield cluster
    finally:
        cluster.close()


@contextmanager
def _signals(asked: StopRequests, acknowledge: Callable[[], None]) -> Iterator[None]:
    """Handle Ctrl-C: once, finish running evaluations; twice, or SIGTERM, stop now.

    The run can be resumed in either case. Only the main thread can handle signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, _: Any) -> None:
        asked.times += 1 if number == signal.SIGINT else 2
        acknowledge()

    before = {s: signal.signal(s, interrupt) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _difference(old: SearchConfig, new: SearchConfig) -> list[str]:
    return configuration.difference(configuration.to_plain(old), configuration.to_plain(new))


def check_changes(run: Path, old: SearchConfig, new: SearchConfig) -> None:
    refused = [line for line in _difference(old, new) if not line.startswith(MAY_CHANGE)]
    if refused:
        raise InputError(
            f"{run}: the spec, with what --set changes, is not the one this run was launched "
            "with:\n  "
            + "\n  ".join(refused)
            + "\nrestore these to resume, or launch the changed spec as a new run; a resume may "
            "change " + listed([one.rstrip(".:") for one in MAY_CHANGE])
        )
    for name, what in DECIDES.items():
        before, now = (getattr(one.resources, name) for one in (old, new))
        if now != before:
            raise InputError(
                f"resources.{name} decides {what}, so results would change: resume with "
                f"{'null' if before is None else before}"
            )
    strategy = find(new.search.strategy)
    planned = strategy is not None and strategy.planned
    if planned and new.budget.evaluations != old.budget.evaluations:
        raise InputError(
            f"budget.evaluations decides what {new.search.strategy} proposes, so it cannot change: "
            f"resume with {old.budget.evaluations}, or launch the larger search as a new run"
        )
    if new.budget.evaluations < old.budget.evaluations:
        raise InputError(
            f"budget.evaluations can only grow: this run was launched with {old.budget.evaluations}"
        )


def _check_data(run: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    changed = configuration.difference(dict(old), dict(new))
    if changed:
        names = ", ".join(sorted({line.split(":")[0] for line in changed}))
        raise InputError(
            f"{run}: not the same model and data as at the launch: {names} changed; "
            "restore them to resume, or launch a new run"
        )
