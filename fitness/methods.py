"""Table of the training methods: the loss that each applies to which kind of data.

To add one: its loss in a file of `fitness/training/`, the record of its use in USES, and its line
in METHODS. Genes, checks, cost and the reference page follow from these.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from fitness.data.kinds import Kind

# A draw is a sequence packed from several records, or one record: two answers to a prompt, one
# rated answer, a prompt to be answered, a text with its class, or with the tags of its words.
Shape = Literal["packed", "pair", "rated", "prompt", "class", "tagged"]


@dataclass(frozen=True, slots=True)
class Use:
    """A use of a source's records: the shape of a draw, its loss, and the passes it takes."""

    shape: Shape
    loss: str
    """`module:function`, called as function(model, draws, `training.objective.Learning`); returns
    the mean loss of the draws. Packed sequences go by the loss of the model's task instead."""
    passes: int = 0
    """Forward passes besides the one that is trained through, for the cost of an evaluation."""
    by_token: bool = False
    """Whether the loss is the mean over the labels of all draws together, not over the draws."""


LEARN = "learn"  # cross-entropy: on all of a text, on the answer to a prompt, on the chosen answer
USES: Mapping[str, Use] = {
    LEARN: Use("packed", ""),
    # of the reference model
    "compare": Use("pair", "fitness.training.preference:loss", passes=1),
    # of the reference model, and of both models on mismatched answers
    "rate": Use("rated", "fitness.training.preference:loss", passes=3),
    # of the reference model, and to generate the answers
    "answer": Use("prompt", "fitness.training.reinforce:loss", passes=2),
    "prefer": Use("pair", "fitness.training.classification:comparison_loss"),
    "classify": Use("class", "fitness.training.classification:loss"),
    "tag": Use("tagged", "fitness.training.classification:tag_loss", by_token=True),
}
BY_TOKEN = (LEARN, "compare", "rate")  # uses that learn the tokens of answers in the data

METHODS: Mapping[str, Mapping["Kind", str]] = {  # method -> kind of source -> use; else LEARN
    "supervised": {"label": "classify", "tags": "tag", "comparison": "prefer"},
    "preference": {"preference": "compare", "rating": "rate"},
    "reinforce": {"prompt": "answer"},
}


if TYPE_CHECKING:
    Method = str
else:
    Method = Literal[tuple(METHODS)]


def use_of(kind: "Kind", method: str) -> str:
    """The use that a method makes of a kind of source; `learn` where nothing else is listed."""
    return METHODS[method].get(kind, LEARN)
