"""Batched sampling for a whole bucket: each member answers the prompts, on one forward pass."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from fitness.generation import (
    SEEDS,
    _continue,
    _only_answering,
    _private_randomness,
    encoded_prompts,
)
from fitness.streams import Streams

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def generate_each(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: list[str],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seeds: Sequence[int],
    batch_size: int = 32,
) -> list[list[str]]:
    """What each member of a bucket answers under its seed, as `generate` with its adapter alone.

    `model` is the one that `bucket.lent` has put the adapters on; there is a seed for each member
    that is present. Members x `batch_size` prompts are answered at a time.
    """
    encoded = encoded_prompts(model, tokenizer, prompts, max_new_tokens)
    device = next(model.parameters()).device
    longest_first = sorted(range(len(prompts)), key=lambda place: -len(encoded[place]))
    answers = [[""] * len(prompts) for _ in seeds]
    with _only_answering(model), _private_randomness(device), torch.no_grad():
        for first in range(0, len(prompts), batch_size):
            places = longest_first[first : first + batch_size]
            with Streams([(seed * 1_000_003 + first) % SEEDS for seed in seeds], device):
                new_tokens = _continue(
                    model,
                    [encoded[place] for place in places] * len(seeds),
                    device,
                    eos=tokenizer.eos_token_id,
                    max_new_tokens=max_new_tokens,
                    temperature=temperature,
                    top_p=top_p,
                )
            for number, tokens in enumerate(new_tokens):
                member, place = divmod(number, len(places))
                answers[member][places[place]] = tokenizer.decode(
                    tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
                )
    return answers
