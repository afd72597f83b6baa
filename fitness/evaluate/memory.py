"""Memory of a fine-tune, predicted by two training steps on tensors without values.

PyTorch runs the very operations on shapes alone (FakeTensorMode), so that a model of any size is
predicted on any machine in seconds. Counted is what PyTorch allocates for tensors. What is not: the
process with its libraries or the CUDA context, some 0.6 GB, and fragmentation.
"""

import logging
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fitness.errors import InputError
from fitness.evaluation import Task
from fitness.inference import log_probabilities
from fitness.inference.log_probabilities import (
    inputs_of,
    large_head,
    losses_in_parts,
    rows_at_once,
)
from fitness.mixture.mixing import Batch
from fitness.models import soundness
from fitness.models.base import Base
from fitness.models.heads import mark_last_head, without_head
from fitness.models.loading import FLASH, attention_settings, skeleton
from fitness.models.packing import Probe
from fitness.models.quantisation import BITS
from fitness.models.soundness import Soundness
from fitness.recipe import Recipe
from fitness.training.optimisers import optimisers
from fitness.training.supervised import cross_entropy, precise

if TYPE_CHECKING:
    from transformers import PreTrainedModel

IN_8_BITS = (2 + 2 * 4 / 256) / 8  # of AdamW's moments, with two scales for each block of 256


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a fine-tune: the base with what is trained of it, the optimiser's states, the peak.

    The rest of the peak are activations, gradients and temporary results.
    """

    weights: int
    moments: int
    peak: int

    @property
    def rest(self) -> int:
        """Bytes at the peak for activations, gradients and temporary results."""
        return self.peak - self.weights - self.moments


def predicted(task: Task, recipe: Recipe) -> Memory:
    """The memory of a fine-tune on plain text by this recipe, as the builtin evaluator trains it.

    Raises InputError where the architecture computes something that depends on values.
    """
    assert task.model is not None
    sound = soundness.check(task.model, task.head)
    in_8_bits = recipe.optimizer == "adamw_8bit"
    if in_8_bits:  # whose kernels read values
        recipe = recipe.model_copy(update={"optimizer": "adamw"})
    # FlashAttention has no kernel here; that of sdpa keeps as much for the gradients.
    attention = "sdpa" if task.attention in FLASH else task.attention
    base = _Shapes(sound, task.model, task.dtype, task.head, attention=attention)
    originals = _bytes(base.model) if recipe.adapter == "none" else 0  # beside what is trained
    with (
        base.prepared(recipe, seed=0, checkpointing=task.checkpointing) as model,
        _silent(),
        FakeTensorMode(allow_non_fake_inputs=True),
        _Counting() as counted,
    ):
        try:
            _place(model)
            weights = counted.now
            moments = _steps(model, task, recipe, counted)
            _score(model, task, recipe)
        except Exception as error:  # whatever hundreds of architectures do that needs values
            reason = f"{type(error).__name__}: {str(error).splitlines()[0]:.200}"
            raise InputError(f"its operations need values ({reason})") from None
    more = originals - _saved(task, sound)
    less = round(moments * (1 - IN_8_BITS)) if in_8_bits else 0
    return Memory(weights + more, moments - less, counted.peak + more - less)


@contextmanager
def _silent() -> Iterator[None]:
    """Log nothing of an operation without a result on shapes; its error says the same."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def _bytes(model: "PreTrainedModel") -> int:
    return sum(weight.numel() * weight.element_size() for weight in model.parameters())


def _place(model: "PreTrainedModel") -> None:
    """Replace the shapes of a model by tensors without values on the CPU, in place."""
    placed: dict[int, Any] = {}  # of those that modules share, each once
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is None:
                    continue
                if id(tensor) not in placed:
                    own: Any = torch.empty_like(tensor, device="cpu")
                    if isinstance(tensor, torch.nn.Parameter):
                        own = torch.nn.Parameter(own, requires_grad=tensor.requires_grad)
                    placed[id(tensor)] = tensor, own
                held[name] = placed[id(tensor)][1]


def _steps(model: "PreTrainedModel", task: Task, recipe: Recipe, counted: "_Counting") -> int:
    """Take two steps, the second with the optimiser's states; returns the bytes of these."""
    each = -(-recipe.batch_size // task.processes)
    rows = min(each, task.micro_batch) if isinstance(task.micro_batch, int) else each
    tokens = _tokens(rows, recipe.sequence_length)
    model.train()
    every = optimisers(model, recipe)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    before = counted.now
    for _ in range(2):
        for _ in range(min(2, -(-each // rows))):  # beside the gradients of the first part
            with precise(model.device, recipe):
                loss = _loss(model, tokens)
            loss.backward()
            del loss
        torch.nn.utils.clip_grad_norm_(trained, recipe.clip_norm or float("inf"))
        for one in every:
            one.step()
            one.zero_grad(set_to_none=True)
    return counted.now - before


def _score(model: "PreTrainedModel", task: Task, recipe: Recipe) -> None:
    """Score as many rows of held-out text as are computed at once."""
    length = max(2, task.held_out_length)
    tokens = _tokens(rows_at_once(length), length)
    model.eval()
    with torch.no_grad(), precise(model.device, recipe):
        _loss(model, tokens)


def _tokens(rows: int, length: int) -> np.ndarray:
    """Rows of one token, which take no memory however many they are."""
    return np.ndarray((rows, length), np.int64, np.ones(1, np.int64), strides=(0, 0))


def _loss(model: "PreTrainedModel", tokens: np.ndarray) -> torch.Tensor:
    """The loss of text, (rows, length), without choosing the learned tokens by their values."""
    rows = Batch(tokens, tokens)
    head = large_head(model, rows)
    if head is None:
        return cross_entropy(model, rows, 0)
    inputs = inputs_of(model, rows)
    with without_head(head):
        hidden = model(**inputs).logits[:, :-1]
    labels = inputs["input_ids"][:, 1:].flatten()
    some = 2 * (log_probabilities.LOGITS_AT_ONCE // head.out_features)  # two parts tell of all
    return losses_in_parts(head, hidden.flatten(0, 1)[:some], labels[:some]).mean()


def _saved(task: Task, sound: Soundness) -> int:
    """Bytes that quantised weights take less than those that were counted in their place."""
    if task.quantisation == "none":
        return 0
    each = torch.finfo(getattr(torch, task.dtype)).bits
    sizes = sound.adaptable.values()
    largest = max(sizes) * each  # is dequantised at a time
    return round((sum(sizes) * (each - BITS[task.quantisation]) - largest) / 8)


class _Shapes(Base):
    """A base of shapes alone (on the meta device)."""

    def __init__(self, sound: Soundness, *given: Any, **how: Any) -> None:
        self._sound = sound
        super().__init__(*given, **how)

    def _load(self) -> None:
        self.device = torch.device("meta")
        shapes = skeleton(self.folder, self.head, **attention_settings(self._attention))
        self.model = shapes.to(getattr(torch, self._dtype)).eval()
        if self._sound.last_head:
            mark_last_head(self.model)

    def _probed(self) -> Probe:
        return Probe(self._sound.packs, frozenset(self._sound.passed_by))

    @contextmanager
    def lent(self) -> Iterator[None]:
        yield  # to be thrown away


class _Counting(TorchDispatchMode):
    """Count the bytes of all tensors that exist, and the most of them at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._counted: dict[int, int] = {}  # bytes by storage

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for one in tree_leaves(result):
            if isinstance(one, torch.Tensor):
                self._count(one.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = id(storage)
        if key in self._counted:
            return
        self._counted[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now -= self._counted.pop(key)
