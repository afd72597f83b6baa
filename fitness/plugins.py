"""Loading of users' own functions, named as `module:function`."""

from collections.abc import Callable, Container
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Any

from fitness.errors import InputError
from fitness.suggest import did_you_mean, listed

COMMAND = "command:"  # begins the name of a program that checks answers
REWARD = "reward:"  # begins the name of a reward model's folder
MODEL_SCORE = "reward_model"  # name of its score


def function_name(path: str) -> str:
    """Last part of a name: `chrf` for `chrf`, `rhyme` for `poems.metrics:rhyme`.

    Every `command:PROGRAM` is called `command`, every `reward:FOLDER` `reward_model`.
    """
    if path.startswith(REWARD):
        return MODEL_SCORE
    return "command" if path.startswith(COMMAND) else path.rpartition(":")[2]


def installed(name: str, group: str, known: Container[str]) -> str:
    """The `module:function` of a name that an installed package gives it; others as they are.

    Packages name theirs by entry points of the group `evomix.<group>`; `known` names are ours.
    """
    if name in known or ":" in name:
        return name
    return next((one.value for one in entry_points(group=f"evomix.{group}", name=name)), name)


def load_function(path: str, subject: str) -> Callable[..., Any]:
    """Import a `module:function`. Raises InputError, beginning with `subject`, if it fails."""
    module_name, _, name = path.partition(":")
    where = f"{subject} {path!r}"
    if not module_name or not name or path.startswith("."):
        raise InputError(f"{where}: must look like module:function")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise InputError(f"{where}: importing {module_name} failed: {error}") from error
        known = {found.name for found in iter_modules()}
        raise InputError(
            f"{where}: there is no module {error.name!r}{did_you_mean(error.name, known)}; "
            "its folder must be on PYTHONPATH"
        ) from error
    except Exception as error:  # whatever a user's module does when it is imported
        raise InputError(
            f"{where}: importing {module_name} failed: {type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, name):
        public = [known for known in vars(module) if not known.startswith("_")]
        raise InputError(
            f"{where}: {module_name} has no {name!r}, it has {listed(public)}"
            f"{did_you_mean(name, public)}"
        )
    function = getattr(module, name)
    if not callable(function):
        raise InputError(f"{where}: is a {type(function).__name__}; it must be a function")
    return function
