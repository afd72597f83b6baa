"""A recipe is everything one fine-tune needs; a genome decodes to one. Defaults live here."""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

SHARE_TOLERANCE = 1e-6


class Recipe(BaseModel):
    """One fine-tune. Every field may be fixed in the spec or be a gene of the same name."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mixture: Annotated[
        dict[str, float],
        Field(description="Share of the token budget by source, or of a merge by part; sums to 1."),
    ] = Field(default_factory=dict)

    adapter: Annotated[
        Literal["none", "lora"], Field(description="`none` trains all weights, `lora` an adapter.")
    ] = "none"
    lora_rank: Annotated[int, Field(ge=1, le=4096, description="Rank r of the adapter.")] = 8
    lora_alpha: Annotated[float, Field(gt=0, description="The update is scaled by alpha / r.")] = (
        16.0
    )
    lora_layers: Annotated[
        int, Field(ge=0, description="Only the last so many layers get an adapter; 0 is all.")
    ] = 0

    start: Annotated[
        Literal["scratch", "parent", "merge"],
        Field(
            description="Which weights a child begins with: the base's, its first parent's, or its "
            "parents' merged. Who has no parents begins from scratch."
        ),
    ] = "scratch"
    merge_method: Annotated[
        Literal["linear", "svd", "ties", "dare_linear", "dare_ties"],
        Field(description="How the weights of parents or parts are merged; `svd`: exact mean."),
    ] = "svd"
    merge_weight: Annotated[
        float, Field(ge=0, le=1, description="The first parent's share in a merge.")
    ] = 0.5
    merge_density: Annotated[
        float, Field(gt=0, le=1, description="Share of the changes that ties and dare keep.")
    ] = 0.5
    merge_scale: Annotated[
        float, Field(gt=0, le=10, description="Times the merged change of the base.")
    ] = 1.0

    learning_rate: Annotated[
        float, Field(gt=0, le=10, description="Peak of AdamW's step size.")
    ] = 1e-3
    warmup_share: Annotated[
        float, Field(ge=0, le=1, description="Share of the steps in which the rate rises linearly.")
    ] = 0.1
    decay: Annotated[
        Literal["constant", "linear", "cosine"], Field(description="Shape after the warm-up.")
    ] = "cosine"
    beta2: Annotated[float, Field(gt=0, lt=1, description="AdamW's second-moment decay.")] = 0.98
    weight_decay: Annotated[
        float, Field(ge=0, le=10, description="Decoupled, on matrices only.")
    ] = 0.01
    clip_norm: Annotated[
        float, Field(ge=0, description="Largest gradient norm; 0 is no clipping.")
    ] = 1.0
    dropout: Annotated[
        float,
        Field(ge=0, lt=1, description="Every dropout rate of the architecture and the adapter."),
    ] = 0.0
    precision: Annotated[
        Literal["float32", "bfloat16"],
        Field(description="What the fine-tune computes in; the weights it changes stay float32."),
    ] = "float32"
    batch_size: Annotated[int, Field(ge=1, description="Sequences per optimiser step.")] = 16
    sequence_length: Annotated[int, Field(ge=2, description="Tokens per training sequence.")] = 96

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
