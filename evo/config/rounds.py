"""The section `rounds`: a search whose models go on to learn from what the best of them write."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from evo.config.section import Name, Section
from fitness.data.kinds import Kind
from fitness.samples.filters import DEFAULT_FILTERS
from fitness.samples.write import Generation

POOL = "pool"  # the source that holds what models wrote
JUDGED: Mapping[str, Kind] = {  # the sources that people's feedback becomes, with their kinds
    "corrections": "completion",
    "preferences": "preference",
    "ratings": "rating",
}
PEOPLE = "people"


class Rounds(Section):
    """Evolve, let the best write, filter, and evolve again with the pool as one more source."""

    limit: int = Field(default=3, ge=1, description="Rounds at most.")
    patience: int = Field(
        default=1, ge=1, description="Rounds without a better model after which there are no more."
    )
    target: str | None = Field(
        default=None,
        description="`<measurement> <= <number>` or `>=`, of the best on the selection split: once "
        "it is met there are no more rounds.",
    )
    begin: Literal["base", "best"] = Field(
        default="base",
        description="What the fine-tunes of each round begin with: the `base` that the first one "
        "began with, or the `best` model of the rounds before.",
    )
    writers: int = Field(
        default=3, ge=1, description="How many of the front write: the best one, then its nearest."
    )
    writing: Generation = Field(
        default_factory=Generation, description="How much is written in a round, and how."
    )
    prompts: str | None = Field(
        default=None,
        description="JSONL of {prompt} to go on from, if writing.from_prompts says so.",
    )
    like: tuple[Name, ...] = Field(
        default=(),
        description="Sources whose texts samples begin with and are compared with. Left out, all, "
        "by the shares of the best mixture.",
    )
    filters: tuple[str, ...] = Field(
        default=DEFAULT_FILTERS,
        description="What scores each sample, once: names, or your own module:function. Recipes "
        "cut by these scores (`keep_` fields and genes); contamination is always removed, and "
        "`reward` and `rating` are there once enough was judged.",
    )
    second: str = Field(
        default="", description="The second model of the filter `likelihood`: a folder or Hub id."
    )
    real_share: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="The least share of the tokens that people wrote; the pool may have the rest.",
    )
    diversity: float = Field(
        default=0.6,
        ge=0,
        le=1,
        description="Distinct pairs of words in what a round wrote, as a share of those in as much "
        "real text: below this it is collapsing, and the round's samples are left out.",
    )
    general: bool = Field(
        default=True,
        description="Where the spec names one objective alone, the losses of its other domains are "
        "objectives too, so that what is forgotten is seen.",
    )
    judgements: int = Field(
        default=0,
        ge=0,
        description="Samples that somebody judges after the first round; half as many after each "
        "further one. 0 asks nobody.",
    )
    annotator: str = Field(
        default=PEOPLE,
        description="`people`, who judge by `evo feedback RUN`; module:function, called as "
        "function(prompt, drafts) -> {kind: value}; or `judge:` and a model folder, Hub id or "
        "URL#model of an OpenAI-compatible server, which judges pairs, its key in OPENAI_API_KEY.",
    )
    unreachable: Literal["stop", "continue"] = Field(
        default="stop",
        description="What a run does when the annotator's server cannot be reached: stop, to be "
        "resumed; or continue with what was judged so far.",
    )
