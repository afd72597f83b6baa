"""Dry run: check a spec and estimate what its search would do and cost, without training."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evo.config import SearchConfig, aggregates
from evo.config.genomes import tokens_of, train_shares
from evo.config.search import Search
from evo.planning.schedule import idle_workers
from evo.prepare.outlook import Estimate, Outlook, duration, epochs, outlook, workers_here
from evo.prepare.passes import learned_tokens
from evo.prepare.task import prepare
from evo.proxies.loop import prepared as prepared_proxies
from evo.reuse.earlier import read_for
from evo.reuse.imports import imported, notes
from evo.rounds.loop import check as check_rounds
from evo.storage.layout import check_mirror
from fitness.evaluation import Task
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
    if config.mirror is not None:
        check_mirror(config.mirror)
    if config.rounds is not None:
        check_rounds(config)
    prepared = prepare(config)
    seen = outlook(config, prepared, memory=True)
    task, config = prepared.task, seen.config
    records = any(file.kind != "text" for file in task.sources.values())
    data = Table("source", "documents", "tokens", title_justify="left")
    for column in (*(["learned"] if records else []), "epochs", "if alone"):
        data.add_column(column)
    for name, (often, alone) in epochs(config, task).items():
        file = task.sources[name]
        sizes = [f"{file.documents:,}", f"{file.tokens:,}"]
        if records:
            learned = learned_tokens(config, name, file)
            sizes.append("-" if learned is None else f"{learned:,}")
        methods = config.sources[name].methods
        shown = f"{name} ({', '.join(methods)})" if methods else name
        data.add_row(shown, *sizes, f"{often:,.1f}", f"{alone:,.1f}")
    dropping = Table("cleaned", "documents", "kept", "dropped", title_justify="left")
    for name, cleaned in prepared.cleaned.items():
        dropping.add_row(name, f"{cleaned.read:,}", f"{cleaned.kept:,}", cleaned.reasons)
    held_out = Table("held out", "selection", "test", title_justify="left")
    for name, splits in task.domains.items():
        held_out.add_row(name, *(f"{splits[s].tokens:,} tokens" for s in ("selection", "test")))
    for name, prompts in task.prompts.items():
        held_out.add_row(
            name, *(f"{len(prompts[s].prompts):,} prompts" for s in ("selection", "test"))
        )
    for name, tasks in task.benchmark_tasks.items():
        for of, one in tasks.items():
            counts = (len(one.documents[s]) for s in ("selection", "test"))
            held_out.add_row(f"{name}/{of}", *(f"{count:,} documents" for count in counts))
    lines = [f"{config.name}: the spec is sound; nothing was trained and nothing written"]
    compared = config.comparison.seeds * (len(config.baselines) + 1)
    lines.append(
        f"{config.budget.evaluations} evaluations by {config.search.strategy}, population "
        f"{config.search.population}, {_schedule(config.search)}; then "
        f"{compared} fine-tunes to compare on the test split"
    )
    lines += [f"{one.name}: {one.meaning.description}" for one in aggregates(config)]
    if config.rounds is not None:
        writing = config.rounds.writing
        amount = f"{writing.count(1):,} samples"
        if writing.per_prompt and not writing.samples:
            amount = f"{writing.per_prompt} samples of each prompt in {config.rounds.prompts}"
        first = ""
        if config.rounds.first == "generate":
            first = "; the untouched base generates as many before the first"
        lines.append(
            f"all this up to {config.rounds.limit} times, in rounds; after each but the last, "
            f"the best {config.rounds.writers} together generate {amount}{first}"
        )
    workers = workers_here(config)
    if workers and (idle := idle_workers(config.search, workers)):
        lines.append(f"warning: {idle}")
    lines += [f"note: {note}" for note in seen.notes]
    imports = imported(config, prepared.fingerprints, known)
    lines += [f"note: {note}" for one in imports for note in notes(one)]
    lines += _cost(config, task, seen.estimate)
    lines += [f"warning: {warning}" for warning in seen.warnings]
    for number, (spec, ready) in enumerate(prepared_proxies(config), 1):
        lines += _proxy(
            number, spec, outlook(spec, ready, memory=True), ready.task, known=seen.warnings
        )
    tables = [dropping, data, held_out]
    return Group(*lines, *(one for one in tables if one.row_count))


def _fine_tunes(config: SearchConfig) -> int:
    """Fine-tunes of a search with its closing comparison, each of the longest that may be."""
    searched = math.ceil(config.budget.evaluations / train_shares(config)[1])
    return searched + config.comparison.seeds * (len(config.baselines) + 1)


def _cost(config: SearchConfig, task: Task, estimate: Estimate | None) -> list[str]:
    """The size of the model, and the work of its search; empty where another trainer trains."""
    if task.model is None or estimate is None:
        return []
    size = folders.parameters(task.model)
    bases = 1 + config.comparison.seeds  # the untouched base is scored on both splits
    return [
        f"model of {size / 1e6:.2f} million weights; {tokens_of(config)} tokens a "
        f"fine-tune, in {config.recipe.get('precision', Recipe().precision)}",
        _work(estimate, _fine_tunes(config), bases, workers_here(config)),
    ]


def _proxy(
    number: int, spec: SearchConfig, seen: Outlook, task: Task, *, known: Sequence[str]
) -> list[str]:
    """Lines on the search of mixtures on a proxy, without the `known` warnings of the base's."""
    name = f"proxy-{number}"
    first = f"{name}: before, {spec.budget.evaluations} evaluations of mixtures on "
    lines = [
        f"{first}{spec.model.base}",
        *(f"{name}: {one}" for one in _cost(spec, task, seen.estimate)),
    ]
    warnings = [warning for warning in seen.warnings if warning not in known]
    return [*lines, *(f"warning: {name}: {warning}" for warning in warnings)]


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
