"""Greedy answers against a plain loop over a model's logits."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.fitness.inference.test_sampling import PROMPTS
from tests.fitness.inference.test_sampling import answer as answer
from tests.fitness.inference.test_sampling import model as model
from tests.fitness.inference.test_sampling import tokenizer as tokenizer

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


@pytest.mark.parametrize("several", [False, True])
def test_greedy_answers_are_those_of_a_plain_loop_without_padding_or_cache(
    answer: Callable[..., list[str]],
    model: "LlamaForCausalLM",
    tokenizer: "PreTrainedTokenizerFast",
    monkeypatch: pytest.MonkeyPatch,
    several: bool,
) -> None:
    """Also where the model's generation config has `several` tokens that end an answer."""
    import torch

    ends = [tokenizer.eos_token_id]
    if several:
        written = [tokenizer(text)["input_ids"] for text in answer()]
        ends += [written[0][3], written[1][6]]
        monkeypatch.setattr(model.generation_config, "eos_token_id", ends[1:])
    expected, ended = [], 0
    model.eval()
    for prompt in PROMPTS:
        ids = tokenizer(prompt)["input_ids"] or [tokenizer.eos_token_id]
        new: list[int] = []
        while len(new) < 12:
            with torch.no_grad():
                token = int(model(torch.tensor([ids + new])).logits[0, -1].argmax())
            if token in ends:
                ended += 1
                break
            new.append(token)
        expected.append(tokenizer.decode(new))

    assert answer() == expected
    assert len(set(expected)) > 3
    assert (ended > 0) == several
