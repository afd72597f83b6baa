"""Model tasks and heads: predict the next token, classes, rewards of answers, or masked tokens.

The one place where `model.task` becomes a class of `transformers`, and where the head that predicts
tokens is told from the rest of a model.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakSet

from fitness.data.kinds import Kind

if TYPE_CHECKING:
    from torch.nn import Linear, Module
    from transformers import PreTrainedModel

ModelTask = Literal["causal", "classification", "token_classification", "reward", "masked"]

CLASSES: Mapping[ModelTask, str] = {
    "causal": "AutoModelForCausalLM",
    "classification": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
    "reward": "AutoModelForSequenceClassification",
    "masked": "AutoModelForMaskedLM",
}
LEARNS: Mapping[ModelTask, tuple[Kind, ...]] = {  # the kinds of sources that a task learns from
    "causal": ("text", "completion", "preference", "rating", "prompt", "sample"),
    "classification": ("label",),
    "token_classification": ("tags",),
    "reward": ("comparison",),
    "masked": ("text",),
}
NEW_HEAD: tuple[ModelTask, ...] = ("classification", "token_classification", "reward")  # no words
LABELLED: tuple[ModelTask, ...] = ("classification", "token_classification")
_LAST: "WeakSet[Module]" = WeakSet()  # heads after which their models do nothing


@dataclass(frozen=True)
class Head:
    """A model task, with class names in the order of the head's outputs for a classifier."""

    task: ModelTask = "causal"
    labels: tuple[str, ...] = ()

    @property
    def model_class(self) -> Any:
        """The auto class of transformers that loads any architecture with this head."""
        import transformers

        return getattr(transformers, CLASSES[self.task])

    @property
    def settings(self) -> dict[str, Any]:
        """Settings for the model's configuration: the mapping of labels to numbers."""
        if self.task == "reward":
            return {"num_labels": 1}
        if not self.labels:
            return {}
        numbers = {label: number for number, label in enumerate(self.labels)}
        return {"id2label": dict(enumerate(self.labels)), "label2id": numbers}

    @property
    def on_top(self) -> bool:
        """True if the head replaces the one that predicts tokens, and is trained from nothing."""
        return self.task in NEW_HEAD

    @property
    def adapted(self) -> str | None:
        """PEFT's name for the model task; None makes PEFT wrap any model."""
        return "CAUSAL_LM" if self.task == "causal" else None


CAUSAL = Head()


def last_head(model: "PreTrainedModel") -> "Linear | None":
    """The linear head of a model if its logits are the head's output, as `find_last_head` tells."""
    head: Any = model.get_output_embeddings()
    return head if head in _LAST else None


def mark_last_head(model: "PreTrainedModel") -> None:
    """Note that a model's logits are its linear head's output, as was found before."""
    _LAST.add(model.get_output_embeddings())


def find_last_head(model: "PreTrainedModel") -> None:
    """Try whether a model's logits are its linear head's output.

    Some models scale or cap them afterwards, or have a head of several layers.
    """
    import torch

    head = model.get_output_embeddings()
    routed = getattr(model.config.get_text_config(), "output_router_logits", False)
    if type(head) is not torch.nn.Linear or routed:  # the routers' loss would be left out
        return
    ids = torch.arange(12, device=head.weight.device).view(2, 6)
    try:
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits
            with without_head(head):
                hidden = model(input_ids=ids, use_cache=False).logits
            if torch.equal(logits, head(hidden)):
                _LAST.add(head)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # of an architecture that needs more, or does more with its logits
        return


@contextmanager
def without_head(head: "Linear") -> Iterator[None]:
    """Have a model return what its head is given, the last hidden states, as its logits."""
    head.forward = lambda hidden: hidden.clone()  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del head.forward
