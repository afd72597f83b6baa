"""Functions of the filters, by the records in `fitness.filters`: a score for each sample."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fitness.data.samples import Sample
from fitness.errors import InputError
from fitness.feedback.judgements import is_rating
from fitness.filters import RATING
from fitness.samples.contamination import contamination
from fitness.samples.discriminator import realness
from fitness.samples.duplicates import completion_shingles, copied, duplicates
from fitness.text import repeated

if TYPE_CHECKING:
    from fitness.models.base import Base
    from fitness.samples.scoring import Given

Samples = Sequence[Sample]
Scores = Sequence[float]


def base_perplexity(samples: Samples, given: "Given") -> Scores:
    """Perplexity of each completion after its prompt, under the base."""
    from fitness.inference.likelihood import likelihoods, perplexity

    return [perplexity(logp) for logp in likelihoods(_loaded(given.base, "perplexity"), samples)]


def second_likelihood(samples: Samples, given: "Given") -> Scores:
    """Mean log-probability of a completion's tokens under a second model, nats."""
    from fitness.inference.likelihood import likelihoods

    return likelihoods(_loaded(given.second, "likelihood"), samples)


def real_by_discriminator(samples: Samples, given: "Given") -> Scores:
    """Probability of being real text, see `discriminator.realness`."""
    return realness(samples, given.real, seed=given.seed)


def nearest_duplicate(samples: Samples, given: "Given") -> Scores:
    """Likeness to the nearest sample before it, see `duplicates.duplicates`."""
    return duplicates(samples, seed=given.seed)


def copied_from_sources(samples: Samples, given: "Given") -> Scores:
    """Share of the completion in one place of a training document, see `duplicates.copied`."""
    return copied([completion_shingles(one) for one in samples], given.training())


def contaminated_by_evaluation(samples: Samples, given: "Given") -> Scores:
    """Share of the sample in one evaluation text, see `contamination`."""
    return contamination(samples, given.evaluated)


def predicted_reward(samples: Samples, given: "Given") -> Scores:
    """Log-odds that people prefer it, by a reward model fitted to their judgements."""
    from fitness.reward.model import check_enough, fitted

    check_enough(given.items, given.judgements)
    reward = fitted(given.items, given.judgements, seed=given.seed, base=given.base)
    assert reward is not None
    means, _ = reward.scores([one.prompt for one in samples], [one.completion for one in samples])
    scores: list[float] = means.tolist()
    return scores


def mean_rating(samples: Samples, given: "Given", kind: str = RATING) -> Scores:
    """Mean over raters of each one's latest rating of this very text; NaN where nobody rated it.

    The ratings are overall, or of a kind such as `rating/coherence`, by that criterion.
    """
    ratings = _ratings(given).get(kind, {})
    return _by_text(samples, {text: sum(each) / len(each) for text, each in ratings.items()})


def fewest_raters(samples: Samples, given: "Given") -> Scores:
    """Number of people behind each mean rating of this very text, the smallest over criteria."""
    fewest: dict[tuple[str, str], float] = {}
    for ratings in _ratings(given).values():
        for text, each in ratings.items():
            fewest[text] = min(fewest.get(text, math.inf), len(each))
    return _by_text(samples, fewest)


def _ratings(given: "Given") -> dict[str, dict[tuple[str, str], list[float]]]:
    """Ratings by kind and by prompt and completion, one of each rater: those in force."""
    found: dict[str, dict[tuple[str, str], list[float]]] = {}
    for one in given.judgements:
        if is_rating(one.kind):
            item = given.items[one.item]
            text = item.prompt, item.drafts[0].text
            found.setdefault(one.kind, {}).setdefault(text, []).append(one.value)
    return found


def _by_text(samples: Samples, values: Mapping[tuple[str, str], float]) -> Scores:
    """The value of each sample's text, NaN without one; people saw no text after a completion."""
    return [
        math.nan if one.suffix else values.get((one.prompt, one.completion), math.nan)
        for one in samples
    ]


def repeated_words(samples: Samples, given: "Given") -> Scores:
    """Share of the completion's 4-grams of words that it has had before."""
    return [repeated(one.completion.split()) for one in samples]


def words_of_completion(samples: Samples, given: "Given") -> Scores:
    """Words of the completion."""
    return [float(len(one.completion.split())) for one in samples]


def _loaded(base: "Base | None", name: str) -> "Base":
    if base is None:
        raise InputError(f"filter {name!r}: needs a model; give it one, or leave the filter out")
    return base
