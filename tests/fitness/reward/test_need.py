"""Quality by the number of judgements, and how many more are needed."""

from fitness.data.documents import Source
from fitness.feedback.items import Draft, Item
from fitness.feedback.judgements import Judgement
from fitness.reward.model import Reward, fitted
from fitness.reward.need import SHARES, WANTED, curve, known, more
from fitness.samples.references import texts_of
from tests.fitness.feedback.people import known as by_id
from tests.fitness.quickstart import CORPUS, corpus_path

LIKED = ("devil", "austen", "wordnet", "python")  # the manner of which is liked best, and so on


def _items(count: int) -> list[Item]:
    """Stretches of 20 words, in turns of each source."""
    texts = {n: list(texts_of(Source(path=corpus_path(f"sources/{n}")), CORPUS)) for n in LIKED}
    said = {name: " ".join(found).split() for name, found in texts.items()}
    stretches = [" ".join(said[LIKED[n % 4]][20 * n : 20 * n + 20]) for n in range(count)]
    return [Item(f"p{n}", (Draft(text),)) for n, text in enumerate(stretches)]


ITEMS = _items(320)
SAID = [Judgement(one.id, "Ada", "rating", 5 - n % 4) for n, one in enumerate(ITEMS)]


def reward_of(said: list[Judgement]) -> Reward:
    found = fitted(by_id(ITEMS), said, seed=0)
    assert found is not None
    return found


def test_quality_is_told_for_shares_of_the_judgements_and_rises() -> None:
    steps = curve(reward_of(SAID), by_id(ITEMS), SAID, seed=0)
    assert len(steps) == len(SHARES)
    assert [one.judgements for one in steps] == [64, 128, 256]
    assert 0.5 < steps[0].accuracy < steps[1].accuracy < steps[2].accuracy < 1
    assert all(0 < one.error < 0.1 for one in steps)
    assert steps == curve(reward_of(SAID), by_id(ITEMS), SAID, seed=0)


def test_what_has_no_reason_is_foretold_by_chance() -> None:
    ratings = [1 + (n * n + n // 7) % 5 for n in range(len(SAID))]
    said = [
        Judgement(one.item, "Ada", "rating", value)
        for one, value in zip(SAID, ratings, strict=True)
    ]
    reward = reward_of(said)
    last = curve(reward, by_id(ITEMS), said, seed=0)[-1]
    assert abs(last.accuracy - 0.5) < 4 * last.error
    assert known(reward, by_id(ITEMS)) < known(reward_of(SAID), by_id(ITEMS))


def test_the_need_falls_as_people_judge() -> None:
    shares = [known(reward_of(SAID[:count]), by_id(ITEMS)) for count in (40, 320)]
    assert 0 < shares[0] < shares[1] < 1
    needs = [more(count, share) for count, share in zip((40, 320), shares, strict=True)]
    assert needs[0] is not None
    assert needs[1] is not None
    assert needs[0] > needs[1]


def test_the_need_goes_by_what_is_known() -> None:
    assert more(100, 0.5) == 300, "odds of 1 are to be 4"
    assert more(100, WANTED) == more(100, 1.0) == 0
    assert more(100, 0.0) is None
    assert more(100, 0.5, wanted=0.5) == 0


def test_where_nobody_put_two_texts_in_an_order_there_is_no_curve() -> None:
    """Each annotator rates one text: whose is better, nobody has said."""
    said = [Judgement(one.item, one.item, "rating", one.value) for one in SAID[:60]]
    assert curve(reward_of(said), by_id(ITEMS), said, seed=0) == []
