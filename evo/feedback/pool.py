"""A pool of samples and people: its samples as items to judge, and judgements as scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fitness.data.samples import Sample, read_samples, to_lines
from fitness.errors import InputError
from fitness.feedback.items import Draft, Item, items_of
from fitness.feedback.judgements import Judgement, is_rating
from fitness.files import write_whole
from fitness.filters import RATERS
from fitness.reward.model import enough
from fitness.samples.contamination import is_contaminated
from fitness.samples.scoring import Given, scored
from fitness.samples.separation import read_separation, write_separation

POOL = "pool"  # the origin of items that are samples of a pool


def pool_items(
    pool: Path, *, pairs: int, rng: np.random.Generator
) -> tuple[list[Item], dict[str, dict[str, float]]]:
    """Samples of a pool as items (see `items_of`), and the scores of their filters by item.

    The scores of a pair of drafts are averaged. Raises InputError if there are no items.
    """
    found = sample_items(list(read_samples(pool)), pairs=pairs, rng=rng)
    if not found[0]:
        raise InputError(
            f"{pool}: holds no samples that could be judged, only blank, infilled or "
            "contaminated ones"
        )
    return found


def sample_items(
    samples: Sequence[Sample], *, pairs: int, rng: np.random.Generator
) -> tuple[list[Item], dict[str, dict[str, float]]]:
    """Samples as items and their scores, as `pool_items` returns them.

    Leaves out infilled samples, which cannot be judged without the text after them, and
    contaminated ones, which contain held-out text: models must not learn from judgements of it.
    """
    samples = [one for one in samples if not one.suffix and not is_contaminated(one)]
    answers: dict[tuple[str, str], list[Draft]] = {}
    scores = {}
    for one in samples:
        draft = Draft(one.completion, one.individual, one.seed)
        answers.setdefault((POOL, one.prompt), []).append(draft)
        scores[one.prompt, one.completion] = one.scores
    found = items_of(answers, pairs=pairs, rng=rng)
    by_item = {}
    for item in found:
        each = [scores[item.prompt, draft.text] for draft in item.drafts]
        shared = set.intersection(*(set(one) for one in each))
        by_item[item.id] = {name: sum(one[name] for one in each) / len(each) for name in shared}
    return found, by_item


def filters_by_people(items: Mapping[str, Item], judgements: Sequence[Judgement]) -> list[str]:
    """Names of the filters for which there are enough judgements."""
    found = ["reward"] if enough(items, judgements) else []
    ratings = sorted({one.kind for one in judgements if is_rating(one.kind)})
    return [*found, *ratings, RATERS] if ratings else found


def scored_by_people(
    samples: Sequence[Sample],
    items: Mapping[str, Item],
    judgements: Sequence[Judgement],
    *,
    seed: int,
) -> list[Sample]:
    """The samples with scores from people's judgements, if there are enough of them."""
    given = Given(seed=seed, items=items, judgements=judgements)
    return scored(samples, filters_by_people(items, judgements), given)


def score_again(
    pool: Path,
    items: Mapping[str, Item],
    judgements: Sequence[Judgement],
    to: Path,
    *,
    seed: int = 0,
) -> list[Sample]:
    """Score a pool by the judgements so far, write it to the new file `to`, and return it.

    Raises InputError if there are not enough judgements for any score.
    """
    if to.exists():
        raise InputError(f"{to} exists; name a new file")
    if not filters_by_people(items, judgements):
        raise InputError(
            f"{pool}: not enough judgements yet to score it by; judge more with `evo feedback`"
        )
    samples = scored_by_people(list(read_samples(pool)), items, judgements, seed=seed)
    to.parent.mkdir(parents=True, exist_ok=True)
    if (apart := read_separation(pool)) is not None:
        write_separation(to, apart)
    write_whole(to, "".join(to_lines(samples)))
    return samples
