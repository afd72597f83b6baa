"""Arguments and help texts of the actions of `evo feedback`."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from evo.cli.examples import epilog
from evo.cli.options import count, numbers, run_folder
from fitness.suggest import did_you_mean

FEEDBACK = ("open", "report", "export", "import", "refine", "judge")


def with_action(arguments: Sequence[str]) -> Sequence[str]:
    """`evo feedback RUN` is short for `evo feedback open RUN`."""
    first, *rest = arguments or [""]
    if first != "feedback" or not rest or rest[0] in (*FEEDBACK, "-h", "--help"):
        return arguments
    if did_you_mean(rest[0], FEEDBACK) and not Path(rest[0]).exists():
        return arguments  # a misspelt action, no run
    return [first, FEEDBACK[0], *rest]


def add_actions(
    feedback: argparse.ArgumentParser,
    calls: Mapping[str, Callable[[argparse.Namespace], int]],
) -> None:
    """Add the actions to the parser of `evo feedback`; `calls` has their handlers."""
    actions = feedback.add_subparsers(required=True, metavar="ACTION")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        examples = epilog(f"feedback {name}")
        sub = actions.add_parser(name, help=text, description=text, epilog=examples)
        sub.set_defaults(command=calls[f"feedback {name}"])
        run_folder(sub)
        return sub

    _open(
        action(
            "open", "serve the judging page on this machine; `evo feedback RUN` is short for this"
        )
    )
    report = action(
        "report",
        "show the number of judgements by kind and annotator, and inter-annotator agreement",
    )
    report.add_argument("--json", action="store_true", help="print one JSON object")
    _export(action("export", "export judgements as training data"))
    _import(action("import", "import judgements made elsewhere"))
    _refine(action("refine", "let a model rewrite drafts according to their critiques"))
    _judge(
        action("judge", "let a model judge pairs of drafts; kept apart from people's judgements")
    )


def _open(sub: argparse.ArgumentParser) -> None:
    drafts = sub.add_mutually_exclusive_group()
    drafts.add_argument(
        "--items",
        type=Path,
        metavar="FILE",
        help="judge the drafts in this JSONL file instead of those of the run",
    )
    drafts.add_argument(
        "--pool", type=Path, metavar="POOL.jsonl", help="judge samples from `evo generate` instead"
    )
    sub.add_argument(
        "--choose",
        choices=("active", "random"),
        help="judge only --count drafts: the most informative (active learning) or random ones",
    )
    sub.add_argument(
        "--count", type=count, metavar="N", help="number of drafts for --choose (default 50)"
    )
    sub.add_argument(
        "--individuals",
        default="front",
        metavar="N,N",
        help="individuals to judge: numbers, `best` or `front` (default)",
    )
    sub.add_argument(
        "--pairs", type=int, default=3, metavar="N", help="pairs of drafts per prompt (default 3)"
    )
    sub.add_argument("--labels", metavar="A,B", help="labels that annotators choose from")
    sub.add_argument(
        "--repeat",
        type=float,
        metavar="SHARE",
        help="share of items that two people judge, to measure agreement",
    )
    sub.add_argument(
        "--raters", type=count, metavar="N", help="number of people who judge each item (default 1)"
    )
    sub.add_argument(
        "--criteria",
        type=Path,
        metavar="FILE",
        help="YAML or JSON file of {name: guideline}: a rating is asked for by each, beside the "
        "overall one; a run with rounds has them in its spec",
    )
    sub.add_argument("--seed", type=int, help="random seed of the order of items (default 0)")
    sub.add_argument("--port", type=int, default=0, help="port of the page (default: any free one)")
    sub.add_argument(
        "--release",
        action="append",
        default=[],
        metavar="NAME",
        help="give the unfinished items of this annotator to others",
    )


def _export(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--as",
        dest="shape",
        required=True,
        choices=("preference", "completion", "rating", "label", "critique", "judgement", "argilla"),
        help="format of the records",
    )
    sub.add_argument(
        "--threshold",
        type=int,
        default=4,
        choices=range(1, 6),
        help="lowest rating that counts as good (default 4)",
    )
    sub.add_argument("file", type=Path, metavar="FILE", help="the file to write")


def _import(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--annotator",
        default="imported",
        metavar="NAME",
        help="annotator of records that name none (default: imported)",
    )
    sub.add_argument("file", type=Path, metavar="FILE", help="the JSONL file to read")


def _refine(sub: argparse.ArgumentParser) -> None:
    _speaking(sub)
    sub.add_argument(
        "--to",
        type=Path,
        required=True,
        metavar="DIR",
        help="output folder; an unfinished one is continued",
    )
    sub.add_argument(
        "--critiques", type=Path, metavar="FILE", help="JSONL file of {prompt, draft, critique}"
    )
    sub.add_argument(
        "--critic",
        action="store_true",
        help="let the model write missing critiques",
    )
    numbers(
        sub,
        ("samples", count, "refinements to sample per draft (default 5)"),
        ("temperature", float, "sampling temperature; 0 is greedy (default 1)"),
        ("max-new-tokens", count, "maximum length of a refinement in tokens (default 256)"),
        ("seed", int, "random seed (default 0)"),
    )
    sub.add_argument(
        "--threshold",
        type=float,
        default=0.0,
        metavar="X",
        help="least log-odds that a refinement follows its critique (default 0: even odds)",
    )


def _judge(sub: argparse.ArgumentParser) -> None:
    _speaking(sub)
    sub.add_argument(
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
