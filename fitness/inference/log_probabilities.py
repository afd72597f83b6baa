"""Log-probabilities of given tokens under a model, and how many sequences to compute at once."""

from typing import TYPE_CHECKING

from fitness.mixture.decks import NO_LABEL
from fitness.mixture.mixing import Rows

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

BATCH_TOKENS = 4096
BATCH_LOGITS = 2**26  # 256 MiB in float32: bounds a batch where the vocabulary is large


def token_logps(model: "PreTrainedModel", rows: Rows) -> "Tensor":
    """Log-probabilities of the labels, (b, longest - 1), in nats; 0 where there is none."""
    import torch

    device = next(model.parameters()).device
    positions = rows.position_ids
    apart = {} if positions is None else {"position_ids": torch.from_numpy(positions).to(device)}
    ids = torch.from_numpy(rows.input_ids).to(device)
    wanted = torch.from_numpy(rows.labels).to(device)[:, 1:]
    logits = model(input_ids=ids, use_cache=False, **apart).logits[:, :-1].float()
    flat = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), wanted.flatten(), ignore_index=NO_LABEL, reduction="none"
    )
    return -flat.view(wanted.shape)


def rows_at_once(length: int) -> int:
    """Rows of `length` tokens for one forward pass, whatever the vocabulary."""
    return max(1, BATCH_TOKENS // length)


def sequences_at_once(model: "PreTrainedModel", length: int) -> int:
    """Sequences of `length` tokens for one forward pass, bounded by the size of their logits."""
    vocabulary = model.config.get_text_config().vocab_size
    return max(1, min(BATCH_TOKENS, BATCH_LOGITS // vocabulary) // length)
