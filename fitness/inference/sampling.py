"""Batched generation of answers to prompts, greedy or sampled, through transformers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fitness.data.tokens import opening_tokens, prompt_tokens
from fitness.errors import InputError
from fitness.inference.endings import ending_tokens

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SEEDS = 2**63
CONTEXT = 8  # last tokens of the prompt that are decoded together with the answer


class Continuation(NamedTuple):
    """Generated tokens, and the ending token after them; None where the length limit stopped it."""

    tokens: list[int]
    end: int | None = None


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
    batch_size: int = 32,
) -> list[str]:
    """Answer each prompt, without the prompt, up to an ending token or `max_new_tokens`, in order.

    With `num_beams` above 1 the answers are those of beam search, as transformers' `generate` makes
    it. Greedy answers do not depend on the other prompts of a batch. Sampled ones follow from seed,
    prompts and batch size. A prompt too long for the model's context loses its beginning. No
    global random state and no module's training mode is left changed. Raises InputError if
    `max_new_tokens` leaves no room for a prompt.
    """

    if not prompts:
        return []
    encoded = encoded_prompts(model, tokenizer, prompts, max_new_tokens)
    answers = continued(
        model,
        encoded,
        ends=ending_tokens(model, tokenizer),
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        num_beams=num_beams,
        seed=seed,
        batch_size=batch_size,
    )
    pairs = zip(encoded, answers, strict=True)
    return [decoded(tokenizer, answer.tokens, prompt) for prompt, answer in pairs]


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


def continued(
    model: "PreTrainedModel",
    encoded: list[list[int]],
    *,
    ends: Sequence[int],
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    num_beams: int = 1,
    seed: int,
    batch_size: int = 32,
) -> list[Continuation]:
    """Like `generate`, from tokens to tokens; any of the tokens `ends` ends an answer."""
    device = next(model.parameters()).device
    (answers,) = continued_each(
        model,
        encoded,
        1,
        lambda first: _seeded(device, batch_seed(seed, first)),
        ends=ends,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        num_beams=num_beams,
        batch_size=batch_size,
    )
    return answers


def continued_each(
    model: "PreTrainedModel",
    encoded: list[list[int]],
    members: int,
    randomness: Callable[[int], AbstractContextManager[object]],
    *,
    ends: Sequence[int],
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    num_beams: int = 1,
    batch_size: int,
) -> list[list[Continuation]]:
    """The answers of each member of a bucket; a batch has the rows of one member after another's.

    A batch is computed under `randomness` for the place of its first prompt.
    """
    import torch

    device = next(model.parameters()).device
    longest_first = sorted(range(len(encoded)), key=lambda place: -len(encoded[place]))
    answers = [[Continuation([])] * len(encoded) for _ in range(members)]
    with _only_answering(model), _private_randomness(device), torch.no_grad():
        for first in range(0, len(encoded), batch_size):
            places = longest_first[first : first + batch_size]
            with randomness(first):
                new_tokens = _continue(
                    model,
                    [encoded[place] for place in places] * members,
                    device,
                    ends=ends,
                    max_new_tokens=max_new_tokens,
                    temperature=temperature,
                    top_p=top_p,
                    num_beams=num_beams,
                )
            for number, answer in enumerate(new_tokens):
                member, place = divmod(number, len(places))
                answers[member][places[place]] = answer
    return answers


def continued_apart(
    model: "PreTrainedModel",
    encoded: list[list[int]],
    numbers: "np.ndarray",
    *,
    ends: Sequence[int],
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    num_beams: int = 1,
) -> list[Continuation]:
    """Like `continued` for one batch, each row of which is sampled by its own random numbers.

    `numbers`, (rows, max_new_tokens), are in [0, 1). On one machine a row's tokens thus follow from
    its numbers and from the other rows of the batch: their count and the padding change the last
    digits of its logits, and rarely a token.
    """
    import torch

    from fitness.inference.streams import RowNumbers

    device = next(model.parameters()).device
    with _only_answering(model), torch.no_grad(), RowNumbers(numbers, device):
        return _continue(
            model,
            encoded,
            device,
            ends=ends,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            num_beams=num_beams,
        )


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
    device: "torch.device",
    *,
    ends: Sequence[int],
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    num_beams: int = 1,
) -> list[Continuation]:
    """Generate a continuation of each encoded prompt, up to its first ending token."""
    from transformers import GenerationConfig

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


@contextmanager
def _private_randomness(device: "torch.device") -> Iterator[None]:
    """Restore the random state of the CPU and of one device afterwards."""
    import torch

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if device.type in ("cpu", "cuda"):
            yield
            return
        state = torch.get_device_module(device).get_rng_state()
        try:
            yield
        finally:
            torch.get_device_module(device).set_rng_state(state)


def batch_seed(seed: int, first: int) -> int:
    """Seed of the batch that starts at `first`.

    A seed per batch makes samples independent of the lengths of answers in the batches before.
    """
    return (seed * 1_000_003 + first) % SEEDS


@contextmanager
def _seeded(device: "torch.device", mixed: int) -> Iterator[None]:
    """Seed the generators of the CPU and the device; the caller restores them."""
    import torch

    torch.random.default_generator.manual_seed(mixed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(mixed)
    elif device.type != "cpu":
        torch.get_device_module(device).manual_seed(mixed)
    yield


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
