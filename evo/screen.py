"""The console that everything but plain lines is printed with."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from evo.printable import escaped


class Screen(Console):
    """Shows texts as they are: no markup in them, and their control characters escaped.

    Rendering goes through `render` at each level, so that a cell is escaped before it is padded.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **settings)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Segments of a renderable; those of rich's own control codes stay as they are."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else escaped(text), style, control)

    def on_broken_pipe(self) -> None:
        """Leave it to the command, as with what is printed otherwise."""
        raise
