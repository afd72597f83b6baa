"""What a search would do and cost, worked out without training anything."""

from typing import TYPE_CHECKING

from evo.config import SearchConfig
from evo.machine import available_cpus
from evo.prepare import prepare
from fitness import models

if TYPE_CHECKING:
    from rich.console import RenderableType

CPU_FLOPS = 2e10  # one core of a 2020s server in float32 at the efficiency of a small model


def plan(config: SearchConfig) -> "RenderableType":
    """Check all of a spec as a launch would, and tabulate its data, sizes and cost."""
    from rich.console import Group
    from rich.table import Table

    prepared = prepare(config)
    task = prepared.task
    data = Table("source", "documents", "tokens", "epochs if alone", title_justify="left")
    for name, file in task.sources.items():
        epochs = config.budget.tokens / file.tokens
        data.add_row(name, f"{file.documents:,}", f"{file.tokens:,}", f"{epochs:.1f}")
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
        f"{config.search.population}; then {fine_tunes - config.budget.evaluations} fine-tunes to "
        f"compare on the test split"
    )
    if task.model is not None:
        size = models.parameters(task.model)
        flops = fine_tunes * models.training_flops(size, config.budget.tokens, adapter=False)
        lines.append(
            f"model of {size / 1e6:.2f} million weights; {config.budget.tokens:,} tokens a "
            f"fine-tune; at most {flops:.2e} floating-point operations of training in all"
        )
        if not config.resources.gpus:
            workers = config.resources.workers or available_cpus() // config.resources.cpus
            minutes = flops / (CPU_FLOPS * workers * config.resources.cpus) / 60
            amount = f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.0f} hours"
            lines.append(f"very roughly {amount} of training on {workers} CPU workers")
    return Group(*lines, *([data] if task.sources else []), *([held_out] if task.domains else []))
