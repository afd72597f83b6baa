"""Masked language modelling, for encoders: which tokens are to be told from all others.

Devlin et al. 2019, section 3.1: of the tokens chosen, 80 % are covered by the mask token, 10 % are
replaced by any token, 10 % are left as they are.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fitness.decks import NO_LABEL
from fitness.mixing import Batch, Rows, windows
from fitness.sources import TokenFile

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COVERED, REPLACED = 0.8, 0.1
HELD_OUT_SHARE, HELD_OUT_SEED = 0.15, 0  # the same masks for every individual


class Masking:
    """Masks of a tokenizer's tokens; special ones, and the first of a row, are never chosen."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", share: float, seed: int) -> None:
        self._mask, self._size = tokenizer.mask_token_id, len(tokenizer)
        self._special = np.array(sorted(tokenizer.all_special_ids))
        self._pad = tokenizer.pad_token_id
        self._share, self._seed = share, seed

    def batches(self, every: Iterator[Batch], first: int = 0) -> Iterator[Batch]:
        """The batches from step `first` on, masked anew in each step."""
        for step, batch in enumerate(every, start=first):
            rows = self.masked(batch, step)
            yield batch._replace(input_ids=rows.input_ids, labels=rows.labels)

    def masked(self, rows: Rows | Batch, number: int) -> Rows:
        """Rows with some tokens covered, and labels on those alone; padding becomes the pad token.

        Follows from the seed and the number alone. Where nothing would be chosen, one token is.
        """
        rng = np.random.default_rng([self._seed, number])
        tokens, here = rows.input_ids, rows.labels != NO_LABEL
        may = here & ~np.isin(tokens, self._special)
        may[:, 0] = False
        chosen = may & (rng.random(tokens.shape) < self._share)
        if not chosen.any() and may.any():
            chosen.flat[rng.choice(np.flatnonzero(may))] = True
        fate = rng.random(tokens.shape)
        covered = np.where(here, tokens, self._pad)
        covered = np.where(chosen & (fate < COVERED), self._mask, covered)
        replaced = chosen & (fate >= COVERED) & (fate < COVERED + REPLACED)
        covered = np.where(replaced, rng.integers(self._size, size=tokens.shape), covered)
        return Rows(covered, np.where(chosen, tokens, NO_LABEL))


def masked_loss(model: Any, rows: Batch, step: int) -> Any:
    """Mean cross-entropy of the chosen tokens, nats per token, at any step."""
    import torch

    logits, wanted = _told(model, rows)
    return torch.nn.functional.cross_entropy(logits, wanted)


def held_out_masked_loss(
    model: Any, tokenizer: "PreTrainedTokenizerBase", file: TokenFile, length: int, batch: int
) -> float:
    """Mean cross-entropy over the chosen tokens of a text in windows, nats per token."""
    import torch

    masking = Masking(tokenizer, HELD_OUT_SHARE, HELD_OUT_SEED)
    content = file.open()
    total, count = 0.0, 0
    with torch.inference_mode():
        for number, rows in enumerate(windows(np.asarray(content), length, batch)):
            logits, wanted = _told(model, masking.masked(rows, number))
            loss = torch.nn.functional.cross_entropy(logits, wanted, reduction="sum")
            total, count = total + loss.item(), count + len(wanted)
    return total / max(1, count)


def _told(model: Any, rows: Rows | Batch) -> tuple[Any, Any]:
    """Logits of the chosen tokens, (n, vocabulary) float32, and which they are, (n,)."""
    import torch

    device = next(model.parameters()).device
    ids = torch.from_numpy(rows.input_ids).to(device)
    labels = torch.from_numpy(rows.labels).to(device)
    attended = ids != model.config.get_text_config().pad_token_id
    logits = model(input_ids=ids, attention_mask=attended).logits
    chosen = labels != NO_LABEL
    return logits[chosen].float(), labels[chosen]
