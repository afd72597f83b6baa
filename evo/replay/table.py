"""A table of finished runs read through its roles: the genome and the losses of every row."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evo.config import Composed, Objective
from evo.config.errors import show
from evo.config.file import Key, Problem
from evo.replay import cells
from evo.replay.roles import ChoiceRole, FloatRole, IntRole, RolesFile, load
from fitness.errors import InputError
from population.space import Choice, Float, Gene, Genome, Int, SearchSpace, Simplex

Array = npt.NDArray[np.float64]

MOST_LINES = 5  # of the file, named in one message


@dataclass(frozen=True)
class Table:
    """Finished runs, in the order of the file.

    `losses` is (rows, objectives), lower is better. `measured` is (rows, columns), of the columns
    that the objectives are made of, named as in `composed`: an objective each.
    """

    name: str
    space: SearchSpace
    genomes: tuple[Genome, ...]
    objectives: tuple[Objective, ...]
    losses: Array
    composed: tuple[Composed, ...]
    columns: tuple[str, ...]
    measured: Array

    @cached_property
    def places(self) -> Array:
        """Coordinates of each row, (rows, coordinates)."""
        return np.array([self.place(genome) for genome in self.genomes])

    def place(self, genome: Mapping[str, Any]) -> Array:
        """Coordinates of a genome, whose Euclidean distance is `SearchSpace.distance`."""
        return self.space.encode(genome) * self._scale

    @cached_property
    def _scale(self) -> Array:
        # Roots of shares and one-hot options lie root 2 apart where their distance is 1.
        return np.concatenate(
            [
                np.full(gene.size, 2**-0.5 if isinstance(gene, Simplex | Choice) else 1.0)
                for gene in self.space.genes.values()
            ]
        )


def read_table(path: Path, roles: Path) -> Table:
    """Read a table; rows that cannot be used are left out with a warning.

    Raises InputError, with a line for each problem, for a table that cannot be searched.
    """
    texts = cells.read_csv(path)
    fitting = load(roles, texts.columns.tolist(), str(path))
    values = _values(path, texts, fitting)
    for reason, wrong in (
        ("a value is missing or not finite", pd.DataFrame.isna),
        ("a value is outside the bounds or options given", lambda v: _foreign(v, fitting)),
        ("every share of the mixture is 0", lambda v: _empty_mixtures(v, fitting)),
    ):
        values = _without(values, wrong(values), path, reason)
    _check_rows(path, values, len(texts))
    values = values.assign(**{one.name: _outcome(values, one) for one in fitting.composed})
    genes, found = _genes(path, values, fitting)
    found += _unsearchable(values, fitting)
    if found:
        raise fitting.file.error(found)
    space = SearchSpace(genes)
    objectives = tuple(
        Objective.towards(name, direction) for name, direction in fitting.roles.objectives.items()
    )
    signs = [objective.sign for objective in objectives]
    return Table(
        name=str(path),
        space=space,
        genomes=tuple(
            space.repair(_genome(row, genes, fitting)) for row in values.to_dict("records")
        ),
        objectives=objectives,
        losses=values[[o.name for o in objectives]].to_numpy(dtype=np.float64) * signs,
        composed=fitting.composed,
        columns=fitting.measured,
        measured=values[list(fitting.measured)].to_numpy(dtype=np.float64),
    )


def _outcome(values: pd.DataFrame, composed: Composed) -> Array:
    """An objective of every row, (rows,)."""
    names = list(composed.weights)
    rows = values[names].to_numpy(dtype=np.float64)
    if names == [composed.name]:  # a column
        return rows[:, 0]
    return np.array([composed.value(dict(zip(names, row, strict=True))) for row in rows.tolist()])


def _values(path: Path, texts: pd.DataFrame, fitting: RolesFile) -> pd.DataFrame:
    """Columns that have a role, as numbers and options; NaN for an empty cell."""
    roles = fitting.roles
    readers: dict[str, Callable[[str], Any]] = {
        **{column: cells.share for over in fitting.mixtures.values() for column in over},
        **dict.fromkeys([*roles.floats, *fitting.measured], cells.real),
        **dict.fromkeys(roles.ints, cells.whole),
        **dict.fromkeys(roles.choices, cells.option),
    }
    columns, wrong = {}, []
    for column, reader in readers.items():
        read, bad = [], []
        for row, (line, cell) in enumerate(texts[column].items(), start=1):
            try:
                read.append(reader(cell))
            except ValueError as error:
                bad.append((line, row, cell, error))
        if bad:
            line, row, cell, needed = bad[0]
            others = f" (and {len(bad) - 1} more like it)" if len(bad) > 1 else ""
            wrong.append(
                f"{path}:{line}: row {row}, column {column}: needs {needed}, got {show(cell)}"
                f"{others}; correct it or give the column another role"
            )
        else:
            kind = object if column in roles.choices else np.float64
            columns[column] = pd.Series(read, index=texts.index, dtype=kind)
    if wrong:
        raise InputError("\n".join(wrong))
    return pd.DataFrame(columns)


def _foreign(values: pd.DataFrame, fitting: RolesFile) -> pd.DataFrame:
    """Mask of the values outside the bounds or options of their roles."""
    wrong = pd.DataFrame(False, index=values.index, columns=values.columns)
    for column, role in fitting.roles.numbers.items():
        if role.low is not None:
            wrong[column] |= values[column] < role.low
        if role.high is not None:
            wrong[column] |= values[column] > role.high
    for column, choice in fitting.roles.choices.items():
        if choice.options is not None:
            wrong[column] = ~values[column].isin([cells.option(str(o)) for o in choice.options])
    return wrong


def _empty_mixtures(values: pd.DataFrame, fitting: RolesFile) -> pd.DataFrame:
    return pd.DataFrame(
        {name: values[list(over)].sum(axis=1) <= 0 for name, over in fitting.mixtures.items()},
        index=values.index,
    )


def _without(values: pd.DataFrame, wrong: pd.DataFrame, path: Path, reason: str) -> pd.DataFrame:
    """Rows without faults; a warning names the others."""
    rows = wrong.any(axis=1)
    if rows.any():
        where = [
            f"{column} ({_lines(wrong.index[wrong[column]])})"
            for column in wrong
            if wrong[column].any()
        ]
        warnings.warn(
            f"{path}: {rows.sum()} of {len(rows)} rows left out, {reason}: {', '.join(where)}",
            stacklevel=3,
        )
    return values[~rows]


def _lines(lines: "pd.Index[Any]") -> str:
    shown = ", ".join(map(str, lines[:MOST_LINES]))
    more = f" and {len(lines) - MOST_LINES} more" if len(lines) > MOST_LINES else ""
    return f"line{'s' * (len(lines) > 1)} {shown}{more}"


def _check_rows(path: Path, values: pd.DataFrame, before: int) -> None:
    if len(values) < 2:
        have = f"{len(values)} of {before} rows" if before > len(values) else f"{before} row"
        have += "s" * (have == "0 row")
        raise InputError(f"{path}: {have} to search; at least 2 are needed")
    if len(values.drop_duplicates()) == 1:
        raise InputError(
            f"{path}: all {len(values)} rows are equal in the columns of the roles; there is "
            "nothing to find"
        )


def _unsearchable(values: pd.DataFrame, fitting: RolesFile) -> Iterator[Problem]:
    """Problems of objectives in which no row is better than another, or than the median row."""
    for index, (column, direction) in enumerate(fitting.roles.objectives.items()):
        outcome = values[column]
        sign = Objective.towards(column, direction).sign
        best = sign * (sign * outcome).min()
        key = fitting.keys[column]
        if outcome.nunique() == 1:
            yield Problem(key, f"is {best:g} in every row; there is nothing to find")
        elif not np.isfinite(float(outcome.max()) - float(outcome.min())):
            reach = f"runs from {outcome.min():g} to {outcome.max():g}"
            yield Problem(key, f"{reach}, too far to be compared; correct the table")
        elif index == 0 and outcome.median() == best:
            message = (
                f"half of the rows or more have its best value, {best:g}; regret, which is "
                "measured from the median row, needs something better than that to find"
            )
            yield Problem(key, message)


def _genes(
    path: Path, values: pd.DataFrame, fitting: RolesFile
) -> tuple[dict[str, Any], list[Problem]]:
    """Genes of the columns with roles; bounds and options default to the values in the table.

    A gene that is the same in every row is left out with a warning, since it cannot be searched.
    """
    roles = fitting.roles
    builders: dict[str, tuple[Key, Callable[[], Gene | None]]] = {
        **{n: (("simplex", n), partial(_mixture, values, c)) for n, c in fitting.mixtures.items()},
        **{c: (fitting.keys[c], partial(_number, values[c], r)) for c, r in roles.numbers.items()},
        **{c: (fitting.keys[c], partial(_choice, values[c], r)) for c, r in roles.choices.items()},
    }
    genes: dict[str, Any] = {}
    found = []
    for name, (key, build) in builders.items():
        try:
            gene = build()
        except ValueError as error:
            found.append(Problem(key, str(error)))
            continue
        if gene is None:
            warnings.warn(f"{path}: {name} is the same in every row; left out", stacklevel=3)
        else:
            genes[name] = gene
    if not genes and not found:
        found.append(Problem((), "nothing to search: no two rows differ in their inputs"))
    return genes, found


def _mixture(values: pd.DataFrame, over: tuple[str, ...]) -> Gene | None:
    shares = values[list(over)]
    same = (shares.div(shares.sum(axis=1), axis=0).nunique() == 1).all()
    return None if same else Simplex(over)


def _number(numbers: "pd.Series[float]", role: FloatRole | IntRole) -> Gene | None:
    if numbers.nunique() == 1:
        return None
    if role.log and (numbers <= 0).any():
        line = numbers.index[numbers <= 0][0]
        raise ValueError(
            f"log needs values above 0, got {numbers[line]:g} in line {line} of the table; drop "
            "log, or set a low above 0 to leave such rows out"
        )
    low = numbers.min() if role.low is None else role.low
    high = numbers.max() if role.high is None else role.high
    if isinstance(role, IntRole):
        return Int(int(low), int(high), log=role.log)
    return Float(float(low), float(high), log=role.log)


def _choice(values: "pd.Series[Any]", role: ChoiceRole) -> Gene | None:
    options = sorted(values.unique(), key=lambda option: (isinstance(option, str), option))
    if role.options is None and (pair := cells.alike(options)):
        one, other = map(str, pair)
        raise ValueError(
            f"{one} and {other} may be one option written in two ways; write them alike in the "
            "table, or name the options that there are"
        )
    return None if len(options) == 1 else Choice(tuple(options))


def _genome(row: dict[Any, Any], genes: Iterable[str], fitting: RolesFile) -> dict[str, Any]:
    """Genome of a row, with mixtures not normalised yet."""
    mixtures = fitting.mixtures
    return {
        name: {c: row[c] for c in mixtures[name]} if name in mixtures else row[name]
        for name in genes
    }
