"""The `evo` command: parses, calls, prints. No logic, and nothing heavy until it is needed."""

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from evo.api import tell
from evo.cli import runs
from evo.cli.arguments import parser
from evo.cli.exit_codes import BAD_INPUT, DONE, STOPPED, exit_code
from evo.cli.feedback_arguments import with_action
from evo.cli.options import folder_or_url
from evo.places import impossible, unusable
from evo.printable import abandon_output, printable, say
from fitness.errors import InputError
from fitness.secrets import without_secrets
from fitness.suggest import shortened

__all__ = ["BAD_INPUT", "DONE", "STOPPED", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 done, 1 failed, 2 bad input, 130 stopped by request."""
    given = sys.argv[1:] if arguments is None else arguments
    for text in given:
        if why := impossible(text, escapes=True):
            say(f"evo: argument {shortened(text)} {why}", error=True)
            return BAD_INPUT
    options = parser(CALLS).parse_args(with_action(given))
    warnings.formatwarning = lambda message, *_: f"evo: warning: {printable(str(message))}\n"
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        code = command(options)
        sys.stdout.flush()
        return code
    except InputError as error:
        say(f"evo: {without_secrets(str(error))}", error=True)
        return BAD_INPUT
    except BrokenPipeError:
        abandon_output()
        return DONE
    except OSError as error:
        say(f"evo: {without_secrets(unusable(error))}", error=True)
        abandon_output()
        return exit_code(error)
    except KeyboardInterrupt:
        say("evo: stopped", error=True)
        return STOPPED


def _compare(options: argparse.Namespace) -> int:
    from evo.history.overlay import overlay, to_json
    from evo.history.rounds import search_of
    from evo.report.overlay import summary, write
    from evo.storage.fetch import readable

    found = overlay([search_of(readable(run)) for run in options.runs])
    path = options.html or (None if options.json else Path("compare.html"))
    if path is not None:
        write(found, path)
    if options.json:
        print(json.dumps(to_json(found)))
    else:
        from evo.screen import Screen

        console = Screen()
        console.print(summary(found))
        console.print(f"curves: {path}", soft_wrap=True)
    return DONE


def _track(options: argparse.Namespace) -> int:
    from evo.tracking.command import track

    for line in track(options.run, options.to, options.set):
        say(line)
    return DONE


def _export(options: argparse.Namespace) -> int:
    options.run = _searched(options.run, None if options.trainer else options.individual)
    if options.trainer:
        from evo.export.formats import export_as

        named = (options.run, options.individual, options.trainer, options.to)
        say(export_as(*named, trusted=options.trust))
        return DONE
    from evo.export.model import export

    folder = export(
        options.run,
        options.individual,
        options.to,
        adapter=options.adapter,
        trusted=options.trust,
        tell=tell,
    )
    say(folder)
    return DONE


def _searched(run: Path | str, individual: str | None) -> Path:
    """The search to take an individual of; of a mirrored run, a copy with its checkpoint."""
    from evo.history import best
    from evo.history.rounds import search_of
    from evo.record.ledger import read
    from evo.storage.fetch import fetch_weights, readable
    from fitness.models.weights import folder_of

    copy = readable(run)
    search = search_of(copy)
    if individual is None or not isinstance(run, str):
        return search
    named = int(individual) if individual.isdecimal() else None
    number = best(read(search)) if individual == "best" else named
    if number is not None:
        checkpoint = folder_of(search / "artifacts", number)
        fetch_weights(run, checkpoint.relative_to(copy).as_posix(), checkpoint)
    return search


def _generate(options: argparse.Namespace) -> int:
    from pydantic import ValidationError

    from evo.samples.generate import generate, summary
    from evo.screen import Screen
    from fitness.samples.separation import read_separation
    from fitness.samples.write import Generation

    given = {name: getattr(options, name) for name in Generation.model_fields}
    try:
        settings = Generation(**{n: value for n, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        named = "".join(f"--{str(part).replace('_', '-')}: " for part in first["loc"])
        raise InputError(f"{named}{first['msg'].removeprefix('Value error, ')}") from None
    samples = generate(
        _searched(options.run, options.individual),
        options.individual,
        options.to,
        settings,
        prompts=options.prompts,
        filters=options.filters.split(",") if options.filters else None,
        seed=options.seed,
        first=options.first,
        trusted=options.trust,
        tell=tell,
    )
    console = Screen()
    console.print(summary(samples, read_separation(options.to)))
    console.print(f"pool: {options.to}", soft_wrap=True)
    return DONE


def _pool(options: argparse.Namespace) -> int:
    from evo.report.pool import table_of
    from evo.screen import Screen

    pool = options.pool
    if options.judged_in:
        from evo.feedback.pool import score_again
        from evo.feedback.session import judged

        if not options.to:
            raise InputError("--judged-in: scores the pool again; name a new file with --to")
        score_again(pool, *judged(options.judged_in), options.to)
        pool = options.to
    Screen().print(table_of(pool, options.keep))
    return DONE


def _replay(options: argparse.Namespace) -> int:
    runs.one_thread()
    from evo.replay import POPULATION, check_search, read_table, replay, to_json

    table = read_table(options.table, options.roles)
    strategy, budget = options.strategy, options.budget
    population = options.population or POPULATION
    check_search(table, strategy, budget=budget, population=population)
    outcomes = [
        replay(
            table,
            strategy,
            budget=budget,
            seed=seed,
            population=population,
            parallel=options.parallel,
        )
        for seed in range(options.seeds)
    ]
    if options.json:
        print(json.dumps(to_json(table, strategy, budget, outcomes)))
    else:
        from evo.replay.summary import summary
        from evo.screen import Screen

        Screen().print(summary(table, strategy, outcomes))
    return DONE


def _feedback(options: argparse.Namespace) -> int:
    from evo.feedback.criteria import ratings_of
    from evo.feedback.session import COUNT, collect, serve

    if options.count and not options.choose:
        raise InputError("--count: says how many to choose; add --choose active or random")
    named = [name.strip() for name in options.individuals.split(",")]
    criteria, raters = ratings_of(options.run, options.criteria, options.raters)
    new, all_items = collect(
        options.run,
        items=options.items,
        pool=options.pool,
        named=named,
        pairs=options.pairs,
        seed=options.seed or 0,
        choose=options.choose,
        count=options.count or COUNT,
    )
    labels = options.labels

    def ready(url: str) -> None:
        say(f"{all_items} items to judge, {new} of them new; Ctrl-C ends\n{url}")

    serve(
        options.run,
        port=options.port,
        labels=None
        if labels is None
        else [one.strip() for one in labels.split(",") if one.strip()],
        repeat=options.repeat,
        seed=options.seed,
        criteria=criteria,
        raters=raters,
        release=options.release,
        ready=ready,
    )
    return DONE


def _feedback_report(options: argparse.Namespace) -> int:
    from evo.feedback.summary import summarise, tables

    found = summarise(options.run)
    if options.json:
        print(json.dumps(found))
    else:
        from evo.screen import Screen

        Screen().print(tables(found))
    return DONE


def _feedback_export(options: argparse.Namespace) -> int:
    from evo.feedback.session import export

    count = export(options.run, options.shape, options.file, threshold=options.threshold)
    say(f"{options.file}: {count} records")
    return DONE


def _feedback_import(options: argparse.Namespace) -> int:
    from evo.feedback.session import take_in

    count, new, items = take_in(options.run, options.file, options.annotator)
    say(f"{options.file}: {count} judgements, {new} of them new; {items} new items")
    return DONE


def _feedback_refine(options: argparse.Namespace) -> int:
    from evo.feedback.refine import refine_run, table
    from evo.feedback.session import feedback_of
    from evo.screen import Screen
    from fitness.judges.language import Asking
    from fitness.judges.speakers import speaker_of

    feedback_of(options.run)  # before a model is loaded for nothing
    names = ("samples", "temperature", "max_new_tokens", "seed")
    given = {name: getattr(options, name) for name in names}
    outcome = refine_run(
        options.run,
        speaker_of(options.speaker, key_variable=options.key_variable),
        options.to,
        Asking(**{name: value for name, value in given.items() if value is not None}),
        critiques=options.critiques,
        critic=options.critic,
        threshold=options.threshold,
    )
    Screen().print(table(outcome, options.to), soft_wrap=True)
    return DONE


def _feedback_judge(options: argparse.Namespace) -> int:
    from evo.feedback.refine import judge_run
    from evo.feedback.session import feedback_of
    from fitness.judges.speakers import speaker_of

    feedback_of(options.run)
    speaker = speaker_of(options.speaker, key_variable=options.key_variable)
    counts = judge_run(options.run, speaker, options.name)
    by_verdict = ", ".join(f"{count} {name}" for name, count in counts.items())
    say(f"pairs: {by_verdict}")
    options.json = False
    return _feedback_report(options)


def _init(options: argparse.Namespace) -> int:
    from evo.starter import init

    spec, *data = init(options.folder)
    say(f"wrote {spec} and {len(data)} files of example data; try: evo launch {spec} --dry-run")
    return DONE


def _schema(options: argparse.Namespace) -> int:
    from evo.config import json_schema

    print(json.dumps(json_schema(), indent=2))
    return DONE


def _completion(options: argparse.Namespace) -> int:
    import shtab

    commands = parser(CALLS)
    parsers = [commands]
    while parsers:
        for action in parsers.pop()._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
            elif action.type in (Path, folder_or_url):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(commands, options.shell))
    return DONE


CALLS = {
    "launch": runs.launch,
    "resume": runs.resume,
    "ls": runs.ls,
    "status": runs.status,
    "history": runs.history,
    "report": runs.report,
    "watch": runs.watch,
    "track": _track,
    "compare": _compare,
    "export": _export,
    "generate": _generate,
    "pool": _pool,
    "replay": _replay,
    "feedback open": _feedback,
    "feedback report": _feedback_report,
    "feedback export": _feedback_export,
    "feedback import": _feedback_import,
    "feedback refine": _feedback_refine,
    "feedback judge": _feedback_judge,
    "init": _init,
    "schema": _schema,
    "completion": _completion,
}
