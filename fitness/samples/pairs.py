"""Preference pairs from samples: a right and a wrong answer to the same prompt."""

from collections.abc import Collection, Iterable, Sequence

from fitness.data.samples import Sample

Pair = dict[str, str]


def pairs(samples: Sequence[Sample], right: Collection[str], most: int) -> list[Pair]:
    """Records of kind `preference`, at most `most` of each prompt; `right` are ids of samples.

    The others are wrong, but for those that the model did not end itself: a record would end them.
    Each right answer is paired before any is paired again, and each wrong one alike.
    """
    found: list[Pair] = []
    for prompt, answers in _by_prompt(one for one in samples if not one.suffix).items():
        chosen = [one.completion for one in answers if one.id in right]
        rejected = [one.completion for one in answers if one.id not in right and one.ended]
        if not (chosen and rejected):
            continue
        for place in range(min(most, max(len(chosen), len(rejected)))):
            pair = chosen[place % len(chosen)], rejected[place % len(rejected)]
            found.append({"prompt": prompt, "chosen": pair[0], "rejected": pair[1]})
    return found


def _by_prompt(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for one in samples:
        found.setdefault(one.prompt, []).append(one)
    return found
