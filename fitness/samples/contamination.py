"""Contamination: samples that contain evaluation text are always removed, whatever the recipe.

A sample is contaminated if it shares eight words that follow one another with an evaluation text,
or holds all of one that has fewer (four at least), or if a quarter of its shingles, of all of it
or those of its completion, and four words at least, stand in one place of one: so two of eight
words may be other ones, and few real texts that are no copies are lost (`make bench NAME=filters`).

GPT-3 took runs of 13 words for whole documents (Brown et al. 2020, appendix C), GPT-2 eight
(Radford et al. 2019, section 4); samples are a few lines long, of which thirteen words in a row
survive no change of every tenth. As GPT-3 did, what more than ten evaluation texts share is taken
for a template, not for contamination.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import chain

from fitness.data.samples import Sample
from fitness.filters import CONTAMINATION
from fitness.samples.duplicates import completion_shingles, copied, holders_of
from fitness.text import SHINGLE, grams, shingles, words

RUN = 8  # words
SHORTEST = 4  # words that a sample must share; shorter answers, such as a label, are common
TEMPLATE = 10  # more evaluation texts than this share it
CONTAMINATED = 0.25


def contamination(samples: Sequence[Sample], evaluated: Sequence[str]) -> list[float]:
    """Scores: 1 for a shared run of words, else the share of shingles found in one place of a text.

    `evaluated` are the texts of all evaluation splits, see `references.evaluated_texts`. A sample
    with a score of at least CONTAMINATED is removed.
    """
    texts = list(dict.fromkeys(evaluated))
    said = [words(text) for text in texts]
    written = [words(sample.text) for sample in samples]
    shared = [1.0 if one else 0.0 for one in _sharing(written, said)]
    usual = _usual(said, SHINGLE)
    wholes = [shingles(one) for one in written]
    endings = [completion_shingles(sample) for sample in samples]
    for sets in (wholes, endings):
        telling = [one - usual for one in sets]
        for place, held in enumerate(copied(telling, texts)):
            found = round(held * len(telling[place]))
            if found > SHORTEST - SHINGLE:  # fewer shared words occur by chance
                shared[place] = max(shared[place], found / len(sets[place]))
    return shared


def contaminated(samples: Sequence[Sample], evaluated: Sequence[str]) -> set[str]:
    """Ids of the samples that are to be removed."""
    scores = contamination(samples, evaluated)
    return {s.id for s, score in zip(samples, scores, strict=True) if score >= CONTAMINATED}


def is_contaminated(sample: Sample) -> bool:
    """True if a sample's contamination score says so; one without a score counts as clean."""
    return sample.scores.get(CONTAMINATION, 0.0) >= CONTAMINATED


def _sharing(written: Sequence[Sequence[str]], said: Sequence[Sequence[str]]) -> list[bool]:
    """Flags of the samples that share a run of words with an evaluation text; words of each."""
    found = [False] * len(written)
    for length in range(SHORTEST, RUN + 1):
        whole = length < RUN
        texts = [one for one in said if (len(one) == length if whole else len(one) >= RUN)]
        holders = holders_of([frozenset(grams(one, length)) for one in written] if texts else [])
        usual = _usual(texts, length)
        for gram in chain.from_iterable(grams(one, length) for one in texts):
            if gram not in usual:
                for place in holders.get(gram, ()):
                    found[place] = True
    return found


def _usual(texts: Sequence[Sequence[str]], length: int) -> set[tuple[str, ...]]:
    """The n-grams that more than TEMPLATE texts have."""
    counted = Counter(gram for one in texts for gram in set(grams(one, length)))
    return {gram for gram, times in counted.items() if times > TEMPLATE}
