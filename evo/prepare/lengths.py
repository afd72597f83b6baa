"""Records that sequence_length truncates: how many, and the share of their tokens that is left.

A search that truncates them is valid, but does not train on all of its data.
"""

from collections.abc import Iterator

from evo.config import SearchConfig, bounds
from evo.config.genomes import learners, mixed_sources
from fitness.data.kinds import PAIRED, Kind
from fitness.data.records import Records
from fitness.data.sources import TokenFile
from fitness.evaluation import Task
from fitness.methods import use_of
from fitness.mixture.decks import Cuts, RecordDeck

# Uses of held-out records; else `learn`.
SCORED: dict[Kind, str] = {
    "preference": "compare",
    "label": "classify",
    "tags": "tag",
    "comparison": "prefer",
}
PROMPTS = "prompts lose their beginning, answers without room for it their end"
LOSES: dict[Kind, str] = {
    "label": "texts lose their end",
    "tags": "sentences lose their last words, which are not scored",
    **dict.fromkeys(PAIRED, "prompts lose their beginning, the same for both answers"),
}


def cut_records(config: SearchConfig, task: Task) -> Iterator[str]:
    """Sentences on sources at the longest and the shortest sequences, and on held-out records."""
    if not config.form.reads_recipe:
        return
    low, high = (int(limit) for limit in bounds(config, "sequence_length"))
    sources = {name: task.sources[name] for name in mixed_sources(config) if name in task.sources}
    for name, file in sources.items():
        uses: set[str] = {use_of(file.kind, method) for method in learners(config, name)}
        clause = _clause(file, uses, high)
        short = _cuts(file, uses, low)
        if low < high and short is not None and short.cut:
            clause = clause or f"none of its records is cut at sequence_length {high}"
            clause += f"; at {low}, {short.cut:,} of {short.records:,} are, to {short.left:.0%}"
        if clause:
            yield f"sources.{name}: {clause}; raise sequence_length to learn from all of them"
    for name, splits in task.domains.items():
        for split, file in splits.items():
            if clause := _clause(file, {SCORED.get(file.kind, "learn")}, task.held_out_length):
                yield (
                    f"domains.{name}.{split}: {clause}; raise sequence_length to score all of them"
                )


def _clause(file: TokenFile, uses: set[str], length: int) -> str:
    """A clause on the records that are cut; empty where none is."""
    cuts = _cuts(file, uses, length)
    if cuts is None or not cuts.cut:
        return ""
    many = "record is" if cuts.records == 1 else "records are"
    return (
        f"{cuts.cut:,} of its {cuts.records:,} {many} longer than sequence_length {length} and cut "
        f"to {cuts.left:.0%} of their tokens ({LOSES.get(file.kind, PROMPTS)})"
    )


def _cuts(file: TokenFile, uses: set[str], length: int) -> Cuts | None:
    """Truncation under the use that truncates most; None for plain text."""
    content = file.open()
    if not isinstance(content, Records):
        return None
    found = [RecordDeck(content, use, length).cuts() for use in uses]
    return max(found, key=lambda cuts: (cuts.cut, -cuts.left))
