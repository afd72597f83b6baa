"""Arguments and help texts of every `evo` command, without their handlers."""

import argparse
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from evo.cli.examples import epilog
from evo.cli.feedback_arguments import add_actions
from evo.cli.options import RUN, count, folder_or_url, numbers, run_folder, run_or_url, trust
from evo.cli.spelling import Parser

SHELLS = ("bash", "zsh", "fish")
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

    _launch(command("launch", "start a search"))
    _resume(command("resume", "continue a run that was stopped, killed or given a larger budget"))
    _ls(command("ls", "list runs with their state, running time and best result"))
    _status(
        command("status", "show the progress of a run, what its workers do now, and the time left")
    )
    _history(command("history", "list every evaluation of a run: as a table, or as CSV in a pipe"))
    _report(command("report", "write report.html into the run folder and print the summary"))
    watch = command("watch", "show the report of a run as it goes, on a page of this machine")
    run_or_url(watch)
    watch.add_argument("--port", type=int, default=0, help="port (default: a free one)")
    watch.add_argument("--open", action="store_true", help="open it in a browser")
    _track(command("track", "send the results of a run to MLflow, W&B, TensorBoard or Trackio"))
    _compare(command("compare", "compare the curves and the results of several runs"))
    _export(
        command("export", "write the best model as a folder, or its recipe for another trainer")
    )
    writing = "generate samples with an individual's model, and score them with the filters"
    _generate(command("generate", writing))
    _pool(command("pool", "show how many generated samples each filter threshold would keep"))
    _replay(
        command("replay", "simulate a search on a table of finished fine-tunes; trains nothing")
    )
    feedback = "collect people's judgements of generated texts and turn them into training data"
    add_actions(
        commands.add_parser(
            "feedback", help=feedback, description=feedback, epilog=epilog("feedback")
        ),
        calls,
    )
    init = command("init", "create a commented example spec with example data")
    init.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    command("schema", "print the JSON Schema of a spec, for editors")
    completion = command("completion", "print a script that completes these commands in a shell")
    completion.add_argument("shell", choices=SHELLS, help="the shell that reads the script")
    return found


def _launch(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("spec", help="a spec (search.yaml), or `quickstart`")
    sub.add_argument(
        "--run",
        type=Path,
        metavar="DIR",
        help="the run folder to create (default: runs/<name>-<time>)",
    )
    sub.add_argument(
        "--or-resume",
        action="store_true",
        help="resume the run in --run DIR if it has one: the same command for a job that is "
        "started again",
    )
    sub.add_argument(
        "--address",
        help="join a Ray cluster (auto, host:port or ray://host:port) instead of starting one here",
    )
    sub.add_argument(
        "--from",
        dest="earlier",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="RUN",
        help="import the scores of earlier searches: run folders, or tables (CSV) with a "
        "roles.yaml beside them; say it after the spec",
    )
    sub.add_argument(
        "--dry-run",
        action="store_true",
        help="check the spec, model and data and estimate the cost; train nothing",
    )
    _driving(sub)


def _resume(sub: argparse.ArgumentParser) -> None:
    run_or_url(sub)
    sub.add_argument(
        "--run",
        dest="into",
        type=Path,
        metavar="DIR",
        help="for a URL: the folder to fetch the run into, of the run's name (default: runs/NAME)",
    )
    trust(sub)
    _driving(sub)


def _driving(sub: argparse.ArgumentParser) -> None:
    """Add the arguments of the commands that drive a search."""
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of the spec, for example budget.evaluations=40; may be repeated",
    )
    sub.add_argument("--json", action="store_true", help="print each event as JSON, for programs")


def _track(sub: argparse.ArgumentParser) -> None:
    run_folder(sub)
    sub.add_argument(
        "--to",
        metavar="TRACKER",
        help="mlflow, wandb, tensorboard or trackio (default: those of the spec's `track`)",
    )
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of this tracker, for example uri=http://127.0.0.1:5000; may be repeated",
    )


def _ls(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "folders", type=Path, nargs="*", metavar="FOLDER", help="folders with runs (default: runs)"
    )
    sub.add_argument("--json", action="store_true", help="print a JSON list")


def _status(sub: argparse.ArgumentParser) -> None:
    run_or_url(sub)
    sub.add_argument("--watch", action="store_true", help="keep showing it until the run ends")
    sub.add_argument("--json", action="store_true", help="print one JSON object")


def _history(sub: argparse.ArgumentParser) -> None:
    run_or_url(sub)
    form = sub.add_mutually_exclusive_group()
    form.add_argument("--csv", metavar="FILE", help="write CSV; `-` is standard output")
    form.add_argument("--parquet", metavar="FILE", help="write Parquet; `-` is standard output")
    form.add_argument(
        "--optuna",
        type=Path,
        metavar="FILE",
        help="write a new Optuna journal with the search as a study, for optuna-dashboard",
    )


def _report(sub: argparse.ArgumentParser) -> None:
    run_or_url(sub)
    sub.add_argument("--open", action="store_true", help="open it in a browser")


def _compare(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("runs", type=folder_or_url, nargs="+", metavar="RUN", help=RUN)
    sub.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="where to write the page with the curves (default: compare.html)",
    )
    sub.add_argument("--json", action="store_true", help="print one JSON object")


def _export(sub: argparse.ArgumentParser) -> None:
    run_or_url(sub)
    sub.add_argument(
        "--individual", default="best", help="number of the individual, or `best` (default)"
    )
    form = sub.add_mutually_exclusive_group()
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
    sub.add_argument("--to", type=Path, required=True, metavar="DIR", help="a new folder")
    trust(sub)


def _pool(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("pool", type=Path, metavar="POOL.jsonl", help="samples from `evo generate`")
    sub.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="NAME=SHARE",
        help="a threshold to try: keep this share by this score, for example realness=0.5",
    )
    sub.add_argument(
        "--judged-in",
        type=Path,
        metavar="RUN",
        help="score the samples by the judgements collected in this run (needs --to)",
    )
    sub.add_argument(
        "--to",
        type=Path,
        metavar="FILE",
        help="where --judged-in writes the scored samples (JSONL)",
    )


def _generate(sub: argparse.ArgumentParser) -> None:
    run_or_url(sub)
    trust(sub)
    sub.add_argument("--to", type=Path, required=True, metavar="FILE", help="a new JSONL file")
    sub.add_argument("--individual", default="best", help="its number, or `best` (default)")
    sub.add_argument(
        "--prompts", type=Path, metavar="FILE", help="JSONL file of {prompt}, each a text or a chat"
    )
    sub.add_argument("--seed", type=int, default=0, help="random seed (default 0)")
    sub.add_argument(
        "--first",
        type=int,
        default=0,
        metavar="N",
        help="number of the first sample, to generate a pool in parts (default 0)",
    )
    sub.add_argument(
        "--filters", metavar="NAME,...", help="filters to score the samples with (default: all)"
    )
    numbers(
        sub,
        ("samples", int, "samples to generate (default 200, or --per-prompt of every prompt)"),
        ("per-prompt", int, "samples of each prompt in --prompts, prompt after prompt"),
        ("max-new-tokens", int, "maximum length of a completion in tokens (default 64)"),
        ("temperature", float, "sampling temperature; 0 is greedy (default 0.8)"),
        ("num-beams", int, "beams of beam search, at --temperature 0 (default 1: none)"),
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


def _replay(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "table", type=Path, metavar="TABLE.csv", help="a table with one finished fine-tune per row"
    )
    sub.add_argument(
        "--roles",
        type=Path,
        required=True,
        metavar="ROLES.yaml",
        help="which of its columns are genes and which are objectives",
    )
    sub.add_argument(
        "--strategy", required=True, metavar="NAME", help="search strategy, for example nsga2"
    )
    sub.add_argument(
        "--budget",
        type=count,
        required=True,
        metavar="N",
        help="number of evaluations in each search",
    )
    sub.add_argument(
        "--seeds",
        type=count,
        default=1,
        metavar="K",
        help="number of searches, with seeds from 0 (default 1)",
    )
    sub.add_argument("--population", type=count, metavar="N", help="population size")
    sub.add_argument(
        "--parallel",
        type=count,
        default=1,
        metavar="N",
        help="number of evaluations at the same time (default 1)",
    )
    sub.add_argument("--json", action="store_true", help="print one JSON object")


def _version() -> str:
    try:
        return version("evomix")
    except PackageNotFoundError:  # run from its sources
        return "from sources"
