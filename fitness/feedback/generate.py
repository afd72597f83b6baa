"""What a model writes by itself: samples that go on from prompts, from real texts, from nothing."""

import re
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fitness.errors import InputError
from fitness.feedback.samples import Begun, Sample
from fitness.generation import continued, decoded, encoded_prompts

if TYPE_CHECKING:
    from fitness.models import Base


LONG_WORD = 16  # characters, with the space behind it


class Generation(BaseModel):
    """How many samples, what they begin with, and how they are drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    samples: Annotated[int, Field(ge=1, le=10**7, description="Samples in all.")] = 200
    from_prompts: Annotated[
        float, Field(ge=0, description="Weight of samples that go on from given prompts.")
    ] = 0.0
    from_documents: Annotated[
        float, Field(ge=0, description="Weight of those that go on from openings of real texts.")
    ] = 1.0
    from_nothing: Annotated[float, Field(ge=0, description="Weight of those from nothing.")] = 0.0
    opening_words: Annotated[int, Field(ge=1, description="Words of an opening.")] = 8
    max_new_tokens: Annotated[int, Field(ge=1, description="Longest completion.")] = 64
    temperature: Annotated[float, Field(ge=0, le=10, description="0 is greedy.")] = 0.8
    top_p: Annotated[
        float, Field(gt=0, le=1, description="Sample among the likeliest tokens of this mass.")
    ] = 0.95

    @model_validator(mode="after")
    def _some_beginning(self) -> Self:
        if not self.from_prompts + self.from_documents + self.from_nothing:
            raise ValueError("from_prompts, from_documents and from_nothing are all 0; raise one")
        return self


def write(
    base: "Base",
    settings: Generation,
    *,
    prompts: Sequence[str] = (),
    documents: Sequence[str] = (),
    individual: int,
    seed: int,
    round: int = 1,
) -> list[Sample]:
    """Samples of the model that `base` holds; the same for the same arguments.

    Each draws its beginning by the weights of `settings`, and then a prompt or a document, all
    equally likely. Raises InputError where there is none to draw from.
    """
    began = list(_beginnings(settings, prompts, documents, seed))
    tokenizer = base.tokenizer
    answers = continued(
        base.model,
        encoded_prompts(
            base.model, tokenizer, [text for _, text in began], settings.max_new_tokens
        ),
        eos=tokenizer.eos_token_id,
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        seed=seed,
    )
    return [
        Sample(
            prompt=text,
            completion=decoded(tokenizer, tokens),
            individual=individual,
            seed=seed,
            round=round,
            begun=begun,
            ended=len(tokens) < settings.max_new_tokens,
        )
        for (begun, text), tokens in zip(began, answers, strict=True)
    ]


def _beginnings(
    settings: Generation, prompts: Sequence[str], documents: Sequence[str], seed: int
) -> list[tuple[Begun, str]]:
    """What each sample begins with; the openings of documents end between words."""
    weights: dict[Begun, float] = {
        "prompt": settings.from_prompts,
        "document": settings.from_documents,
        "nothing": settings.from_nothing,
    }
    texts: dict[Begun, Sequence[str]] = {"prompt": prompts, "document": documents, "nothing": [""]}
    for begun, weight in weights.items():
        if weight and not texts[begun]:
            raise InputError(
                f"from_{begun}s is {weight:g}, and there are no {begun}s to go on from; give some, "
                "or set it to 0"
            )
    rng = np.random.default_rng(seed)
    shares = np.array(list(weights.values())) / sum(weights.values())
    found: list[tuple[Begun, str]] = []
    for chosen in rng.choice(len(shares), size=settings.samples, p=shares):
        begun = list(weights)[chosen]
        text = texts[begun][int(rng.integers(len(texts[begun])))]
        if begun == "document":
            text = _opening(text, settings.opening_words)
        found.append((begun, text))
    return found


def _opening(text: str, words: int) -> str:
    """The first words of a text as they stand there, with the white space before and between.

    What has no spaces, such as Chinese, ends where so many words usually do.
    """
    stands = [word.end() for word in islice(re.finditer(r"\S+", text), words)]
    return text[: min(stands[-1], words * LONG_WORD)] if stands else ""
