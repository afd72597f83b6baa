"""roles.yaml: which columns of a table of finished runs are genes and which are objectives."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from evo.config.aggregates import Combination, Composed, is_glob, matching, one_is_a_list
from evo.config.base_section import Section
from evo.config.errors import problems
from evo.config.file import Key, Kind, Problem, SpecFile, dotted, nearest, read
from fitness.metrics import Direction
from fitness.suggest import listed

KIND = Kind(
    "roles are a mapping of sections (`simplex:`, `float:`, `objectives:` ...)",
    "write e.g. `float: {learning_rate: {log: true}}` and `objectives: {loss: minimize}`",
)


def _by_column(value: Any) -> object:
    """`[a, b]` and `{a: , b: }` are short for `{a: {}, b: {}}`."""
    if isinstance(value, list) and all(isinstance(column, str) for column in value):
        return {column: {} for column in value}
    if isinstance(value, dict):
        return {column: {} if role is None else role for column, role in value.items()}
    return value


def _options(value: Any) -> object:
    """`[lora, none]` is short for `{options: [lora, none]}`."""
    return {"options": value} if isinstance(value, list) else value


class _NumberRole(Section):
    log: bool = Field(default=False, description="Whether the logarithm is searched.")

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        low, high = getattr(self, "low", None), getattr(self, "high", None)
        if low is not None and high is not None and low >= high:
            raise ValueError(f"low must be below high, got low={low:g}, high={high:g}")
        if low is not None and low <= 0 and self.log:
            raise ValueError(f"a log scale needs a low above 0, got {low:g}; raise it or drop log")
        return self


class FloatRole(_NumberRole):
    """A column of real numbers."""

    low: float | None = Field(default=None, description="Least value; default: the column's least.")
    high: float | None = Field(default=None, description="Most; default: the column's most.")


class IntRole(_NumberRole):
    """A column of whole numbers."""

    low: int | None = Field(default=None, description="Least value; default: the column's least.")
    high: int | None = Field(default=None, description="Most; default: the column's most.")


class ChoiceRole(Section):
    """A column of unordered options."""

    options: tuple[StrictStr | StrictBool | StrictInt | StrictFloat, ...] | None = Field(
        default=None, min_length=1, description="The options; default: every value of the column."
    )


Patterns = Annotated[tuple[str, ...], BeforeValidator(one_is_a_list), Field(min_length=1)]


class Roles(Section):
    """Roles of the columns of a table; a column without a role is ignored."""

    simplex: dict[str, Patterns] = Field(
        default_factory=dict,
        description="Mixtures by name: their columns as a list, or a glob such as `w_*`.",
    )
    floats: Annotated[dict[str, FloatRole], BeforeValidator(_by_column)] = Field(
        default_factory=dict, alias="float", description="Columns of real numbers."
    )
    ints: Annotated[dict[str, IntRole], BeforeValidator(_by_column)] = Field(
        default_factory=dict, alias="int", description="Columns of whole numbers."
    )
    choices: Annotated[
        dict[str, Annotated[ChoiceRole, BeforeValidator(_options)]], BeforeValidator(_by_column)
    ] = Field(default_factory=dict, alias="choice", description="Columns of unordered options.")
    aggregates: dict[str, Combination] = Field(
        default_factory=dict,
        description="Means, maxima and minima of columns, by name, for the objectives to name.",
    )
    objectives: dict[str, Direction] = Field(
        min_length=1,
        description="columns to improve, or aggregates of them, e.g. `loss: minimize`; `best` "
        "means best by the first",
    )

    @property
    def numbers(self) -> dict[str, FloatRole | IntRole]:
        return {**self.floats, **self.ints}


@dataclass(frozen=True)
class RolesFile:
    """Roles that match a table's header, with their places in the file."""

    roles: Roles
    mixtures: dict[str, tuple[str, ...]]  # columns by mixture, globs replaced by what they match
    composed: tuple[Composed, ...]  # the objectives; a column is the mean of itself
    keys: dict[str, Key]  # where each column has its role
    file: SpecFile

    @property
    def measured(self) -> tuple[str, ...]:
        """Columns that the objectives are made of."""
        return tuple(dict.fromkeys(name for one in self.composed for name in one.weights))


def load(path: Path, columns: Sequence[str], table: str) -> RolesFile:
    """Read the roles and check them against the table's columns.

    Raises ConfigError with every problem found, each with its line.
    """
    file = read(path, kind=KIND)
    try:
        roles = Roles.model_validate(file.data)
    except ValidationError as error:
        found = problems(error, file.data, Roles.model_json_schema())
        raise file.error([*file.problems, *found]) from None
    claims: list[tuple[str, Key]] = []
    mixtures: dict[str, tuple[str, ...]] = {}
    for name, patterns in roles.simplex.items():
        matched = [_matching(pattern, columns) for pattern in patterns]
        mixtures[name] = tuple(column for group in matched for column in group)
        claims += [(column, ("simplex", name)) for column in mixtures[name]]
    for section, names in (
        ("float", roles.floats),
        ("int", roles.ints),
        ("choice", roles.choices),
        ("objectives", [name for name in roles.objectives if name not in roles.aggregates]),
    ):
        claims += [(column, (section, column)) for column in names]
    composed = tuple(_composed(roles, name, columns) for name in roles.objectives)
    keys = {**{n: ("objectives", n) for n in roles.objectives}, **dict(reversed(claims))}
    fitting = RolesFile(roles, mixtures, composed, keys, file)
    found = [*file.problems, *_misfits(fitting, claims, columns, table)]
    found += _aggregated(fitting, columns, table)
    if found:
        raise file.error(found)
    return fitting


def _misfits(
    fitting: RolesFile, claims: Sequence[tuple[str, Key]], columns: Sequence[str], table: str
) -> list[Problem]:
    found = []
    claimed: dict[str, Key] = {}
    for column, key in claims:
        if column not in columns:
            others = fitting.roles.aggregates if key[0] == "objectives" else ()
            found.append(Problem(key, _absent(column, columns, table, others)))
        elif column in claimed:
            other = dotted(claimed[column])
            found.append(Problem(key, f"column {column} has a role already, {other}; keep one"))
        elif column in fitting.mixtures and key[0] not in ("simplex", "objectives"):
            found.append(Problem(key, f"a mixture is called {column} too; rename the mixture"))
        claimed.setdefault(column, key)
    if all(key[0] == "objectives" for key in claimed.values()):
        message = "nothing to search; name columns under `simplex`, `float`, `int` or `choice`"
        found.append(Problem((), message))
    return found


def _absent(column: str, columns: Sequence[str], table: str, others: Iterable[str] = ()) -> str:
    """Message for a column that is not in the table; `others`: names that would do as well."""
    close = nearest(column, [*columns, *others])
    remedy = f"did you mean {close}?" if close else f"its columns are {listed(columns)}"
    return f"{table} has no column {column}; {remedy}"


def _composed(roles: Roles, objective: str, columns: Sequence[str]) -> Composed:
    """An objective as an aggregate of columns."""
    made = roles.aggregates.get(objective, Combination(mean=(objective,)))
    return Composed.of(objective, made, columns)


def _aggregated(fitting: RolesFile, columns: Sequence[str], table: str) -> Iterator[Problem]:
    """Aggregates named like a column, or of columns that are missing, given twice or searched."""

    def missing(pattern: str) -> str:
        if is_glob(pattern):
            return f"{pattern!r} matches no column of {table}; its columns are {listed(columns)}"
        if pattern in fitting.roles.aggregates:
            return f"{pattern} is an aggregate; name the columns themselves"
        return _absent(pattern, columns, table)

    for name, aggregate in fitting.roles.aggregates.items():
        at: Key = ("aggregates", name)
        if name in columns:
            yield Problem(at, f"{table} has a column {name} too; rename the aggregate")
        for key, message in aggregate.faults(columns, missing):
            yield Problem((*at, *key), message)
        for column in aggregate.weights(columns):
            role = fitting.keys.get(column, ("objectives",))
            if role[0] not in ("objectives", "aggregates"):
                message = f"column {column} has a role already, {dotted(role)}; keep one"
                yield Problem((*at, aggregate.kind), message)


def _matching(pattern: str, columns: Sequence[str]) -> list[str]:
    """Columns that match a name or glob; the pattern itself if none does, to be reported."""
    return matching(pattern, columns) or [pattern]
