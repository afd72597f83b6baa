"""Users' own checks: `module:function`, `command:PROGRAM ARGUMENT ...`, or `reward:FOLDER`.

A command runs without a shell: it reads a line of JSON {"prompt", "reference", "output"} for each
answer, and writes a number for each on a line of its own. What it does with an answer that is code,
such as running it in a sandbox, is its own affair.
"""

import json
import shlex
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fitness.checks.table import Reference
from fitness.errors import InputError
from fitness.plugins import COMMAND, REWARD, load_function

NEURAL = "fitness.reward.neural"  # which stands above this room, so that it is looked up
LONGEST = 600  # seconds that a command may take for one batch of answers


def own_check(name: str, subject: str) -> Callable[..., Any]:
    """A user's own function, command or reward model.

    Raises InputError, beginning with `subject`, if there is none.
    """
    if name.startswith(REWARD):
        folder = name.removeprefix(REWARD)
        load_function(f"{NEURAL}:check", subject)(folder, f"{subject} {name!r}")
        return partial(load_function(f"{NEURAL}:rewards", subject), folder)
    if not name.startswith(COMMAND):
        return load_function(name, subject)
    try:
        words = shlex.split(name.removeprefix(COMMAND))
    except ValueError as error:
        raise InputError(f"{subject} {name!r}: {error}") from error
    if not words:
        raise InputError(f"{subject} {name!r}: names no program; write `command:PROGRAM ARGUMENT`")
    return partial(_by_command, words, f"{subject} {name!r}")


def _by_command(
    words: Sequence[str],
    where: str,
    prompts: Sequence[str],
    references: Sequence[Reference],
    outputs: Sequence[str],
) -> list[float]:
    """Numbers that a program writes, one for each answer. InputError if it fails or takes long."""
    answers = zip(prompts, references, outputs, strict=True)
    lines = [
        json.dumps({"prompt": prompt, "reference": reference, "output": output})
        for prompt, reference, output in answers
    ]
    try:
        done = subprocess.run(
            words,
            input="".join(f"{line}\n" for line in lines),
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"{where}: {error}") from error
    if done.returncode:
        raise InputError(
            f"{where}: ended with status {done.returncode}: {done.stderr.strip()[-500:]}"
        )
    try:
        return [float(line) for line in done.stdout.split()]
    except ValueError as error:
        raise InputError(f"{where}: wrote {error}; it must write a number for each line") from error
