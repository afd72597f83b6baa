"""Builtin checks of answers, by name.

A check is called as function(prompts, references, outputs) with lists of equal length and returns a
number for each output, 0 to 1: as a metric it counts by its mean. A reference is a text, or several
of which the best counts. To add one: its function and its record in CHECKS.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from fitness.checks.rouge import rouge_l, rouge_n
from fitness.errors import InputError
from fitness.text import plain, share

Reference = str | Sequence[str]  # one, or several that are as good
NUMBER = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
CLOSE = 1e-6  # relative difference of equal numbers
ARTICLE = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")  # of ASCII, as `string.punctuation`


@dataclass(frozen=True)
class Check:
    """A check of one answer against one reference; `valid` raises ValueError for a bad one."""

    compare: Callable[[str, str], float]  # of reference and output
    description: str
    valid: Callable[[str], object] = str

    def __call__(
        self, prompts: Sequence[str], references: Sequence[Reference], outputs: Sequence[str]
    ) -> list[float]:
        pairs = zip(references, outputs, strict=True)
        return [
            max(self._compared(one, output) for one in alternatives(reference))
            for reference, output in pairs
        ]

    def _compared(self, reference: str, output: str) -> float:
        try:
            return float(self.compare(reference, output))
        except ValueError as error:
            raise InputError(f"the reference {reference!r:.60} {error}") from error


def alternatives(reference: Reference) -> Sequence[str]:
    """All texts of a reference."""
    return (reference,) if isinstance(reference, str) else reference


def normalised(text: str) -> str:
    """Lower case without punctuation, articles and extra white space, as SQuAD compares answers."""
    return " ".join(ARTICLE.sub(" ", PUNCTUATION.sub("", text.lower())).split())


def _same(reference: str, output: str) -> bool:
    return plain(output) == plain(reference)


def _same_normalised(reference: str, output: str) -> bool:
    return normalised(output) == normalised(reference)


def _token_f1(reference: str, output: str) -> float:
    """Harmonic mean of precision and recall of words; of two empty texts 1, as SQuAD 2 has it."""
    wanted, given = normalised(reference).split(), normalised(output).split()
    if not wanted or not given:
        return float(wanted == given)
    common = (Counter(wanted) & Counter(given)).total()
    return share(2 * common, len(wanted) + len(given))


def number_in(text: str) -> float | None:
    """The last number of a text, thousands separated by commas or not; None if there is none."""
    found = NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


def _same_number(reference: str, output: str) -> bool:
    wanted, given = number_in(reference), number_in(output)
    if wanted is None or given is None:
        return False
    return abs(wanted - given) <= CLOSE * abs(wanted)


def _some_number(reference: str) -> None:
    if number_in(reference) is None:
        raise ValueError("has no number")


def _matches(reference: str, output: str) -> bool:
    return _pattern(reference).fullmatch(output.strip()) is not None


@cache
def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.DOTALL)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from error


def _satisfies(reference: str, output: str) -> bool:
    from referencing.exceptions import Unresolvable

    try:
        answer = json.loads(output)
    except (ValueError, RecursionError):
        return False
    try:
        return bool(_schema(reference).is_valid(answer))
    except Unresolvable as error:
        raise ValueError(f"refers to {error.ref}, which is not in it; write it out") from error


@cache
def _schema(text: str) -> Any:
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry

    try:
        schema = json.loads(text)
        if not isinstance(schema, dict | bool):
            raise TypeError("it must be an object")
        validator = validator_for(schema, default=Draft202012Validator)
        validator.check_schema(schema)
    except (ValueError, TypeError, SchemaError) as error:
        first = str(error).splitlines()[0]
        raise ValueError(f"is not a JSON Schema: {first}") from error
    return validator(schema, registry=Registry())  # which fetches nothing from the network


CHECKS = {
    "exact_match": Check(_same, "equal to the reference but for case and white space"),
    "squad_match": Check(
        _same_normalised,
        "equal to the reference but for case, punctuation, articles and white space, as in SQuAD",
    ),
    "token_f1": Check(
        _token_f1, "F1 of the words in common with the reference, normalised as in SQuAD"
    ),
    "rouge_1": Check(partial(rouge_n, 1), "ROUGE-1: F1 of the words in common with the reference"),
    "rouge_2": Check(partial(rouge_n, 2), "ROUGE-2: F1 of the pairs of words in common with it"),
    "rouge_l": Check(rouge_l, "ROUGE-L: F1 of the longest common subsequence of words with it"),
    "numeric": Check(
        _same_number, "the last number is that of the reference, within 1e-6 of it", _some_number
    ),
    "regex": Check(
        _matches, "the reference, a regular expression, matches the whole answer", _pattern
    ),
    "json_schema": Check(
        _satisfies, "JSON that satisfies the reference, which is a JSON Schema", _schema
    ),
}


COMPARING = frozenset({*CHECKS, "bleu", "chrf"})  # builtin metrics that read the references


def check_references(names: Sequence[str], references: Sequence[Reference], where: str) -> None:
    """Raise InputError, beginning with `where`, for a reference that one of the checks refuses."""
    for name in names:
        if name not in CHECKS:
            continue
        for place, reference in enumerate(references, start=1):
            for text in alternatives(reference):
                try:
                    CHECKS[name].valid(text)
                except ValueError as error:
                    raise InputError(
                        f"{where}: the reference of prompt {place}, {text!r:.60}, {error}, which "
                        f"{name} needs"
                    ) from error
