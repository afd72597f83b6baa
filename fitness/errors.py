"""Errors of input that evomix cannot use, and of recipes that leave nothing to train on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

UNREADABLE = "name a file that is there and that you may read"
SHOWN = 5  # errors that a message quotes in full
MOST = 100  # errors after which checking stops


class InputError(ValueError):
    """Bad input: names subject, value, rule and remedy; the CLI prints it and exits with 2."""


class Infeasible(InputError):
    """A recipe with valid fields that together leave nothing to train on: a status, not a bug."""


Refuse = Callable[[InputError], None]  # takes an error of a record, which is left out if it returns


def at_once(error: InputError) -> None:
    """Raise the first error."""
    raise error


class Faults:
    """Collected input errors, raised as one: the first few in full, and their number."""

    def __init__(self, *, shown: int = SHOWN, most: int = MOST) -> None:
        self._shown, self._most = shown, most
        self._messages: list[str] = []
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, error: InputError) -> None:
        """Collect an error; raise all if there are so many that more would not help."""
        self._count += 1
        if self._count <= self._shown:
            self._messages.append(str(error))
        if self._count >= self._most:
            self.check()

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Collect an InputError that is raised within the context."""
        try:
            yield
        except InputError as error:
            self.add(error)

    def check(self) -> None:
        """Raise one InputError for all collected errors, if there are any."""
        if not self._count:
            return
        more = self._count - len(self._messages)
        if self._count >= self._most:
            rest = f"and at least {more} more" if more else "and perhaps more, not checked"
        else:
            rest = f"and {more} more" if more else ""
        raise InputError("\n".join([*self._messages, *([rest] if rest else [])]))
