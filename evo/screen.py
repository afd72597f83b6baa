"""Console for tables and formatted text; plain lines are printed by `evo.printable`."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from evo.printable import escaped


class Screen(Console):
    """Console that interprets no markup in texts and escapes their control characters.

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
        """Re-raise BrokenPipeError, which the command handles for all output."""
        raise
