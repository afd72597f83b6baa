"""The `search` section of a spec: strategy, population, schedule and rungs."""

import math
from typing import Annotated, Literal

from pydantic import Field, StrictInt, field_validator

from evo.config.base_section import Section

SLACK = 0.08  # for each doubling of `parallel`; `make bench NAME=schedule` measures busy workers


def default_slack(parallel: int) -> float:
    """Slack of the clock: enough to keep `parallel` workers busy 95 % of the time.

    Measured for log-normal durations (sigma 0.6) that the cost model predicts up to a log-normal
    factor of sigma 0.2. The slack grows with log2(parallel), since the longest of more evaluations
    that run at the same time is late by more.
    """
    return round(SLACK * math.log2(parallel), 3)


class Search(Section):
    """The search: strategy, population, schedule, rungs of fidelity, and seeds."""

    strategy: str = Field(
        default="surrogate",
        description="How genomes are bred: `surrogate` (evolution whose offspring a surrogate "
        "screens), `nsga2` or `nsga3` (evolution), `cmaes`, "
        "`regression` (a random design, then a prediction), `random` (the control), or "
        "`optuna:` with tpe, gp, cmaes, nsga2, nsga3, qmc or random.",
    )
    population: int = Field(
        default=16,
        ge=1,
        description="Individuals to breed from, and in a generation; the first are the baselines. "
        "Default: 16, or half of the evaluations if the budget has fewer than 16, so that the "
        "other half is bred; never fewer than the strategy needs.",
    )
    schedule: Literal["clock", "asynchronous", "generational"] = Field(
        default="clock",
        description="Evaluations that the next genome is bred from: `clock`, those finished in "
        "virtual time, so that the search is the same on any number of workers; `asynchronous`, "
        "all that have really finished; `generational`, those of complete generations.",
    )
    parallel: int = Field(
        default=4,
        ge=1,
        description="Virtual workers of the clock, that is evaluations at the same time. It "
        "affects the search; the number of real workers does not.",
    )
    slack: float = Field(
        default_factory=lambda known: default_slack(known.get("parallel", 1)),
        ge=0,
        description="Share of its virtual duration by which an evaluation may be late before "
        "others wait for it; default: 0.08 for each doubling of `parallel`.",
    )
    bucket: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default=1,
        description="Individuals that are bred together; those with matching recipes (LoRA, equal "
        "batches, precision and layers) are trained on one forward pass of the base. 1: off; "
        "`auto` measures at the launch which size is fastest for the default recipe, and records "
        "it. It affects the search.",
    )
    replicates: int = Field(
        default=3,
        ge=1,
        le=100,
        description="Seeds under which an individual is evaluated before it may be named the best; "
        "these evaluations of the contenders are part of the budget. 1: off.",
    )
    rungs: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(),
        description="Shares of the token budget, lowest first, at which a fine-tune pauses and is "
        "scored; if it is promoted, training resumes there. Default: none, all train to the end.",
    )
    promotion: Literal["halving", "stopping"] = Field(
        default="halving",
        description="Fine-tunes that resume from a rung: the best quarter (`halving`), or all but "
        "those that are hopeless by their learning curves (`stopping`).",
    )

    simulate: Literal["auto", "off"] | Annotated[StrictInt, Field(ge=1, le=1000)] = Field(
        default="auto",
        description="Number of mixtures to simulate: the first fine-tunes are experts, one for "
        "each source, and sums of their weight changes are scored without training, to guide the "
        "`surrogate`. `auto` does so where it applies, for a tenth of the cost of the fine-tunes; "
        "a dry run says how many, or why none.",
    )

    @property
    def together(self) -> int:
        """Size of a bucket; 1 while `auto` has not been measured."""
        return 1 if self.bucket == "auto" else self.bucket

    @field_validator("rungs")
    @classmethod
    def _lowest_first(cls, rungs: tuple[float, ...]) -> tuple[float, ...]:
        if list(rungs) != sorted(set(rungs)):
            raise ValueError(f"rungs must rise, got {', '.join(map(str, rungs))}; sort them")
        return rungs
