"""Clean documents one after the other, and say why one is dropped."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from fitness.cleaning.settings import Cleaning
from fitness.errors import InputError
from fitness.suggest import listed
from fitness.text import Gram, grams, plain, repeated, shingles, words

RUN = 13  # words in a row that mark a document as holding a held-out text: Brown et al. 2020
SHORTEST = 8  # words of a held-out text that counts as a whole
TEMPLATE = 10  # more held-out texts than this share a run of words: a template, no contamination
ALIKE = 0.8  # Jaccard similarity of near duplicates: Lee et al. 2022, "Deduplicating training data"
PERMUTATIONS = 128
SEED = 1


class Cleaner:
    """Cleans and filters the documents of several sources, which it remembers to find duplicates.

    Memory grows with the documents kept where duplicates are dropped: 16 bytes each for exact ones,
    some 2 KB for near ones.
    """

    def __init__(self, settings: Cleaning, evaluated: Sequence[str] = ()) -> None:
        """`evaluated` are the held-out texts, for `held_out`.

        Raises InputError for a language that the library does not know.
        """
        self._settings = settings
        if settings.languages:
            known = self._identifier.labels
            for name in settings.languages:
                if name not in known:
                    raise InputError(
                        f"cleaning.languages: {name!r} is unknown; there are {listed(known)}"
                    )
        self._evaluated = evaluated
        self._seen: set[bytes] = set()

    def mended(self, text: str) -> str:
        """The text with its faults mended, if that is wanted."""
        if not self._settings.normalise:
            return text
        import ftfy

        return str(ftfy.fix_text(text))

    def fault(self, text: str) -> str:
        """The reason to drop a document; empty to keep it, which is then remembered."""
        checks: tuple[tuple[str, Callable[[str], bool]], ...] = (
            ("length", self._odd_length),
            ("repetition", self._repeats),
            ("language", self._foreign),
            ("held out", self._held_out),
            ("duplicate", self._known),
        )
        return next((name for name, applies in checks if applies(text)), "")

    def remember(self, text: str) -> None:
        """Take a document that was kept earlier for known."""
        self._known(text)

    def _odd_length(self, text: str) -> bool:
        low, high = self._settings.least_words, self._settings.most_words
        if not low and high is None:
            return False
        count = len(text.split())
        return count < low or (high is not None and count > high)

    def _repeats(self, text: str) -> bool:
        limit = self._settings.repetition
        return limit is not None and repeated(text.split()) > limit

    def _foreign(self, text: str) -> bool:
        wanted = self._settings.languages
        return bool(wanted) and self._identifier.classify(text)[0] not in wanted

    @cached_property
    def _identifier(self) -> Any:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        return LanguageIdentifier.from_model_file(MODEL_FILE)

    def _held_out(self, text: str) -> bool:
        if not self._settings.held_out:
            return False
        said = words(text)
        return any(not held.isdisjoint(grams(said, length)) for length, held in self._runs.items())

    @cached_property
    def _runs(self) -> dict[int, set[Gram]]:
        """Runs of words of the held-out texts, by their length; without those of a template."""
        said = [words(text) for text in dict.fromkeys(self._evaluated)]
        found: dict[int, Counter[Gram]] = {}
        for one in said:
            length = min(len(one), RUN)
            if length >= SHORTEST:
                found.setdefault(length, Counter()).update(set(grams(one, length)))
        return {
            length: {gram for gram, times in counted.items() if times <= TEMPLATE}
            for length, counted in found.items()
        }

    def _known(self, text: str) -> bool:
        """True for a duplicate of a document seen before; others are remembered."""
        kind = self._settings.duplicates
        if kind is None:
            return False
        digest = hashlib.blake2b(plain(text).encode(errors="surrogatepass"), digest_size=16)
        if digest.digest() in self._seen:
            return True
        if kind == "near" and self._alike(text):
            return True
        self._seen.add(digest.digest())
        return False

    def _alike(self, text: str) -> bool:
        """True for a near duplicate; others are added to the index."""
        from datasketch import MinHash

        signature = MinHash(num_perm=PERMUTATIONS, seed=SEED)
        signature.update_batch([" ".join(gram).encode() for gram in shingles(words(text))])
        index = self._index
        for other in index.query(signature):
            if signature.jaccard(self._signatures[other]) >= ALIKE:
                return True
        self._signatures.append(signature)
        index.insert(len(self._signatures) - 1, signature)
        return False

    @cached_property
    def _signatures(self) -> list[Any]:
        return []

    @cached_property
    def _index(self) -> Any:
        from datasketch import MinHashLSH

        return MinHashLSH(threshold=ALIKE, num_perm=PERMUTATIONS)


def mapped(value: Any, change: Callable[[str], str]) -> Any:
    """A record with each of its texts changed, but for the roles of messages."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {n: one if n == "role" else mapped(one, change) for n, one in value.items()}
    return [mapped(one, change) for one in value] if isinstance(value, list) else value
