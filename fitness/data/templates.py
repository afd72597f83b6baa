"""Templates that render columns of records as text: tables, triples of a knowledge graph, rules.

A template is `"{subject} {relation} {object}."`, or one for each column that a kind of record
needs: `{prompt: "{subject} {relation}", completion: "{object}"}`. Names are columns alone:
attributes and indices of values cannot be reached. Two braces stand for one.
"""

from collections.abc import Iterable, Mapping
from string import Formatter
from typing import Any

from fitness.errors import InputError
from fitness.suggest import did_you_mean, listed, shortened

Template = str | dict[str, str]


def check(template: Template) -> None:
    """Raise ValueError for a template that cannot be rendered, or that has no column."""
    for text in _texts(template).values():
        try:
            fields = list(Formatter().parse(text))
        except ValueError as error:
            raise ValueError(f"template {text!r}: {error}; write {{{{ for a brace") from error
        for _, name, spec, conversion in fields:
            if name is not None and (not name or set(".[") & set(name) or spec or conversion):
                shown = f"{{{name}{'!' * bool(conversion)}{':' * bool(spec)}}}"
                raise ValueError(f"template {text!r}: {shown} is no column; write {{column}} alone")
    if not columns(template):
        raise ValueError(f"template {template!r}: names no column; write {{column}} for its values")


def columns(template: Template) -> list[str]:
    """Names of the columns that a template reads, each once, in order."""
    named = (
        name
        for text in _texts(template).values()
        for _, name, _, _ in Formatter().parse(text)
        if name
    )
    return list(dict.fromkeys(named))


def check_columns(where: str, existing: Iterable[str], template: Template) -> None:
    """Raise InputError if a table or a record lacks a column of the template."""
    has = list(existing)
    missing = [name for name in columns(template) if name not in has]
    if missing:
        raise InputError(
            f"{where}: no column {shortened(missing[0])}, which the template names; it has "
            f"{listed(has)}{did_you_mean(missing[0], has)}"
        )


def rendered(
    record: Mapping[str, Any], template: Template, where: str, text: str
) -> dict[str, Any]:
    """The record with the columns that the template makes, in place of those that it reads.

    One template alone makes the column `text`.

    Raises InputError, beginning with `where`, for a value that is missing, or no text or number.
    """
    check_columns(where, record, template)
    values: dict[str, str] = {}
    for name in columns(template):
        value = record[name]
        if not isinstance(value, str | int | float):
            raise InputError(
                f"{where}: {shortened(name)} is {shortened(value, 40)}, and the template needs a "
                "text or a number: drop this record, or leave the column out of the template"
            )
        values[name] = str(value)
    made = {name: form.format_map(values) for name, form in _texts(template, text).items()}
    return {name: value for name, value in record.items() if name not in values} | made


def _texts(template: Template, text: str = "text") -> dict[str, str]:
    """The templates by the column that each makes."""
    return {text: template} if isinstance(template, str) else template
