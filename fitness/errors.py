"""What a user gave and evomix cannot use, and what a recipe asks for and the data do not hold."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

UNREADABLE = "name a file that is there and that you may read"
SHOWN = 5  # errors of one kind that are told in full
MOST = 100  # after so many nothing more is looked for


class InputError(ValueError):
    """Names the subject, the value, the rule and the remedy; the CLI prints it and exits with 2."""


class Infeasible(InputError):
    """A recipe whose fields, each of them fine, leave nothing to train on: a status, no bug."""


Refuse = Callable[[InputError], None]  # takes an error of a record, which is left out if it returns


def at_once(error: InputError) -> None:
    """Raise the first error."""
    raise error


class Faults:
    """The errors of many things, told together: the first few of them, and how many there are."""

    def __init__(self, *, shown: int = SHOWN, most: int = MOST) -> None:
        self._shown, self._most = shown, most
        self._told: list[str] = []
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, error: InputError) -> None:
        """Note an error; raise them all where there are so many that the rest would not help."""
        self._count += 1
        if self._count <= self._shown:
            self._told.append(str(error))
        if self._count >= self._most:
            self.check()

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note the InputError that is raised within."""
        try:
            yield
        except InputError as error:
            self.add(error)

    def check(self) -> None:
        """Raise one InputError that tells all that were noted; nothing if there are none."""
        if not self._count:
            return
        more = self._count - len(self._told)
        if self._count >= self._most:
            rest = f"and at least {more} more" if more else "and perhaps more, not looked for"
        else:
            rest = f"and {more} more" if more else ""
        raise InputError("\n".join([*self._told, *([rest] if rest else [])]))
