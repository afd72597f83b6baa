"""Messages for pydantic's validation errors, in plain words, at the keys of the spec."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from evo.config.file import Key, Problem, nearest, unknown, unknown_key

MISSING = ("missing", "missing_argument")
EXTRA = ("extra_forbidden", "unexpected_keyword_argument")
WRONG_KIND = {
    "bool": "true or false",
    "dataclass": "a mapping (key: value)",
    "dict": "a mapping (key: value)",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "mapping": "a mapping (key: value)",
    "model": "a mapping (key: value)",
    "string": "text",
    "tuple": "a list",
}
RULES: dict[str, Callable[[Mapping[str, object]], str]] = {
    "finite_number": lambda _: "must be a finite number",
    "greater_than": lambda limit: f"must be above {limit['gt']:g}",
    "greater_than_equal": lambda limit: f"must be at least {limit['ge']:g}",
    "less_than": lambda limit: f"must be below {limit['lt']:g}",
    "less_than_equal": lambda limit: f"must be at most {limit['le']:g}",
    "multiple_of": lambda limit: f"must be a multiple of {limit['multiple_of']:g}",
    "string_pattern_mismatch": lambda _: (
        "must be at most 100 letters, digits, `_`, `-` and `.`, and begin with a letter or digit"
    ),
    "string_too_long": lambda limit: f"must have at most {limit['max_length']} characters",
}


def show(value: object) -> str:
    """A value as the user would write it, cut to 60 characters."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def problems(
    error: ValidationError, data: object, schema: Mapping[str, Any], at: Key = ()
) -> list[Problem]:
    """Problems for a validation error of `data`, which is at the key `at` of the spec.

    `schema` is the JSON Schema of `data`, for suggestions and descriptions of missing keys. A key
    that is missing because it is misspelt is one problem, that of the misspelt key.
    """
    located = [(_key(item["loc"], item["type"], data), item) for item in error.errors()]
    above = {key[:length] for key, _ in located for length in range(len(key))}
    by_key: dict[Key, list[Problem]] = {}
    for key, item in located:
        wrong_kind = _wrong_kind(item["type"]) is not None
        if (wrong_kind or item["type"] == "too_short") and key in above:
            continue  # from another branch of a union, or of a list once wrong items are dropped
        problem = _problem(key, item, data, schema)
        same_key = by_key.setdefault(problem.key, [])
        if problem not in same_key:
            same_key.append(problem)
    misspelt = {each.meant for same_key in by_key.values() for each in same_key if each.meant}
    missing = {key for key, item in located if item["type"] in MISSING}
    return [
        Problem((*at, *key), _joined(same_key), same_key[0].meant and (*at, *same_key[0].meant))
        for key, same_key in by_key.items()
        if not (key in missing and any(meant[: len(key)] == key for meant in misspelt))
    ]


def _key(location: Sequence[str | int], kind: str, data: Any) -> Key:
    """A pydantic location without the names of union branches, which are not keys of the data."""
    key: list[str | int] = []
    for index, part in enumerate(location):
        last = index == len(location) - 1
        keys = range(len(data)) if isinstance(data, list) else data
        if isinstance(keys, range | Mapping) and part in keys:
            data = data[part]
        elif not (last and kind in MISSING):
            continue
        key.append(part)
    return tuple(key)


def _problem(key: Key, item: Mapping[str, Any], data: object, schema: Mapping[str, Any]) -> Problem:
    if item["type"] in EXTRA:
        return _unknown_key(key, data, schema)
    return Problem(*_message(key, item, data, schema))


def _message(
    key: Key, item: Mapping[str, Any], data: object, schema: Mapping[str, Any]
) -> tuple[Key, str]:
    kind, context, value = item["type"], item.get("ctx", {}), item["input"]
    if kind in MISSING:
        meaning = _description(key, data, schema)
        return key, f"missing; {meaning}" if meaning else "missing; this key is needed"
    if kind == "value_error":
        return key, str(context["error"]).removeprefix(f"{key[-1] if key else ''}: ")
    if kind == "union_tag_not_found":
        return key, "type is missing; it is one of float, int, choice, simplex"
    if kind == "union_tag_invalid":
        types = [tag.strip(" '") for tag in str(context["expected_tags"]).split(",")]
        tag = str(context["tag"])
        return (*key, "type"), unknown(tag, types, "it is one of", f"type {tag!r}")
    if kind in ("literal_error", "enum"):
        options = [option.strip(" '") for option in _listed(str(context["expected"]))]
        close = nearest(str(value), options)
        hint = f"; did you mean {close}?" if close else ""
        listed = " or ".join(filter(None, [", ".join(options[:-1]), options[-1]]))
        return key, f"must be {listed}, got {show(value)}{hint}"
    needed = _wrong_kind(kind)
    if needed is not None:
        quotes = "; put it in quotes" if needed == "text" and isinstance(value, int | float) else ""
        return key, f"needs {needed}, got {show(value)}{quotes}"
    if kind in ("too_short", "string_too_short"):
        return key, "must not be empty"
    if item["loc"] and item["loc"][-1] == "[key]":
        return key, f"the name {RULES[kind](context)}" if kind in RULES else item["msg"]
    if kind in RULES:
        return key, f"{RULES[kind](context)}, got {show(value)}"
    return key, f"{item['msg'][:1].lower()}{item['msg'][1:]}, got {show(value)}"


def _wrong_kind(kind: str) -> str | None:
    if kind == "int_from_float":
        return WRONG_KIND["int"]
    name, _, ending = kind.rpartition("_")
    return WRONG_KIND.get(name) if ending in ("type", "parsing") else None


def _joined(same_key: Sequence[Problem]) -> str:
    """One sentence for the errors of several branches of a union at one key."""
    messages = [problem.message for problem in same_key]
    needs = [message for message in messages if message.startswith("needs ")]
    if len(messages) == 1 or len(needs) != len(messages):
        return "; ".join(messages)
    kinds = [message.removeprefix("needs ").split(", got ")[0] for message in needs]
    return f"needs {' or '.join(kinds)}, got {needs[0].split(', got ', 1)[1]}"


def _listed(expected: str) -> list[str]:
    """Items of an enumeration in words, `'a', 'b' or 'c'`; each keeps its quotes."""
    return expected.replace(" or ", ", ").split(", ")


def _unknown_key(key: Key, data: object, schema: Mapping[str, Any]) -> Problem:
    name = str(key[-1])
    for section in ((), *((section,) for section in _properties((), data, schema))):
        if name in _properties(section, data, schema):
            return Problem(key, "unknown key here", (*section, name))
    return unknown_key(key, _properties(key[:-1], data, schema), "the keys here are")


def _description(key: Key, data: object, schema: Mapping[str, Any]) -> str:
    node = _properties(key[:-1], data, schema).get(str(key[-1]), {})
    meanings = [each.get("description") for each in (node, *_branches(node, None, schema))]
    meaning = next(filter(None, meanings), "")
    return str(meaning)[:1].lower() + str(meaning)[1:].rstrip(".")


def _properties(key: Key, data: object, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Schemas of the keys that may be in the mapping at `key`, by name."""
    nodes = list(_branches(schema, data, schema))
    for part in key:
        data = _inside(data, part)
        inner = [child for node in nodes for child in _children(node, str(part))]
        nodes = [branch for child in inner for branch in _branches(child, data, schema)]
    merged: dict[str, Any] = {}
    for node in nodes:
        merged.update(node.get("properties", {}))
    return merged


def _inside(data: object, part: str | int) -> object:
    """The value in a mapping or a list; None if there is none."""
    if isinstance(data, list) and isinstance(part, int):
        return data[part]
    return data.get(part) if isinstance(data, Mapping) else None


def _children(node: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    if name in node.get("properties", {}):
        yield node["properties"][name]
    else:
        yield from node.get("patternProperties", {}).values()
        for every in ("additionalProperties", "items"):
            if isinstance(node.get(every), Mapping):
                yield node[every]


def _branches(
    node: Mapping[str, Any], data: object, schema: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """Object schemas of a node, a branch of a union each; if `type` is given, only its branch."""
    if "$ref" in node:
        yield from _branches(schema["$defs"][node["$ref"].rpartition("/")[2]], data, schema)
        return
    options = [*node.get("anyOf", ()), *node.get("oneOf", ())]
    decided = node.get("discriminator", {}).get("mapping", {})
    if isinstance(data, Mapping) and data.get("type") in decided:
        options = [{"$ref": decided[data["type"]]}]
    if not options:
        yield node
    for option in options:
        yield from _branches(option, data, schema)
