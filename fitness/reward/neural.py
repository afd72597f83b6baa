"""Rewards by a trained reward model: a folder that `evo export` wrote of `model.task: reward`.

Named `reward:FOLDER`, it is a metric, a filter of samples and a reward of `method: reinforce`.
"""

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fitness.data.records import rows
from fitness.data.tokens import opening_tokens, text_tokens
from fitness.errors import InputError
from fitness.inference.log_probabilities import rows_at_once
from fitness.mixture.decks import Sequence as Tokens
from fitness.models import folders
from fitness.models.heads import Head
from fitness.training.classification import rewards_of

if TYPE_CHECKING:
    from fitness.models.base import Base

HEAD = Head("reward")
UNLIMITED = 2**31


@cache  # of a folder that every batch of answers names again
def check(folder: str, where: str) -> None:
    """Raise InputError, beginning with `where`, unless a folder has a reward model."""
    try:
        found = folders.locate(folder)
        config = folders.config_json(found)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    names = folders.architectures(found) or ["no model"]
    labels = config.get("id2label")
    single = config.get("num_labels") == 1 or (isinstance(labels, dict) and len(labels) == 1)
    if not (names[0].endswith("ForSequenceClassification") and single):
        raise InputError(
            f"{where}: {names[0]} in {folder} is no reward model; train one with `model.task: "
            "reward`, and export it with `evo export`"
        )


def rewards(
    folder: str, prompts: Sequence[str], references: Sequence[Any], outputs: Sequence[str]
) -> list[float]:
    """Reward of each output after its prompt, in log-odds; references are not read.

    A prompt too long for the model's context loses its beginning.
    """
    import torch

    base = _loaded(folder)
    texts = [_tokens(base, *pair) for pair in zip(prompts, outputs, strict=True)]
    order = sorted(range(len(texts)), key=lambda place: -len(texts[place].tokens))
    found = np.empty(len(texts))
    base.model.eval()
    with torch.inference_mode():
        first = 0
        while first < len(order):
            size = max(1, rows_at_once(len(texts[order[first]].tokens)))
            places = order[first : first + size]
            values = rewards_of(base.model, [texts[place] for place in places])
            found[places] = values.double().cpu().numpy()
            first += size
    return [float(value) for value in found]


@cache
def _loaded(folder: str) -> "Base":
    from fitness.models.base import Base

    return Base(folders.locate(folder), head=HEAD)


def _tokens(base: "Base", prompt: str, output: str) -> Tokens:
    """Tokens of a prompt with its answer, as a comparison has them in training."""
    tokenizer = base.tokenizer
    encode = partial(text_tokens, tokenizer)
    record = {"prompt": prompt, "completion": output, "individual": 0, "seed": 0, "ended": True}
    (row,) = rows(record, "sample", "answer", tokenizer, encode, opening_tokens(tokenizer))
    context = folders.context(Path(base.folder)) or UNLIMITED
    tokens = np.array([*row.prompt, *row.answer][-context:], dtype=np.int64)
    return Tokens(tokens, tokens)
