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

    def error(self, message: str) -> NoReturn:
        """Exit with the message and, for a misspelt word, the nearest known one."""
        super().error(printable(f"{message}{self._nearest(message)}"))

    def _nearest(self, message: str) -> str:
        if choice := re.match(
            r"argument .*: invalid choice: '(.*)' \(choose from (.*)\)$", message
        ):
            return did_you_mean(choice[1], [one.strip("' ") for one in choice[2].split(",")])
        if unknown := re.match(r"unrecognized arguments: (--[^\s=]+)", message):
            return did_you_mean(unknown[1], self._options())
        return ""

    def _options(self) -> list[str]:
        """Every option of this command and of those below it."""
        found: list[str] = []
        for action in self._actions:
            found += action.option_strings
            if isinstance(action, argparse._SubParsersAction):
                for sub in action.choices.values():
                    found += sub._options()
        return found
