"""Models that answer chats: loaded in this process, or on a server (`endpoint.py`)."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fitness.data.chats import Chat, rendered
from fitness.errors import InputError
from fitness.inference.connection import Refused
from fitness.inference.endings import ending_tokens
from fitness.inference.sampling import continued, decoded, next_logps, numbers_of
from fitness.judges.protocol import Answer, Speaker
from fitness.models import folders

if TYPE_CHECKING:
    from fitness.models.base import Base


class Local:
    """A model in this process. The same call gets the same answers."""

    def __init__(self, base: "Base", name: str) -> None:
        """Load the model. Raises InputError if it has no chat template."""
        template = base.tokenizer.chat_template
        if template is None:
            raise InputError(
                f"{base.folder}: its tokenizer has no chat template, so it cannot be asked in "
                "words; name a model that was tuned to follow instructions"
            )
        self._base = base
        self._context = folders.context(base.folder)
        self.name = name
        content = f"{folders.fingerprint(base.folder)}\n{template}"
        self.identity = hashlib.sha256(content.encode()).hexdigest()

    def answers(
        self,
        chats: Sequence[Chat],
        samples: int,
        *,
        temperature: float,
        max_new_tokens: int,
        seed: int,
    ) -> list[list[Answer]]:
        asked = [self._encoded(chat, max_new_tokens) for chat in chats for _ in range(samples)]
        tokenizer = self._base.tokenizer
        answers = continued(
            self._base.model,
            asked,
            numbers_of(seed, max_new_tokens),
            ends=ending_tokens(self._base.model, tokenizer),
            max_new_tokens=max_new_tokens,
            temperature=temperature,
        )
        said = [Answer(decoded(tokenizer, one.tokens), one.end is not None) for one in answers]
        return [said[begin : begin + samples] for begin in range(0, len(said), samples)]

    def odds(self, chats: Sequence[Chat], this: str, other: str) -> list[float]:
        """Log-odds by the probabilities of whole words in each spelling, of any number of tokens.

        A row is computed for each different beginning of a spelling: a single row if every
        spelling is a single token, as in most tokenizers.
        """
        words = [[self._tokens(one) for one in spellings(word)] for word in (this, other)]
        begun = list(
            dict.fromkeys(tuple(ids[:n]) for w in words for ids in w for n in range(len(ids)))
        )
        asked = [self._encoded(chat, max(map(len, begun)) + 1) for chat in chats]
        rows = [[*tokens, *ids] for tokens in asked for ids in begun]
        logps = next_logps(self._base.model, rows, pad=self._base.tokenizer.eos_token_id)
        found = []
        for number in range(len(asked)):
            after = dict(zip(begun, logps[number * len(begun) :], strict=False))
            ayes, noes = (
                _log_sum([sum(after[tuple(ids[:n])][ids[n]] for n in range(len(ids))) for ids in w])
                for w in words
            )
            found.append(float(ayes - noes))
        return found

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self._base.tokenizer(text, add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        return ids

    def _encoded(self, chat: Chat, room: int) -> list[int]:
        """A chat's tokens, by a template that writes the special ones itself."""
        tokens = self._tokens(rendered(self._base.tokenizer, chat, self.name, prompting=True))
        if self._context is not None and len(tokens) + room > self._context:
            raise Refused(
                f"{self.name}: a question of {len(tokens)} tokens leaves no room for {room} more "
                f"in its context of {self._context}"
            )
        return tokens


def speaker_of(given: str, *, key_variable: str) -> Speaker:
    """The speaker of a model folder, a Hub id, or URL#model. Raises InputError."""
    if "://" in given:
        from fitness.judges.endpoint import Endpoint, place_of

        return Endpoint(place_of(given), key_variable=key_variable)
    if "#" in given:
        raise InputError(f"{given!r}: a server's address begins with http:// or https://")
    from fitness.models.base import Base

    folder = folders.locate(given)
    return Local(Base(folder), Path(given).name or folder.name)


def spellings(word: str) -> list[str]:
    """Spellings of a word with which a model may begin an answer."""
    return [space + one for one in (word, word.lower()) for space in ("", " ")]


def says(text: str, word: str) -> bool:
    """True if a text begins with a word, in any spelling of it."""
    begins = text.lstrip().lower()
    rest = begins.removeprefix(word.lower())
    return rest != begins and not rest[:1].isalnum()


def _log_sum(logps: Sequence[float]) -> float:
    """log of a sum of exponentials."""
    highest = max(logps)
    return highest + math.log(math.fsum(math.exp(one - highest) for one in logps))
