"""Masked language modelling: some of the tokens are hidden, and predicted from both sides.

Devlin et al. 2019, sec. 3.1: of the tokens chosen, 80 % become the mask token, 10 % another token
at random, 10 % stay as they are. Special tokens are never chosen, nor is the first of a window: as
in held-out text, it belongs to the window before.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np

from fitness.errors import InputError
from fitness.mixture.decks import NO_LABEL
from fitness.mixture.mixing import Batch, Rows

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HIDDEN, EXCHANGED = 0.8, 0.1  # shares of the chosen tokens
HELD_OUT_SHARE = 0.15  # the same for all recipes, so that their losses can be compared
HELD_OUT_SEED = 2019
TRAINING = 1  # separates the random numbers of training from those of held-out text

AnyRows = TypeVar("AnyRows", Rows, Batch)


@dataclass(frozen=True)
class Masking:
    """A tokenizer's tokens for masking: the mask, padding, ordinary tokens, and special ones."""

    mask: int
    pad: int
    ordinary: np.ndarray
    special: np.ndarray

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase") -> Self:
        """Read them from a tokenizer. Raises InputError if it has no mask or padding token."""
        if tokenizer.mask_token_id is None or tokenizer.pad_token_id is None:
            raise InputError(
                "model.task masked: the base's tokenizer has no mask token, or none for padding; "
                "take an encoder such as BERT, or set `mask_token` and `pad_token` in its "
                "tokenizer_config.json"
            )
        special = np.array(sorted(tokenizer.all_special_ids))
        ordinary = np.setdiff1d(np.arange(len(tokenizer)), special)
        return cls(tokenizer.mask_token_id, tokenizer.pad_token_id, ordinary, special)

    def batches(
        self, batches: Iterable[Batch], share: float, *, seed: int, step: int
    ) -> Iterator[Batch]:
        """Mask the batches of successive steps, the first of which is `step`."""
        for number, batch in enumerate(batches, start=step):
            generator = np.random.default_rng((TRAINING, seed, number))
            yield self.masked(batch, share, [generator] * len(batch.input_ids))

    def held_out(self, rows: Rows, first: int) -> Rows:
        """Mask windows of held-out text, numbered from `first`; a window's mask never changes."""
        numbers = range(first, first + len(rows.input_ids))
        generators = [np.random.default_rng((0, HELD_OUT_SEED, number)) for number in numbers]
        return self.masked(rows, HELD_OUT_SHARE, generators)

    def masked(
        self, rows: AnyRows, share: float, generators: Iterable[np.random.Generator]
    ) -> AnyRows:
        """Mask rows, so that only the chosen tokens have labels; one generator for each row."""
        tokens, labels = rows.input_ids.copy(), np.full_like(rows.labels, NO_LABEL)
        for place, generator in enumerate(generators):
            there = rows.labels[place] != NO_LABEL
            draws = generator.random((len(there), 3))
            chosen = there & (draws[:, 0] < share) & ~np.isin(tokens[place], self.special)
            chosen[0] = False
            labels[place, chosen] = tokens[place, chosen]
            hidden = chosen & (draws[:, 1] < HIDDEN)
            exchanged = chosen & ~hidden & (draws[:, 1] < HIDDEN + EXCHANGED)
            others = self.ordinary[(draws[:, 2] * len(self.ordinary)).astype(np.int64)]
            tokens[place, hidden] = self.mask
            tokens[place, exchanged] = others[exchanged]
            tokens[place, ~there] = self.pad
        return rows._replace(input_ids=tokens, labels=labels)

    def loss(self, model: "PreTrainedModel", batch: Batch, step: int) -> "Tensor":
        """Mean cross-entropy of the labels, nats per token, at any step; 0 where there are none."""
        summed, count = self.summed(model, batch)
        return summed / max(1, count)

    def summed(self, model: "PreTrainedModel", rows: Rows | Batch) -> tuple["Tensor", int]:
        """The summed cross-entropy of the labels, in nats, and how many there are."""
        import torch

        logits, labels, _ = self._hidden(model, rows)
        return torch.nn.functional.cross_entropy(logits, labels, reduction="sum"), len(labels)

    def each(self, model: "PreTrainedModel", rows: Rows) -> tuple["Tensor", int, "Tensor"]:
        """The results of `summed`, and the cross-entropy of each token, (rows, longest - 1).

        The first place, which is never masked, is left out; NaN where there is no label.
        """
        import torch

        logits, labels, wanted = self._hidden(model, rows)
        each = torch.full(wanted.shape, torch.nan, device=logits.device)
        each[wanted] = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        summed = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
        return summed, len(labels), each[:, 1:]

    def _hidden(
        self, model: "PreTrainedModel", rows: Rows | Batch
    ) -> tuple["Tensor", "Tensor", "Tensor"]:
        """Logits and labels of the chosen tokens, and the mask of these, (rows, longest)."""
        import torch

        device = next(model.parameters()).device
        ids = torch.from_numpy(rows.input_ids).to(device)
        labels = torch.from_numpy(rows.labels).to(device)
        logits = model(input_ids=ids, attention_mask=(ids != self.pad).long()).logits
        wanted = labels != NO_LABEL
        return logits[wanted].float(), labels[wanted], wanted
