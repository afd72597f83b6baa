"""The sections of a spec that say what a search may spend: budget, resources, comparison."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, WithJsonSchema, model_validator

from evo.config.base_section import Name, Section

SEED_STEP = 1000  # between the seeds of a search; the closing comparison uses seeds in between

# Resources that the results depend on, and what each of them decides.
DECIDES = {
    "compile": "the order of sums",
    "cpus": "how many threads add up the sums",
    "micro_batch": "the order of sums and of dropout masks",
    "processes": "which process adds up which sums",
    "sharding": "the order of sums",
}
GPUS = [{"type": "number", "minimum": 0}, {"type": "string", "const": "auto"}]
Passes = Annotated[float, Field(gt=0, le=10_000)]


class Budget(Section):
    """The budget of the search, in evaluations and training tokens."""

    evaluations: int = Field(
        ge=1,
        description="Fine-tunes in the search, including failed ones and the baselines; one that "
        "pauses at a rung, or trains on a `train_share`, counts as its share of the tokens.",
    )
    tokens: int = Field(
        ge=0,
        description="Training tokens of each fine-tune, or of one whose `train_share` is 1, met "
        "exactly; 0 where `parts` are merged.",
    )
    epochs: Passes | dict[Name, Passes] | None = Field(
        default=None,
        description="Passes after which a fine-tune ends, where that is before `tokens`: over all "
        "sources together, or by source, as `{pool: 3}`; a mixture spreads as many tokens by its "
        "shares. Default: `tokens` alone decide.",
    )
    learned_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Learned tokens after which a fine-tune of the default genome's mixture ends, "
        "where that is before `tokens` (and `epochs`): tokens of completions, of both answers of a "
        "preference, and all of a text, but no prompts and no padding. Default: they decide alone.",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="Early stopping: the first objective, which must be a measurement, is scored "
        "ten times during a fine-tune on the selection split; after so many scores that are no "
        "better it stops and returns to its best weights. Default: off, all tokens are spent.",
    )
    inherit_share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Share of `tokens` that a child trains on if it starts from its parents' "
        "weights (`start` in recipe or genome); it counts as that share of a fine-tune. Many short "
        "fine-tunes with 1 have done better than long ones with a quarter.",
    )

    @property
    def by_data(self) -> bool:
        """True where the data may end a fine-tune before `tokens`."""
        return self.epochs is not None or self.learned_tokens is not None


class Resources(Section):
    """Machines for evaluations, and the CPUs, GPUs, memory and time of each."""

    workers: int | None = Field(
        default=None,
        ge=1,
        description="Evaluations at the same time; default: as many as fit machine or cluster. As "
        "a cluster grows, more start, up to those that the schedule keeps busy.",
    )
    cpus: int = Field(default=1, ge=1, description="CPUs and threads of one evaluation.")
    gpus: Annotated[float, Field(ge=0), WithJsonSchema({"anyOf": GPUS})] = Field(
        default=0.0,
        description="GPUs of one evaluation; 0.25 lets four share a GPU. Left out, or `auto`: 1 "
        "where the search runs on this machine and PyTorch can use a GPU of it, else 0.",
    )
    processes: int = Field(
        default=1,
        ge=1,
        description="Processes that train one individual together (data parallel), each on a part "
        "of every batch, with `cpus` and `gpus` for each, on one or several machines.",
    )
    sharding: Literal["none", "full"] = Field(
        default="none",
        description="`full`: each of several `processes` holds a part of the weights, gradients "
        "and moments of a fine-tune (FSDP2). Scoring needs the whole weights on one device.",
    )
    micro_batch: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(
        default=None,
        description="Sequences of a batch computed at once, to save memory; their gradients add up "
        "to those of the batch. `auto` halves them as often as the device's memory runs short, and "
        "remembers what fitted: results then depend on that memory, by rounding and dropout masks. "
        "Default: all of them.",
    )
    checkpointing: bool = Field(
        default=False,
        description="Gradient checkpointing: recompute activations for the gradients instead of "
        "storing them: less memory, about a quarter more time, the same result.",
    )
    compile: bool = Field(
        default=False,
        description="Compile the layers by torch.compile for training. Each worker needs a C++ "
        "compiler, and minutes for its first fine-tune, which count; that pays for long fine-tunes "
        "on a GPU at best. Results differ by rounding.",
    )
    timeout: float = Field(
        default=600.0, gt=0, description="Seconds after which an evaluation is stopped as failed."
    )
    retries: int = Field(
        default=3, ge=0, description="How often an evaluation is repeated when its worker dies."
    )
    address: str = Field(
        default="local",
        min_length=1,
        description="`local` starts Ray on this machine; `auto`, `host:port` or `ray://host:port` "
        "joins a cluster.",
    )

    @model_validator(mode="before")
    @classmethod
    def _gpus_left_out(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("gpus") == "auto":
            return {name: value for name, value in given.items() if name != "gpus"}
        return given

    @model_validator(mode="after")
    def _whole_gpus_above_one(self) -> Self:
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus above 1 must be whole, got {self.gpus:g}; give a whole number")
        if self.processes > 1 and self.gpus not in (0, 1):
            raise ValueError(
                f"each of several processes takes one GPU or none, got gpus {self.gpus:g}; give 1"
            )
        return self


class Comparison(Section):
    """The closing comparison on the test split, of the winner with every baseline."""

    seeds: int = Field(
        default=5,
        ge=0,
        lt=SEED_STEP,
        description="New seeds for each contender; 2 or more give a standard error, 0 leaves the "
        "comparison out.",
    )
