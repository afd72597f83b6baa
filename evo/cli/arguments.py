"""Arguments and help texts of every `evo` command, without their handlers."""

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
    """Parser of every command; `command` of the parsed arguments is its handler from `calls`."""
    found = Parser(
        prog="evo",
        description="Evolutionary search over how a language model is fine-tuned: its data "
        "mixture and hyperparameters.",
        epilog=epilog(""),
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
            help="override a key of the spec, for example budget.evaluations=40; may be repeated",
        )
        sub.add_argument(
            "--json", action="store_true", help="print each event as JSON, for programs"
        )

    launch = command("launch", "start a search")
    launch.add_argument("spec", help="a spec (search.yaml), or `quickstart`")
    launch.add_argument(
        "--run",
        type=Path,
        metavar="DIR",
        help="the run folder to create (default: runs/<name>-<time>)",
    )
    launch.add_argument(
        "--address",
        help="join a Ray cluster (auto, host:port or ray://host:port) instead of starting one here",
    )
    launch.add_argument(
        "--dry-run",
        action="store_true",
        help="check the spec, model and data and estimate the cost; train nothing",
    )
    driving(launch)

    resume = command("resume", "continue a run that was stopped, killed or given a larger budget")
    _run(resume)
    _trust(resume)
    driving(resume)

    ls = command("ls", "list runs with their state, running time and best result")
    ls.add_argument(
        "folders", type=Path, nargs="*", metavar="FOLDER", help="folders with runs (default: runs)"
    )
    ls.add_argument("--json", action="store_true", help="print a JSON list")

    status = command(
        "status", "show the progress of a run, what its workers do now, and the time left"
    )
    _run(status)
    status.add_argument("--watch", action="store_true", help="keep showing it until the run ends")
    status.add_argument("--json", action="store_true", help="print one JSON object")

    history = command("history", "list every evaluation of a run: as a table, or as CSV in a pipe")
    _run(history)
    form = history.add_mutually_exclusive_group()
    form.add_argument("--csv", metavar="FILE", help="write CSV; `-` is standard output")
    form.add_argument("--parquet", metavar="FILE", help="write Parquet; `-` is standard output")

    report = command("report", "write report.html into the run folder and print the summary")
    _run(report)
    report.add_argument("--open", action="store_true", help="open it in a browser")

    compare = command("compare", "compare the curves and the results of several runs")
    compare.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders")
    compare.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="where to write the page with the curves (default: compare.html)",
    )
    compare.add_argument("--json", action="store_true", help="print one JSON object")

    export = command(
        "export", "write the best model as a folder, or its recipe for another trainer"
    )
    _run(export)
    export.add_argument(
        "--individual", default="best", help="number of the individual, or `best` (default)"
    )
    form = export.add_mutually_exclusive_group()
    form.add_argument(
        "--adapter",
        action="store_true",
        help="write the adapter alone, in PEFT's format, instead of merging it into the base model",
    )
    form.add_argument(
        "--as",
        dest="trainer",
        choices=("trl", "axolotl", "llamafactory"),
        help="write the recipe and the data in this trainer's format instead of the model",
    )
    export.add_argument("--to", type=Path, required=True, metavar="DIR", help="a new folder")
    _trust(export)

    writing = "generate samples with an individual's model, and score them with the filters"
    _generate(command("generate", writing))

    pool = command("pool", "show how many generated samples each filter threshold would keep")
    pool.add_argument("pool", type=Path, metavar="POOL.jsonl", help="samples from `evo generate`")
    pool.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="NAME=SHARE",
        help="a threshold to try: keep this share by this score, for example realness=0.5",
    )
    pool.add_argument(
        "--judged-in",
        type=Path,
        metavar="RUN",
        help="score the samples by the judgements collected in this run (needs --to)",
    )
    pool.add_argument(
        "--to",
        type=Path,
        metavar="FILE",
        help="where --judged-in writes the scored samples (JSONL)",
    )

    _replay(
        command("replay", "simulate a search on a table of finished fine-tunes; trains nothing")
    )

    feedback = "collect people's judgements of generated texts and turn them into training data"
    _feedback(
        commands.add_parser(
            "feedback", help=feedback, description=feedback, epilog=epilog("feedback")
        ),
        calls,
    )

    init = command("init", "create a commented example spec with example data")
    init.add_argument("folder", type=Path, metavar="DIR", help="a new folder")

    command("schema", "print the JSON Schema of a spec, for editors")
    return found


def _run(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("run", type=Path, metavar="RUN", help="a run folder")


def _trust(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--trust",
        action="store_true",
        help="allow Python code named in the run (rewards, metrics, ...) to be "
        "executed although the run was not launched on this machine",
    )


def _numbers(
    sub: argparse.ArgumentParser, *options: tuple[str, Callable[[str], float], str]
) -> None:
    """Add options that take a number, each given by name, type and help text."""
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
        "--prompts", type=Path, metavar="FILE", help="JSONL file of {prompt}, each a text or a chat"
    )
    generate.add_argument("--seed", type=int, default=0, help="random seed (default 0)")
    generate.add_argument(
        "--first",
        type=int,
        default=0,
        metavar="N",
        help="number of the first sample, to generate a pool in parts (default 0)",
    )
    generate.add_argument(
        "--filters", metavar="NAME,...", help="filters to score the samples with (default: all)"
    )
    _numbers(
        generate,
        ("samples", int, "samples to generate (default 200)"),
        ("max-new-tokens", int, "maximum length of a completion in tokens (default 64)"),
        ("temperature", float, "sampling temperature; 0 is greedy (default 0.8)"),
        ("top-p", float, "nucleus sampling: probability mass to sample from (default 0.95)"),
        (
            "from-documents",
            float,
            "relative number of samples that continue real texts (default 1)",
        ),
        ("from-prompts", float, "relative number of samples that answer --prompts (default 0)"),
        ("from-nothing", float, "relative number of samples without a prompt (default 0)"),
        ("infill", float, "relative number of samples that fill a gap in real texts (default 0)"),
        (
            "opening-words",
            int,
            "words of a real text given before a continuation, and on both sides "
            "of a gap (default 8)",
        ),
        ("infill-words", int, "words to fill in (default 8)"),
    )


def _replay(replay: argparse.ArgumentParser) -> None:
    replay.add_argument(
        "table", type=Path, metavar="TABLE.csv", help="a table with one finished fine-tune per row"
    )
    replay.add_argument(
        "--roles",
        type=Path,
        required=True,
        metavar="ROLES.yaml",
        help="which of its columns are genes and which are objectives",
    )
    replay.add_argument(
        "--strategy", required=True, metavar="NAME", help="search strategy, for example nsga2"
    )
    replay.add_argument(
        "--budget",
        type=_count,
        required=True,
        metavar="N",
        help="number of evaluations in each search",
    )
    replay.add_argument(
        "--seeds",
        type=_count,
        default=1,
        metavar="K",
        help="number of searches, with seeds from 0 (default 1)",
    )
    replay.add_argument("--population", type=_count, metavar="N", help="population size")
    replay.add_argument(
        "--parallel",
        type=_count,
        default=1,
        metavar="N",
        help="number of evaluations at the same time (default 1)",
    )
    replay.add_argument("--json", action="store_true", help="print one JSON object")


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

    serve = action(
        "open", "serve the judging page on this machine; `evo feedback RUN` is short for this"
    )
    drafts = serve.add_mutually_exclusive_group()
    drafts.add_argument(
        "--items",
        type=Path,
        metavar="FILE",
        help="judge the drafts in this JSONL file instead of those of the run",
    )
    drafts.add_argument(
        "--pool", type=Path, metavar="POOL.jsonl", help="judge samples from `evo generate` instead"
    )
    serve.add_argument(
        "--choose",
        choices=("active", "random"),
        help="judge only --count drafts: the most informative (active learning) or random ones",
    )
    serve.add_argument(
        "--count", type=_count, metavar="N", help="number of drafts for --choose (default 50)"
    )
    serve.add_argument(
        "--individuals",
        default="front",
        metavar="N,N",
        help="individuals to judge: numbers, `best` or `front` (default)",
    )
    serve.add_argument(
        "--pairs", type=int, default=3, metavar="N", help="pairs of drafts per prompt (default 3)"
    )
    serve.add_argument("--labels", metavar="A,B", help="labels that annotators choose from")
    serve.add_argument(
        "--repeat",
        type=float,
        metavar="SHARE",
        help="share of items that two people judge, to measure agreement",
    )
    serve.add_argument("--seed", type=int, help="random seed of the order of items (default 0)")
    serve.add_argument(
        "--port", type=int, default=0, help="port of the page (default: any free one)"
    )
    serve.add_argument(
        "--release",
        action="append",
        default=[],
        metavar="NAME",
        help="give the unfinished items of this annotator to others",
    )

    report = action(
        "report",
        "show the number of judgements by kind and annotator, and inter-annotator agreement",
    )
    report.add_argument("--json", action="store_true", help="print one JSON object")

    export = action("export", "export judgements as training data")
    export.add_argument(
        "--as",
        dest="shape",
        required=True,
        choices=("preference", "completion", "rating", "label", "critique", "argilla"),
        help="format of the records",
    )
    export.add_argument(
        "--threshold",
        type=int,
        default=4,
        choices=range(1, 6),
        help="lowest rating that counts as good (default 4)",
    )
    export.add_argument("file", type=Path, metavar="FILE", help="the file to write")

    take_in = action("import", "import judgements made elsewhere")
    take_in.add_argument(
        "--annotator",
        default="imported",
        metavar="NAME",
        help="annotator of records that name none (default: imported)",
    )
    take_in.add_argument("file", type=Path, metavar="FILE", help="the JSONL file to read")

    refine = action("refine", "let a model rewrite drafts according to their critiques")
    _speaking(refine)
    refine.add_argument(
        "--to",
        type=Path,
        required=True,
        metavar="DIR",
        help="output folder; an unfinished one is continued",
    )
    refine.add_argument(
        "--critiques", type=Path, metavar="FILE", help="JSONL file of {prompt, draft, critique}"
    )
    refine.add_argument(
        "--critic",
        action="store_true",
        help="let the model write missing critiques",
    )
    _numbers(
        refine,
        ("samples", _count, "refinements to sample per draft (default 5)"),
        ("temperature", float, "sampling temperature; 0 is greedy (default 1)"),
        ("max-new-tokens", _count, "maximum length of a refinement in tokens (default 256)"),
        ("seed", int, "random seed (default 0)"),
    )
    refine.add_argument(
        "--threshold",
        type=float,
        default=0.0,
        metavar="X",
        help="least log-odds that a refinement follows its critique (default 0: even odds)",
    )

    judge = action(
        "judge", "let a model judge pairs of drafts; kept apart from people's judgements"
    )
    _speaking(judge)
    judge.add_argument(
        "--name", help="annotator name, recorded as `judge:NAME` (default: the model's name)"
    )


def _speaking(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--with",
        dest="speaker",
        required=True,
        metavar="MODEL",
        help="a model folder, a Hub id, or http://host:port/v1#model for an "
        "OpenAI-compatible server",
    )
    sub.add_argument(
        "--key-variable",
        default="OPENAI_API_KEY",
        metavar="NAME",
        help="environment variable that holds the server's API key (default OPENAI_API_KEY)",
    )


def _version() -> str:
    try:
        return version("evomix")
    except PackageNotFoundError:  # run from its sources
        return "from sources"
