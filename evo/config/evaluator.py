"""The section `evaluator`: its forms, and the checks of each."""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Tag

from evo.config.file import Key, Problem, nearest, unknown
from fitness.errors import InputError
from fitness.evaluate.trl import check_installed
from fitness.evaluators import BUILTIN, PLACEHOLDERS, Command, Trl, placeholders_in
from fitness.plugins import load_function
from fitness.secrets import Filter

KINDS = ("command", "python", "trl")


def _one_meaning(value: object) -> object:
    """Normalise `{python: module:function}` to the text `module:function`; leave other forms."""
    if not isinstance(value, Mapping):
        return value
    if not any(kind in value for kind in KINDS):
        first = str(next(iter(value), ""))
        close = nearest(first, KINDS)
        hint = f"; did you mean {close}?" if close else ""
        raise ValueError(f"a mapping needs one of the keys {', '.join(KINDS)}{hint}")
    if "python" not in value:
        return value
    if len(value) > 1 or not isinstance(value["python"], str):
        raise ValueError("write it as {python: module:function}, with nothing else in it")
    return value["python"]


def _form(value: object) -> str:
    """Tag of the union's branch, with a space in it so that it is never taken for a key."""
    if isinstance(value, Command) or (isinstance(value, Mapping) and "command" in value):
        return "a command"
    return "with trl" if isinstance(value, Trl | Mapping) else "a text"


Evaluator = Annotated[
    Annotated[str, Tag("a text")]
    | Annotated[Command, Tag("a command")]
    | Annotated[Trl, Tag("with trl")],
    Discriminator(_form),
    BeforeValidator(_one_meaning),
]


def with_python(schema: dict[str, Any]) -> None:
    """Add the form `{python: ...}`, which is normalised before validation, to the JSON Schema."""
    text = {"type": "string", "description": "`module:function`."}
    form = {"type": "object", "properties": {"python": text}, "additionalProperties": False}
    schema["oneOf"].append(form)


def evaluator_problems(
    evaluator: str | Command | Trl, folder: Path, *, model: bool
) -> Iterator[Problem]:
    """Problems of an evaluator, for a spec in `folder`; `model`: whether it names a base model."""
    if isinstance(evaluator, Command):
        yield from _command(evaluator, folder, model=model)
    elif isinstance(evaluator, Trl):
        try:
            check_installed()
        except InputError as error:
            yield Problem(("evaluator", "trl"), str(error))
    elif evaluator != BUILTIN:
        yield from _function(evaluator)


def _function(evaluator: str) -> Iterator[Problem]:
    key: Key = ("evaluator",)
    if ":" not in evaluator:
        close = nearest(evaluator, [BUILTIN])
        hint = f"; did you mean {close}?" if close else ""
        yield Problem(key, f"must be {BUILTIN} or module:function, got {evaluator!r}{hint}")
        return
    try:
        load_function(evaluator, subject="")
    except InputError as error:
        yield Problem(key, str(error).strip())


def _command(evaluator: Command, folder: Path, *, model: bool) -> Iterator[Problem]:
    program = evaluator.command[0]
    if not placeholders_in(program) and find_program(program, folder) is None:
        yield Problem(("evaluator", "command", 0), _not_found(program, folder))
    for index, argument in enumerate(evaluator.command):
        key: Key = ("evaluator", "command", index)
        if Filter({}).clean(argument) != argument:
            yield Problem(
                key,
                "holds a password or token, which would be recorded with the run; have the "
                "command read it from an environment variable",
            )
        for name in placeholders_in(argument):
            if name not in PLACEHOLDERS:
                message = unknown(name, PLACEHOLDERS, "there are", f"placeholder {name!r}")
                yield Problem(key, f"{message}; {{{{{name}}}}} is the text {{{name}}}")
            elif name == "data" and evaluator.data is None:
                yield Problem(key, "there is no {data} unless `data: jsonl` or `data: parquet`")
            elif name == "model" and not model:
                yield Problem(key, "there is no {model} unless model.base names one")


def find_program(program: str, folder: Path) -> str | None:
    """Find a program on PATH, or by a path relative to the spec's folder; None if there is none."""
    if os.sep not in program and (on_path := shutil.which(program)):
        return on_path
    return shutil.which(str(folder / Path(os.path.expanduser(program))))


def _not_found(program: str, folder: Path) -> str:
    beside = folder / Path(os.path.expanduser(program))
    if os.path.isfile(beside):
        remedy = f"`chmod +x {program}`, or name its interpreter first, as in [python, {program}]"
        return f"{program!r} is not executable; {remedy}"
    places = [beside.parent] if os.sep in program else map(Path, os.get_exec_path())
    programs = {entry for place in places if place.is_dir() for entry in os.listdir(place)}
    close = nearest(beside.name, programs)
    remedy = f"did you mean {close}?" if close else "give its path, or put its folder on PATH"
    return f"there is no program {program!r}; {remedy}"


def resolved_command(evaluator: Command, folder: Path) -> Command:
    """Make absolute the arguments that name files beside the spec, and a program not on PATH."""
    program, *rest = evaluator.command
    if not placeholders_in(program) and (os.sep in program or shutil.which(program) is None):
        program = os.path.normpath(folder / Path(os.path.expanduser(program)))
    paths = [os.path.normpath(folder / argument) for argument in rest]
    arguments = [
        path if os.path.isfile(path) else argument
        for path, argument in zip(paths, rest, strict=True)
    ]
    return evaluator.model_copy(update={"command": (program, *arguments)})
