"""Diversity of texts compared with as much real text; a low ratio shows a collapse early."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from fitness.metrics.generated import distinct_n
from fitness.text import grams

COMPARED = 50  # texts, each held against the others, for self-BLEU


def diversity(texts: Sequence[str], real: Sequence[str]) -> dict[str, float]:
    """Diversity of texts, and its ratio to that of as much real text.

    `distinct_2`: different pairs of words (Li et al. 2016). `entropy`: of single words, in nats.
    `self_bleu`: likeness to one another, 0 to 1, lower is more varied (Zhu et al. 2018,
    Texygen). `distinct_ratio` and `entropy_ratio` are 1 where they are as varied as real text. All
    of them depend on the length: if there is less real text, fewer texts are compared.
    """
    beside = passages(real, texts)
    texts, real = texts[: len(beside)] if beside else texts, beside
    distinct, usual = distinct_n(texts, 2), distinct_n(real, 2)
    found, expected = entropy(texts), entropy(real)
    return {
        "distinct_2": distinct,
        "distinct_ratio": distinct / usual if usual else 1.0,
        "entropy": found,
        "entropy_ratio": found / expected if expected else 1.0,
        "self_bleu": self_bleu(texts),
        "self_bleu_real": self_bleu(real),
    }


def entropy(texts: Sequence[str]) -> float:
    """Entropy of the words of all texts together, in nats."""
    counted = Counter(word for text in texts for word in text.split())
    total = counted.total()
    return -sum(n / total * math.log(n / total) for n in counted.values())


def self_bleu(texts: Sequence[str]) -> float:
    """Mean BLEU-4 of a text with the others as references; evenly spaced ones of many, 0 for one.

    Precisions of one to four words, smoothed by adding one to each count (Lin and Och 2004).
    """
    places = np.linspace(0, len(texts) - 1, min(len(texts), COMPARED)).astype(int)
    words = [texts[place].split() for place in dict.fromkeys(places.tolist())]
    if len(words) < 2:
        return 0.0
    counts = [[Counter(grams(one, n)) for n in range(1, 5)] for one in words]
    return float(np.mean([_bleu(place, counts) for place in range(len(words))]))


def _bleu(place: int, counts: Sequence[Sequence[Counter[tuple[str, ...]]]]) -> float:
    logs = []
    for n, own in enumerate(counts[place]):
        others = [one[n] for number, one in enumerate(counts) if number != place]
        matched = sum(min(k, max(one[gram] for one in others)) for gram, k in own.items())
        logs.append(math.log((matched + 1) / (own.total() + 1)))
    return math.exp(sum(logs) / len(logs))


def passages(texts: Sequence[str], like: Sequence[str]) -> list[str]:
    """Consecutive passages of real text, one per text of `like` with as many words.

    Fewer if the real text runs out.
    """
    words = [word for text in texts for word in text.split()]
    found, place = [], 0
    for text in like:
        end = place + len(text.split())
        if end > len(words):
            break
        found.append(" ".join(words[place:end]))
        place = end
    return found
