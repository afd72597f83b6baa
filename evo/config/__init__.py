"""Search specs: `load` turns search.yaml into a frozen SearchConfig, or says all that is wrong.

Also a config's plain form, which the ledger and the run folder keep. The sections are in
`evo.config.sections`, what they mean for genomes in `evo.config.genomes`; import both from here.
"""

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML

from evo.config.checks import check
from evo.config.errors import problems
from evo.config.file import ConfigError, Problem, SpecFile, impossible_texts, read
from evo.config.genomes import (
    Constraint,
    Objective,
    baselines,
    bounds,
    constraints,
    decode,
    default_genome,
    feasible,
    inherits,
    known,
    largest,
    losses,
    objectives,
    possible,
    space,
    violation,
)
from evo.config.resolve import resolve_spec, resolved, with_population
from evo.config.section import NAME_PATTERN
from evo.config.sections import Resources, SearchConfig, json_schema
from evo.config.starter import init
from fitness.files import write_whole

__all__ = [
    "ConfigError",
    "Constraint",
    "Objective",
    "Resources",
    "SearchConfig",
    "baselines",
    "bounds",
    "constraints",
    "decode",
    "default_genome",
    "difference",
    "feasible",
    "from_plain",
    "inherits",
    "init",
    "json_schema",
    "known",
    "largest",
    "load",
    "losses",
    "objectives",
    "of",
    "possible",
    "resolve_spec",
    "space",
    "to_plain",
    "violation",
    "write_config",
    "write_yaml",
]

# These stand in for what has errors, so that the checks across the rest of the spec can still run.
ENTRY_STAND_IN = {"sources": {"path": "x"}, "domains": {"path": "x"}}
SECTION_STAND_IN: dict[str, Any] = {
    "name": "spec",
    "genome": {"x": {"type": "float", "low": 0, "high": 1}},
    "objectives": {"x": "minimize"},
    "budget": {"evaluations": 1, "tokens": 1},
}


def load(spec: str | Path, overrides: Sequence[str] = ()) -> SearchConfig:
    """Read, check and resolve a spec; relative paths are taken from its folder.

    `overrides` are `key=value` texts, as if the file said so. Raises ConfigError with every
    problem found, each with its line.
    """
    path = resolve_spec(spec)
    file = read(path, overrides)
    if found := impossible_texts(file.data):
        raise file.error(found)
    found = list(file.problems)
    try:
        config = SearchConfig.model_validate(file.data)
    except ValidationError as error:
        found += problems(error, file.data, json_schema())
    sound = set(SearchConfig.model_fields)
    if found:
        data, sound = _mended(file.data, found)
        config = SearchConfig.model_validate(data)
    config = with_population(config)
    folder = path.resolve().parent
    found += check(config, sound, folder)
    if found:
        raise file.error(found)
    return resolved(config, folder)


def _mended(data: Mapping[str, Any], found: Iterable[Problem]) -> tuple[dict[str, Any], set[str]]:
    """The spec with stand-ins for what has errors, and the sections that are worth checking on."""
    mended = dict(data)
    broken = set()
    for section, *rest in (problem.key for problem in found if problem.key):
        entries = mended.get(str(section)) if section in ENTRY_STAND_IN else None
        name = str(rest[0]) if rest else ""
        if isinstance(entries, dict) and re.fullmatch(NAME_PATTERN, name):
            mended[str(section)] = {**entries, name: ENTRY_STAND_IN[str(section)]}
        else:
            broken.add(str(section))
    kept = {name: value for name, value in mended.items() if name not in broken}
    stand_ins = {name: SECTION_STAND_IN[name] for name in broken & SECTION_STAND_IN.keys()}
    return {**kept, **stand_ins}, set(SearchConfig.model_fields) - broken


def to_plain(config: SearchConfig) -> dict[str, Any]:
    """JSON-able, complete, in the order of the spec; `from_plain` undoes it."""
    return config.model_dump(mode="json")


def from_plain(plain: Mapping[str, Any]) -> SearchConfig:
    """A config as recorded: nothing is resolved, read or imported. Raises ConfigError."""
    recorded = SpecFile("", origin={(): "the recorded spec"})
    if found := impossible_texts(plain):
        raise recorded.error(found)
    try:
        return SearchConfig.model_validate(plain)
    except ValidationError as error:
        raise recorded.error(problems(error, plain, json_schema())) from None


def of(facts: Sequence[Mapping[str, Any]]) -> SearchConfig:
    """The config of a run, from its ledger; a resume may have changed resources or the budget."""
    return from_plain(next(fact["config"] for fact in reversed(facts) if fact.get("config")))


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line a key that differs, such as `search.population: 10 -> 24`; order counts too.

    The order of sources, genes and objectives decides coordinates, draws and what `best` means.
    """
    return list(_differences("", old, new))


def _differences(key: str, old: Any, new: Any) -> Iterator[str]:
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        if old != new or type(old) is not type(new):
            yield f"{key}: {_told(old)} -> {_told(new)}"
        return
    if old.keys() == new.keys() and list(old) != list(new):
        yield f"{key or 'sections'}: order {', '.join(old)} -> {', '.join(new)}"
    for name in [*old, *(name for name in new if name not in old)]:
        inner = f"{key}.{name}" if key else name
        if name not in new:
            yield f"{inner}: {_told(old[name])} -> (left out)"
        elif name not in old:
            yield f"{inner}: (left out) -> {_told(new[name])}"
        else:
            yield from _differences(inner, old[name], new[name])


def _told(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def write_config(config: SearchConfig, path: Path) -> None:
    """The resolved spec as YAML, whole or not at all; `load` reads it back to the same config."""
    write_yaml(to_plain(config), path)


def write_yaml(plain: Mapping[str, Any], path: Path) -> None:
    """Plain data as YAML 1.2 in the order given, whole or not at all."""
    write_whole(path, as_yaml(plain))


def as_yaml(plain: Mapping[str, Any]) -> str:
    """Plain data as YAML 1.2 in the order given."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 1000
    # Told apart because the library writes U+0085 and its like in a way it does not read back.
    yaml.allow_unicode = json.dumps(plain, ensure_ascii=False).isprintable()
    text = io.StringIO()
    yaml.dump(dict(plain), text)
    return text.getvalue()
