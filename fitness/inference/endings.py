"""The tokens at which generation stops; a model may have several.

A base model ends a text with its tokenizer's EOS. A chat model ends a turn with a token of its own,
such as Gemma's <end_of_turn> or Llama 3's <|eot_id|>, which its generation config or its chat
template names. If generation stopped at EOS only, it would continue with the user's next turn.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ANSWER = "evomix"  # a word that a chat template leaves as it is
TURN = [{"role": "user", "content": "?"}, {"role": "assistant", "content": ANSWER}]


def ending_tokens(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase"
) -> tuple[int, ...]:
    """All tokens that end an answer, the tokenizer's EOS first.

    Then those in the model's generation config and config, and the one that the chat template puts
    after an assistant's turn.
    """
    settings = [model.generation_config, model.config, model.config.get_text_config()]
    named: list[int | None] = []
    for one in settings:
        ends = getattr(one, "eos_token_id", None)
        named += ends if isinstance(ends, list | tuple) else [ends]
    named = [tokenizer.eos_token_id, *named, end_of_turn(tokenizer)]
    return tuple(dict.fromkeys(token for token in named if token is not None))


def end_of_turn(tokenizer: "PreTrainedTokenizerBase") -> int | None:
    """The first added token that the chat template puts after an assistant's turn, if any.

    Not white space: Gemma's tokenizer, for one, has runs of line breaks among its added tokens.
    """
    if tokenizer.chat_template is None:
        return None
    try:
        text = str(tokenizer.apply_chat_template(TURN, tokenize=False))
    except Exception:  # a template may refuse any chat, such as one without a system message
        return None
    behind = text.rpartition(ANSWER)[2]
    tokens: list[int] = tokenizer(behind, add_special_tokens=False, verbose=False)["input_ids"]
    added = tokenizer.added_tokens_decoder
    marks = (token for token in tokens if token in added and added[token].content.strip())
    return next(marks, None)


def turn_end(tokenizer: "PreTrainedTokenizerBase", end: int | None) -> str:
    """The text of a token that ended an answer; empty for the tokenizer's EOS, and for none."""
    return "" if end in (None, tokenizer.eos_token_id) else str(tokenizer.decode([end]))
