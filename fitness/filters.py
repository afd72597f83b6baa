"""Table of all filters of generated samples; add a new one here.

To add one: its function in a file of `fitness/samples/`, and its record in FILTERS. The recipe's
threshold, `evo pool`, the checks and the reference page follow from the record.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fitness.checks.own import own_check
from fitness.checks.table import CHECKS
from fitness.errors import InputError
from fitness.plugins import function_name
from fitness.suggest import did_you_mean, listed

Needs = Literal[
    "base", "second", "real", "training", "evaluated", "judgements", "samples", "references"
]
MODELS: tuple[Needs, ...] = ("base", "second")
Side = Literal["highest", "lowest", "band"]
CONTAMINATION = "contamination"  # of samples that contain evaluation text; no threshold applies
OWN = "own"  # the threshold on scores by users' own functions
RATING = "rating"  # people's overall rating; by a criterion of theirs it is `rating/criterion`
RATERS = "raters"
REALNESS = "realness"  # which says nothing where its discriminator cannot tell, see `separation`


@dataclass(frozen=True, slots=True)
class Filter:
    """A score of samples: its function, the input that it needs, its unit, and the side to keep."""

    function: str
    """`module:function`, called as function(samples, given), with `samples.scoring.Given`; returns
    a number for each sample, NaN where it has none. Empty for a check of `fitness.checks.table`."""
    needs: Needs
    keeps: Side
    """The samples that a threshold keeps: the share highest or lowest, or between two quantiles."""
    unit: str
    description: str
    threshold: str = ""
    """Description of the recipe's threshold; "" if there is none."""
    partial: bool = False
    """True: few samples have this score, and those without it pass."""


FILTERS: Mapping[str, Filter] = {
    "perplexity": Filter(
        "fitness.samples.functions:base_perplexity",
        needs="base",
        keeps="band",
        unit="",
        description="of the completion after its prompt, under the base",
        threshold="the completion's perplexity under the base; below is repetition, above is noise",
    ),
    "likelihood": Filter(
        "fitness.samples.functions:second_likelihood",
        needs="second",
        keeps="highest",
        unit="nats per token",
        description="of the completion, under a second model",
        threshold="The share of samples likeliest under the second model.",
    ),
    REALNESS: Filter(
        "fitness.samples.functions:real_by_discriminator",
        needs="real",
        keeps="highest",
        unit="probability",
        description="of being real text, by a discriminator",
        threshold="The share of samples that a discriminator finds most real.",
    ),
    "duplicate": Filter(
        "fitness.samples.functions:nearest_duplicate",
        needs="samples",
        keeps="lowest",
        unit="share",
        description="likeness to the nearest sample before it in the pool",
        threshold="The share of samples least like an earlier one.",
    ),
    "copied": Filter(
        "fitness.samples.functions:copied_from_sources",
        needs="training",
        keeps="lowest",
        unit="share",
        description="of the completion that stands in one place of a source",
        threshold="The share of samples least copied from a source.",
    ),
    CONTAMINATION: Filter(
        "fitness.samples.functions:contaminated_by_evaluation",
        needs="evaluated",
        keeps="lowest",
        unit="share",
        description="of the sample in one evaluation text; contaminated ones are never kept",
    ),
    "reward": Filter(
        "fitness.samples.functions:predicted_reward",
        needs="judgements",
        keeps="highest",
        unit="log-odds",
        description="that people prefer it to the average draft, predicted",
        threshold="The share that people would like best, by a reward model.",
    ),
    RATING: Filter(
        "fitness.samples.functions:mean_rating",
        needs="judgements",
        keeps="highest",
        unit="1 to 5",
        description="by people, of this very sample: the mean",
        threshold="Of the samples that people rated, the share rated best; others are kept.",
        partial=True,
    ),
    RATERS: Filter(
        "fitness.samples.functions:fewest_raters",
        needs="judgements",
        keeps="highest",
        unit="people",
        description="who rated it; with criteria, by the one that fewest rated",
        partial=True,
    ),
    "repetition": Filter(
        "fitness.samples.functions:repeated_words",
        needs="samples",
        keeps="lowest",
        unit="share",
        description="4-grams of words that the completion has had before",
        threshold="The share of samples that repeat themselves least.",
    ),
    "length": Filter(
        "fitness.samples.functions:words_of_completion",
        needs="samples",
        keeps="band",
        unit="words",
        description="of the completion",
        threshold="the length in words",
    ),
    **{
        name: Filter("", "references", "highest", "share", f"of the completion: {one.description}")
        for name, one in CHECKS.items()
    },
}
MORE: tuple[Needs, ...] = ("second", "judgements", "references")  # than every pool comes with
DEFAULT_FILTERS = tuple(name for name, one in FILTERS.items() if one.needs not in MORE)
OF_USERS = Filter("", "samples", "highest", "", "as its own function defines it")
OF_CRITERION = Filter(
    "", "judgements", "highest", "1 to 5", "by people, by one criterion: the mean", partial=True
)


def filter_of(name: str) -> Filter:
    """The filter that gives a score; for a user's own function, higher is better."""
    return OF_CRITERION if of_criterion(name) else FILTERS.get(name, OF_USERS)


def of_criterion(name: str) -> bool:
    """True for the name of a rating by a criterion, such as `rating/coherence`."""
    return name.startswith(f"{RATING}/")


def is_own(name: str) -> bool:
    """True for a score by a user's own function, to which the threshold `own` applies."""
    return filter_of(name) is OF_USERS


def needs(name: str) -> Needs:
    """Input that a filter needs besides samples. Raises InputError for an unknown filter."""
    check_filter(name)
    return filter_of(name).needs


def check_filter(name: str) -> None:
    """Raise InputError unless it is a known filter or a function that can be imported."""
    if name in FILTERS or of_criterion(name):
        return
    if ":" not in name:
        raise InputError(
            f"filter {name!r}: unknown; choose one of {listed(FILTERS)}, or your own as "
            f"module:function{did_you_mean(name, FILTERS)}"
        )
    own_check(name, "filter")
    if function_name(name) in FILTERS:
        raise InputError(f"filter {name!r}: there is one of this name already; rename the function")
