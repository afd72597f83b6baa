"""Settings of a benchmark in a spec, and its tasks as they are read before anything trains."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from fitness.data.documents import Half


class Benchmark(BaseModel):
    """Tasks of lm-evaluation-harness, measured as <benchmark>/<task>/<metric>.

    The documents that a task scores are split into halves, for selection and test.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    tasks: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(
            min_length=1,
            description="Names of tasks; a group or a tag stands for all of its tasks.",
        ),
    ]
    few_shot: Annotated[
        int | None,
        Field(ge=0, description="Solved examples before each question. Default: the task's own."),
    ] = None
    limit: Annotated[
        int | None,
        Field(ge=1, description="At most so many documents of each task in each split."),
    ] = None
    include: Annotated[
        str | None,
        Field(
            min_length=1,
            description="Folder with task files (YAML) of your own, relative to the spec. Data "
            "files that they name are looked up beside them.",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class HeldOutTask:
    """A task as it was read: places of its documents by split, a digest, and its size.

    The digest is of the documents and of all that is asked about them.
    """

    file: Path
    metrics: tuple[str, ...]
    documents: Mapping[Half, tuple[int, ...]]
    digest: str
    requests: int  # on the selection split
    tokens: int  # of these requests, with those that are generated
    longest: int  # request of either split, tokens
    generates: bool
    notes: tuple[str, ...] = ()
