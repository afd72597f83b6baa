"""Rewards: numbers for the answers in a group of answers to one prompt, higher is better.

A user's own reward is `module:function`, called as function(prompts, references, outputs) with
lists of texts; it returns a number for each output.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from fitness.errors import InputError
from fitness.plugins import load_function
from fitness.suggest import did_you_mean, listed
from fitness.text import grams, plain, repeated, share


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


def _diversity(group: Group) -> list[float]:
    """1 - the share of an answer's token bigrams that another answer has too (leave-one-out)."""
    pairs = [set(grams(tokens, 2)) for tokens in group.tokens]
    had = Counter(pair for one in pairs for pair in one)
    return [1 - share(sum(had[pair] > 1 for pair in one), len(one)) for one in pairs]


def _repetition(group: Group) -> list[float]:
    """Minus the share of an answer's token 4-grams that occur earlier in it."""
    return [-repeated(tokens) for tokens in group.tokens]


REWARDS: dict[str, Callable[[Group], list[float]]] = {
    "fluency": lambda group: list(group.fluency),
    "relevance": lambda group: [
        after - alone for after, alone in zip(group.fluency, group.plain, strict=True)
    ],
    "diversity": _diversity,
    "exact_match": lambda group: [
        float(plain(output) == plain(group.reference)) for output in group.outputs
    ],
    "length": lambda group: [-len(tokens) / group.longest for tokens in group.tokens],
    "repetition": _repetition,
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
    load_function(name, "reward")


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
    given: Any = load_function(name, "reward")(
        [group.prompt] * count, [group.reference] * count, list(group.outputs)
    )
    values = list(given)
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise InputError(f"reward {name!r}: gave {value!r}; it must give finite numbers")
    if len(values) != count:
        raise InputError(f"reward {name!r}: gave {len(values)} numbers for {count} answers")
    return [float(value) for value in values]
