"""What a search would do and cost, worked out without training anything."""

import math
from typing import TYPE_CHECKING

from evo.config import SearchConfig, possible
from evo.config.sections import Search
from evo.foresight import Estimate, duration, epochs, foresee, workers_here
from evo.prepare import Prepared, prepare
from evo.rounds import check as check_rounds
from evo.schedule import idle_workers
from fitness import folders
from fitness.recipe import Recipe

if TYPE_CHECKING:
    from rich.console import RenderableType

MOST = 0.95  # of the layers' weights: an adapter beside fewer than these is warned of
SHOWN = 3  # kinds of modules without an adapter


def plan(config: SearchConfig) -> "RenderableType":
    """Check all of a spec as a launch would, and tabulate its data, sizes and cost."""
    from rich.console import Group
    from rich.table import Table

    if config.rounds is not None:
        check_rounds(config)
    prepared = prepare(config)
    seen = foresee(config, prepared)
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
    lines += _of_base(config, prepared)
    if config.rounds is not None:
        lines.append(
            f"all this up to {config.rounds.limit} times, in rounds; after each but the last "
            f"{config.rounds.writers} individuals write {config.rounds.writing.samples:,} samples"
        )
    workers = workers_here(config)
    if workers and (idle := idle_workers(config.search, workers)):
        lines.append(f"warning: {idle}")
    lines += [f"note: {note}" for note in prepared.notes]
    if task.model is not None and seen.estimate is not None:
        size = folders.parameters(task.model)
        lines.append(
            f"model of {size / 1e6:.2f} million weights; {config.budget.tokens:,} tokens a "
            f"fine-tune, in {config.recipe.get('precision', Recipe().precision)}"
        )
        lines.append(_work(seen.estimate, fine_tunes, workers))
    lines += [f"warning: {warning}" for warning in seen.warnings]
    return Group(*lines, *([data] if task.sources else []), *([held_out] if task.domains else []))


def _of_base(config: SearchConfig, prepared: Prepared) -> list[str]:
    """What the base model's architecture has for consequences."""
    sound, lines = prepared.soundness, []
    files = [*prepared.task.sources.values()]
    files += [file for splits in prepared.task.domains.values() for file in splits.values()]
    packed = any(file.kind not in ("text", "label") for file in files)
    if not sound.packs and (packed or True in possible(config, "isolate_documents")):
        lines.append(
            "this base lets documents that share a row see one another: records and isolated "
            "documents get one row each instead of being packed, with the same result as if they "
            "did not"
        )
    if set(possible(config, "adapter")) != {"none"} and sound.adaptable:
        for targets in sorted(set(possible(config, "lora_targets"))):
            share = sound.share(targets)
            if targets == "all" and share < MOST:
                left = [f"{role}: {why}" for role, why in sound.without.items()]
                more = f"; and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
                lines.append(
                    f"warning: an adapter with lora_targets {targets} stands beside {share:.0%} of "
                    f"the layers' weights; the others stay as they are "
                    f"({'; '.join(left[:SHOWN])}{more}). Set `adapter: none` to train all weights, "
                    "or keep the adapter if that share is enough"
                )
    return lines


def _schedule(search: Search) -> str:
    if search.schedule == "clock":
        return f"for {search.parallel} workers at a time by the virtual clock"
    return search.schedule


def _work(one: Estimate, fine_tunes: int, workers: int | None) -> str:
    """What an evaluation takes, and all of them."""
    told = (
        f"an evaluation takes about {one.total:.1e} floating-point operations, "
        f"{one.training / one.total:.0%} training and {one.scoring / one.total:.0%} scoring"
    )
    if math.isnan(one.rate):
        return f"{told}; {fine_tunes * one.total:.1e} in all"
    each, count = duration(one.seconds), workers or 1
    whole = duration(one.seconds * fine_tunes / count)
    return f"{told}: very roughly {each}, and {whole} in all on {count} CPU workers"
