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


def test_beam_search_is_that_of_each_prompt_alone(
    answer: Callable[..., list[str]],
    model: "LlamaForCausalLM",
    tokenizer: "PreTrainedTokenizerFast",
) -> None:
    """Also in a batch of prompts of other lengths; likelier than greedy answers, mostly."""
    import torch

    model.eval()
    expected = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt)["input_ids"] or [tokenizer.eos_token_id]
        settings = {"max_new_tokens": 12, "num_beams": 4, "do_sample": False}
        with torch.no_grad():
            alone = model.generate(
                torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
                pad_token_id=tokenizer.eos_token_id,
                **settings,
            )
        new = alone[0, len(ids) :].tolist()
        end = new.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in new else None
        expected.append(tokenizer.decode(new[:end]))
    assert answer(num_beams=4) == expected
    assert expected != answer()
