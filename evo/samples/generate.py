"""`evo generate`: an individual of a run writes samples, and filters score them: a pool."""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evo.export.model import chosen, export
from evo.feedback.pool import filters_by_people
from evo.feedback.session import judged
from evo.places import check_room_for
from evo.record.ledger import read
from evo.samples import texts
from fitness.data.prompts import prompt_records
from fitness.data.samples import Sample, to_lines
from fitness.errors import InputError
from fitness.files import write_whole
from fitness.models import folders
from fitness.reward.model import check_enough
from fitness.samples.contamination import is_contaminated
from fitness.samples.filters import DEFAULT_FILTERS, Given, check_filter, scored
from fitness.samples.write import Generation, write
from fitness.samples.yields import columns

if TYPE_CHECKING:
    from rich.console import RenderableType

EXAMPLES, SHOWN = 3, 300  # samples in the summary, and characters of each
DOCUMENTS = 2000  # of all sources together, to go on from and to compare with


def generate(
    run: Path,
    individual: str,
    to: Path,
    settings: Generation,
    *,
    prompts: Path | None = None,
    filters: Sequence[str] | None = None,
    seed: int = 0,
    first: int = 0,
    trusted: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Sample]:
    """Write the file `to`, a pool of scored samples from number `first` on, and return them.

    Openings are drawn from the sources by the shares of the individual's mixture, and so are the
    real texts that the discriminator compares with. Weights that are gone are trained again, of
    which `tell` is told first; for `trusted` see `export`. Not told which, DEFAULT_FILTERS score,
    and those that go by people's judgements where the run has enough of them. Raises InputError.
    """
    if to.exists():
        raise InputError(f"{to} exists; name a new file")
    check_room_for(to)
    for name, value in (("seed", seed), ("first", first)):
        if value < 0:
            raise InputError(f"--{name} is {value}; it must be 0 or more")
    for name in filters or ():
        check_filter(name)
    facts = read(run)
    items, judgements = judged(run)
    if filters is None:
        filters = [*DEFAULT_FILTERS, *filters_by_people(items, judgements)]
    if "reward" in filters:  # before anything is written, which may take long
        check_enough(items, judgements)
    config, number, recipe = chosen(run, facts, individual, trusted=trusted)
    if config.model.task != "causal":
        raise InputError(f"{run}: nothing is written by a model whose task is {config.model.task}")
    if settings.infill and not recipe["infill_share"]:
        raise InputError(
            f"{run}: individual {number} was not taught to fill in a middle, its recipe has an "
            "infill_share of 0; choose one with more, or set --infill 0"
        )
    given_prompts = prompts_in(prompts, folders.locate(config.model.base)) if prompts else []
    rng = np.random.default_rng(seed)
    real = texts.documents(config, recipe["mixture"], DOCUMENTS, rng)
    from fitness.models.base import Base

    with tempfile.TemporaryDirectory() as temporary:
        best = export(run, str(number), Path(temporary) / "model", trusted=trusted, tell=tell)
        writer = Base(best)
        samples = write(
            writer,
            settings,
            prompts=given_prompts,
            documents=real,
            individual=number,
            seed=seed,
            first=first,
        )
    given = Given(
        seed=seed,
        base=Base(folders.locate(config.model.base), config.model.dtype),
        real=real,
        training=lambda: texts.training(config),
        evaluated=texts.evaluated(config),
        items=items,
        judgements=judgements,
    )
    samples = scored(samples, filters, given)
    to.parent.mkdir(parents=True, exist_ok=True)
    if to.exists():
        other = to.with_name(f"{to.stem}.{os.getpid()}{to.suffix}")
        write_whole(other, "".join(to_lines(samples)))
        raise InputError(f"{to} was written by somebody else meanwhile; this pool is {other}")
    write_whole(to, "".join(to_lines(samples)))
    return samples


def summary(samples: Sequence[Sample]) -> "RenderableType":
    """How the scores lie, and some of what was written, for the terminal."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table("score", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("told of", "10 %", "median", "90 %"):
        table.add_column(name, justify="right")
    for name, values in columns(samples).items():
        known = values[~np.isnan(values)]
        low, middle, high = np.quantile(known, (0.1, 0.5, 0.9)) if len(known) else (np.nan,) * 3
        table.add_row(name, f"{len(known):,}", f"{low:.4g}", f"{middle:.4g}", f"{high:.4g}")
    dirty = sum(is_contaminated(one) for one in samples)
    told = f"{len(samples):,} samples; {dirty:,} hold what is measured on and are never learned"
    shown = [
        Text.assemble((one.prompt, "dim"), one.completion, (one.suffix, "dim"), "\n")[:SHOWN]
        for one in samples[:EXAMPLES]
    ]
    return Group(Text(told), table, *shown)


def prompts_in(file: Path, model: Path) -> list[str]:
    """The prompts of a file, chats by the template of a model's tokenizer. Raises InputError."""
    found = [prompt for _, _, prompt in prompt_records(str(file), model)]
    if not found:
        raise InputError(f'{file}: holds no prompts; every line must look like {{"prompt": "..."}}')
    return found
