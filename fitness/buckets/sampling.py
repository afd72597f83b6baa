"""Batched sampling for a whole bucket: each member answers the prompts, on one forward pass."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fitness.inference.endings import ending_tokens
from fitness.inference.sampling import batch_seed, continued_each, decoded, encoded_prompts
from fitness.inference.streams import Streams

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
    num_beams: int = 1,
    seeds: Sequence[int],
    batch_size: int = 32,
) -> list[list[str]]:
    """Answers of each member of a bucket under its seed, as by `generate` with its adapter alone.

    `model` is the one that `bucket.lent` has put the adapters on; there is a seed for each member
    still active. Members x `batch_size` prompts are answered at a time.
    """
    device = next(model.parameters()).device
    encoded = encoded_prompts(model, tokenizer, prompts, max_new_tokens)
    answers = continued_each(
        model,
        encoded,
        len(seeds),
        lambda first: Streams([batch_seed(seed, first) for seed in seeds], device),
        ends=ending_tokens(model, tokenizer),
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        num_beams=num_beams,
        batch_size=batch_size,
    )
    return [
        [
            decoded(tokenizer, answer.tokens, prompt)
            for prompt, answer in zip(encoded, own, strict=True)
        ]
        for own in answers
    ]
