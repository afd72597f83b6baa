"""Generation of samples: continuations of prompts and real texts, from nothing, and infilling."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fitness.checks.table import Reference
from fitness.data.prompts import NO_PROMPTS, Prompts, check_beams
from fitness.data.samples import Begun, Sample, Way
from fitness.data.tokens import Rendered, opening_tokens, prompt_tokens, text_tokens
from fitness.errors import InputError
from fitness.inference.endings import ending_tokens, turn_end
from fitness.inference.sampling import (
    GPU_ROWS,
    ROWS,
    Answering,
    continued,
    decoded,
    room_for_text,
)
from fitness.mixture.infilling import Sentinels
from fitness.samples.passages import around, opening_of, seen, words

if TYPE_CHECKING:
    from fitness.models.base import Base


SAMPLES = 200  # by default, in all
# Kind of beginning of a sample, by the setting with its weight.
BEGUN: Mapping[str, Begun] = {
    "from_prompts": "prompt",
    "from_documents": "document",
    "from_nothing": "nothing",
    "infill": "document",
}


class Generation(BaseModel):
    """Settings of generation: the number of samples, their beginnings, and sampling."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    samples: Annotated[
        int | None,
        Field(
            ge=1,
            le=10**7,
            description="Samples in all. Default: 200, or `per_prompt` of every prompt.",
        ),
    ] = None
    per_prompt: Annotated[
        int | None,
        Field(
            ge=1,
            le=10_000,
            description="Samples of each prompt, prompt after prompt; from_prompts is then 1 and "
            "the other weights are 0. Default: each sample draws its prompt at random.",
        ),
    ] = None
    from_prompts: Annotated[
        float, Field(ge=0, description="Weight of samples that continue given prompts.")
    ] = 0.0
    from_documents: Annotated[
        float, Field(ge=0, description="Weight of those that continue openings of real texts.")
    ] = 1.0
    from_nothing: Annotated[float, Field(ge=0, description="Weight of those without a prompt.")] = (
        0.0
    )
    infill: Annotated[
        float, Field(ge=0, description="Weight of those that fill a gap within real texts.")
    ] = 0.0
    opening_words: Annotated[
        int, Field(ge=1, description="Words of an opening, and before and behind a gap.")
    ] = 8
    infill_words: Annotated[int, Field(ge=1, description="Words taken out for a gap.")] = 8
    max_new_tokens: Annotated[int, Field(ge=1, description="Longest completion.")] = 64
    temperature: Annotated[float, Field(ge=0, le=10, description="0 is greedy.")] = 0.8
    top_p: Annotated[
        float, Field(gt=0, le=1, description="Sample among the likeliest tokens of this mass.")
    ] = 0.95
    num_beams: Annotated[
        int,
        Field(ge=1, le=100, description="Beams of beam search, at temperature 0; 1 is none."),
    ] = 1

    @model_validator(mode="before")
    @classmethod
    def _of_prompts_alone(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("per_prompt") is not None:
            return {"from_prompts": 1.0, "from_documents": 0.0, **given}
        return given

    @model_validator(mode="after")
    def _sound(self) -> Self:
        check_beams(self.num_beams, self.temperature)
        weights = _weights(self)
        if not sum(weights.values()):
            raise ValueError(f"{', '.join(weights)} are all 0; raise one")
        others = [name for name in weights if name != "from_prompts" and weights[name]]
        if self.per_prompt and others:
            raise ValueError(
                f"per_prompt is {self.per_prompt}, so that all samples continue prompts, and "
                f"{others[0]} is {weights[others[0]]:g}; leave one of them out"
            )
        return self

    def count(self, prompts: int) -> int:
        """Samples in all, where there are so many prompts."""
        return self.samples or (self.per_prompt * prompts if self.per_prompt else SAMPLES)

    def forward(self) -> Self:
        """Settings without infilling, for a model not trained for it; by default from documents."""
        others = [name for name in BEGUN if name != "infill" and getattr(self, name)]
        return self.model_copy(
            update={"infill": 0.0, **({} if others else {"from_documents": 1.0})}
        )


def write(
    base: "Base",
    settings: Generation,
    *,
    prompts: Prompts = NO_PROMPTS,
    documents: Sequence[str] = (),
    individual: int,
    seed: int,
    round: int = 1,
    first: int = 0,
    answer: Answering = continued,
) -> list[Sample]:
    """Generate as many samples as `settings` say with the model of `base`, from number `first` on.

    Each draws its kind of beginning by the weights of `settings`, and then a prompt or a document,
    all equally likely; with `per_prompt`, number n has prompt n // per_prompt, and after the last
    prompt comes the first again. A sample depends only on its number and the seed: on the CPU, a
    pool generated in parts is bit for bit the same as at once. For that, blocks of as many numbers
    as are answered at once are always computed whole, since the last digits of a row depend on the
    other rows of its batch.
    A prompt too long for the model's context loses its beginning, in the sample too. `answer`
    continues prompts, perhaps on a server. Raises InputError if there is no prompt or document to
    draw from.
    """
    sentinels = Sentinels.of(base.tokenizer) if settings.infill else None
    texts = _texts(settings, prompts, documents)
    desk = _Desk(base, settings, texts, sentinels, answer)
    end = first + settings.count(len(prompts.prompts))
    if answer is not continued:  # elsewhere, where no batch is this one's
        return desk.block(range(first, end), individual, seed, round)
    size = GPU_ROWS if base.device.type == "cuda" else ROWS
    return [
        sample
        for block in range(first // size * size, end, size)
        for number, sample in enumerate(
            desk.block(range(block, block + size), individual, seed, round), block
        )
        if first <= number < end
    ]


class _Beginning(NamedTuple):
    begun: Begun
    tokens: list[int]
    prompt: str
    context: list[int]  # the tokens before its completion, when that is decoded
    suffix: str = ""
    reference: Reference = ""

    @property
    def way(self) -> Way:
        return "infill" if self.suffix else "forward"


@dataclass(frozen=True)
class _Desk:
    """Model and settings of a generation; `texts` by the setting whose weight draws from them.

    Each text comes with the reference of its prompt.
    """

    base: "Base"
    settings: Generation
    texts: Mapping[str, Sequence[tuple[str, Reference]]]
    sentinels: Sentinels | None
    answer: Answering

    def block(self, numbers: range, individual: int, seed: int, round: int) -> list[Sample]:
        """The samples of these numbers."""
        tokenizer, settings = self.base.tokenizer, self.settings
        ends = ending_tokens(self.base.model, tokenizer)
        began = [self._beginning(number, _randomness(seed, number)) for number in numbers]
        answers = self.answer(
            self.base.model,
            [one.tokens for one in began],
            lambda place: _randomness(seed, numbers[place], 0).random(settings.max_new_tokens),
            ends=ends,
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            num_beams=settings.num_beams,
        )
        return [
            Sample(
                prompt=one.prompt,
                completion=decoded(tokenizer, answer.tokens, one.context),
                individual=individual,
                seed=seed,
                round=round,
                way=one.way,
                begun=one.begun,
                suffix=one.suffix,
                ended=answer.end is not None,
                end=turn_end(tokenizer, answer.end),
                reference=one.reference,
            )
            for one, answer in zip(began, answers, strict=True)
        ]

    def _beginning(self, number: int, rng: np.random.Generator) -> _Beginning:
        """Draw the beginning of a sample, shortened to fit the model's context."""
        weights = _weights(self.settings)
        shares = np.array(list(weights.values())) / sum(weights.values())
        chosen = list(weights)[rng.choice(len(shares), p=shares)]
        texts, each = self.texts[chosen], self.settings.per_prompt
        place = number // each % len(texts) if each else int(rng.integers(len(texts)))
        text, reference = texts[place]
        opening = opening_tokens(self.base.tokenizer)
        room = room_for_text(self.base.model, opening, self.settings.max_new_tokens)
        if chosen == "infill":
            return self._gap(text, room, rng)
        if chosen == "from_documents":
            text = opening_of(text, self.settings.opening_words)
        prompt, tokens = seen(self.base.tokenizer, text, room)
        own, _ = prompt_tokens(self.base.tokenizer, text, opening)
        if not (isinstance(text, Rendered) and tokens[: len(own)] == own):
            tokens = own + tokens
        shown = tokens or [self.base.tokenizer.eos_token_id]
        return _Beginning(BEGUN[chosen], shown, prompt, tokens, reference=reference)

    def _gap(self, text: str, room: int, rng: np.random.Generator) -> _Beginning:
        """Draw a passage around a gap in a text, shortened at its two ends to fit the context."""
        assert self.sentinels is not None
        tokenizer = self.base.tokenizer
        room -= self.sentinels.cost - len(self.sentinels.opening) - 1
        if room < 2:
            raise InputError(
                f"max_new_tokens is {self.settings.max_new_tokens}, which leaves no room for text "
                "around a gap in the model's context; lower it"
            )
        prefix, suffix = around(text, self.settings.opening_words, self.settings.infill_words, rng)
        before = len(text_tokens(tokenizer, prefix))
        left = max(room // 2, room - before)
        behind, tokens_behind = seen(tokenizer, suffix, left, end=False, after=prefix)
        prompt, tokens = seen(tokenizer, prefix, room - len(tokens_behind))
        asked = self.sentinels.prompt(np.array(tokens), np.array(tokens_behind))
        return _Beginning("document", asked.tolist(), prompt, tokens, behind)


def _randomness(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _weights(settings: Generation) -> dict[str, float]:
    """Weights of the kinds of beginnings, by the name of the setting."""
    return {name: getattr(settings, name) for name in BEGUN}


def _texts(
    settings: Generation, prompts: Prompts, documents: Sequence[str]
) -> dict[str, Sequence[tuple[str, Reference]]]:
    """Texts to continue with their references, by setting.

    Raises InputError if a positive weight has none.
    """
    gaps = [text for text in documents if len(words(text, 3)) == 3]
    texts: dict[str, Sequence[tuple[str, Reference]]] = {
        "from_prompts": list(zip(prompts.prompts, prompts.references, strict=True)),
        "from_documents": [(text, "") for text in documents],
        "from_nothing": [("", "")],
        "infill": [(text, "") for text in gaps],
    }
    missing = {"from_prompts": "prompts", "from_documents": "documents"}
    for name, weight in _weights(settings).items():
        if weight and not texts[name]:
            some = missing.get(name, "documents of three words or more")
            raise InputError(
                f"{name} is {weight:g}, and there are no {some} to continue; give some, or set "
                "it to 0"
            )
    return texts
