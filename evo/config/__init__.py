"""Search specs: `load` turns search.yaml into a frozen SearchConfig, or raises all its errors.

Also the plain form of a config (JSON-able values), which the ledger and the run folder store. The
sections are declared in `evo.config.sections`; search space, baselines, losses and constraints are
derived from them in `evo.config.genomes`. Import both from here.
"""

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML

from evo.config.aggregates import Composed, aggregates, meaning, measured_by
from evo.config.base_section import NAME_PATTERN
from evo.config.budget import Resources
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
    known_genomes,
    largest,
    losses,
    objectives,
    possible,
    space,
    violation,
    warm_starts,
)
from evo.config.keys import with_flat_keys, without_removed
from evo.config.resolve import (
    missing_paths,
    resolve_spec,
    resolved,
    with_gpus,
    with_population,
    with_reward_models,
    with_task_folders,
)
from evo.config.sections import SearchConfig, json_schema
from fitness.files import write_whole

__all__ = [
    "Composed",
    "ConfigError",
    "Constraint",
    "Objective",
    "Resources",
    "SearchConfig",
    "aggregates",
    "baselines",
    "bounds",
    "constraints",
    "decode",
    "default_genome",
    "difference",
    "feasible",
    "from_plain",
    "json_schema",
    "known_genomes",
    "largest",
    "load",
    "losses",
    "meaning",
    "measured_by",
    "objectives",
    "of",
    "possible",
    "recorded_in",
    "resolve_spec",
    "space",
    "to_plain",
    "violation",
    "warm_starts",
    "write_config",
    "write_yaml",
]

# Placeholders for entries and sections with errors, so that the checks of the rest can still run.
ENTRY_PLACEHOLDER = {"sources": {"path": "x"}, "domains": {"path": "x"}}
SECTION_PLACEHOLDER: dict[str, Any] = {
    "name": "spec",
    "genome": {"x": {"type": "float", "low": 0, "high": 1}},
    "objectives": {"x": "minimize"},
    "budget": {"evaluations": 1, "tokens": 1},
}


def load(
    spec: str | Path, overrides: Sequence[str] = (), *, existing: bool = False
) -> SearchConfig:
    """Read, check and resolve a spec; relative paths are taken from its folder.

    `overrides` are `key=value` texts, as if the file said so; with `existing`, files and folders
    that the spec names must exist. Raises ConfigError with all problems, each with its line.
    """
    path = resolve_spec(spec)
    file = with_flat_keys(read(path), overrides)
    if errors := impossible_texts(file.data):
        raise file.error(errors)
    file.data, errors = without_removed(file.data)
    errors += file.problems
    try:
        config = SearchConfig.model_validate(file.data)
    except ValidationError as error:
        errors += problems(error, file.data, SearchConfig.model_json_schema())
    sound = set(SearchConfig.model_fields)
    if errors:
        data, sound = _with_placeholders(file.data, errors)
        config = SearchConfig.model_validate(data)
    folder = path.resolve().parent
    config = with_reward_models(with_gpus(with_population(config)), folder)
    config = with_task_folders(config, folder)
    errors += check(config, sound, folder)
    if existing and "evaluator" in sound:
        errors += missing_paths(file.data, config, folder)
    if errors:
        raise file.error(errors)
    return resolved(config, folder)


def _with_placeholders(
    data: Mapping[str, Any], errors: Sequence[Problem]
) -> tuple[dict[str, Any], set[str]]:
    """The spec with placeholders for what has errors, and the names of the sound sections."""
    mended = dict(data)
    misspelt = [problem for problem in errors if problem.meant]
    broken = {str(each.meant[0]) for each in misspelt if each.meant[0] != each.key[0]}
    for section, *rest in (problem.key for problem in errors if problem.key):
        entries = mended.get(str(section)) if section in ENTRY_PLACEHOLDER else None
        name = str(rest[0]) if rest else ""
        if isinstance(entries, dict) and re.fullmatch(NAME_PATTERN, name):
            mended[str(section)] = {**entries, name: ENTRY_PLACEHOLDER[str(section)]}
        else:
            broken.add(str(section))
    kept = {name: value for name, value in mended.items() if name not in broken}
    stand_ins = {name: SECTION_PLACEHOLDER[name] for name in broken & SECTION_PLACEHOLDER.keys()}
    return {**kept, **stand_ins}, set(SearchConfig.model_fields) - broken


def to_plain(config: SearchConfig) -> dict[str, Any]:
    """The complete config as JSON values in the order of the spec; inverse of `from_plain`."""
    return config.model_dump(mode="json")


def from_plain(plain: Mapping[str, Any]) -> SearchConfig:
    """Validate a recorded config; no path is resolved, read or imported. Raises ConfigError."""
    recorded = SpecFile("", origin={(): "the recorded spec"})
    if errors := impossible_texts(plain):
        raise recorded.error(errors)
    plain, _ = without_removed(plain)  # `load` refuses to resume with other values than now
    try:
        return SearchConfig.model_validate(plain)
    except ValidationError as error:
        raise recorded.error(problems(error, plain, SearchConfig.model_json_schema())) from None


def of(facts: Sequence[Mapping[str, Any]]) -> SearchConfig:
    """The config of a run, from its ledger, to resume or repeat it."""
    return from_plain(recorded_in(facts))


def recorded_in(facts: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The resolved spec in a ledger; a resume may have changed resources or the budget."""
    plain: Mapping[str, Any] = next(f["config"] for f in reversed(facts) if f.get("config"))
    return plain


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Differences of two plain configs, a line each: `search.population: 10 -> 24`; order counts.

    The order of sources, genes and objectives decides coordinates, random draws and `best`; that
    of a recipe's fields decides nothing.
    """
    return list(_differences("", old, new))


def _differences(key: str, old: Any, new: Any) -> Iterator[str]:
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        if old != new or type(old) is not type(new):
            yield f"{key}: {_as_json(old)} -> {_as_json(new)}"
        return
    if key != "recipe" and old.keys() == new.keys() and list(old) != list(new):
        yield f"{key or 'sections'}: order {', '.join(old)} -> {', '.join(new)}"
    for name in [*old, *(name for name in new if name not in old)]:
        inner = f"{key}.{name}" if key else name
        if name not in new:
            yield f"{inner}: {_as_json(old[name])} -> (left out)"
        elif name not in old:
            yield f"{inner}: (left out) -> {_as_json(new[name])}"
        else:
            yield from _differences(inner, old[name], new[name])


def _as_json(value: Any) -> str:
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
    # Escape everything if the text has U+0085 or the like: the library cannot read its own output.
    yaml.allow_unicode = json.dumps(plain, ensure_ascii=False).isprintable()
    text = io.StringIO()
    yaml.dump(dict(plain), text)
    return text.getvalue()
