"""Protocol of a model that answers chats."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from fitness.data.chats import Chat


class Answer(NamedTuple):
    """An answer; `ended` unless it was truncated at the maximum length."""

    text: str
    ended: bool


class Speaker(Protocol):
    """A model that answers chats.

    `name` is short, for people; `identity` is what answers depend on, and has no secret in it.
    """

    name: str
    identity: str

    def answers(
        self,
        chats: Sequence[Chat],
        samples: int,
        *,
        temperature: float,
        max_new_tokens: int,
        seed: int,
    ) -> list[list[Answer]]:
        """Sample so many answers to each chat. Raises Refused."""
        ...

    def odds(self, chats: Sequence[Chat], this: str, other: str) -> list[float]:
        """Log-odds, natural, that a chat is answered by the word `this`, not by `other`; (chats,).

        Raises Refused.
        """
        ...
