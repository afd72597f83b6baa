"""Similarity of a sample to others of the pool, and to one place of a longer text.

Texts are compared by their *shingles*, three consecutive words, without case and punctuation:
one changed word changes three of them. A sample's are those that reach into its completion, since
its prompt is copied by design.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence, Set

from fitness.data.samples import Sample
from fitness.text import SHINGLE, Gram, grams, likeness, shingles, words

BANDS, ROWS = 42, 3  # of the MinHash: finds 99.6 % of what is alike by .5, 68 % of .3
PERMUTATIONS = 128


def completion_shingles(sample: Sample) -> frozenset[Gram]:
    """The shingles of a sample that reach into its completion."""
    return shingles(words(sample.completion), words(sample.prompt))


def duplicates(samples: Sequence[Sample], *, seed: int = 0) -> list[float]:
    """Greatest similarity of each sample to an earlier one, 0 to 1; the first of equal ones has 0.

    Jaccard similarity of their shingles: exact, but only of the pairs that locality-sensitive
    hashing of their MinHashes proposes, so that those below about .3 may count as 0. Broder 1997.
    """
    from datasketch import MinHash, MinHashLSH

    sets = [completion_shingles(sample) for sample in samples]
    distinct = list(dict.fromkeys(one for one in sets if one))
    hashed = MinHash.bulk(
        [[" ".join(gram).encode() for gram in sorted(one)] for one in distinct],
        num_perm=PERMUTATIONS,
        seed=seed,
    )
    index = MinHashLSH(num_perm=PERMUTATIONS, params=(BANDS, ROWS))
    first: dict[Set[Gram], float] = {}
    for place, (one, signature) in enumerate(zip(distinct, hashed, strict=True)):
        likenesses = (likeness(one, distinct[other]) for other in index.query(signature))
        first[one] = max(likenesses, default=0.0)
        index.insert(place, signature)
    seen: set[Set[Gram]] = set()
    found = []
    for one in sets:
        found.append(1.0 if one and one in seen else first.get(one, 0.0))
        seen.add(one)
    return found


def copied(sets: Sequence[Set[Gram]], references: Iterable[str]) -> list[float]:
    """The greatest share of each set of shingles that one place of a reference holds, 0 to 1.

    A place is a stretch of at most twice as many words as the set has shingles. Exact: the
    references stream past an index of the sets, so memory does not grow with them.
    """
    holders = holders_of(sets)
    best = [0.0] * len(sets)
    for text in references:
        hits: dict[int, list[tuple[int, Gram]]] = defaultdict(list)
        for place, gram in enumerate(grams(words(text), SHINGLE)):
            for holder in holders.get(gram, ()):
                hits[holder].append((place, gram))
        for holder, places in hits.items():
            size = len(sets[holder])
            if len(places) > best[holder] * size:  # else there is nothing to find
                best[holder] = max(best[holder], _densest(places, 2 * size) / size)
    return best


def holders_of(sets: Sequence[Set[Gram]]) -> dict[Gram, list[int]]:
    """The places of the sets that each n-gram is in."""
    holders: dict[Gram, list[int]] = defaultdict(list)
    for number, one in enumerate(sets):
        for gram in one:
            holders[gram].append(number)
    return dict(holders)


def _densest(places: Sequence[tuple[int, Gram]], span: int) -> int:
    """The most distinct n-grams in any stretch of so many words; places rise."""
    inside: Counter[Gram] = Counter()
    most = begin = 0
    for place, gram in places:
        inside[gram] += 1
        while places[begin][0] <= place - span:
            old = places[begin][1]
            inside[old] -= 1
            if not inside[old]:
                del inside[old]
            begin += 1
        most = max(most, len(inside))
    return most
