"""Functions of generated answers: BLEU and chrF of the corpus, distinct n-grams and repetition.

Words are separated by white space. A reference is a text, or several of which each counts.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fitness.checks.table import Reference, alternatives
from fitness.text import grams, repeated, share

Array = npt.NDArray[np.float64]
Texts = Sequence[str]
References = Sequence[Reference]


def bleu(outputs: Texts, references: References) -> float:
    """BLEU of all answers, 0 to 100: Papineni et al., "BLEU", 2002; sacrebleu's defaults.

    Words are those of mteval-v13a, which does not split scripts without spaces between words.
    """
    return float(_bleu().corpus_score(list(outputs), _streams(references)).score)


def bleu_by_prompt(prompts: Texts, references: References, outputs: Texts) -> Array:
    """Pseudo-values of BLEU, (n,), which sums lengths and counts of n-grams over answers.

    Counts without one answer are scaled to all n: where no n-gram of some length is right, the
    smoothed precision is 1 / (2 counts), and BLEU would grow with fewer answers.
    """
    metric = _bleu()
    counts = np.array(metric._extract_corpus_statistics(list(outputs), _streams(references)), float)
    number = len(counts)

    def measure(total: Array) -> float:
        *lengths, left = total[0], total[1], total[-1]  # their ratio counts, so they stay integers
        scaled = total[2:-1] * (number / max(1, left))
        return float(metric._compute_score_from_stats([*lengths, *scaled]).score)

    return jackknife(np.column_stack([counts, np.ones(number)]), measure)


def chrf(outputs: Texts, references: References) -> float:
    """chrF2 of all answers, 0 to 100: Popovic, "chrF", 2015; sacrebleu's defaults."""
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().corpus_score(list(outputs), _streams(references)).score)


def chrf_by_prompt(prompts: Texts, references: References, outputs: Texts) -> Array:
    """Pseudo-values of chrF2, (n,), which sums the counts of n-grams over answers."""
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()
    counts = np.array(metric._extract_corpus_statistics(list(outputs), _streams(references)), float)
    return jackknife(counts, lambda total: float(metric._compute_f_score(total.tolist())))


def _bleu() -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(force=True)  # says nothing of answers that look tokenised


def _streams(references: References) -> list[list[str | None]]:
    """References as sacrebleu takes them: the first of each answer, then the second, and so on."""
    each = [list(alternatives(one)) for one in references]
    most = max(map(len, each), default=0)
    return [[one[place] if place < len(one) else None for one in each] for place in range(most)]


def jackknife(statistics: Array, measure: Callable[[Array], float]) -> Array:
    """Pseudo-values, (n,), of a measure of sums over items, whose statistics are (n, ...).

    n f(all) - (n - 1) f(all but one); their mean estimates the measure, without the bias of 1/n.
    """
    count, total = len(statistics), statistics.sum(axis=0)
    whole = measure(total)
    return np.array([count * whole - (count - 1) * measure(total - one) for one in statistics])


def distinct_n(outputs: Texts, n: int) -> float:
    """Distinct n-grams of words over all of them, all outputs pooled; 0.0 if there are none.

    Li et al., "A diversity-promoting objective function", 2016.
    """
    found = [gram for output in outputs for gram in grams(output.split(), n)]
    return share(len(set(found)), len(found))


def repetition(outputs: Texts) -> list[float]:
    """Share of the 4-grams of words that occurred before in the same output, (n,).

    An output of fewer than four words counts as 0. Welleck et al., "Neural text generation with
    unlikelihood training", 2019 (seq-rep-4).
    """
    return [repeated(output.split()) for output in outputs]
