"""Fill-in-the-middle: documents in the form that is trained on, and prompts for a middle.

Bavarian et al. 2022, "Efficient Training of Language Models to Fill in the Middle". A document is
split at two random places and becomes PRE prefix SUF suffix MID middle END (PSM), or half the time
PRE SUF suffix MID prefix middle END (SPM, in the variant that they train jointly), with the loss
on all tokens. Each document within a window is converted (their context-level form) when the
window is drawn.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from fitness.data.tokens import opening_tokens, separator, text_tokens
from fitness.errors import InputError
from fitness.mixture.permutation import keys_of
from fitness.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPM_SHARE = 0.5  # of the converted documents, as in their joint training
LEAST = 3  # tokens of a document that is converted: one for each part
# Markers before prefix, suffix and middle of models that were trained to infill already.
OWN = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen, CodeGemma
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, Granite
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),  # Code Llama
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek  # noqa: RUF001
)
MARKERS = ("<PRE>", "<SUF>", "<MID>")  # as plain text, where the tokenizer has none of the above


@dataclass(frozen=True)
class Sentinels:
    """Marker tokens before each part, the tokens that open a document, and the one that ends it.

    Prefix, middle and suffix are given and returned as int64 arrays, (tokens,).
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    middle: tuple[int, ...]
    opening: tuple[int, ...]
    end: int

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase") -> Self:
        """A tokenizer's own markers, or else plain text. InputError where it can encode neither."""
        opening, end = tuple(opening_tokens(tokenizer)), separator(tokenizer)
        for names in OWN:
            prefix, suffix, middle = (tokenizer.convert_tokens_to_ids(name) for name in names)
            if not {None, tokenizer.unk_token_id} & {prefix, suffix, middle}:
                return cls((prefix,), (suffix,), (middle,), opening, end)
        encoded = [tuple(text_tokens(tokenizer, text)) for text in MARKERS]
        texts = [str(tokenizer.decode(ids, clean_up_tokenization_spaces=False)) for ids in encoded]
        if [text.strip() for text in texts] != list(MARKERS):
            raise InputError(
                f"the base model's tokenizer has no tokens for infilling and cannot encode "
                f"{' '.join(MARKERS)}, they come back as {' '.join(texts)!r}; leave infill_share "
                "out"
            )
        prefix, suffix, middle = encoded
        return cls(prefix, suffix, middle, opening, end)

    @property
    def cost(self) -> int:
        """Tokens that this form adds to a document's own, its opening and end included."""
        return len(self.opening + self.prefix + self.suffix + self.middle) + 1

    def prompt(self, prefix: np.ndarray, suffix: np.ndarray) -> np.ndarray:
        """The prompt for a middle between prefix and suffix, in PSM form."""
        parts = (self.opening, self.prefix, prefix, self.suffix, suffix, self.middle)
        return np.concatenate(parts).astype(np.int64)

    def psm(self, prefix: np.ndarray, middle: np.ndarray, suffix: np.ndarray) -> np.ndarray:
        return np.concatenate([self.prompt(prefix, suffix), middle, [self.end]])

    def spm(self, prefix: np.ndarray, middle: np.ndarray, suffix: np.ndarray) -> np.ndarray:
        nothing = prefix[:0]
        return np.concatenate([self.prompt(nothing, suffix), prefix, middle, [self.end]])


@dataclass(frozen=True)
class Infilling:
    """Convert a share of the documents; the seed decides which, whenever they are drawn."""

    sentinels: Sentinels
    share: float
    seed: int

    @classmethod
    def of(cls, recipe: Recipe, tokenizer: "PreTrainedTokenizerBase", seed: int) -> Self | None:
        """The infilling of a recipe; None where its `infill_share` is 0."""
        if not recipe.infill_share:
            return None
        return cls(Sentinels.of(tokenizer), recipe.infill_share, seed)

    def converted(self, window: np.ndarray, source: str, number: int) -> np.ndarray:
        """A window with a share of its documents converted; as many tokens, int64, (length,).

        The markers take the room of the window's last tokens, which are dropped before the
        conversion, so that no converted document is truncated. A document with less than LEAST
        tokens of room stays as it is. The random numbers follow from seed, source and number, not
        from the share: a larger share converts the same documents, and more.
        """
        rng = np.random.default_rng(keys_of(f"{self.seed}/infill/{source}/{number}"))
        parts: list[np.ndarray] = []
        room = len(window)
        for document in self._documents(window):
            chance, side, *cuts = rng.random(4)
            body = self._body(document)[: max(room - self.sentinels.cost, 0)]
            if chance < self.share and len(body) >= LEAST:
                first, second = sorted(int(cut * (len(body) + 1)) for cut in cuts)
                form = self.sentinels.spm if side < SPM_SHARE else self.sentinels.psm
                parts.append(form(body[:first], body[first:second], body[second:]))
            else:
                parts.append(document[:room])
            room -= len(parts[-1])
            if not room:
                break
        return np.concatenate(parts) if parts else window

    def _documents(self, window: np.ndarray) -> Iterator[np.ndarray]:
        """Split a window after each token that ends a document."""
        ends = np.flatnonzero(window == self.sentinels.end) + 1
        return (part for part in np.split(window, ends) if len(part))

    def _body(self, document: np.ndarray) -> np.ndarray:
        """A document without its opening and ending tokens, as far as the window has them."""
        opening, ended = self.sentinels.opening, document[-1] == self.sentinels.end
        opened = bool(opening) and tuple(document[: len(opening)].tolist()) == opening
        return document[len(opening) * opened : len(document) - ended]
