"""Sets of prompts with references, read from JSONL."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fitness.checks.table import COMPARING, Reference, check_references
from fitness.data.chats import Chat, arguments_in, rendered, text_or_chat
from fitness.data.documents import Half, existing
from fitness.data.formats import json_records, reference_in
from fitness.data.records import notes_of, unread
from fitness.data.tokenizer import load_tokenizer
from fitness.data.tokens import Rendered
from fitness.errors import Faults, InputError, Refuse, at_once

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PromptSet(BaseModel):
    """Prompts to score generation on: JSONL of {"prompt": "...", "reference": "..."}.

    A prompt may be a list of chat messages {"role": "...", "content": "..."}, and a reference a
    list of texts that are as good. Without a builtin metric that reads them, all references may be
    left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    selection: Annotated[
        str,
        Field(
            min_length=1,
            description="JSONL of {prompt, reference} that a search may read; a prompt may be a "
            "list of chat messages {role, content}, a reference a list of texts as good. All "
            "references may be left out where no builtin metric reads them.",
        ),
    ]
    test: Annotated[
        str, Field(min_length=1, description="JSONL that only the closing comparison reads.")
    ]
    max_new_tokens: Annotated[int, Field(ge=1, description="Longest answer, tokens.")] = 32
    temperature: Annotated[float, Field(ge=0, description="0 is greedy decoding.")] = 0.0
    top_p: Annotated[
        float,
        Field(gt=0, le=1, description="Nucleus sampling: from the likeliest tokens of this mass."),
    ] = 1.0
    num_beams: Annotated[
        int,
        Field(ge=1, le=100, description="Beams of beam search, at temperature 0; 1 is greedy."),
    ] = 1
    metrics: Annotated[
        tuple[str, ...], Field(min_length=1, description="Names, or your own as module:function.")
    ] = ("chrf", "exact_match", "distinct_1", "distinct_2", "repetition", "mean_length")
    limit: Annotated[
        int | None, Field(ge=1, description="Read at most this many prompts, from the first.")
    ] = None

    @model_validator(mode="after")
    def _beams_or_sampling(self) -> Self:
        check_beams(self.num_beams, self.temperature)
        return self

    @property
    def sampling(self) -> dict[str, Any]:
        """The sampling settings, as keyword arguments of `generate`."""
        names = ("max_new_tokens", "temperature", "top_p", "num_beams")
        return {name: getattr(self, name) for name in names}

    def files(self) -> dict[Half, str]:
        """The file of each split."""
        return {"selection": self.selection, "test": self.test}


def check_beams(num_beams: int, temperature: float) -> None:
    """Raise ValueError for beam search with sampling, which are two ways to choose a token."""
    if num_beams > 1 and temperature:
        raise ValueError(
            f"num_beams is {num_beams}, which searches for the likeliest answer, and temperature "
            f"is {temperature:g}, which samples; set temperature to 0, or num_beams to 1"
        )


@dataclass(frozen=True)
class Prompts:
    """Prompts and their reference answers, in the same order; "" where there is no reference."""

    prompts: list[str]
    references: list[Reference]
    # Warnings for the user, sentences without their subject.
    notes: tuple[str, ...] = field(default=(), compare=False)


NO_PROMPTS = Prompts([], [])


def read_prompts(name: str, path: str, settings: PromptSet, model: Path) -> Prompts:
    """The prompts in one of a set's files; InputError with file and line, beginning with `name`.

    References may be missing from all prompts where no builtin metric reads them. From some alone
    they were forgotten: a metric of the user's own would take them for empty. A chat is rendered by
    the template of the tokenizer in the folder `model`.
    """
    faults = Faults()
    asked: list[str] = []
    references: list[Reference] = []
    missing: list[InputError] = []
    ignored: dict[str, None] = {}  # columns, in the order in which they are met
    try:
        prompts = prompt_records(path, model, faults.add)
        for where, record, prompt in islice(prompts, settings.limit):
            try:
                references.append(reference_in(record, where))
            except InputError as error:
                if record.get("reference") is not None:
                    faults.add(error)
                    continue
                missing.append(error)
                references.append("")
            asked.append(prompt)
            ignored |= dict.fromkeys(unread(record, "prompt"))
        if len(missing) < len(asked) or COMPARING.intersection(settings.metrics):
            for absent in missing:
                faults.add(absent)
        faults.check()
        if not asked:
            raise InputError(
                f"{path}: holds no prompts; every line must look like "
                '{"prompt": "...", "reference": "..."}'
            )
        check_references(settings.metrics, references, path)
    except InputError as error:
        raise InputError(f"{name}: {error}".replace("\n", "\n  ")) from error
    return Prompts(asked, references, tuple(notes_of(ignored)))


def prompts_in(file: Path, model: Path) -> Prompts:
    """Read prompts to continue, with references where a line has one. Raises InputError."""
    asked: list[str] = []
    references: list[Reference] = []
    for where, record, prompt in prompt_records(str(file), model):
        given = record.get("reference") is not None
        references.append(reference_in(record, where) if given else "")
        asked.append(prompt)
    if not asked:
        raise InputError(f'{file}: has no prompts; every line must look like {{"prompt": "..."}}')
    return Prompts(asked, references)


def prompt_records(
    path: str, model: Path, refuse: Refuse = at_once
) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """Stream (place, record, prompt as text) of a JSONL file of prompts.

    A chat is rendered by the template of the tokenizer in the folder `model`. Raises InputError.
    """
    tokenizer: PreTrainedTokenizerBase | None = None
    file = existing(path, Path.cwd())
    if file.is_dir():
        raise InputError(f"{file}: is a folder; prompts are read from one JSONL file")
    for line, record in json_records(file, refuse):
        where = f"{file}:{line}"
        try:
            prompt = text_or_chat(record, "prompt", where, "prompt")
            if not isinstance(prompt, str):
                tokenizer = tokenizer or load_tokenizer(model)
                prompt = _rendered_prompt(prompt, record, tokenizer, where)
        except InputError as error:
            refuse(error)
        else:
            yield where, record, prompt


def _rendered_prompt(
    chat: Chat, record: Mapping[str, Any], tokenizer: "PreTrainedTokenizerBase", where: str
) -> Rendered:
    arguments = arguments_in(record, where)
    return Rendered(rendered(tokenizer, chat, where, prompting=True, arguments=arguments))
