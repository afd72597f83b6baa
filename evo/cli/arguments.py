"""The arguments of every `evo` command, with nothing of what they do."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from evo.cli.examples import epilog
from evo.cli.spelling import Parser
from fitness.suggest import did_you_mean

FEEDBACK = ("open", "report", "export", "import", "refine", "judge")
Calls = Mapping[str, Callable[[argparse.Namespace], int]]


def parser(calls: Calls) -> argparse.ArgumentParser:
    """The arguments of every command; `command` of what is parsed is its call, by name."""
    found = Parser(
        prog="evo", description="Evolve how a language model is fine-tuned.", epilog=epilog("")
    )
    found.add_argument("--version", action="version", version=f"evomix {_version()}")
    commands = found.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, epilog=epilog(name))
        sub.set_defaults(command=calls[name])
        return sub

    def driving(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="override a key of the spec, such as budget.evaluations=40; may be repeated",
        )
        sub.add_argument(
            "--json", action="store_true", help="print each event as JSON, for programs"
        )

    launch = command("launch", "start a search")
    launch.add_argument("spec", help="a search.yaml, or `quickstart`")
    launch.add_argument("--run", type=Path, metavar="DIR", help="default: runs/<name>-<time>")
    launch.add_argument("--address", help="a Ray cluster: auto, host:port or ray://host:port")
    launch.add_argument(
        "--dry-run",
        action="store_true",
        help="check everything, train nothing",
    )
    driving(launch)

    resume = command("resume", "continue a run that was stopped, killed or given a larger budget")
    _run(resume)
    _trust(resume)
    driving(resume)

    ls = command("ls", "list the runs in ./runs, or in given folders, with their state")
    ls.add_argument("folders", type=Path, nargs="*", metavar="FOLDER", help="default: runs")
    ls.add_argument("--json", action="store_true", help="a JSON list")

    status = command("status", "show how far a run is, what runs now, and the time left")
    _run(status)
    status.add_argument("--watch", action="store_true", help="keep showing it until the run ends")
    status.add_argument("--json", action="store_true", help="one JSON object")

    history = command("history", "show every evaluation of a run: a table, or CSV in a pipe")
    _run(history)
    form = history.add_mutually_exclusive_group()
    form.add_argument("--csv", metavar="FILE", help="write CSV; `-` is standard output")
    form.add_argument("--parquet", metavar="FILE", help="write Parquet; `-` is standard output")

    report = command("report", "write report.html into the run folder and print the summary")
    _run(report)
    report.add_argument("--open", action="store_true", help="open it in the browser")

    compare = command("compare", "compare the curves and the results of several runs")
    compare.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders")
    compare.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="the page with the curves (default compare.html)",
    )
    compare.add_argument("--json", action="store_true", help="one JSON object")

    export = command("export", "write an individual's model, or its recipe for another trainer")
    _run(export)
    export.add_argument("--individual", default="best", help="its number, or `best` (default)")
    form = export.add_mutually_exclusive_group()
    form.add_argument(
        "--adapter",
        action="store_true",
        help="its adapter alone, as PEFT reads it, not merged into the base model",
    )
    form.add_argument(
        "--as",
        dest="trainer",
        choices=("trl", "axolotl", "llamafactory"),
        help="not the model but its recipe and data, as this trainer reads them",
    )
    export.add_argument("--to", type=Path, required=True, metavar="DIR", help="a new folder")
    _trust(export)

    writing = "generate samples with an individual's model, and score them by the filters"
    _generate(command("generate", writing))

    pool = command("pool", "show how many samples of a pool each threshold would keep")
    pool.add_argument("pool", type=Path, metavar="POOL.jsonl", help="what `evo generate` wrote")
    pool.add_argument(
        "--keep", action="append", default=[], metavar="NAME=SHARE", help="e.g. realness=0.5"
    )
    pool.add_argument(
        "--judged-in",
        type=Path,
        metavar="RUN",
        help="score it by this run's judgements",
    )
    pool.add_argument("--to", type=Path, metavar="FILE", help="a new JSONL file, for --judged-in")

    _replay(command("replay", "run a search against a table of finished runs; trains nothing"))

    feedback = "let people judge what models generated, and turn that into training data"
    _feedback(
        commands.add_parser(
            "feedback", help=feedback, description=feedback, epilog=epilog("feedback")
        ),
        calls,
    )

    init = command("init", "write a commented spec and example data to start from")
    init.add_argument("folder", type=Path, metavar="DIR", help="a new folder")

    command("schema", "print the JSON Schema of a spec, for editors")
    return found


def _run(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("run", type=Path, metavar="RUN", help="a run folder")


def _trust(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--trust",
        action="store_true",
        help="run code that the run names although it was not launched from this machine",
    )


def _numbers(
    sub: argparse.ArgumentParser, *options: tuple[str, Callable[[str], float], str]
) -> None:
    """Options by name, kind and what they are for."""
    for name, kind, text in options:
        sub.add_argument(f"--{name}", type=kind, metavar="N", help=text)


def _count(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"needs a whole number of at least 1, got {text!r}")
    return count


def _generate(generate: argparse.ArgumentParser) -> None:
    _run(generate)
    _trust(generate)
    generate.add_argument("--to", type=Path, required=True, metavar="FILE", help="a new JSONL file")
    generate.add_argument("--individual", default="best", help="its number, or `best` (default)")
    generate.add_argument(
        "--prompts", type=Path, metavar="FILE", help="JSONL of {prompt}, each a text or a chat"
    )
    generate.add_argument("--seed", type=int, default=0, help="seed of every draw (default 0)")
    generate.add_argument(
        "--first",
        type=int,
        default=0,
        metavar="N",
        help="number of the first sample, to write a pool in parts (default 0)",
    )
    generate.add_argument(
        "--filters", metavar="NAME,...", help="filters that score them (default: all)"
    )
    _numbers(
        generate,
        ("samples", int, "samples to generate (default 200)"),
        ("max-new-tokens", int, "longest completion (default 64)"),
        ("temperature", float, "0 is greedy (default 0.8)"),
        ("top-p", float, "sample among the likeliest tokens of this mass (default 0.95)"),
        ("from-documents", float, "weight of samples that continue real texts (default 1)"),
        ("from-prompts", float, "weight of samples that answer --prompts (default 0)"),
        ("from-nothing", float, "weight of samples without a prompt (default 0)"),
        ("infill", float, "weight of samples that fill a gap in real texts (default 0)"),
        ("opening-words", int, "words of an opening, and around a gap (default 8)"),
        ("infill-words", int, "words of a gap (default 8)"),
    )


def _replay(replay: argparse.ArgumentParser) -> None:
    replay.add_argument("table", type=Path, metavar="TABLE.csv", help="one finished run a row")
    replay.add_argument(
        "--roles",
        type=Path,
        required=True,
        metavar="ROLES.yaml",
        help="genes and objectives among its columns",
    )
    replay.add_argument("--strategy", required=True, metavar="NAME", help="such as nsga2")
    replay.add_argument(
        "--budget", type=_count, required=True, metavar="N", help="evaluations of each search"
    )
    replay.add_argument(
        "--seeds", type=_count, default=1, metavar="K", help="searches, from seed 0 (default 1)"
    )
    replay.add_argument("--population", type=_count, metavar="N", help="individuals a generation")
    replay.add_argument(
        "--parallel", type=_count, default=1, metavar="N", help="evaluations at a time (default 1)"
    )
    replay.add_argument("--json", action="store_true", help="one JSON object")


def with_action(arguments: Sequence[str]) -> Sequence[str]:
    """`evo feedback RUN` is short for `evo feedback open RUN`."""
    first, *rest = arguments or [""]
    if first != "feedback" or not rest or rest[0] in (*FEEDBACK, "-h", "--help"):
        return arguments
    if did_you_mean(rest[0], FEEDBACK) and not Path(rest[0]).exists():
        return arguments  # a misspelt action, no run
    return [first, FEEDBACK[0], *rest]


def _feedback(feedback: argparse.ArgumentParser, calls: Calls) -> None:
    actions = feedback.add_subparsers(required=True, metavar="ACTION")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        examples = epilog(f"feedback {name}")
        sub = actions.add_parser(name, help=text, description=text, epilog=examples)
        sub.set_defaults(command=calls[f"feedback {name}"])
        _run(sub)
        return sub

    serve = action("open", "serve the page for judging on this machine; `open` may be left out")
    drafts = serve.add_mutually_exclusive_group()
    drafts.add_argument(
        "--items", type=Path, metavar="FILE", help="judge these drafts (JSONL) instead of the run's"
    )
    drafts.add_argument(
        "--pool", type=Path, metavar="POOL.jsonl", help="judge samples of `evo generate` instead"
    )
    serve.add_argument(
        "--choose",
        choices=("active", "random"),
        help="judge only --count drafts: the most informative (active) or random ones",
    )
    serve.add_argument("--count", type=_count, metavar="N", help="how many to choose (default 50)")
    serve.add_argument(
        "--individuals",
        default="front",
        metavar="N,N",
        help="individuals whose drafts are judged: numbers, `best` or `front` (default)",
    )
    serve.add_argument(
        "--pairs", type=int, default=3, metavar="N", help="pairs of drafts a prompt (default 3)"
    )
    serve.add_argument("--labels", metavar="A,B", help="labels to choose from")
    serve.add_argument(
        "--repeat", type=float, metavar="SHARE", help="share of items judged by two people"
    )
    serve.add_argument("--seed", type=int, help="seed of the order of items (default 0)")
    serve.add_argument("--port", type=int, default=0, help="default: a free one")
    serve.add_argument(
        "--release",
        action="append",
        default=[],
        metavar="NAME",
        help="give the unfinished items of this annotator to others",
    )

    report = action("report", "show counts by kind and annotator, and agreement")
    report.add_argument("--json", action="store_true", help="one JSON object")

    export = action("export", "write judgements as training data")
    export.add_argument(
        "--as",
        dest="shape",
        required=True,
        choices=("preference", "completion", "rating", "label", "critique", "argilla"),
        help="the shape of its records",
    )
    export.add_argument(
        "--threshold",
        type=int,
        default=4,
        choices=range(1, 6),
        help="a good rating (default 4)",
    )
    export.add_argument("file", type=Path, metavar="FILE")

    take_in = action("import", "read judgements made elsewhere")
    take_in.add_argument(
        "--annotator",
        default="imported",
        metavar="NAME",
        help="where records name none",
    )
    take_in.add_argument("file", type=Path, metavar="FILE")

    refine = action("refine", "have a model rewrite drafts as their critiques ask")
    _speaking(refine)
    refine.add_argument(
        "--to",
        type=Path,
        required=True,
        metavar="DIR",
        help="a folder; an unfinished one is continued",
    )
    refine.add_argument(
        "--critiques", type=Path, metavar="FILE", help="JSONL of {prompt, draft, critique}"
    )
    refine.add_argument(
        "--critic",
        action="store_true",
        help="let the model write missing critiques",
    )
    _numbers(
        refine,
        ("samples", _count, "rewritings of a draft (default 5)"),
        ("temperature", float, "0 is greedy (default 1)"),
        ("max-new-tokens", _count, "longest refinement (default 256)"),
        ("seed", int, "seed of every draw (default 0)"),
    )
    refine.add_argument(
        "--threshold",
        type=float,
        default=0.0,
        metavar="X",
        help="log-odds that a refinement does what the critique asks for (default 0, even)",
    )

    judge = action("judge", "have a model choose between pairs of drafts, apart from people")
    _speaking(judge)
    judge.add_argument("--name", help="recorded as `judge:NAME` (default: the model's name)")


def _speaking(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--with",
        dest="speaker",
        required=True,
        metavar="MODEL",
        help="a model's folder, a Hub id, or http://host:port/v1#model of a server",
    )
    sub.add_argument(
        "--key-variable",
        default="OPENAI_API_KEY",
        metavar="NAME",
        help="the environment variable with the server's key (default OPENAI_API_KEY)",
    )


def _version() -> str:
    try:
        return version("evomix")
    except PackageNotFoundError:  # run from its sources
        return "from sources"
