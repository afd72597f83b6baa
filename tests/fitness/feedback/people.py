"""People who go by a rule: they like what ends in a full stop, and do not like repetition."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fitness.feedback.items import Draft, Item
from fitness.feedback.judgements import Judgement
from tests.fitness.samples.pools import JARGON

SPOILT = 3  # ways to spoil a text, of which the first leaves it as it is


def texts(count: int) -> list[str]:
    """Real stretches of 12 words: as they are, without their end, or repeating themselves."""
    said = " ".join(JARGON).split()
    stretches = [said[12 * n : 12 * n + 12] for n in range(count)]
    return [
        spoilt(" " + " ".join(one).rstrip(".") + ".", n % SPOILT) for n, one in enumerate(stretches)
    ]


def spoilt(text: str, way: int) -> str:
    words = text.split()
    return (text, text.rstrip("."), " " + " ".join([*words[:4]] * 3) + ".")[way]


def liking(text: str) -> int:
    """1 to 5, by the rule."""
    words = text.split()
    return 1 + 2 * text.endswith(".") + 2 * (len(set(words)) > len(words) / 2)


def singles(count: int) -> list[Item]:
    return [Item(f"word {n}:", (Draft(text),)) for n, text in enumerate(texts(count))]


def pairs(count: int) -> list[Item]:
    """Each of two texts that are not liked equally."""
    every = texts(3 * count)
    found = []
    for n in range(count):
        two = (every[3 * n], every[3 * n + 1 + n % 2])
        found.append(Item(f"word {n}:", tuple(map(Draft, two if n % 4 < 2 else two[::-1]))))
    return found


def known(items: Sequence[Item]) -> dict[str, Item]:
    return {item.id: item for item in items}


def rated(items: Sequence[Item], by: str = "Ada", lenience: int = 0) -> list[Judgement]:
    return [
        Judgement(one.id, by, "rating", int(np.clip(liking(one.drafts[0].text) + lenience, 1, 5)))
        for one in items
    ]


def preferred(items: Sequence[Item], by: str = "Ada") -> list[Judgement]:
    found = []
    for one in items:
        first, second = (liking(draft.text) for draft in one.drafts)
        side = "tie" if first == second else "first" if first > second else "second"
        found.append(Judgement(one.id, by, "preference", side))
    return found


def corrected(items: Sequence[Item], by: str = "Ada") -> list[Judgement]:
    """Those that can be made better, with the first words once, and a full stop."""
    found = []
    for one in items:
        text = one.drafts[0].text
        better = " " + " ".join(dict.fromkeys(text.rstrip(".").split())) + "."
        if better != text:
            found.append(Judgement(one.id, by, "correction", better))
    return found


def wrong(judgements: Sequence[Judgement]) -> list[Judgement]:
    """Said by somebody who likes the opposite."""
    sides = {"first": "second", "second": "first", "tie": "tie"}
    return [
        replace(one, value=sides[one.value] if one.kind == "preference" else 6 - one.value)
        for one in judgements
    ]
