"""Base class of the sections of a spec: frozen, and without undeclared keys."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$"

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]


class Section(BaseModel):
    """A frozen section of a spec, in which an undeclared key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
