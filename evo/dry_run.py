"""Dry run: check a spec and estimate what its search would do and cost, without training."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evo.config import SearchConfig, aggregates
from evo.config.sections import Search
from evo.planning.schedule import idle_workers
from evo.prepare.outlook import Estimate, duration, epochs, outlook, workers_here
from evo.prepare.task import prepare
from evo.reuse.earlier import read_for
from evo.reuse.imports import imported, notes
from evo.rounds.loop import check as check_rounds
from fitness.models import folders
from fitness.recipe import Recipe

if TYPE_CHECKING:
    from rich.console import RenderableType

START_SECONDS = 30  # of Ray and of workers that load the libraries and a small model, on 2 cores
MINUTE = 60


def plan(config: SearchConfig, earlier: Sequence[Path] = ()) -> "RenderableType":
    """Check all of a spec as a launch would, and tabulate its data, sizes and cost.

    And say what a launch would take over from `earlier` run folders and tables.
    """
    from rich.console import Group
    from rich.table import Table

    known = read_for(config, earlier)
    if config.rounds is not None:
        check_rounds(config)
    prepared = prepare(config)
    seen = outlook(config, prepared)
    task, config = prepared.task, seen.config
    data = Table("source", "documents", "tokens", "epochs", "if alone", title_justify="left")
    for name, (often, alone) in epochs(config, task).items():
        file = task.sources[name]
        sizes = f"{file.documents:,}", f"{file.tokens:,}"
        data.add_row(name, *sizes, f"{often:,.1f}", f"{alone:,.1f}")
    held_out = Table("held out", "selection", "test", title_justify="left")
    for name, splits in task.domains.items():
        held_out.add_row(name, *(f"{splits[s].tokens:,} tokens" for s in ("selection", "test")))
    for name, prompts in task.prompts.items():
        held_out.add_row(
            name, *(f"{len(prompts[s].prompts):,} prompts" for s in ("selection", "test"))
        )
    lines = [f"{config.name}: the spec is sound; nothing was trained and nothing written"]
    fine_tunes = config.budget.evaluations + config.comparison.seeds * (len(config.baselines) + 1)
    lines.append(
        f"{config.budget.evaluations} evaluations by {config.search.strategy}, population "
        f"{config.search.population}, {_schedule(config.search)}; then "
        f"{fine_tunes - config.budget.evaluations} fine-tunes to compare on the test split"
    )
    lines += [f"{one.name}: {one.meaning.description}" for one in aggregates(config)]
    if config.rounds is not None:
        lines.append(
            f"all this up to {config.rounds.limit} times, in rounds; after each but the last "
            f"{config.rounds.writers} individuals generate {config.rounds.writing.samples:,} "
            "samples"
        )
    workers = workers_here(config)
    if workers and (idle := idle_workers(config.search, workers)):
        lines.append(f"warning: {idle}")
    lines += [f"note: {note}" for note in seen.notes]
    imports = imported(config, prepared.fingerprints, known)
    lines += [f"note: {note}" for one in imports for note in notes(one)]
    if task.model is not None and seen.estimate is not None:
        size = folders.parameters(task.model)
        lines.append(
            f"model of {size / 1e6:.2f} million weights; {config.budget.tokens:,} tokens a "
            f"fine-tune, in {config.recipe.get('precision', Recipe().precision)}"
        )
        bases = 1 + config.comparison.seeds  # the untouched base is scored on both splits
        lines.append(_work(seen.estimate, fine_tunes, bases, workers))
    lines += [f"warning: {warning}" for warning in seen.warnings]
    return Group(*lines, *([data] if task.sources else []), *([held_out] if task.domains else []))


def _schedule(search: Search) -> str:
    if search.schedule == "clock":
        return f"for {search.parallel} workers at a time by the virtual clock"
    return search.schedule


def _work(estimate: Estimate, fine_tunes: int, bases: int, workers: int | None) -> str:
    """Sentence on the work of one evaluation, and of all with the start and the base's scoring."""
    work = fine_tunes * estimate.total + bases * estimate.scoring
    per_evaluation = (
        f"an evaluation takes about {estimate.total:.1e} floating-point operations, "
        f"{estimate.training / estimate.total:.0%} training and "
        f"{estimate.scoring / estimate.total:.0%} scoring"
    )
    if math.isnan(estimate.rate):
        return f"{per_evaluation}; {work:.1e} in all"
    each, count = duration(estimate.seconds), workers or 1
    whole = START_SECONDS + work / estimate.rate / count
    total = duration(whole) if whole >= MINUTE else "under a minute"
    on = "1 CPU worker" if count == 1 else f"{count} CPU workers"
    return (
        f"{per_evaluation}: very roughly {each}, and {total} in all on {on}, including some "
        f"{START_SECONDS} s to start Ray and to load the model"
    )
