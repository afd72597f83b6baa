"""The recipe: all settings of one fine-tune, with their defaults; a genome decodes to a recipe."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.fields import FieldInfo

SHARE_TOLERANCE = 1e-6

Method = Literal["supervised", "preference", "reinforce"]
Where = tuple[str, tuple[str, ...]]  # a setting, and values of it under which a field counts

PREFERENCE: Where = ("method", ("preference",))
REINFORCE: Where = ("method", ("reinforce",))
LORA: Where = ("adapter", ("lora", "dora"))
MERGE: Where = ("start", ("merge",))
MASKED: Where = ("task", ("masked",))  # of the model: no field of a recipe
SAMPLES: Where = ("source", ("sample",))  # the kind of one of them


@dataclass(frozen=True, slots=True)
class Use:
    """Where a field of a recipe counts, and which trainers besides the builtin one honour it."""

    where: Where | None = None  # None: everywhere
    draws: bool = False  # decides which windows are drawn, for every trainer that is given them
    trl: bool = False
    # Members of a bucket may each have their own value, or must share one; else the default.
    bucket: Literal["own", "shared", "default"] = "default"


class Recipe(BaseModel):
    """One fine-tune. Every field may be fixed in the spec or be a gene of the same name."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mixture: Annotated[
        dict[str, float],
        Field(description="Share of the token budget by source, or of a merge by part; sums to 1."),
        Use(draws=True, trl=True, bucket="own"),
    ] = Field(default_factory=dict)

    method: Annotated[
        Method,
        Field(
            description="`supervised` learns all data by cross-entropy; `preference` compares the "
            "answers of preferences and judges those of ratings; `reinforce` lets the model answer "
            "prompts and rewards it. Other kinds of data are learned by cross-entropy."
        ),
    ] = "supervised"
    preference_loss: Annotated[
        Literal["sigmoid", "hinge", "ipo", "kto"],
        Field(
            description="DPO's loss of a pair, its hinge (margin ranking), IPO, or KTO, which "
            "takes each side alone. Ratings always go by KTO."
        ),
        Use(where=PREFERENCE),
    ] = "sigmoid"
    preference_beta: Annotated[
        float,
        Field(gt=0, le=100, description="Strength of the pull towards the base (beta)."),
        Use(where=PREFERENCE),
    ] = 0.1
    preference_margin: Annotated[
        float, Field(ge=0, le=100, description="Margin of the hinge."), Use(where=PREFERENCE)
    ] = 1.0
    preference_sft: Annotated[
        float,
        Field(
            ge=0, le=100, description="Weight of cross-entropy on chosen answers beside their loss."
        ),
        Use(where=PREFERENCE),
    ] = 0.1
    reinforce_group: Annotated[
        int,
        Field(ge=2, le=1024, description="Answers per prompt, compared with their mean."),
        Use(where=REINFORCE),
    ] = 4
    reinforce_new_tokens: Annotated[
        int, Field(ge=1, description="Longest answer, in tokens."), Use(where=REINFORCE)
    ] = 32
    reinforce_temperature: Annotated[
        float,
        Field(gt=0, le=10, description="Sampling temperature of the rewarded answers."),
        Use(where=REINFORCE),
    ] = 1.0
    reinforce_kl: Annotated[
        float,
        Field(ge=0, le=100, description="Weight of the divergence from the base, in nats."),
        Use(where=REINFORCE),
    ] = 0.05
    reinforce_clip: Annotated[
        float,
        Field(gt=0, description="Rewards are clipped to plus or minus this."),
        Use(where=REINFORCE),
    ] = 10.0
    rewards: Annotated[
        dict[str, float],
        Field(
            description="Weights of what `reinforce` rewards: fluency, relevance, diversity, "
            "exact_match, and length and repetition, which count against; your own module:function."
        ),
        Use(where=REINFORCE),
    ] = Field(default_factory=lambda: {"fluency": 1.0, "diversity": 1.0, "repetition": 1.0})

    adapter: Annotated[
        Literal["none", "lora", "dora"],
        Field(description="`none` trains all weights, `lora` or `dora` an adapter."),
        Use(trl=True, bucket="shared"),
    ] = "none"
    lora_rank: Annotated[
        int,
        Field(ge=1, le=4096, description="Rank r of the adapter."),
        Use(where=LORA, trl=True, bucket="own"),
    ] = 8
    lora_alpha: Annotated[
        float,
        Field(gt=0, description="The update is scaled by alpha / r, see `lora_scaling`."),
        Use(where=LORA, trl=True, bucket="own"),
    ] = 16.0
    lora_scaling: Annotated[
        Literal["standard", "rank_stabilised"],
        Field(description="By alpha / r, or by alpha / sqrt(r)."),
        Use(where=LORA, trl=True, bucket="own"),
    ] = "standard"
    lora_layers: Annotated[
        int,
        Field(ge=0, description="Only the last so many layers get an adapter; 0 is all."),
        Use(where=LORA, trl=True, bucket="shared"),
    ] = 0
    lora_targets: Annotated[
        str,
        Field(
            pattern=r"^[\w.]+( *, *[\w.]+)*$",
            description="Which linear modules of a layer get an adapter: `all`, `attention`, `mlp` "
            "(all others), or ends of module names, such as `q_proj,v_proj`.",
        ),
        Use(where=LORA, trl=True, bucket="shared"),
    ] = "all"
    lora_dropout: Annotated[
        float | None,
        Field(ge=0, lt=1, description="Dropout rate of the adapter; left out, that of `dropout`."),
        Use(where=LORA, trl=True),
    ] = None

    keep_perplexity_low: Annotated[
        float,
        Field(
            ge=0,
            le=0.5,
            description="Threshold of a source of kind `sample`, as are all keep_ fields, in "
            "quantiles or shares of its samples by a score: lowest quantile of the completion's "
            "perplexity under the base; below is repetition.",
        ),
        Use(where=SAMPLES),
    ] = 0.0
    keep_perplexity_high: Annotated[
        float,
        Field(ge=0.5, le=1, description="Up to this quantile of it; above is noise."),
        Use(where=SAMPLES),
    ] = 1.0
    keep_text_perplexity_low: Annotated[
        float,
        Field(ge=0, le=0.5, description="From this quantile of the whole text's."),
        Use(where=SAMPLES),
    ] = 0.0
    keep_text_perplexity_high: Annotated[
        float, Field(ge=0.5, le=1, description="Up to this quantile of it."), Use(where=SAMPLES)
    ] = 1.0
    keep_likelihood: Annotated[
        float,
        Field(gt=0, le=1, description="The share of samples likeliest under the second model."),
        Use(where=SAMPLES),
    ] = 1.0
    keep_realness: Annotated[
        float,
        Field(gt=0, le=1, description="The share of samples that a discriminator finds most real."),
        Use(where=SAMPLES),
    ] = 1.0
    keep_duplicate: Annotated[
        float,
        Field(gt=0, le=1, description="The share of samples least like an earlier one."),
        Use(where=SAMPLES),
    ] = 1.0
    keep_copied: Annotated[
        float,
        Field(gt=0, le=1, description="The share of samples least copied from a source."),
        Use(where=SAMPLES),
    ] = 1.0
    keep_repetition: Annotated[
        float,
        Field(gt=0, le=1, description="The share of samples that repeat themselves least."),
        Use(where=SAMPLES),
    ] = 1.0
    keep_length_low: Annotated[
        float,
        Field(ge=0, le=0.5, description="From this quantile of the length in words."),
        Use(where=SAMPLES),
    ] = 0.0
    keep_length_high: Annotated[
        float, Field(ge=0.5, le=1, description="Up to this quantile of it."), Use(where=SAMPLES)
    ] = 1.0
    keep_reward: Annotated[
        float,
        Field(gt=0, le=1, description="The share that people would like best, by a reward model."),
        Use(where=SAMPLES),
    ] = 1.0
    keep_rating: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Of the samples that people rated, the share rated best; others are kept.",
        ),
        Use(where=SAMPLES),
    ] = 1.0
    keep_own: Annotated[
        float,
        Field(gt=0, le=1, description="The share highest by each filter of your own."),
        Use(where=SAMPLES),
    ] = 1.0

    start: Annotated[
        Literal["scratch", "parent", "merge"],
        Field(
            description="Weights that a child starts from: the base's, its first parent's, or its "
            "parents' merged. Individuals without parents start from scratch."
        ),
    ] = "scratch"
    merge_method: Annotated[
        Literal["linear", "svd", "ties", "dare_linear", "dare_ties"],
        Field(description="How the weights of parents or parts are merged; `svd`: exact mean."),
        Use(where=MERGE),
    ] = "svd"
    merge_weight: Annotated[
        float,
        Field(ge=0, le=1, description="The first parent's share in a merge."),
        Use(where=MERGE),
    ] = 0.5
    merge_density: Annotated[
        float,
        Field(gt=0, le=1, description="Share of the changes that ties and dare keep."),
        Use(where=MERGE),
    ] = 0.5
    merge_scale: Annotated[
        float,
        Field(gt=0, le=10, description="Times the merged change of the base."),
        Use(where=MERGE),
    ] = 1.0

    learning_rate: Annotated[
        float,
        Field(gt=0, le=10, description="Peak of AdamW's step size."),
        Use(trl=True, bucket="own"),
    ] = 1e-3
    warmup_share: Annotated[
        float,
        Field(ge=0, le=1, description="Share of the steps in which the rate rises linearly."),
        Use(trl=True, bucket="own"),
    ] = 0.1
    decay: Annotated[
        Literal["constant", "linear", "cosine"],
        Field(description="Shape after the warm-up."),
        Use(trl=True, bucket="own"),
    ] = "cosine"
    beta2: Annotated[
        float,
        Field(gt=0, lt=1, description="AdamW's second-moment decay."),
        Use(trl=True, bucket="own"),
    ] = 0.98
    weight_decay: Annotated[
        float,
        Field(ge=0, le=10, description="Decoupled, on matrices only."),
        Use(trl=True, bucket="own"),
    ] = 0.01
    clip_norm: Annotated[
        float,
        Field(ge=0, description="Largest gradient norm; 0 is no clipping."),
        Use(trl=True, bucket="own"),
    ] = 1.0
    dropout: Annotated[
        float,
        Field(ge=0, lt=1, description="Every dropout rate of the architecture."),
        Use(trl=True, bucket="own"),
    ] = 0.0
    precision: Annotated[
        Literal["float32", "bfloat16", "auto"],
        Field(
            description="Precision of computation; trained weights stay float32. `auto` measures "
            "at the launch which is faster on the machine, and records the choice."
        ),
        Use(trl=True, bucket="shared"),
    ] = "float32"
    batch_size: Annotated[
        int,
        Field(ge=1, description="Sequences per optimiser step."),
        Use(draws=True, trl=True, bucket="shared"),
    ] = 16
    sequence_length: Annotated[
        int,
        Field(ge=2, description="Tokens per training sequence."),
        Use(draws=True, trl=True, bucket="shared"),
    ] = 96
    infill_share: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Share of the documents of kind `text` that are learned in the form that "
            "teaches to fill in a middle: prefix, suffix, middle.",
        ),
        Use(draws=True, trl=True, bucket="own"),
    ] = 0.0
    mask_share: Annotated[
        float,
        Field(gt=0, lt=1, description="Share of the tokens that model.task `masked` predicts."),
        Use(where=MASKED),
    ] = 0.15
    isolate_documents: Annotated[
        bool, Field(description="Documents that share a sequence do not attend to one another.")
    ] = False

    @property
    def adapter_dropout(self) -> float:
        return self.dropout if self.lora_dropout is None else self.lora_dropout

    @field_validator("mixture")
    @classmethod
    def _shares_sum_to_one(cls, mixture: dict[str, float]) -> dict[str, float]:
        negative = [name for name, share in mixture.items() if share < 0]
        if negative:
            raise ValueError(
                f"mixture: shares must not be negative, got {negative[0]} = {mixture[negative[0]]}"
            )
        total = math.fsum(mixture.values())
        if mixture and abs(total - 1) > SHARE_TOLERANCE:
            raise ValueError(
                f"mixture: shares must sum to 1, these sum to {total:.6g}; divide them by that"
            )
        return mixture


def fields(wanted: Callable[[Use], bool]) -> frozenset[str]:
    """Names of the recipe's fields whose use is as wanted."""
    return frozenset(name for name, use in USES.items() if wanted(use))


def idle(recipe: Mapping[str, Any]) -> set[str]:
    """Names of a recipe's fields that have no effect, given its other fields."""
    return {
        name
        for name in recipe.keys() & USES.keys()
        if (where := USES[name].where) and recipe.get(where[0], where[1][0]) not in where[1]
    }


def _use(field: FieldInfo) -> Use:
    return next((one for one in field.metadata if isinstance(one, Use)), Use())


USES: Mapping[str, Use] = {name: _use(field) for name, field in Recipe.model_fields.items()}
DRAWS = fields(lambda use: use.draws)
