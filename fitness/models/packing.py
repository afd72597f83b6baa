"""Probe a base by a forward pass: can documents share a row, and which modules does it call.

Packed documents restart their positions at 0, from which `transformers` separates them, but only
for architectures that build their attention mask that way. In others, such as OPT, Bloom or models
with a recurrent state, a document attends to the documents before it.

The gradient tests this without a tolerance: the derivative of one document's log-probabilities by
the embeddings of another is exactly zero, in any precision, if no path connects them, and non-zero
otherwise. Positions that do not restart change the values: a document must have the same
log-probabilities packed as alone.

A module that the forward pass does not call, because its weight is read directly as in Mamba, or
that returns no tensor, as some routers do, cannot have an adapter: it would learn nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from fitness.errors import InputError
from fitness.models.adapters import role

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Tokens of a row up to which its documents are told apart by a mask, which grows with their square.
# Longer rows are faster as rows of one document each (tests/benchmarks/packing.py).
MASKED = 1024
ROWS = 2  # some architectures fail at more than one
LENGTH, FIRST = 24, 11  # of both documents together, and of the first
STEP = 7  # between successive tokens, so that neighbours differ


@dataclass(frozen=True, slots=True)
class Probe:
    """The result: can documents share a row; roles of linear modules that no pass calls."""

    packs: bool = True
    passed_by: frozenset[str] = frozenset()


def probed(model: "PreTrainedModel", name: str) -> Probe:
    """Probe a causal model. Raises InputError if it attends to later tokens, or cannot be computed.

    `name` identifies the model in the error.
    """
    config = model.config.get_text_config()
    room = getattr(config, "max_position_embeddings", None) or LENGTH  # XLNet says -1 for any
    length = min(LENGTH, room) if room > 0 else LENGTH
    first = min(FIRST, length // 2)
    places = torch.arange(length, device=model.device)
    tokens = torch.arange(ROWS * length, device=model.device) * STEP % config.vocab_size
    tokens = tokens.view(ROWS, length)
    positions = (places - first * (places >= first)).expand(ROWS, length)
    with _called(model) as called:
        try:
            with torch.no_grad():
                alone = _logps(model, tokens[:, first:], None)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever hundreds of architectures raise at odd sizes
            raise InputError(
                f"model.base {name!r}: {type(model).__name__} cannot be computed with this "
                f"config.json ({type(error).__name__}: {error}); mend it, or take another base"
            ) from error
    try:
        logps, before, after = _dependence(model, tokens, positions, first)
        like = _alike(alone, logps[:, first:], model.dtype)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # of an architecture that takes no positions, or cannot be derived
        like = before = after = False
    if after:
        raise InputError(
            f"model.base {name!r}: {type(model).__name__} sees what comes after a token, so that "
            "it cannot learn to predict it; take a causal model, or set `model.task` to masked or "
            "classification"
        )
    every = {role(n) for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    return Probe(like and not before, frozenset(every - called))


def pads(model: "PreTrainedModel") -> bool:
    """True if padding before a prompt has no effect on what follows it.

    Prompts of a batch end together, padded at their beginnings. Architectures with a recurrent
    state that ignore the attention mask, such as RWKV and RecurrentGemma, read the padding.
    """
    config = model.config.get_text_config()
    places = torch.arange(LENGTH, device=model.device)
    own = (places >= FIRST).long().expand(ROWS, LENGTH)
    tokens = (places * STEP % config.vocab_size).expand(ROWS, LENGTH)
    try:
        with _derived_embeddings(model) as added, torch.enable_grad():
            logits = model(input_ids=tokens, attention_mask=own, use_cache=False).logits
            ours = logits[:, FIRST:].float().log_softmax(-1).square().sum()
            (slope,) = torch.autograd.grad(ours, added[:1])
    except torch.OutOfMemoryError:
        raise
    except Exception:  # of a context this short, or an architecture that takes no mask
        return True
    padding = slope.narrow(slope.shape.index(LENGTH), 0, FIRST)
    return not bool(((padding != 0) & padding.isfinite()).any())


@contextmanager
def _derived_embeddings(model: "PreTrainedModel") -> Iterator[list[torch.Tensor]]:
    """Zeros that are added to the embeddings of the first pass, to derive with respect to them."""
    added: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor | None:
        added.append(torch.zeros_like(output, requires_grad=True))
        return output + added[0]

    hook = model.get_input_embeddings().register_forward_hook(keep)
    try:
        yield added
    finally:
        hook.remove()


@contextmanager
def _called(model: "PreTrainedModel") -> Iterator[set[str]]:
    """Record the roles of the linear modules that are called and return a tensor."""
    called: set[str] = set()

    def noting(name: str) -> Any:
        def note(module: torch.nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, torch.Tensor):
                called.add(role(name))

        return note

    hooks = [
        module.register_forward_hook(noting(name))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    try:
        yield called
    finally:
        for hook in hooks:
            hook.remove()


def _dependence(
    model: "PreTrainedModel", tokens: torch.Tensor, positions: torch.Tensor | None, first: int
) -> tuple[torch.Tensor, bool, bool]:
    """Log-probabilities; does the second document depend on the `first` tokens, and vice versa."""
    with _derived_embeddings(model) as added, torch.enable_grad():
        logps = _logps(model, tokens, positions)
        ours, theirs = logps[:, :first].square().sum(), logps[:, first:].square().sum()
        (of_first,) = torch.autograd.grad(ours, added[:1], retain_graph=True)
        (of_second,) = torch.autograd.grad(theirs, added[:1])
    axis = of_first.shape.index(tokens.shape[1])  # some keep the batch behind the sequence
    before = of_second.narrow(axis, 0, first) != 0  # NaN is undecided, so it counts as dependence
    after = of_first.narrow(axis, first, tokens.shape[1] - first)
    return logps.detach(), bool(before.any()), bool(((after != 0) & after.isfinite()).any())


def _alike(alone: torch.Tensor, packed: torch.Tensor, dtype: torch.dtype) -> bool:
    """True where a document has the same log-probabilities alone, to half of their digits."""
    return float((alone - packed).abs().mean()) <= torch.finfo(dtype).eps ** 0.5


def _logps(
    model: "PreTrainedModel", tokens: torch.Tensor, positions: torch.Tensor | None
) -> torch.Tensor:
    apart = {} if positions is None else {"position_ids": positions}
    return model(input_ids=tokens, use_cache=False, **apart).logits.float().log_softmax(-1)
