"""Evaluators that train and measure a recipe: the builtin one, a function, a command, or TRL."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

BUILTIN = "builtin"
PLACEHOLDER = re.compile(r"\{(\{\w+\})\}|\{(\w+)\}")  # `{{seed}}` is the text `{seed}`
PLACEHOLDERS = {
    "recipe": "file with the request, a JSON object",
    "measurements": "file to write, a JSON object of name: number",
    "data": "file with the mixture",
    "model": "folder of the base model",
    "folder": "the evaluation's own empty folder, where the command starts",
    "seed": "seed of the evaluation",
    "fidelity": "share of the token budget; 0 asks for the untouched base",
    "split": "selection or test",
    "budget_tokens": "tokens of a full fine-tune, those of {data} where it is written",
    "individual": "number of the individual",
}


class Command(BaseModel):
    """A trainer in any language."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    command: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(
            min_length=1,
            description="Program and arguments, no shell. Replaced are "
            + ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            + "; each is in the environment too, as EVOMIX_RECIPE and so on. An argument that "
            "names a file beside the spec is given with its whole path.",
        ),
    ]
    data: Annotated[
        Literal["jsonl", "parquet"] | None,
        Field(
            description="Write what the builtin trainer would draw for the recipe, a window a row "
            "with `text` and `source`, to {data} before the command starts; needs model.base."
        ),
    ] = None
    timeout: Annotated[
        float | None,
        Field(gt=0, description="Seconds after which the command and all it started are killed."),
    ] = None


class TrlSettings(BaseModel):
    """Settings of a fine-tune by TRL's SFTTrainer that a recipe does not have."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    loss_type: Annotated[
        Literal["nll", "dft"],
        Field(description="`nll`, or `dft`: Dynamic Fine-Tuning (arXiv:2508.05629)."),
    ] = "nll"
    neftune_noise_alpha: Annotated[
        float, Field(ge=0, description="Noise on embeddings (arXiv:2310.05914); 0 is none.")
    ] = 0.0
    gradient_checkpointing: Annotated[
        bool, Field(description="Compute activations again instead of keeping them.")
    ] = False


class Trl(BaseModel):
    """TRL's SFTTrainer in place of the builtin one; data, recipe and measurements are the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trl: Annotated[
        TrlSettings, Field(description="Settings that a recipe does not have; {} for the defaults.")
    ] = TrlSettings()


EvaluatorChoice = str | Command | Trl  # a text is `builtin` or `module:function`


@dataclass(frozen=True, slots=True)
class Form:
    """A form of evaluator: what evaluates, and what it can do."""

    maker: str
    """`module:function`, called as maker(task); returns function(spec) -> Evaluation."""
    reads_recipe: bool = False
    """Recipes are `fitness.recipe.Recipe`, and domains and prompts are measured."""
    mixes: bool = False
    """evomix draws the mixture, from the spec's sources."""
    trains: bool = False
    """evomix trains: methods, model tasks, checkpoints to resume and to start from, buckets."""


FORMS: Mapping[str, Form] = {
    "builtin": Form("fitness.evaluate.builtin:Builtin", reads_recipe=True, mixes=True, trains=True),
    "trl": Form("fitness.evaluate.trl:by_trl", reads_recipe=True, mixes=True),
    "command": Form("fitness.evaluate.command:by_command"),
    "command with data": Form("fitness.evaluate.command:by_command", mixes=True),
    "function": Form("fitness.evaluate.function:by_function"),
}


def form_of(evaluator: EvaluatorChoice) -> Form:
    """The form of an evaluator, with what it can do."""
    if isinstance(evaluator, Trl):
        return FORMS["trl"]
    if isinstance(evaluator, Command):
        return FORMS["command with data" if evaluator.data else "command"]
    return FORMS["builtin" if evaluator == BUILTIN else "function"]


def filled_in(argument: str, values: dict[str, str]) -> str:
    """An argument of a command with its placeholders replaced; KeyError for an unknown one."""
    return PLACEHOLDER.sub(lambda found: found[1] or values[found[2]], argument)


def placeholders_in(argument: str) -> list[str]:
    """The names of an argument's placeholders, known or not."""
    return [found[2] for found in PLACEHOLDER.finditer(argument) if found[2]]
