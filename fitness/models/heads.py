"""Model tasks and heads: predict the next token, classes, rewards of answers, or masked tokens.

The one place where `model.task` becomes a class of `transformers`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fitness.data.kinds import Kind

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
