"""Read the spec that a run recorded, perhaps by an older version, as a config of today."""

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from evo.config.aggregates import Aggregate
from evo.config.evaluator import Evaluator
from evo.config.sections import SearchConfig
from population.space import Gene

Model = TypeVar("Model", bound=BaseModel)
Plain = Mapping[str, Any]


def recorded(plain: Plain) -> SearchConfig:
    """The recorded spec of a run of any version, to read results by; `from_plain` is to run it.

    Keys that this version does not know are left out, and so are genes of other kinds. A key that
    is not recorded has the default of its section; one that has no default is empty: 0, "" or {}.
    Values are as recorded and not validated: `evo.record.facts` checks those that are read.
    """
    config = _made(SearchConfig, plain)
    genes = {name: _as(Gene, value) for name, value in config.genome.items()}
    known = {name: gene for name, gene in genes.items() if gene is not None}
    evaluator = _as(Evaluator, config.evaluator) or ""
    made = {name: _as(Aggregate, one) for name, one in (plain.get("aggregates") or {}).items()}
    aggregates = {name: one for name, one in made.items() if one is not None}
    update = {"genome": known, "evaluator": evaluator, "aggregates": aggregates}
    return config.model_copy(update=update)


def _made(model: type[Model], plain: Plain) -> Model:
    """A model of the recorded values that it has fields for, with its defaults for the others."""
    values = {
        name: _value(field, plain.get(name))
        for name, field in model.model_fields.items()
        if plain.get(name) is not None or field.is_required()
    }
    return model.model_construct(**values)


def _value(field: FieldInfo, value: Any) -> Any:
    """A field's recorded value: a section or several of them as models, others as they are."""
    kind: Any = get_origin(field.annotation) or field.annotation
    inner = _model_in(field.annotation)
    if inner is None:
        if value is None:
            return kind()
        return tuple(value) if kind is tuple and isinstance(value, list) else value
    if kind is tuple:
        sections = value if isinstance(value, list) else ()
        return tuple(_made(inner, one) for one in sections if isinstance(one, Mapping))
    plain: Plain = value if isinstance(value, Mapping) else {}
    if kind is dict:
        return {n: _made(inner, one) for n, one in plain.items() if isinstance(one, Mapping)}
    return _made(inner, plain)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The one model in a field's type: a section, an optional one, or values of a mapping."""
    found = [annotation, *get_args(annotation)]
    models = [one for one in found if isinstance(one, type) and issubclass(one, BaseModel)]
    return models[0] if len(models) == 1 else None


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _as(kind: Any, value: Any) -> Any:
    """A recorded value as a gene or an evaluator; None if this version has none of its form."""
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError:
        return None
