"""Cross-entropy of given tokens under a model, without all of its logits at once.

The logits of a large vocabulary take more memory than the rest of a step: 4,096 tokens of 128,000
classes are 2 GiB in float32, and as much again for their gradient. Where they are more than
`LOGITS_AT_ONCE`, the model stops before its head, and the head is applied to some of the tokens at
a time, again for the gradients. torch's own linear_cross_entropy returns the loss of bfloat16
inputs in bfloat16, three digits (torch 2.13).
"""

from typing import TYPE_CHECKING, Any

from fitness.mixture.decks import NO_LABEL
from fitness.mixture.mixing import Batch, Rows
from fitness.models.heads import last_head, without_head

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Linear
    from transformers import PreTrainedModel

BATCH_TOKENS = 4096
LOGITS_AT_ONCE = 2**25  # 128 MiB in float32


def token_logps(model: "PreTrainedModel", rows: Rows) -> "Tensor":
    """Log-probabilities of the labels, (b, longest - 1), in nats; 0 where there is none."""
    return -token_losses(model, rows)


def token_losses(model: "PreTrainedModel", rows: Rows | Batch) -> "Tensor":
    """Cross-entropy of the labels, (b, longest - 1), in nats; 0 where there is none."""
    import torch

    inputs = inputs_of(model, rows)
    labels = torch.from_numpy(rows.labels).to(inputs["input_ids"].device)[:, 1:]
    head = large_head(model, rows)
    if head is None:
        logits = model(**inputs).logits[:, :-1].float()
        flat = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=NO_LABEL, reduction="none"
        )
        return flat.view(labels.shape)
    with without_head(head):
        hidden = model(**inputs).logits[:, :-1]
    learned = labels != NO_LABEL
    found = torch.zeros(labels.shape, device=labels.device)
    found[learned] = losses_in_parts(head, hidden[learned], labels[learned])
    return found


def losses_in_parts(head: "Linear", hidden: "Tensor", labels: "Tensor") -> "Tensor":
    """Cross-entropy of the labels, (n,), by the last hidden states, (n, width), in nats."""
    import torch
    from torch.utils.checkpoint import checkpoint

    tokens = LOGITS_AT_ONCE // head.out_features
    losses = [
        checkpoint(_losses, head, *part, use_reentrant=False, preserve_rng_state=False)
        for part in zip(hidden.split(tokens), labels.split(tokens), strict=True)
    ]
    return torch.cat([hidden[:0, 0].float(), *losses])


def inputs_of(model: "PreTrainedModel", rows: Rows | Batch) -> dict[str, Any]:
    """Tokens and positions of rows, for a model that starts from nothing."""
    import torch

    device = next(model.parameters()).device
    inputs = {"input_ids": torch.from_numpy(rows.input_ids).to(device), "use_cache": False}
    if rows.position_ids is not None:
        inputs["position_ids"] = torch.from_numpy(rows.position_ids).to(device)
    return inputs


def large_head(model: "PreTrainedModel", rows: Rows | Batch) -> "Linear | None":
    """The head to apply in parts, where the logits of rows are too many to be computed at once."""
    head = last_head(model)
    if head is None or rows.input_ids.size * head.out_features <= LOGITS_AT_ONCE:
        return None
    return head


def _losses(head: "Linear", hidden: "Tensor", labels: "Tensor") -> "Tensor":
    import torch

    return torch.nn.functional.cross_entropy(head(hidden).float(), labels, reduction="none")


def rows_at_once(length: int) -> int:
    """Rows of `length` tokens for one forward pass, whatever the vocabulary."""
    return max(1, BATCH_TOKENS // length)


def sequences_at_once(model: "PreTrainedModel", length: int) -> int:
    """Sequences of `length` tokens for one forward pass, bounded by the logits that it computes."""
    if last_head(model) is not None:
        return rows_at_once(length)
    vocabulary = model.config.get_text_config().vocab_size
    return max(1, min(BATCH_TOKENS, LOGITS_AT_ONCE // vocabulary) // length)
