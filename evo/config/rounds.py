"""The section `rounds`: repeated searches that also train on samples of the best models so far."""

from collections.abc import Mapping
from math import ceil
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from evo.config.base_section import Name, Section
from fitness.data.kinds import Kind
from fitness.data.requirements import Requirements
from fitness.feedback.judgements import is_rating
from fitness.filters import DEFAULT_FILTERS, RATERS, RATING
from fitness.samples.write import Generation

POOL = "pool"  # name of the source of generated samples
PAIRS = "pairs"  # of right and wrong ones
GENERATED: Mapping[str, Kind] = {POOL: "sample", PAIRS: "preference"}
JUDGED: Mapping[str, Kind] = {  # sources made of people's feedback, with their kinds
    "corrections": "completion",
    "preferences": "preference",
    "ratings": "rating",
}
WHOLE = "whole_pool"  # the pool without its requirements, for a control: in no search's mixture
ADDED: Mapping[str, Kind] = {**GENERATED, WHOLE: "sample", **JUDGED}  # all that rounds add
PEOPLE = "people"
Guideline = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Rounds(Requirements, Section):
    """Repeated rounds: search, generate with the best models, filter; the pool is a new source."""

    limit: int = Field(default=3, ge=1, description="Largest number of rounds.")
    patience: int = Field(
        default=1, ge=1, description="Rounds without a better model after which the run ends."
    )
    target: str | None = Field(
        default=None,
        description="`<measurement> <= <number>` or `>=`, of the best individual on the selection "
        "split; the run ends once it is met.",
    )
    begin: Literal["base", "best"] = Field(
        default="base",
        description="Model that the fine-tunes of each round start from: the `base` of the first "
        "round, or the `best` model of all rounds before.",
    )
    first: Literal["search", "generate"] = Field(
        default="search",
        description="What comes first: a `search` over the sources, or in `generate` the untouched "
        "base generates samples (round 0), which the search of round 1 may train on already.",
    )
    writers: int = Field(
        default=3,
        ge=1,
        description="Models that generate: the best of the front, then the next.",
    )
    writing: Generation = Field(
        default_factory=Generation, description="Amount and settings of generation in each round."
    )
    prompts: str | None = Field(
        default=None,
        description="JSONL of {prompt} to continue, for the share writing.from_prompts of samples.",
    )
    like: tuple[Name, ...] = Field(
        default=(),
        description="Sources whose texts samples start with and are compared with. Default: all, "
        "by their shares of the best mixture.",
    )
    filters: tuple[str, ...] = Field(
        default=DEFAULT_FILTERS,
        description="Filters that score each sample once: names, or your own module:function. "
        "Recipes set thresholds on these scores (`keep_` fields and genes). Contaminated samples "
        "are always removed; `reward` and `rating` are added once there are enough judgements.",
    )
    second: str = Field(
        default="", description="The second model of the filter `likelihood`: a folder or Hub id."
    )
    pairs: int = Field(
        default=0,
        ge=0,
        description="Pairs of a sample that meets `require` and one that does not, after the same "
        "prompt: at most so many of each prompt, as the source `pairs` of kind preference, which "
        "`method: preference` compares. 0: none.",
    )
    real_share: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="Smallest share of tokens of human text; the pool may have the rest.",
    )
    diversity: float = Field(
        default_factory=lambda given: 0.0 if given.get("require") else 0.6,
        ge=0,
        le=1,
        description="Threshold for collapse: distinct word pairs in a round's samples, as a share "
        "of those in as much real text. Below it the round's samples are left out of the pool. "
        "Default: 0.6, or 0 with `require`, since right answers may well be alike.",
    )
    judgements: int = Field(
        default=0,
        ge=0,
        description="Samples to be judged after the first round, and half as many after each later "
        "round. 0: none.",
    )
    criteria: dict[Name, Guideline] = Field(
        default_factory=dict,
        description="What people rate from 1 to 5 beside the whole, each with the guideline that "
        "their page shows: `{coherence: Do the sentences follow from one another?}`. The mean is "
        "the score `rating/coherence`, for `require`.",
    )
    annotator: str = Field(
        default=PEOPLE,
        description="`people`, who judge with `evo feedback RUN`; module:function, called as "
        "function(prompt, drafts) -> {kind: value}; or `judge:` and a model folder, Hub id or "
        "URL#model of an OpenAI-compatible server (its key in OPENAI_API_KEY), which judges pairs.",
    )
    unreachable: Literal["stop", "continue"] = Field(
        default="stop",
        description="If the annotator's server cannot be reached: `stop`, to be resumed later; or "
        "`continue` with the judgements so far.",
    )

    @property
    def rated(self) -> tuple[str, ...]:
        """Scores from people's ratings, if there are judgements."""
        names = (RATING, *(f"{RATING}/{name}" for name in self.criteria), RATERS)
        return names if self.judgements else ()

    @property
    def needs_ratings(self) -> bool:
        """True if only single drafts are of use to judge, since ratings are required."""
        return any(is_rating(one.score) or one.score == RATERS for one in self.limits())

    @property
    def raters(self) -> int:
        """Number of people who judge each sample: as many as `require` asks for, at least one."""
        least = (one.value for one in self.limits() if one.score == RATERS and one.sign > 0)
        return max([1, *map(ceil, least)])
