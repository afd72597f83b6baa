"""What a model writes by itself: samples that go on from prompts, from real texts, from nothing."""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fitness.errors import InputError
from fitness.feedback.samples import Begun, Sample
from fitness.generation import continued_apart, decoded, room_for_text
from fitness.sources import opening_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from fitness.models import Base


LONG_WORD = 16  # characters, with the space behind it
BLOCK = 32  # samples computed together: always those of the same numbers
CHARACTER = 4  # bytes of the longest one, so at most as many tokens


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
    first: int = 0,
) -> list[Sample]:
    """The samples of the model that `base` holds from number `first` on, as many as are asked for.

    Each draws its beginning by the weights of `settings`, and then a prompt or a document, all
    equally likely. It follows from its number and the seed: what is written in parts is, on the CPU
    and bit for bit, what is written at once. For that, blocks of BLOCK numbers are always computed
    whole, since in the last digits a row depends on who stands beside it. A prompt too long for the
    model's context loses its beginning, in the sample too. Raises InputError where there is none
    to draw from.
    """
    texts = _texts(settings, prompts, documents)
    end = first + settings.samples
    return [
        sample
        for block in range(first // BLOCK * BLOCK, end, BLOCK)
        for number, sample in enumerate(
            _block(base, settings, texts, block, individual, seed, round), block
        )
        if first <= number < end
    ]


class _Beginning(NamedTuple):
    begun: Begun
    prompt: str
    tokens: list[int]


def _block(
    base: "Base",
    settings: Generation,
    texts: Mapping[Begun, Sequence[str]],
    first: int,
    individual: int,
    seed: int,
    round: int,
) -> list[Sample]:
    """The BLOCK samples from a number on."""
    numbers = range(first, first + BLOCK)
    room = room_for_text(base.model, opening_tokens(base.tokenizer), settings.max_new_tokens)
    began = [
        _beginning(base.tokenizer, settings, texts, room, _randomness(seed, number))
        for number in numbers
    ]
    answers = continued_apart(
        base.model,
        [one.tokens for one in began],
        np.stack([_randomness(seed, n, 0).random(settings.max_new_tokens) for n in numbers]),
        eos=base.tokenizer.eos_token_id,
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
    )
    return [
        Sample(
            prompt=one.prompt,
            completion=decoded(base.tokenizer, tokens),
            individual=individual,
            seed=seed,
            round=round,
            begun=one.begun,
            ended=len(tokens) < settings.max_new_tokens,
        )
        for one, tokens in zip(began, answers, strict=True)
    ]


def _randomness(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _texts(
    settings: Generation, prompts: Sequence[str], documents: Sequence[str]
) -> dict[Begun, Sequence[str]]:
    """What there is to go on from. Raises InputError where a weight has nothing."""
    texts: dict[Begun, Sequence[str]] = {"prompt": prompts, "document": documents, "nothing": [""]}
    for begun, weight in _weights(settings).items():
        if weight and not texts[begun]:
            raise InputError(
                f"from_{begun}s is {weight:g}, and there are no {begun}s to go on from; give some, "
                "or set it to 0"
            )
    return texts


def _weights(settings: Generation) -> dict[Begun, float]:
    return {
        "prompt": settings.from_prompts,
        "document": settings.from_documents,
        "nothing": settings.from_nothing,
    }


def _beginning(
    tokenizer: "PreTrainedTokenizerBase",
    settings: Generation,
    texts: Mapping[Begun, Sequence[str]],
    room: int,
    rng: np.random.Generator,
) -> _Beginning:
    """What a sample begins with, cut to `room` tokens; openings of documents end between words."""
    weights = _weights(settings)
    shares = np.array(list(weights.values())) / sum(weights.values())
    begun = list(weights)[rng.choice(len(shares), p=shares)]
    text = texts[begun][int(rng.integers(len(texts[begun])))]
    if begun == "document":
        text = _opening(text, settings.opening_words)
    prompt, tokens = _seen(tokenizer, text, room)
    opened = opening_tokens(tokenizer) + tokens
    return _Beginning(begun, prompt, opened or [tokenizer.eos_token_id])


def _seen(tokenizer: "PreTrainedTokenizerBase", text: str, room: int) -> tuple[str, list[int]]:
    """The end of a text that has room, and its tokens: none of them a part of a character."""
    tokens: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if len(tokens) <= room:
        return text, tokens
    ends = [tokens[len(tokens) - kept :] for kept in range(room, max(room - CHARACTER, 0), -1)]
    told = [str(tokenizer.decode(end, clean_up_tokenization_spaces=False)) for end in ends]
    whole = [place for place, end in enumerate(told) if text.endswith(end)]
    place = whole[0] if whole else 0  # none where the tokenizer does not keep texts as they are
    return told[place], ends[place]


def _opening(text: str, words: int) -> str:
    """The first words of a text as they stand there, with the white space before and between.

    What has no spaces, such as Chinese, ends where so many words usually do.
    """
    stands = [word.end() for word in islice(re.finditer(r"\S+", text), words)]
    return text[: min(stands[-1], words * LONG_WORD)] if stands else ""
