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

from fitness.errors import InputError

if TYPE_CHECKING:
    from evo.config import SearchConfig
    from evo.progress import Progress

DONE, FAILED, BAD_INPUT, STOPPED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 done, 1 failed, 2 bad input, 130 stopped by request."""
    options = _parser().parse_args(_with_action(sys.argv[1:] if arguments is None else arguments))
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


def _count(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"needs a whole number of at least 1, got {text!r}")
    return count


def _generate_arguments(generate: argparse.ArgumentParser) -> None:
    generate.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    generate.add_argument("--to", type=Path, required=True, metavar="FILE", help="a new JSONL file")
    generate.add_argument("--individual", default="best", help="its number, or `best` (default)")
    generate.add_argument("--prompts", type=Path, metavar="FILE", help="JSONL of {prompt}")
    generate.add_argument("--seed", type=int, default=0, help="of all draws (default 0)")
    generate.add_argument(
        "--filters", metavar="NAME,...", help="what scores them (default: all but likelihood)"
    )
    for name, kind, text in (
        ("samples", int, "how many (default 200)"),
        ("max-new-tokens", int, "longest completion (default 64)"),
        ("temperature", float, "0 is greedy (default 0.8)"),
        ("top-p", float, "sample among the likeliest tokens of this mass (default 0.95)"),
        ("from-documents", float, "weight of those from openings of real texts (default 1)"),
        ("from-prompts", float, "weight of those that go on from prompts (default 0)"),
        ("from-nothing", float, "weight of those from nothing (default 0)"),
        ("opening-words", int, "of an opening of a real text (default 8)"),
    ):
        generate.add_argument(f"--{name}", type=kind, metavar="N", help=text)


def _replay_arguments(replay: argparse.ArgumentParser) -> None:
    replay.add_argument("table", type=Path, metavar="TABLE.csv", help="a finished run a row")
    replay.add_argument(
        "--roles", type=Path, required=True, metavar="ROLES.yaml", help="what its columns are"
    )
    replay.add_argument("--strategy", required=True, metavar="NAME", help="what breeds, by name")
    replay.add_argument(
        "--budget", type=_count, required=True, metavar="N", help="evaluations of each search"
    )
    replay.add_argument(
        "--seeds", type=_count, default=1, metavar="K", help="searches, from seed 0 (default 1)"
    )
    replay.add_argument(
        "--population", type=_count, metavar="N", help="individuals a generation; default: a spec's"
    )
    replay.add_argument(
        "--parallel", type=_count, default=1, metavar="N", help="answered together (default 1)"
    )
    replay.add_argument("--json", action="store_true", help="one JSON object")


FEEDBACK = ("open", "report", "export", "import")


def _with_action(arguments: Sequence[str]) -> Sequence[str]:
    """`evo feedback RUN` is short for `evo feedback open RUN`."""
    first, *rest = arguments or [""]
    if first != "feedback" or not rest or rest[0] in (*FEEDBACK, "-h", "--help"):
        return arguments
    return [first, FEEDBACK[0], *rest]


def _feedback_arguments(feedback: argparse.ArgumentParser) -> None:
    actions = feedback.add_subparsers(required=True, metavar="ACTION")

    def action(name: str, call: Callable, text: str) -> argparse.ArgumentParser:
        sub = actions.add_parser(name, help=text, description=text)
        sub.set_defaults(command=call)
        sub.add_argument("run", type=Path, metavar="RUN", help="a run folder")
        return sub

    serve = action("open", _feedback, "serve the page on this machine; `open` may be left out")
    serve.add_argument(
        "--items", type=Path, metavar="FILE", help="your own drafts as JSONL, not the run's"
    )
    serve.add_argument(
        "--individuals",
        default="front",
        metavar="N,N",
        help="whose drafts: numbers, `best` or `front` (default)",
    )
    serve.add_argument(
        "--pairs", type=int, default=3, metavar="N", help="pairs of drafts a prompt (default 3)"
    )
    serve.add_argument("--labels", metavar="A,B", help="labels to choose from")
    serve.add_argument(
        "--repeat", type=float, metavar="SHARE", help="share of items that two people get"
    )
    serve.add_argument("--seed", type=int, help="of the order of drafts and items (default 0)")
    serve.add_argument("--port", type=int, default=0, help="default: one that is free")
    serve.add_argument(
        "--release",
        action="append",
        default=[],
        metavar="NAME",
        help="give what this annotator left unfinished to others",
    )

    report = action("report", _feedback_report, "counts by kind and annotator, and agreement")
    report.add_argument("--json", action="store_true", help="one JSON object")

    export = action("export", _feedback_export, "write what was judged as data to train on")
    export.add_argument(
        "--as",
        dest="shape",
        required=True,
        choices=("preference", "completion", "rating", "label", "critique", "argilla"),
        help="the shape of its records",
    )
    export.add_argument(
        "--threshold", type=int, default=4, choices=range(1, 6), help="a good rating (default 4)"
    )
    export.add_argument("file", type=Path, metavar="FILE")

    take_in = action("import", _feedback_import, "read judgements made elsewhere")
    take_in.add_argument(
        "--annotator", default="imported", metavar="NAME", help="whose, where records do not say"
    )
    take_in.add_argument("file", type=Path, metavar="FILE")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evo", description="Evolve how a language model is fine-tuned."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, call: Callable, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=call)
        return sub

    def run_argument(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("run", type=Path, metavar="RUN", help="a run folder")

    def driving(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key"
        )
        sub.add_argument("--json", action="store_true", help="print every fact as a JSON line")

    launch = command("launch", _launch, "start a search")
    launch.add_argument("spec", help="a search.yaml, or `quickstart`")
    launch.add_argument("--run", type=Path, metavar="DIR", help="default: runs/<name>-<time>")
    launch.add_argument("--address", help="a Ray cluster: auto, host:port or ray://host:port")
    launch.add_argument("--dry-run", action="store_true", help="check everything, train nothing")
    driving(launch)

    resume = command("resume", _resume, "go on with a run after anything at all")
    run_argument(resume)
    driving(resume)

    status = command("status", _status, "how far a run is")
    run_argument(status)
    status.add_argument("--json", action="store_true", help="one JSON object")

    history = command("history", _history, "every evaluation of a run as a table")
    run_argument(history)
    form = history.add_mutually_exclusive_group()
    form.add_argument("--csv", metavar="FILE", help="`-` is standard output (the default)")
    form.add_argument("--parquet", metavar="FILE", help="`-` is standard output")

    report = command("report", _report, "write report.html and print the summary")
    run_argument(report)

    compare = command("compare", _compare, "lay runs over one another")
    compare.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders")
    compare.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="the curves (default compare.html)",
    )
    compare.add_argument("--json", action="store_true", help="one JSON object")

    export = command("export", _export, "write an individual as a model, or for another trainer")
    run_argument(export)
    export.add_argument("--individual", default="best", help="its number, or `best` (default)")
    export.add_argument(
        "--as",
        dest="trainer",
        choices=("trl", "axolotl", "llamafactory"),
        help="not the model but its recipe and data, as this trainer reads them",
    )
    export.add_argument("--to", type=Path, required=True, metavar="DIR", help="a new folder")

    writing = "have an individual write samples, and score them"
    _generate_arguments(command("generate", _generate, writing))

    pool = command("pool", _pool, "what cuts by its scores would leave of a pool")
    pool.add_argument("pool", type=Path, metavar="POOL.jsonl", help="what `evo generate` wrote")
    pool.add_argument(
        "--keep", action="append", default=[], metavar="NAME=SHARE", help="e.g. realness=0.5"
    )

    _replay_arguments(command("replay", _replay, "a search on a table of finished runs"))

    feedback = "let people judge what models wrote, and make data of it"
    _feedback_arguments(commands.add_parser("feedback", help=feedback, description=feedback))

    init = command("init", _init, "write a commented spec to start from")
    init.add_argument("folder", type=Path, metavar="DIR")

    command("schema", _schema, "print the JSON Schema of a spec, for editors")
    return parser


if __name__ == "__main__":
    sys.exit(main())
