"""Requirements on the samples of a pool: absolute limits of their scores, and a most per prompt.

Unlike the recipe's thresholds, which are shares of the pool and evolve, these hold for the whole
search: a sample that misses one is not trained on, and none may be left.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fitness.data.samples import Sample
from fitness.plugins import function_name

ENDED = "ended"  # in place of a score: 1 for samples that the model ended itself
FORM = re.compile(r"\s*(<=|>=)\s*(\S+)\s*")


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of a score: `sign * score >= sign * value`."""

    score: str
    sign: int
    value: float

    @classmethod
    def of(cls, name: str, wanted: float | str) -> Self:
        """Parse a requirement: a number is the least score. ValueError for another form."""
        matched = FORM.fullmatch(wanted) if isinstance(wanted, str) else None
        try:
            value = float(matched[2] if matched else wanted)
        except ValueError:
            value = float("nan")
        if not isfinite(value):
            raise ValueError(
                f"require.{name} is {wanted!r}; write the least score, such as 1, or "
                "`>= 0.5` or `<= 0.5`"
            )
        return cls(function_name(name), -1 if matched and matched[1] == "<=" else 1, value)

    def met(self, sample: Sample) -> bool:
        """False for a sample without the score, too."""
        score = float(sample.ended) if self.score == ENDED else sample.scores.get(self.score)
        return score is not None and self.sign * score >= self.sign * self.value


class Requirements(BaseModel):
    """The requirements on the samples of a pool, as settings of a source or of rounds."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    require: dict[str, float | str] = Field(
        default_factory=dict,
        description="Limits that the scores of a sample must meet, else it is not trained on; "
        'a number is the least score: `{exact_match: 1, length: "<= 40"}`; `ended: 1` are samples '
        "that the model ended itself.",
    )
    most_per_prompt: int | None = Field(
        default=None, ge=1, description="Largest number of samples of a prompt to train on."
    )
    by_difficulty: bool = Field(
        default=False,
        description="A prompt keeps `most_per_prompt` times the share of its samples that miss a "
        "requirement, at least one, so that hard prompts have more.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self.limits()
        if self.by_difficulty and self.most_per_prompt is None:
            raise ValueError("by_difficulty changes most_per_prompt, which is missing; give it")
        return self

    def limits(self) -> list[Limit]:
        return [Limit.of(name, wanted) for name, wanted in self.require.items()]

    def met(self, samples: Iterable[Sample]) -> list[Sample]:
        """The samples that meet all limits."""
        limits = self.limits()
        return [one for one in samples if all(limit.met(one) for limit in limits)]

    def learned(self, samples: Sequence[Sample], without: Collection[str] = ()) -> list[Sample]:
        """The samples to train on, in their order: those that meet all, not too many of a prompt.

        Samples of later rounds come first, then those earlier in the pool. More for hard prompts:
        Prop2Diff of Tong et al. 2024, "DART-Math". `without` are ids to leave out.
        """
        right = [one for one in self.met(samples) if one.id not in without]
        if self.most_per_prompt is None:
            return right
        room = self._room(samples, right, self.most_per_prompt)
        kept: set[str] = set()
        for one in sorted(right, key=lambda one: -one.round):
            if room[one.prompt] > 0:
                room[one.prompt] -= 1
                kept.add(one.id)
        return [one for one in right if one.id in kept]

    def _room(
        self, samples: Sequence[Sample], right: Sequence[Sample], most: int
    ) -> dict[str, int]:
        """Samples to keep, by prompt."""
        written, met = (Counter(one.prompt for one in many) for many in (samples, right))
        if not self.by_difficulty:
            return dict.fromkeys(written, most)
        return {
            prompt: max(1, ceil(most * (1 - met[prompt] / count)))
            for prompt, count in written.items()
        }

    def missing(self, scores: Iterable[str]) -> str:
        """The first required score that is not among those of a pool; empty if all are."""
        there = {*scores, ENDED}
        return next((one.score for one in self.limits() if one.score not in there), "")
