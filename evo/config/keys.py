"""Other spellings of keys in a spec: groups such as `lora: {rank: 8}`, keys of earlier versions.

Inside evomix a field of the recipe has one flat name, `lora_rank`, which the ledger records.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evo.config.file import Key, Problem, SpecFile
from fitness.evaluators import BUILTIN
from fitness.filters import FILTERS
from fitness.recipe import KEEP

GROUPS = {
    "lora": "lora_",
    "preference": "preference_",
    "reinforce": "reinforce_",
    "merge": "merge_",
    "thresholds": KEEP,
}

BANDS = tuple(name for name, one in FILTERS.items() if one.keeps == "band")  # of low and high

# Keys that were removed, each with the value that it always has now.
REMOVED: Mapping[Key, object] = {
    ("recipe", "keep_text_perplexity_low"): 0.0,
    ("recipe", "keep_text_perplexity_high"): 1.0,
    ("recipe", "preference_margin"): 1.0,
    ("recipe", "reinforce_clip"): 10.0,
    ("search", "islands"): 1,
    ("rounds", "general"): False,  # the losses of other domains as objectives, which are named now
}


def with_flat_keys(file: SpecFile, overrides: Sequence[str]) -> SpecFile:
    """Flatten the groups of a spec and apply overrides; groups are part of builtin recipes alone.

    The recipe of a function or a command may have anything under any name.
    """
    evaluator = file.data.get("evaluator", BUILTIN)
    if evaluator != BUILTIN and not (isinstance(evaluator, Mapping) and "trl" in evaluator):
        for text in overrides:
            file.override(text, tuple)
        return file
    file.problems += _flatten(file)
    for text in overrides:
        file.override(text, flat)
        _flatten(file)
    return file


def flat(path: tuple[str, ...]) -> tuple[str, ...]:
    """The flat form of a key's path: (recipe, lora, rank) is (recipe, lora_rank)."""
    head = 2 if path[:1] == ("known",) else 1
    section, inner = path[:head], path[head:]
    if section[:1] not in (("recipe",), ("genome",), ("known",)) or len(inner) < 2:
        return path
    group, name, *rest = inner
    if group not in GROUPS:
        return path
    if group == "thresholds" and name in BANDS and rest[:1] in (["low"], ["high"]):
        name, rest = f"{name}_{rest[0]}", rest[1:]
    return (*section, f"{GROUPS[group]}{name}", *rest)


def with_groups(schema: dict[str, Any]) -> None:
    """Add groups of genes, which are flattened before validation, to the genome's JSON Schema."""
    ((pattern, gene),) = schema["patternProperties"].items()
    others = f"^(?!(?:{'|'.join(GROUPS)})$){pattern.removeprefix('^')}"
    ends = {"type": "object", "properties": {"low": gene, "high": gene}, "minProperties": 1}
    bands = {name: {"anyOf": [gene, {**ends, "additionalProperties": False}]} for name in BANDS}
    schema["patternProperties"] = {others: gene}
    schema["properties"] = {
        group: {
            "description": f"Genes of the fields that begin with {prefix}, without it.",
            "anyOf": [
                {
                    "type": "object",
                    "properties": bands if group == "thresholds" else {},
                    "additionalProperties": gene,
                },
                gene,  # of an evaluator of one's own, whose recipe has no groups
            ],
        }
        for group, prefix in GROUPS.items()
    }


def _flatten(file: SpecFile) -> list[Problem]:
    """Put flat names in place of groups; a problem for each field that is there in both forms."""
    problems = []
    parts: list[tuple[Any, Any, Key]] = [
        (file.data, name, (name,)) for name in ("recipe", "genome")
    ]
    known = file.data.get("known")
    if isinstance(known, list):
        parts += [(known, place, ("known", place)) for place in range(len(known))]
    for container, name, section in parts:
        fields = container[name] if isinstance(container, list) else container.get(name)
        if not isinstance(fields, Mapping) or not fields.keys() & GROUPS.keys():
            continue
        container[name] = found = {}
        for path, value in _leaves(fields):
            *_, field = flat((*map(str, section), *path))
            if field in found:
                message = f"given twice, here and as {field}; keep one of them"
                problems.append(Problem((*section, field), message))
            if path != (field,):
                _renamed(file, (*section, *path), (*section, field))
                file.written[(*section, field)] = (*section, *path)
            found[field] = value
    return problems


def _renamed(file: SpecFile, old: Key, new: Key) -> None:
    """Give a key and all inside of it the origin that they, or their group, had by the old name."""
    moved = {key: place for key, place in file.origin.items() if key[: len(old)] == old}
    nearest = next(key for n in range(len(old), -1, -1) if (key := old[:n]) in file.origin)
    file.origin = {k: place for k, place in file.origin.items() if k[: len(new)] != new}
    file.origin[new] = file.origin[nearest]
    file.origin |= {(*new, *key[len(old) :]): place for key, place in moved.items()}


def _leaves(fields: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], object]]:
    """Paths and values of a section's fields; a field is not split, a band of a threshold is."""
    for group, value in fields.items():
        if group not in GROUPS or not isinstance(value, Mapping):
            yield (group,), value
            continue
        for name, inner in value.items():
            ends = inner if isinstance(inner, Mapping) and "type" not in inner else {}
            if group == "thresholds" and name in BANDS and ends.keys() <= {"low", "high"} and ends:
                yield from (((group, name, end), part) for end, part in ends.items())
            else:
                yield (group, name), inner


def without_removed(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """A spec without removed keys, and a problem for each that had another value than now."""
    spec, problems = dict(data), []
    for key, value in REMOVED.items():
        section, name = str(key[0]), key[1]
        fields = spec.get(section)
        if not isinstance(fields, Mapping) or name not in fields:
            continue
        spec[section] = {other: one for other, one in fields.items() if other != name}
        named = len(spec.get("objectives") or ()) > 1  # so `general` had nothing to add, or has
        if fields[name] != value and not (name == "general" and named):
            problems.append(Problem(key, f"is no longer a key, it is always {value}; leave it out"))
    return spec, problems
