"""Rewards: numbers for the answers in a group of answers to one prompt, higher is better.

Every check of answers (`fitness.checks.table`) is a reward too. A user's own is `module:function`
or `command:PROGRAM ARGUMENT`, called with lists of prompts, references and outputs; it returns a
number for each output. The first line of a reward's docstring is its entry in the reference.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fitness.checks.own import own_check
from fitness.checks.table import CHECKS
from fitness.data.samples import is_score
from fitness.errors import InputError
from fitness.suggest import did_you_mean, listed
from fitness.text import grams, repeated, share


@dataclass(frozen=True)
class Group:
    """Answers to one prompt, without the token that ends them.

    `fluency` is the mean log-probability of an answer's tokens by the untouched base after the
    prompt, `plain` the same after nothing; nats, (answers,).
    """

    prompt: str
    reference: str
    outputs: Sequence[str]
    tokens: Sequence[Sequence[int]]
    longest: int  # tokens an answer may have
    fluency: Sequence[float]
    plain: Sequence[float]


def fluency(group: Group) -> Sequence[float]:
    """Mean log-probability of its tokens under the untouched base, after the prompt."""
    return group.fluency


def relevance(group: Group) -> Sequence[float]:
    """Its fluency after the prompt less its fluency after nothing."""
    return [after - alone for after, alone in zip(group.fluency, group.plain, strict=True)]


def diversity(group: Group) -> Sequence[float]:
    """1 less the share of its token pairs that another answer to the prompt has too."""
    pairs = [set(grams(tokens, 2)) for tokens in group.tokens]
    had = Counter(pair for one in pairs for pair in one)
    return [1 - share(sum(had[pair] > 1 for pair in one), len(one)) for one in pairs]


def length(group: Group) -> Sequence[float]:
    """Less its tokens as a share of the longest answer: a penalty."""
    return [-len(tokens) / group.longest for tokens in group.tokens]


def repetition(group: Group) -> Sequence[float]:
    """Less the share of its 4-grams of tokens that it has had before: a penalty."""
    return [-repeated(tokens) for tokens in group.tokens]


def _checked(check: Callable[..., Sequence[float]]) -> Callable[["Group"], Sequence[float]]:
    def reward(group: Group) -> Sequence[float]:
        count = len(group.outputs)
        return check([group.prompt] * count, [group.reference] * count, list(group.outputs))

    reward.__doc__ = f"Answer: {getattr(check, 'description', '')}."
    return reward


REWARDS: Mapping[str, Callable[[Group], Sequence[float]]] = {
    **{one.__name__: one for one in (fluency, relevance, diversity, length, repetition)},
    **{name: _checked(check) for name, check in CHECKS.items()},
}


def check_reward(name: str) -> None:
    """Raise InputError for a name that is neither a reward nor an importable function."""
    if name in REWARDS:
        return
    if ":" not in name:
        raise InputError(
            f"reward {name!r}: unknown, there are {listed(REWARDS)}, and your own as "
            f"module:function{did_you_mean(name, REWARDS)}"
        )
    own_check(name, "reward")


CLIP = 10.0  # of the sum either way, so that one answer does not outweigh its batch


def rewards(group: Group, weights: dict[str, float], *, clip: float = CLIP) -> list[float]:
    """The weighted sum of each answer's rewards, clipped to [-clip, clip]."""
    total = [0.0] * len(group.outputs)
    for name, weight in weights.items():
        if weight:
            values = REWARDS[name](group) if name in REWARDS else _own(name, group)
            total = [sum_ + weight * value for sum_, value in zip(total, values, strict=True)]
    return [max(-clip, min(clip, value)) for value in total]


def _own(name: str, group: Group) -> list[float]:
    count = len(group.outputs)
    values: list[Any] = list(_checked(own_check(name, "reward"))(group))
    for value in values:
        if not is_score(value):
            raise InputError(f"reward {name!r}: gave {value!r}; it must give finite numbers")
    if len(values) != count:
        raise InputError(f"reward {name!r}: gave {len(values)} numbers for {count} answers")
    return [float(value) for value in values]
