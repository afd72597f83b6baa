"""The `evo` command: parses, calls, prints. No logic, and nothing heavy until it is needed."""

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evo.arguments import parser, with_action
from fitness.errors import InputError

if TYPE_CHECKING:
    from evo.config import SearchConfig
    from evo.progress import Progress

DONE, FAILED, BAD_INPUT, STOPPED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 done, 1 failed, 2 bad input, 130 stopped by request."""
    options = parser(CALLS).parse_args(
        with_action(sys.argv[1:] if arguments is None else arguments)
    )
    warnings.formatwarning = lambda message, *_: f"evo: warning: {message}\n"
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except InputError as error:
        print(f"evo: {error}", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        return DONE
    except KeyboardInterrupt:
        print("evo: stopped", file=sys.stderr)
        return STOPPED


def _one_thread() -> None:
    """For what breeds, before numpy is loaded: sums in another order end in another last digit,
    and the search would depend on the cores of the driver's machine, which the workers need."""
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ[f"{library}_NUM_THREADS"] = "1"


def _launch(options: argparse.Namespace) -> int:
    _one_thread()
    from evo import config as configuration
    from evo.run import launch

    overrides = [*options.set]
    if options.address:
        overrides.append(f"resources.address={json.dumps(options.address)}")
    config = configuration.load(configuration.resolve_spec(options.spec), overrides)
    if options.dry_run:
        from rich.console import Console

        from evo.plan import plan

        Console().print(plan(config))
        return DONE
    run = options.run or Path("runs") / f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    return _drive(options, run, lambda progress: launch(config, run, progress), config)


def _resume(options: argparse.Namespace) -> int:
    _one_thread()
    from evo import config as configuration
    from evo.ledger import read
    from evo.run import resume

    config = configuration.of(read(options.run))
    return _drive(
        options, options.run, lambda progress: resume(options.run, options.set, progress), config
    )


def _drive(
    options: argparse.Namespace,
    run: Path,
    go: "Callable[[Progress], bool]",
    config: "SearchConfig",
) -> int:
    from evo.cluster import ClusterError
    from evo.progress import Mode, Progress

    mode: Mode = "json" if options.json else "live" if sys.stderr.isatty() else "plain"
    try:
        with Progress(config, run, mode) as progress:
            finished = go(progress)
    except ClusterError as error:
        print(f"evo: {error}\nresume with: evo resume {run}", file=sys.stderr)
        return FAILED
    except OSError as error:
        print(f"evo: stopped: {error}\nthen resume with: evo resume {run}", file=sys.stderr)
        return FAILED
    if not finished:
        print(f"stopped; resume with: evo resume {run}", file=sys.stderr)
        return STOPPED
    if not options.json:
        options.run = run
        return _report(options)
    return DONE


def _status(options: argparse.Namespace) -> int:
    from evo.history import status
    from evo.ledger import in_use, read

    found = status(read(options.run), alive=in_use(options.run))
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name.replace('_', ' '):20} {value}")
    return DONE


def _history(options: argparse.Namespace) -> int:
    from evo.history import table, to_csv, to_parquet
    from evo.ledger import read

    rows = table(read(options.run))
    if options.parquet:
        to_parquet(rows, options.parquet)
    else:
        to_csv(rows, options.csv or "-")
    return DONE


def _report(options: argparse.Namespace) -> int:
    from rich.console import Console

    from evo.ledger import read
    from evo.report import summary, write

    facts = read(options.run)
    path = options.run / "report.html"
    write(facts, path)
    console = Console()
    console.print(summary(facts))
    console.print(f"report: {path}\nrun:    {options.run}", soft_wrap=True)
    return DONE


def _compare(options: argparse.Namespace) -> int:
    from evo.compare import overlay, to_json
    from evo.report.overlay import summary, write

    found = overlay(options.runs)
    path = options.html or (None if options.json else Path("compare.html"))
    if path is not None:
        write(found, path)
    if options.json:
        print(json.dumps(to_json(found)))
    else:
        from rich.console import Console

        console = Console()
        console.print(summary(found))
        console.print(f"curves: {path}", soft_wrap=True)
    return DONE


def _export(options: argparse.Namespace) -> int:
    if options.trainer:
        from evo.export_as import export_as

        print(export_as(options.run, options.individual, options.trainer, options.to))
        return DONE
    from evo.export import export

    print(export(options.run, options.individual, options.to))
    return DONE


def _generate(options: argparse.Namespace) -> int:
    from pydantic import ValidationError
    from rich.console import Console

    from evo.generate import DEFAULT_FILTERS, generate, summary
    from fitness.feedback.generate import Generation

    given = {name: getattr(options, name) for name in Generation.model_fields}
    try:
        settings = Generation(**{n: value for n, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        named = "".join(f"--{str(part).replace('_', '-')}: " for part in first["loc"])
        raise InputError(f"{named}{first['msg'].removeprefix('Value error, ')}") from None
    samples = generate(
        options.run,
        options.individual,
        options.to,
        settings,
        prompts=options.prompts,
        filters=options.filters.split(",") if options.filters else DEFAULT_FILTERS,
        seed=options.seed,
        first=options.first,
    )
    console = Console()
    console.print(summary(samples))
    console.print(f"pool: {options.to}", soft_wrap=True)
    return DONE


def _pool(options: argparse.Namespace) -> int:
    from rich.console import Console

    from evo.report.pool import table_of

    Console().print(table_of(options.pool, options.keep))
    return DONE


def _replay(options: argparse.Namespace) -> int:
    _one_thread()
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
        from rich.console import Console

        from evo.replay.summary import summary

        Console().print(summary(table, strategy, outcomes))
    return DONE


def _feedback(options: argparse.Namespace) -> int:
    from evo.feedback.session import collect, serve

    named = [name.strip() for name in options.individuals.split(",")]
    new, all_items = collect(
        options.run,
        items=options.items,
        named=named,
        pairs=options.pairs,
        seed=options.seed or 0,
    )
    labels = options.labels

    def ready(url: str) -> None:
        print(f"{all_items} items to judge, {new} of them new; Ctrl-C ends\n{url}", flush=True)

    serve(
        options.run,
        port=options.port,
        labels=None
        if labels is None
        else [one.strip() for one in labels.split(",") if one.strip()],
        repeat=options.repeat,
        seed=options.seed,
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
        from rich.console import Console

        Console().print(tables(found))
    return DONE


def _feedback_export(options: argparse.Namespace) -> int:
    from evo.feedback.session import export

    count = export(options.run, options.shape, options.file, threshold=options.threshold)
    print(f"{options.file}: {count} records")
    return DONE


def _feedback_import(options: argparse.Namespace) -> int:
    from evo.feedback.session import take_in

    count, new, items = take_in(options.run, options.file, options.annotator)
    print(f"{options.file}: {count} judgements, {new} of them new; {items} new items")
    return DONE


def _init(options: argparse.Namespace) -> int:
    from evo.config import init

    spec, *data = init(options.folder)
    print(f"wrote {spec} and {len(data)} files of example data; try: evo launch {spec} --dry-run")
    return DONE


def _schema(options: argparse.Namespace) -> int:
    from evo.config import json_schema

    print(json.dumps(json_schema(), indent=2))
    return DONE


CALLS = {
    "launch": _launch,
    "resume": _resume,
    "status": _status,
    "history": _history,
    "report": _report,
    "compare": _compare,
    "export": _export,
    "generate": _generate,
    "pool": _pool,
    "replay": _replay,
    "feedback open": _feedback,
    "feedback report": _feedback_report,
    "feedback export": _feedback_export,
    "feedback import": _feedback_import,
    "init": _init,
    "schema": _schema,
}

if __name__ == "__main__":
    sys.exit(main())
