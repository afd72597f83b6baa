"""Log-likelihood of samples under a model: the base that generated them, or a second one."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fitness.data.samples import Sample
from fitness.data.tokens import opening_tokens, separator, shared, text_tokens
from fitness.inference.log_probabilities import sequences_at_once, token_logps
from fitness.mixture.decks import Sequence as Tokens
from fitness.mixture.mixing import stacked
from fitness.models.base import Base

LONGEST = 2048  # tokens of a sample that count, or the model's context if that is less


def likelihoods(base: Base, samples: Sequence[Sample]) -> list[float]:
    """Mean log-probability of each completion's tokens after its prompt, nats, under the base.

    Up to rounding, independent of the other samples; NaN where there is no token. Where prompt and
    completion exceed the model's context, the prompt loses its beginning and the completion its
    end.
    """
    import torch

    context = getattr(base.model.config.get_text_config(), "max_position_embeddings", None)
    longest = min(LONGEST, context or LONGEST)
    rows = [_tokens(base, sample, longest) for sample in samples]
    waiting = sorted(range(len(rows)), key=lambda place: -len(rows[place].tokens))
    by_place: dict[int, float] = {}
    with base.untouched() as model, torch.inference_mode():
        while waiting:
            size = sequences_at_once(model, len(rows[waiting[0]].tokens))
            some, waiting = waiting[:size], waiting[size:]
            tokens = [rows[place].tokens for place in some]
            logps = token_logps(model, stacked([Tokens(ids, ids) for ids in tokens]))
            for place, each in zip(some, logps.double().cpu().numpy(), strict=True):
                ids, begin = rows[place]
                by_place[place] = _mean(each[begin - 1 : len(ids) - 1])
    return [by_place[place] for place in range(len(rows))]


def perplexity(logp: float) -> float:
    """exp of the negative mean log-probability; NaN for NaN, infinite on overflow."""
    return math.exp(-logp) if not -logp > 700 else math.inf


class _Row(NamedTuple):
    """Tokens of a sample's prompt and completion, int64 (n,), and where the completion begins."""

    tokens: np.ndarray
    begin: int


def _tokens(base: Base, sample: Sample, longest: int) -> _Row:
    opening = opening_tokens(base.tokenizer)
    prompt, answered, whole = (
        text_tokens(base.tokenizer, text)
        for text in (sample.prompt, sample.prompt + sample.completion, sample.text)
    )
    if prompt[: len(opening)] == opening:  # already there, from the chat template
        opening = []
    begin = shared(prompt, answered)
    end = max(begin, shared(answered, whole))
    prompt = opening + whole[:begin] or [separator(base.tokenizer)]
    completion = whole[begin:end][: longest - 1]
    prompt = prompt[-(longest - len(completion)) :]
    tokens = np.array([*prompt, *completion], dtype=np.int64)
    return _Row(tokens, len(prompt))


def _mean(logps: np.ndarray) -> float:
    return float(logps.mean()) if len(logps) else math.nan
