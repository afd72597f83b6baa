"""Argument parser that suggests the nearest name for a misspelt command or option."""

import argparse
import re
from typing import Any, NoReturn

from evo.printable import printable
from fitness.suggest import did_you_mean


class Parser(argparse.ArgumentParser):
    """Argument parser that keeps examples in a help unwrapped, and suggests near names."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**settings)

    def parse_known_args(self, *given: Any, **named: Any) -> tuple[Any, list[str]]:
        """Parse; an option that a command does not know is an error of that command's own."""
        found, rest = super().parse_known_args(*given, **named)
        if rest and not any(isinstance(a, argparse._SubParsersAction) for a in self._actions):
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return found, rest

    def error(self, message: str) -> NoReturn:
        """Exit with the message and, for a misspelt word, the nearest known one."""
        super().error(printable(f"{message}{self._nearest(message)}"))

    def _nearest(self, message: str) -> str:
        if choice := re.match(
            r"argument .*: invalid choice: '(.*)' \(choose from (.*)\)$", message
        ):
            return did_you_mean(choice[1], [one.strip("' ") for one in choice[2].split(",")])
        if unknown := re.match(r"unrecognized arguments: (--[^\s=]+)", message):
            known = [option for action in self._actions for option in action.option_strings]
            return did_you_mean(unknown[1], known)
        return ""
