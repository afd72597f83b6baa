"""Text in fill-in-the-middle form: as it is learned, and as a model is asked for a middle.

Bavarian et al. 2022, "Efficient Training of Language Models to Fill in the Middle". A document is
cut at two random places and written as PRE prefix SUF suffix MID middle END (PSM), or half the time
as PRE SUF suffix MID prefix middle END (SPM, in the variant that they train jointly), with its loss
on all tokens. That is done to each document within a window (their context-level form), when the
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

SPM_SHARE = 0.5  # of what is turned, as in their joint training
LEAST = 3  # tokens of a document that is turned: one for each part
# What models that were taught this already write before prefix, suffix and middle.
OWN = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen, CodeGemma
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, Granite
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),  # Code Llama
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek  # noqa: RUF001
)
MARKERS = ("<PRE>", "<SUF>", "<MID>")  # as text, where the tokenizer has none of these


@dataclass(frozen=True)
class Sentinels:
    """The tokens that stand before each part, those that open a document, and the one that ends it.

    The parts are int64 arrays, (tokens,) each.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    middle: tuple[int, ...]
    opening: tuple[int, ...]
    end: int

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase") -> Self:
        """A tokenizer's own, or else texts. Raises InputError where it can write neither."""
        opening, end = tuple(opening_tokens(tokenizer)), separator(tokenizer)
        for names in OWN:
            prefix, suffix, middle = (tokenizer.convert_tokens_to_ids(name) for name in names)
            if not {None, tokenizer.unk_token_id} & {prefix, suffix, middle}:
                return cls((prefix,), (suffix,), (middle,), opening, end)
        written = [tuple(text_tokens(tokenizer, text)) for text in MARKERS]
        told = [str(tokenizer.decode(one, clean_up_tokenization_spaces=False)) for one in written]
        if [text.strip() for text in told] != list(MARKERS):
            raise InputError(
                f"the base model's tokenizer has no tokens for infilling and cannot write "
                f"{' '.join(MARKERS)}, it makes {' '.join(told)!r} of them; leave infill_share out"
            )
        prefix, suffix, middle = written
        return cls(prefix, suffix, middle, opening, end)

    @property
    def cost(self) -> int:
        """Tokens that a document in this form takes beside its own, those around it included."""
        return len(self.opening + self.prefix + self.suffix + self.middle) + 1

    def asked(self, prefix: np.ndarray, suffix: np.ndarray) -> np.ndarray:
        """What a middle is asked for with, in PSM form."""
        parts = (self.opening, self.prefix, prefix, self.suffix, suffix, self.middle)
        return np.concatenate(parts).astype(np.int64)

    def psm(self, prefix: np.ndarray, middle: np.ndarray, suffix: np.ndarray) -> np.ndarray:
        return np.concatenate([self.asked(prefix, suffix), middle, [self.end]])

    def spm(self, prefix: np.ndarray, middle: np.ndarray, suffix: np.ndarray) -> np.ndarray:
        nothing = prefix[:0]
        return np.concatenate([self.asked(nothing, suffix), prefix, middle, [self.end]])


@dataclass(frozen=True)
class Infilling:
    """What turns a share of the documents; under a seed, the same ones wherever they are drawn."""

    sentinels: Sentinels
    share: float
    seed: int

    @classmethod
    def of(cls, recipe: Recipe, tokenizer: "PreTrainedTokenizerBase", seed: int) -> Self | None:
        """None where a recipe turns nothing."""
        if not recipe.infill_share:
            return None
        return cls(Sentinels.of(tokenizer), recipe.infill_share, seed)

    def turned(self, window: np.ndarray, source: str, number: int) -> np.ndarray:
        """A window's documents, each turned or not; as many tokens, int64, (length,).

        The form's own tokens take the room of the window's last ones, which are left out before
        anything is turned, so that no form is cut short. A document with less than LEAST tokens
        of room stays as it is. Draws follow from seed, source and number, not from the share: a
        larger one turns the same documents, and more.
        """
        rng = np.random.default_rng(keys_of(f"{self.seed}/infill/{source}/{number}"))
        found: list[np.ndarray] = []
        room = len(window)
        for document in self._documents(window):
            chance, side, *cuts = rng.random(4)
            body = self._body(document)[: max(room - self.sentinels.cost, 0)]
            if chance < self.share and len(body) >= LEAST:
                first, second = sorted(int(cut * (len(body) + 1)) for cut in cuts)
                form = self.sentinels.spm if side < SPM_SHARE else self.sentinels.psm
                found.append(form(body[:first], body[first:second], body[second:]))
            else:
                found.append(document[:room])
            room -= len(found[-1])
            if not room:
                break
        return np.concatenate(found) if found else window

    def _documents(self, window: np.ndarray) -> Iterator[np.ndarray]:
        """Cut behind each token that ends a document."""
        ends = np.flatnonzero(window == self.sentinels.end) + 1
        return (part for part in np.split(window, ends) if len(part))

    def _body(self, document: np.ndarray) -> np.ndarray:
        """Without what opens and what ends it, as far as they are in the window."""
        opening, ended = self.sentinels.opening, document[-1] == self.sentinels.end
        opened = bool(opening) and tuple(document[: len(opening)].tolist()) == opening
        return document[len(opening) * opened : len(document) - ended]
