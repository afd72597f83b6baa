"""All tokens that end an answer end it: EOS, those of the generation config, the template's own."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fitness.data.records import rows
from fitness.data.samples import sample_in, to_lines
from fitness.inference.endings import end_of_turn, ending_tokens
from fitness.inference.sampling import Continuation, continued, generate, numbers_of
from fitness.models.base import Base
from fitness.samples.write import Generation, write
from tests.fitness.conftest import byte_tokenizer
from tests.fitness.quickstart import MODEL

TURN = "<turn_end>"  # as Gemma's <end_of_turn>: not the tokenizer's EOS
TEMPLATE = (
    "{% for m in messages %}{{ '[' + m['role'] + ']' + m['content'] + '<turn_end>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """The quickstart's model with a chat template whose turns end with a token of their own."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("chatty") / "model"
    shutil.copytree(MODEL, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": [TURN]})
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    base = Base(folder)
    base.model.resize_token_embeddings(len(tokenizer))
    return base


def likely(base: Base, token: int) -> None:
    """Have the model write one token whatever it is asked, by a bias of its logits."""
    head = base.model.get_output_embeddings()

    def biased(module: object, inputs: object, logits: torch.Tensor) -> torch.Tensor:
        return logits + 1e4 * torch.nn.functional.one_hot(torch.tensor(token), logits.shape[-1])

    head.register_forward_hook(biased)


@pytest.fixture
def turning(chatty: Base) -> Iterator[Base]:
    """A model that ends every answer with its end of a turn."""
    likely(chatty, chatty.tokenizer.convert_tokens_to_ids(TURN))
    yield chatty
    chatty.model.get_output_embeddings()._forward_hooks.clear()


def test_the_ends_are_those_of_the_tokenizer_the_configs_and_the_template(
    base: Base, chatty: Base
) -> None:
    tokenizer = chatty.tokenizer
    turn = tokenizer.convert_tokens_to_ids(TURN)
    assert ending_tokens(base.model, base.tokenizer) == (base.tokenizer.eos_token_id,)
    assert ending_tokens(chatty.model, tokenizer) == (tokenizer.eos_token_id, turn)
    before = chatty.model.generation_config.eos_token_id
    chatty.model.generation_config.eos_token_id = [7, turn]
    assert ending_tokens(chatty.model, tokenizer) == (tokenizer.eos_token_id, 7, turn)
    chatty.model.generation_config.eos_token_id = before


def test_a_line_break_before_the_end_of_a_turn_ends_nothing() -> None:
    """Though it is an added token, as it is of Gemma's tokenizer."""
    from tokenizers import AddedToken

    tokenizer = byte_tokenizer(chat_template=TEMPLATE.replace(TURN, "\n" + TURN))
    tokenizer.add_tokens([AddedToken("\n", special=False, normalized=False), TURN])
    assert tokenizer.tokenize("a\n" + TURN) == ["a", "\n", TURN]
    assert end_of_turn(tokenizer) == tokenizer.convert_tokens_to_ids(TURN)


def test_an_answer_ends_at_the_end_of_its_turn(turning: Base) -> None:
    turn = turning.tokenizer.convert_tokens_to_ids(TURN)
    ends = ending_tokens(turning.model, turning.tokenizer)
    answers = continued(turning.model, [[5, 9], [8]], numbers_of(0, 6), ends=ends, max_new_tokens=6)
    assert answers == [Continuation([], turn)] * 2
    assert generate(turning.model, turning.tokenizer, ["Hi"], max_new_tokens=6, seed=0) == [""]


def test_a_sample_is_learned_with_the_token_that_ended_it(turning: Base) -> None:
    settings = Generation(samples=1, from_documents=0, from_nothing=1, max_new_tokens=6)
    (sample,) = write(turning, settings, individual=0, seed=0)
    assert sample.ended
    assert sample.end == TURN
    (line,) = to_lines([sample])
    import json

    assert sample_in(json.loads(line), "here") == sample
    tokenizer = turning.tokenizer

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    record = {**json.loads(line), "prompt": "A bug", "completion": " bites."}
    (row,) = rows(record, "sample", "here", tokenizer, encode, [])
    assert row.answer[-1] == tokenizer.convert_tokens_to_ids(TURN)
    (row,) = rows({**record, "end": ""}, "sample", "here", tokenizer, encode, [])
    assert row.answer[-1] == tokenizer.eos_token_id


def test_reinforced_answers_end_with_the_token_that_ended_them(
    turning: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fitness.recipe import Recipe
    from fitness.training import reinforce
    from fitness.training.reference import Reference
    from tests.fitness.records import deck

    asked = deck(
        [{"prompt": "A bug is"}], "prompt", tmp_path, method="reinforce", sequence_length=32
    )
    recipe = Recipe(method="reinforce", reinforce_new_tokens=4)
    rowed: list[list[int]] = []
    row = reinforce._row

    def recorded(prompt: Any, answer: Any) -> Any:
        rowed.append([*answer])
        return row(prompt, answer)

    monkeypatch.setattr(reinforce, "_row", recorded)
    with turning.prepared(recipe, seed=0) as model:
        reinforce.reinforced(
            model, [asked.draw("a", 0, 32)], recipe, Reference(turning), turning.tokenizer, seed=0
        )
    turn = turning.tokenizer.convert_tokens_to_ids(TURN)
    assert rowed == [[turn]] * recipe.reinforce_group
