"""Handlers of the commands on runs: launch, resume, ls, status, history, report, watch."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from evo.api import RUNS, new_folder
from evo.cli.exit_codes import DONE, FAILED, STOPPED, exit_code
from evo.places import unusable
from evo.printable import say
from fitness.errors import InputError
from fitness.hardware import ONE_THREAD
from fitness.secrets import without_secrets

if TYPE_CHECKING:
    from evo.launching import Watching
    from evo.record.facts import Facts


def one_thread() -> None:
    """Limit numpy to one thread in the driver; to be called before numpy is loaded.

    Threads change the order of sums and with it their last digit, so that the genomes would depend
    on the number of cores of the driver's machine. Workers need those cores as well.
    """
    os.environ.update(ONE_THREAD)


def _say_at_once(options: argparse.Namespace, text: str) -> None:
    """Print a message to a terminal before libraries are loaded, which takes seconds."""
    if sys.stderr.isatty() and not options.json:
        say(text, error=True)


def launch(options: argparse.Namespace) -> int:
    one_thread()
    _say_at_once(options, f"reading {options.spec}")
    from evo import config as configuration
    from evo.launching import launch as launch_search
    from evo.launching import launch_or_resume

    if options.or_resume and not options.run:
        raise InputError("--or-resume: resumes the run in --run DIR; add --run with its folder")
    overrides = [*options.set]
    if options.address:
        overrides.append(f"resources.address={json.dumps(options.address)}")
    config = configuration.load(options.spec, overrides, existing=True)
    if options.dry_run:
        from evo.dry_run import plan
        from evo.screen import Screen

        Screen().print(plan(config, options.earlier))
        return DONE
    run = options.run or new_folder(config.name)
    go = launch_or_resume if options.or_resume else launch_search
    return _drive(options, run, lambda watching: go(config, run, watching, options.earlier))


def resume(options: argparse.Namespace) -> int:
    one_thread()
    _say_at_once(options, f"reading {options.run}")
    from evo.launching import resume as resume_search
    from evo.storage.fetch import resumable

    run, overrides = resumable(options.run, options.into, options.set)
    return _drive(
        options,
        run,
        lambda watching: resume_search(run, overrides, watching, trusted=options.trust),
    )


def _drive(
    options: argparse.Namespace,
    run: Path,
    go: "Callable[[Watching], bool]",
) -> int:
    from evo.cluster.queue import ClusterError
    from evo.progress.live import Mode, Progress
    from evo.record.ledger import read

    mode: Mode = "json" if options.json else "live" if sys.stderr.isatty() else "plain"
    try:
        finished = go(lambda config, folder: Progress(config, folder, mode))
    except ClusterError as error:
        say(f"evo: {without_secrets(str(error))}\n{_how_to_continue(run)}", error=True)
        return FAILED
    except OSError as error:
        why = without_secrets(unusable(error))
        say(f"evo: stopped: {why}\nthen {_how_to_continue(run)}", error=True)
        return exit_code(error)
    except KeyboardInterrupt:
        say(f"evo: stopped; {_how_to_continue(run)}", error=True)
        return STOPPED
    if not finished:
        last = read(run)[-1]
        if last["fact"] == "waiting":
            say(f"{last['judgements']} judgements are missing: evo feedback {run}", error=True)
        say(f"stopped; resume with: evo resume {run}", error=True)
        return STOPPED
    if not options.json:
        options.run, options.open = run, False
        return report(options)
    return DONE


def _how_to_continue(run: Path) -> str:
    """The command that continues; if nothing was recorded yet there is no run to resume."""
    from evo.record.ledger import FILE

    if (run / FILE).is_file():
        return f"resume with: evo resume {run}"
    return "nothing was evaluated yet: launch again"


def status(options: argparse.Namespace) -> int:
    from evo.progress.status import status, table, watch
    from evo.storage.fetch import followed, readable

    if options.json:
        print(json.dumps(status(readable(options.run))))
        return DONE
    from evo.screen import Screen

    if options.watch:
        with followed(options.run) as run:
            watch(run, Screen())
    else:
        Screen().print(table(status(readable(options.run))), soft_wrap=True)
    return DONE


def ls(options: argparse.Namespace) -> int:
    from evo.progress.listing import listed, runs_in, table

    folders = options.folders or ([RUNS] if RUNS.is_dir() else [])
    found = listed(runs_in(folders))
    if options.json:
        print(json.dumps(found))
    elif not found:
        where = ", ".join(map(str, folders)) or RUNS
        say(f"no runs in {where}; `evo launch quickstart` makes one")
    else:
        from evo.screen import Screen

        Screen().print(table(found), soft_wrap=True)
    return DONE


def history(options: argparse.Namespace) -> int:
    from evo.history import to_csv, to_parquet
    from evo.history.rounds import rows as rows_of
    from evo.record.ledger import read
    from evo.storage.fetch import readable

    run = readable(options.run)
    if options.optuna:
        return _study(run, options.optuna)
    facts = read(run)
    rows = rows_of(run, facts)
    if options.parquet:
        to_parquet(rows, options.parquet)
    elif options.csv or not sys.stdout.isatty():
        to_csv(rows, options.csv or "-")
    else:
        from evo.report.evaluations import table_of
        from evo.screen import Screen

        Screen().print(table_of(rows, facts))
    return DONE


def _study(run: Path, to: Path) -> int:
    from evo.history.rounds import search_of
    from evo.history.study import write_study
    from evo.record.ledger import in_use, read

    search = search_of(run)
    name, alive = search.resolve().name, in_use(search)
    count = write_study(read(search), name, to, alive=alive)
    say(f"{to}: {count} trials; see them with: optuna-dashboard {to}")
    return DONE


def report(options: argparse.Namespace) -> int:
    from evo.history import proxies, rounds
    from evo.record.ledger import in_use, read
    from evo.report import rounds as of_rounds
    from evo.report import summary
    from evo.screen import Screen
    from evo.storage.fetch import readable

    run = readable(options.run)
    facts = read(run)
    path = of_rounds.write(run, facts)
    console = Screen()
    several = rounds.has(facts)
    console.print(of_rounds.summary(run, facts) if several else summary(facts))
    console.print(f"report: {path}\nrun:    {options.run}", soft_wrap=True)
    for proxy in proxies.folders(run, facts):
        console.print(f"proxy:  evo report {proxy}", soft_wrap=True)
    console.print(f"next:   {_next(options.run, facts, alive=in_use(run))}", soft_wrap=True)
    if options.open:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())
    return DONE


def watch(options: argparse.Namespace) -> int:
    from evo.report.live import serve
    from evo.storage.fetch import followed

    def ready(url: str) -> None:
        say(f"{url}\nCtrl-C ends it, not the run")
        if options.open:
            import webbrowser

            webbrowser.open(url)

    with followed(options.run) as run:
        serve(run, options.port, ready)
    return DONE


def _next(run: Path | str, facts: "Facts", *, alive: bool) -> str:
    """The command that is most likely wanted next, after the summary."""
    from evo.record.state import state

    if state(facts) == "finished":
        return f"evo export {run} --to DIR    or: evo report {run} --open"
    if alive:
        return f"evo status {run} --watch"
    return f"evo resume {run}"
