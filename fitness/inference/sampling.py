"""Batched generation of answers to prompts, greedy or sampled, through transformers."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fitness.data.tokens import opening_tokens, prompt_tokens
from fitness.errors import InputError
from fitness.hardware import is_out_of_memory, release_memory
from fitness.inference.endings import ending_tokens

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ROWS = 32  # prompts answered at once on a CPU, where more are no faster
GPU_ROWS = 256  # the most on a GPU
CACHE_SHARE = 1 / 8  # of the memory of a GPU, which workers may share, for what is kept of tokens
CONTEXT = 8  # last tokens of the prompt that are decoded together with the answer

Numbers = Callable[[int], np.ndarray]  # random numbers in [0, 1) of the answer to a prompt's place


class Continuation(NamedTuple):
    """Generated tokens, and the ending token after them; None where the length limit stopped it."""

    tokens: list[int]
    end: int | None = None


Answering = Callable[..., list[Continuation]]  # called as `continued`


def generate(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: list[str],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    num_beams: int = 1,
    seed: int,
) -> list[str]:
    """Answer each prompt, without the prompt, up to an ending token or `max_new_tokens`, in order.

    With `num_beams` above 1 the answers are those of beam search, as transformers' `generate` makes
    it. Sampled answers follow from the seed and the prompt's place. Other prompts change the last
    digits of an answer's logits, and rarely a token. A prompt too long for the model's context
    loses its beginning. No global random state and no module's training mode is left changed.
    Raises InputError if `max_new_tokens` leaves no room for a prompt.
    """
    (answers,) = generate_each(
        model,
        tokenizer,
        prompts,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        num_beams=num_beams,
        seeds=[seed],
    )
    return answers


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
) -> list[list[str]]:
    """Answers under each seed: of each active member of a bucket that the model is lent to."""
    encoded = encoded_prompts(model, tokenizer, prompts, max_new_tokens)
    answers = continued_each(
        model,
        encoded,
        [numbers_of(seed, max_new_tokens) for seed in seeds],
        ends=ending_tokens(model, tokenizer),
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        num_beams=num_beams,
    )
    return [
        [
            decoded(tokenizer, answer.tokens, prompt)
            for prompt, answer in zip(encoded, own, strict=True)
        ]
        for own in answers
    ]


def decoded(
    tokenizer: "PreTrainedTokenizerBase", tokens: list[int], prompt: Sequence[int] = ()
) -> str:
    """Decode an answer's tokens in the context of its prompt.

    Decoded alone, tokens of a SentencePiece-like tokenizer lose their leading space.
    """

    def text(ids: list[int]) -> str:
        return str(
            tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )

    context = list(prompt[-CONTEXT:])
    before, whole = text(context), text(context + tokens)
    return whole[len(before) :] if whole.startswith(before) else text(tokens)


def encoded_prompts(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: list[str],
    max_new_tokens: int,
) -> list[list[int]]:
    """The tokens of each prompt; only its last ones where all leave no room for an answer."""
    opening = opening_tokens(tokenizer)
    room = room_for_text(model, opening, max_new_tokens)
    parts = [prompt_tokens(tokenizer, prompt, opening) for prompt in prompts]
    return [(before + tokens[-room:]) or [tokenizer.eos_token_id] for before, tokens in parts]


def room_for_text(model: "PreTrainedModel", opening: list[int], max_new_tokens: int) -> int:
    """The most tokens of a prompt's text that fit beside its opening and an answer, 1 or more.

    Raises InputError where an answer leaves none.
    """
    return max(_room(model, max_new_tokens) - len(opening), 1)


def numbers_of(seed: int, count: int) -> Numbers:
    """Random numbers by place, (count,) each, that follow from the seed and the place alone."""

    def numbers(place: int) -> np.ndarray:
        key = np.random.SeedSequence(seed, spawn_key=(place,))
        return np.random.default_rng(key).random(count)

    return numbers


def continued(
    model: "PreTrainedModel",
    encoded: list[list[int]],
    numbers: Numbers,
    *,
    ends: Sequence[int],
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    num_beams: int = 1,
) -> list[Continuation]:
    """Like `generate`, from tokens to tokens; any of the tokens `ends` ends an answer."""
    (answers,) = continued_each(
        model,
        encoded,
        [numbers],
        ends=ends,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        num_beams=num_beams,
    )
    return answers


def continued_each(
    model: "PreTrainedModel",
    encoded: list[list[int]],
    numbers: Sequence[Numbers],
    *,
    ends: Sequence[int],
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    num_beams: int = 1,
) -> list[list[Continuation]]:
    """The answers under each member's numbers; a batch has the rows of one after another's.

    As many prompts are answered at once as `rows_at_once` says, or half of that as often as memory
    runs short.
    """
    import torch

    waiting = sorted(range(len(encoded)), key=lambda place: -len(encoded[place]))
    answers = [[Continuation([])] * len(encoded) for _ in numbers]
    each, most = len(numbers) * num_beams, GPU_ROWS
    with _only_answering(model), torch.no_grad():
        while waiting:
            length = len(encoded[waiting[0]]) + max_new_tokens
            rows = min(rows_at_once(model, length, each), most)
            places = waiting[:rows]
            try:
                batch = _continue(
                    model,
                    [encoded[place] for place in places] * len(numbers),
                    [own(place) for own in numbers for place in places] if temperature else [],
                    ends=ends,
                    max_new_tokens=max_new_tokens,
                    temperature=temperature,
                    top_p=top_p,
                    num_beams=num_beams,
                )
            except Exception as error:
                if len(places) == 1 or not is_out_of_memory(error):
                    raise
                batch, most = [], len(places) // 2
            if not batch:
                release_memory()
                continue
            for number, answer in enumerate(batch):
                member, place = divmod(number, len(places))
                answers[member][places[place]] = answer
            waiting = waiting[rows:]
    return answers


def rows_at_once(model: "PreTrainedModel", length: int, each: int = 1) -> int:
    """Prompts to answer at once, of `length` tokens with their answers, in `each` rows.

    By the whole memory of a GPU, not by what is free, so that the same machine makes the same
    batches: a power of two, by the keys and values of all tokens and two copies of the logits.
    """
    import torch

    device = next(model.parameters()).device
    if device.type != "cuda":
        return ROWS
    room = torch.cuda.get_device_properties(device).total_memory * CACHE_SHARE
    fitting = room / (each * row_bytes(model, length))
    return 1 if fitting < 2 else min(2 ** int(math.log2(fitting)), GPU_ROWS)


def row_bytes(model: "PreTrainedModel", length: int) -> int:
    """Bytes that a row of `length` tokens takes during generation, at most."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None) or 1
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    kept = 2 * (getattr(config, "num_key_value_heads", None) or heads) * width  # keys and values
    cached = config.num_hidden_layers * kept * length * next(model.parameters()).element_size()
    return int(cached + 2 * config.vocab_size * 4)


def _room(model: "PreTrainedModel", max_new_tokens: int) -> int:
    """The most tokens of a prompt that fit the model's context beside the answer."""
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if context is None:
        return 2**31
    if context <= max_new_tokens:
        raise InputError(
            f"max_new_tokens is {max_new_tokens}, which leaves no room for a prompt in the model's "
            f"context of {context} tokens; lower it"
        )
    return int(context) - max_new_tokens


def _continue(
    model: "PreTrainedModel",
    encoded: list[list[int]],
    numbers: list[np.ndarray],
    *,
    ends: Sequence[int],
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    num_beams: int,
) -> list[Continuation]:
    """Generate a continuation of each encoded prompt, up to its first ending token.

    Each row is sampled by its own random `numbers`, (max_new_tokens,); greedy ones need none.
    """
    from transformers import GenerationConfig

    from fitness.inference.streams import RowNumbers

    device = next(model.parameters()).device
    padded, attended = _padded(encoded, ends[0], device)
    sampling = {"temperature": temperature, "top_p": top_p, "top_k": 0} if temperature else {}
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=temperature > 0,
        num_beams=num_beams,
        use_cache=True,
        eos_token_id=list(ends),
        pad_token_id=ends[0],
        **sampling,
    )
    with RowNumbers(np.stack(numbers), device) if temperature else nullcontext():
        output = model.generate(padded, attention_mask=attended, generation_config=config)
    return [_ended(tokens, ends) for tokens in output[:, padded.shape[1] :].tolist()]


def _ended(tokens: list[int], ends: Sequence[int]) -> Continuation:
    """The tokens of a row before its first ending token, after which it is padded."""
    place = next((place for place, token in enumerate(tokens) if token in ends), None)
    return Continuation(tokens) if place is None else Continuation(tokens[:place], tokens[place])


@contextmanager
def _only_answering(model: "torch.nn.Module") -> Iterator[None]:
    """Evaluation mode, without the model's own defaults for generation; all restored afterwards.

    Otherwise settings missing in a `GenerationConfig` are filled in from the model's, which may set
    a temperature, beams or a repetition penalty.
    """
    from transformers import GenerationConfig

    modes = [(module, module.training) for module in model.modules()]
    own = [(m, m.generation_config) for m in model.modules() if "generation_config" in vars(m)]
    model.eval()
    for module, _ in own:
        module.generation_config = GenerationConfig()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for module, config in own:
            module.generation_config = config


def next_logps(
    model: "PreTrainedModel", encoded: list[list[int]], *, pad: int, batch_size: int = 16
) -> np.ndarray:
    """Log-probabilities of each row's next token, in nats; (rows, vocabulary) float64."""
    import torch
    from transformers import GenerationConfig

    device = next(model.parameters()).device
    config = GenerationConfig(
        max_new_tokens=1,
        pad_token_id=pad,
        output_logits=True,
        return_dict_in_generate=True,
    )
    found = []
    with _only_answering(model), torch.no_grad():
        for first in range(0, len(encoded), batch_size):
            padded, attended = _padded(encoded[first : first + batch_size], pad, device)
            output = model.generate(padded, attention_mask=attended, generation_config=config)
            found.append(torch.log_softmax(output.logits[0].double(), dim=-1).cpu().numpy())
    return np.concatenate(found)


def _padded(
    encoded: list[list[int]], pad: int, device: "torch.device"
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Left-padded rows of tokens, and their attention mask; both (rows, longest)."""
    import torch

    longest = max(map(len, encoded))
    tokens = [[pad] * (longest - len(ids)) + ids for ids in encoded]
    own = [[0] * (longest - len(ids)) + [1] * len(ids) for ids in encoded]
    return torch.tensor(tokens, device=device), torch.tensor(own, device=device)
