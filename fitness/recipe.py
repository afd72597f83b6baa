"""The recipe: all settings of one fine-tune, with their defaults; a genome decodes to a recipe."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator
from pydantic.fields import FieldInfo

from fitness.filters import FILTERS, OWN
from fitness.methods import Method

SHARE_TOLERANCE = 1e-6
KEEP = "keep_"  # prefix of the thresholds

Where = tuple[str, tuple[str, ...]]  # a setting, and values of it under which a field counts

PREFERENCE: Where = ("method", ("preference",))
REINFORCE: Where = ("method", ("reinforce",))
LORA: Where = ("adapter", ("lora", "dora"))
MERGE: Where = ("start", ("merge",))
CLASSIFIED: Where = ("task", ("classification",))
MASKED: Where = ("task", ("masked",))  # of the model: no field of a recipe
ADAM: Where = ("optimizer", ("adamw", "adamw_8bit", "muon"))
SAMPLES: Where = ("source", ("sample",))  # the kind of one of them


@dataclass(frozen=True, slots=True)
class Applies:
    """Where a field of a recipe counts, and which trainers besides the builtin one honour it."""

    where: Where | None = None  # None: everywhere
    draws: bool = False  # decides which windows are drawn, for every trainer that is given them
    trl: bool = False
    # Members of a bucket may each have their own value, or must share one; else the default.
    bucket: Literal["own", "shared", "default"] = "default"


class _Settings(BaseModel):
    """The settings of one fine-tune, without the thresholds of the filters."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mixture: Annotated[
        dict[str, float],
        Field(description="Share of the token budget by source, or of a merge by part; sums to 1."),
        Applies(draws=True, trl=True, bucket="own"),
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
        Applies(where=PREFERENCE),
    ] = "sigmoid"
    preference_beta: Annotated[
        float,
        Field(gt=0, le=100, description="Strength of the pull towards the base (beta)."),
        Applies(where=PREFERENCE),
    ] = 0.1
    preference_sft: Annotated[
        float,
        Field(
            ge=0, le=100, description="Weight of cross-entropy on chosen answers beside their loss."
        ),
        Applies(where=PREFERENCE),
    ] = 0.1
    reinforce_group: Annotated[
        int,
        Field(ge=2, le=1024, description="Answers per prompt, compared with their mean."),
        Applies(where=REINFORCE),
    ] = 4
    reinforce_new_tokens: Annotated[
        int, Field(ge=1, description="Longest answer, in tokens."), Applies(where=REINFORCE)
    ] = 32
    reinforce_temperature: Annotated[
        float,
        Field(gt=0, le=10, description="Sampling temperature of the rewarded answers."),
        Applies(where=REINFORCE),
    ] = 1.0
    reinforce_advantage: Annotated[
        Literal["rloo", "grpo"],
        Field(
            description="An answer's reward less the mean of the others' (`rloo`), or less that "
            "of its group, in standard deviations of the group (`grpo`)."
        ),
        Applies(where=REINFORCE),
    ] = "rloo"
    reinforce_length: Annotated[
        Literal["free", "guarded"],
        Field(
            description="`guarded` takes from rewards what they gain by length alone: within the "
            "groups of a batch, their linear regression on the number of tokens."
        ),
        Applies(where=REINFORCE),
    ] = "free"
    reinforce_kl: Annotated[
        float,
        Field(ge=0, le=100, description="Weight of the divergence from the base, in nats."),
        Applies(where=REINFORCE),
    ] = 0.05
    rewards: Annotated[
        dict[str, float],
        Field(
            description="Weights of what `reinforce` rewards: fluency, relevance, diversity, "
            "every check of an answer against its reference, such as exact_match or numeric, and "
            "length and repetition, which count against; your own module:function or command."
        ),
        Applies(where=REINFORCE),
    ] = Field(default_factory=lambda: {"fluency": 1.0, "diversity": 1.0, "repetition": 1.0})

    adapter: Annotated[
        Literal["none", "lora", "dora"],
        Field(description="`none` trains all weights, `lora` or `dora` an adapter."),
        Applies(trl=True, bucket="shared"),
    ] = "none"
    lora_rank: Annotated[
        int,
        Field(ge=1, le=4096, description="Rank r of the adapter."),
        Applies(where=LORA, trl=True, bucket="own"),
    ] = 8
    lora_alpha: Annotated[
        float,
        Field(gt=0, description="The update is scaled by alpha / r, see `lora_scaling`."),
        Applies(where=LORA, trl=True, bucket="own"),
    ] = 16.0
    lora_scaling: Annotated[
        Literal["standard", "rank_stabilised"],
        Field(description="By alpha / r, or by alpha / sqrt(r)."),
        Applies(where=LORA, trl=True, bucket="own"),
    ] = "standard"
    lora_layers: Annotated[
        int,
        Field(ge=0, description="Only the last so many layers get an adapter; 0 is all."),
        Applies(where=LORA, trl=True, bucket="shared"),
    ] = 0
    lora_targets: Annotated[
        str,
        Field(
            pattern=r"^[\w.]+( *, *[\w.]+)*$",
            description="Which linear modules of a layer get an adapter: `all`, `attention`, `mlp` "
            "(all others), or ends of module names, such as `q_proj,v_proj`.",
        ),
        Applies(where=LORA, trl=True, bucket="shared"),
    ] = "all"
    lora_dropout: Annotated[
        float | None,
        Field(ge=0, lt=1, description="Dropout rate of the adapter; left out, that of `dropout`."),
        Applies(where=LORA, trl=True),
    ] = None

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
        Applies(where=MERGE),
    ] = "svd"
    merge_weight: Annotated[
        float,
        Field(ge=0, le=1, description="The first parent's share in a merge."),
        Applies(where=MERGE),
    ] = 0.5
    merge_density: Annotated[
        float,
        Field(gt=0, le=1, description="Share of the changes that ties and dare keep."),
        Applies(where=MERGE),
    ] = 0.5
    merge_scale: Annotated[
        float,
        Field(gt=0, le=10, description="Times the merged change of the base."),
        Applies(where=MERGE),
    ] = 1.0

    optimizer: Annotated[
        Literal["adamw", "adamw_8bit", "muon", "adafactor"],
        Field(
            description="`adamw_8bit` keeps AdamW's moments in 8 bits (the extra `quantised`); "
            "`muon` trains the matrices of the layers, the rest by `adamw`, under the same "
            "learning rate; `adafactor` keeps a small part of AdamW's moments."
        ),
        Applies(),
    ] = "adamw"
    learning_rate: Annotated[
        float,
        Field(gt=0, le=10, description="Peak of the optimizer's step size."),
        Applies(trl=True, bucket="own"),
    ] = 1e-3
    warmup_share: Annotated[
        float,
        Field(ge=0, le=1, description="Share of the steps in which the rate rises linearly."),
        Applies(trl=True, bucket="own"),
    ] = 0.1
    decay: Annotated[
        Literal["constant", "linear", "cosine", "wsd"],
        Field(
            description="Shape after the warm-up; `wsd` (warm-up, stable, decay) is constant up to "
            "a linear decay over the last fifth of the steps."
        ),
        Applies(trl=True, bucket="own"),
    ] = "cosine"
    beta2: Annotated[
        float,
        Field(gt=0, lt=1, description="AdamW's second-moment decay."),
        Applies(where=ADAM, trl=True, bucket="own"),
    ] = 0.98
    weight_decay: Annotated[
        float,
        Field(ge=0, le=10, description="Decoupled, on matrices only."),
        Applies(trl=True, bucket="own"),
    ] = 0.01
    clip_norm: Annotated[
        float,
        Field(ge=0, description="Largest gradient norm; 0 is no clipping."),
        Applies(trl=True, bucket="own"),
    ] = 1.0
    dropout: Annotated[
        float,
        Field(ge=0, lt=1, description="Every dropout rate of the architecture."),
        Applies(trl=True, bucket="own"),
    ] = 0.0
    precision: Annotated[
        Literal["float32", "bfloat16", "auto"],
        Field(
            description="Precision of computation; trained weights stay float32. `auto` measures "
            "at the launch which is faster on the machine, and records the choice."
        ),
        Applies(trl=True, bucket="shared"),
    ] = "float32"
    batch_size: Annotated[
        int,
        Field(ge=1, description="Sequences per optimiser step."),
        Applies(draws=True, trl=True, bucket="shared"),
    ] = 16
    sequence_length: Annotated[
        int,
        Field(ge=2, description="Tokens per training sequence."),
        Applies(draws=True, trl=True, bucket="shared"),
    ] = 96
    train_share: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Share of `budget.tokens` that this individual trains on, under a schedule "
            "that ends there; it counts as that share of a fine-tune.",
        ),
        Applies(draws=True, trl=True, bucket="shared"),
    ] = 1.0
    infill_share: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Share of the documents of kind `text` that are learned in the form that "
            "teaches to fill in a middle: prefix, suffix, middle.",
        ),
        Applies(draws=True, trl=True, bucket="own"),
    ] = 0.0
    mask_share: Annotated[
        float,
        Field(gt=0, lt=1, description="Share of the tokens that model.task `masked` predicts."),
        Applies(where=MASKED),
    ] = 0.15
    class_weights: Annotated[
        Literal["equal", "balanced"],
        Field(
            description="Weights of texts in the loss of model.task `classification`: `balanced` "
            "gives each class the same weight in all, however rare it is in the mixture."
        ),
        Applies(where=CLASSIFIED),
    ] = "equal"
    isolate_documents: Annotated[
        bool,
        Field(
            description="Documents that share a sequence do not attend to one another, and the "
            "first token of each is not learned."
        ),
        Applies(bucket="own"),
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


def _thresholds() -> dict[str, Any]:
    """Fields for the thresholds of the filters: shares of the samples, or quantiles of a score."""
    fields: dict[str, Any] = {}
    for name, one in FILTERS.items():
        if one.threshold and one.keeps == "band":
            low, high = f"From this quantile of {one.threshold}.", "Up to this quantile of it."
            fields[f"{KEEP}{name}_low"] = _threshold(low, 0.0, ge=0, le=0.5)
            fields[f"{KEEP}{name}_high"] = _threshold(high, 1.0, ge=0.5, le=1)
        elif one.threshold:
            fields[f"{KEEP}{name}"] = _threshold(one.threshold, 1.0, gt=0, le=1)
    own = "The share highest by each filter of your own."
    return fields | {f"{KEEP}{OWN}": _threshold(own, 1.0, gt=0, le=1)}


def _threshold(description: str, default: float, **limits: Any) -> Any:
    field: Any = Field(description=description, **limits)
    return Annotated[float, field, Applies(where=SAMPLES, bucket="own")], default


if TYPE_CHECKING:

    class Recipe(_Settings):
        """One fine-tune. Every field may be fixed in the spec or be a gene of the same name."""

else:
    Recipe = create_model("Recipe", __base__=_Settings, __module__=__name__, **_thresholds())


def fields(wanted: Callable[[Applies], bool]) -> frozenset[str]:
    """Names of the recipe's fields that apply as wanted."""
    return frozenset(name for name, applies in APPLIES.items() if wanted(applies))


def idle(recipe: Mapping[str, Any]) -> set[str]:
    """Names of a recipe's fields that have no effect, given its other fields."""
    return {
        name
        for name in recipe.keys() & APPLIES.keys()
        if (where := APPLIES[name].where) and recipe.get(where[0], where[1][0]) not in where[1]
    }


def _applies(field: FieldInfo) -> Applies:
    return next((one for one in field.metadata if isinstance(one, Applies)), Applies())


APPLIES: Mapping[str, Applies] = {
    name: _applies(field) for name, field in Recipe.model_fields.items()
}
DRAWS = fields(lambda applies: applies.draws)
