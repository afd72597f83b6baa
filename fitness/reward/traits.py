"""Traits: the features of a text that a reward model uses, its topic and its style.

The topic is latent semantic analysis of hashed n-grams (Deerwester et al. 1990), learned
from all texts that people may judge, judged or not; the style are measures such as length,
repetition and, if a model is given, the likelihood under it.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fitness.data.samples import Sample
from fitness.text import repeated, share, words

if TYPE_CHECKING:
    from fitness.models.base import Base

FEATURES = 2**14  # of each kind of n-gram
TOPICS = 48  # directions of the n-grams
END = re.compile(r"[.!?\u2026\u3002][\"')\]\u201d\u2019]*$")
BEYOND = 4.0  # standard deviations that a measure may lie from the mean; further is no more


@dataclass(frozen=True, slots=True)
class Traits:
    """Map from texts to numbers, centred on the texts it was fitted to."""

    mean: np.ndarray  # (m,) of the measures
    deviation: np.ndarray  # (m,)
    topics: Any  # a fitted decomposition, or None where there were too few texts
    centre: np.ndarray  # (k,) of the topics
    unit: float  # by which topics are divided, so that all of them together vary by 1
    base: "Base | None" = field(default=None, repr=False)

    @property
    def measures(self) -> int:
        """Number of measures of style; topics follow them."""
        return len(self.mean)

    def of(self, prompts: Sequence[str], completions: Sequence[str]) -> np.ndarray:
        """Texts as numbers, (n, m + k); 0 is the average text."""
        found = (_measures(prompts, completions, self.base) - self.mean) / self.deviation
        found = np.nan_to_num(np.clip(found, -BEYOND, BEYOND))  # what is not told is average
        if self.topics is None:
            return found
        about = (self.topics.transform(_grams(completions)) - self.centre) / self.unit
        return np.hstack([found, about])


def learned(
    prompts: Sequence[str], completions: Sequence[str], *, seed: int, base: "Base | None" = None
) -> Traits:
    """Fit traits to at least one text; the same for the same texts in any order of equal ones."""
    from sklearn.decomposition import TruncatedSVD

    measures = np.ma.masked_invalid(_measures(prompts, completions, base))
    mean, deviation = (one.filled(0.0) for one in (measures.mean(axis=0), measures.std(axis=0)))
    deviation = np.where(deviation > 0, deviation, 1.0)
    count = min(TOPICS, len(set(completions)) - 1)
    if count < 1:
        return Traits(mean, deviation, None, np.zeros(0), 1.0, base)
    topics = TruncatedSVD(count, random_state=seed)
    about = topics.fit_transform(_grams(completions))
    unit = math.sqrt(float(about.var(axis=0).sum())) or 1.0
    return Traits(mean, deviation, topics, about.mean(axis=0), unit, base)


def _grams(completions: Sequence[str]) -> Any:
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import HashingVectorizer

    by_words = HashingVectorizer(n_features=FEATURES, ngram_range=(1, 2), token_pattern=r"\w+")
    characters = HashingVectorizer(n_features=FEATURES, analyzer="char_wb", ngram_range=(3, 4))
    return hstack([one.transform(completions) for one in (by_words, characters)], format="csr")


def _measures(
    prompts: Sequence[str], completions: Sequence[str], base: "Base | None"
) -> np.ndarray:
    """Measures of the style of texts, (n, m)."""
    rows = [_measured(prompt, text) for prompt, text in zip(prompts, completions, strict=True)]
    found = np.array(rows, dtype=float)
    if base is None:
        return found
    from fitness.inference.likelihood import likelihoods

    samples = [
        Sample(*both, individual=0, seed=0) for both in zip(prompts, completions, strict=True)
    ]
    return np.column_stack([found, likelihoods(base, samples)])  # NaN of an empty completion


def _measured(prompt: str, text: str) -> list[float]:
    text, said, asked = text.strip(), words(text), set(words(prompt))
    length = math.log1p(len(said))
    letters = sum(character.isalpha() for character in text)
    return [
        length,
        length**2,  # so that neither short nor long need be best
        repeated(said),
        share(len(set(said)), len(said)),
        float(bool(END.search(text))),
        share(letters, len(text)),
        share(sum(map(len, said)), len(said)),
        share(sum(word in asked for word in said), len(said)),
        float("\n" in text),
    ]
