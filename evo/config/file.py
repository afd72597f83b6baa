"""Reads a spec: YAML 1.2 with each key's line, `--set` overrides, one screen of errors."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from evo.config.synonyms import meant
from evo.places import impossible
from fitness.errors import UNREADABLE, InputError

Key = tuple[str | int, ...]

MOST_ERRORS = 20
MOST_VALUES = 20_000  # an alias of an alias of an alias grows without bound
NUMBERS = ("null", "bool", "int", "float")
PLAIN_WORDS = {
    "found character '\\t' that cannot start any token": "a tab; indent with spaces",
    "mapping values are not allowed here": "an unexpected `:`; check the indentation of this line "
    "and the one before, and put text that holds `: ` in quotes",
    "found unexpected end of stream": "a quote opens here and never closes",
    "but found another document": "a second document begins; remove the line `---`",
}


class ConfigError(InputError):
    """All that is wrong with a spec, one line each: `file:line: key: what is wrong; remedy`."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the value at a key; an empty key is the spec as a whole."""

    key: Key
    message: str


@dataclass
class SpecFile:
    """A spec as read: plain data, where each key came from, and what is wrong so far.

    `origin` holds a line number (from 1) or the text of the override that set the key.
    """

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    origin: dict[Key, int | str] = field(default_factory=lambda: {(): 1})
    problems: list[Problem] = field(default_factory=list)
    _overrides: list[tuple[Key, str]] = field(default_factory=list, repr=False)  # few, of `origin`

    def error(self, problems: Iterable[Problem]) -> ConfigError:
        """One line a problem, by line number, overrides last; at most a screenful."""
        self._overrides = [(k, o) for k, o in self.origin.items() if isinstance(o, str)]
        lines = sorted({self._located(problem) for problem in problems})
        shown = [text for _, text in lines[:MOST_ERRORS]]
        if len(lines) > MOST_ERRORS:
            shown.append(f"... and {len(lines) - MOST_ERRORS} more")
        return ConfigError("\n".join(shown))

    def _located(self, problem: Problem) -> tuple[float, str]:
        origin = self._origin(problem.key)
        subject = f"{dotted(problem.key)}: " if problem.key else ""
        if isinstance(origin, str):
            return float("inf"), f"{origin}: {subject}{problem.message}"
        return origin, f"{self.name}:{origin}: {subject}{problem.message}"

    def _origin(self, key: Key) -> int | str:
        """Where the key comes from, or what holds it; an override of a part of it comes first."""
        overrides = [o for k, o in self._overrides if key and k[: len(key)] == key]
        if overrides:
            return overrides[-1]
        while key not in self.origin:
            key = key[:-1]
        return self.origin[key]

    def override(self, text: str) -> None:
        """Apply `search.population=24`, as if the file said so; the value is YAML."""
        origin = f"--set {text}"
        path, equals, value = text.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f"{origin}: write it as key=value, e.g. search.population=24")
        found = _parse(value, origin)
        if found.problems:
            raise ConfigError("\n".join(f"{origin}: {p.message}" for p in found.problems))
        container, key = self._descend(path.strip().split("."), origin)
        if container is None:
            return
        container[key[-1]] = found.data
        self.origin = {k: v for k, v in self.origin.items() if k[: len(key)] != key}
        self.origin[key] = origin

    def _descend(self, parts: list[str], origin: str) -> tuple[Any, Key]:
        """The container that holds the last part, and the whole key; None after a problem."""
        container: Any = self.data
        key: Key = ()
        while True:
            step, parts = _step(container, parts)
            if isinstance(container, list) and step not in range(len(container)):
                return self._lost(key, f"has {len(container)} entries, counted from 0", origin)
            if not isinstance(container, dict | list):
                return self._lost(key, f"is a single value, so it has no {step}", origin)
            key = (*key, step)
            if not parts:
                return container, key
            if isinstance(container, dict) and container.get(str(step)) is None:
                if len(key) > 1:
                    return self._lost(key, unknown(str(step), container, "there are"), origin)
                container[str(step)] = {}
                self.origin[key] = origin
            container = container[step]

    def _lost(self, key: Key, message: str, origin: str) -> tuple[None, Key]:
        self.origin[key] = origin
        self.problems.append(Problem(key, message))
        return None, key


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is called and should look like, for messages about one that does not."""

    what: str = "a spec is a mapping of sections (`model:`, `genome:` ...)"
    remedy: str = "`evo init DIR` writes one to start from"


SPEC = Kind()


def read(path: Path, overrides: Sequence[str] = (), kind: Kind = SPEC) -> SpecFile:
    """Raises ConfigError for what cannot be read as YAML; the rest lands in `problems`."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; {UNREADABLE}") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}:{line}: not UTF-8 (byte 0x{raw[error.start]:02x} at offset {error.start}); "
            "save the file as UTF-8"
        ) from None
    found = _parse(text, str(path))
    if found.data is None:
        raise ConfigError(f"{path}: the file is empty; {kind.remedy}")
    if not isinstance(found.data, dict):
        this = "a list" if isinstance(found.data, list) else "a single value"
        raise ConfigError(f"{path}:1: {kind.what}, this is {this}; {kind.remedy}")
    spec = SpecFile(str(path), found.data, found.origin, found.problems)
    for override in overrides:
        spec.override(override)
    # A section whose entries are all commented out is as good as left out.
    spec.data = {section: value for section, value in spec.data.items() if value is not None}
    return spec


def impossible_texts(data: Any, key: Key = ()) -> list[Problem]:
    """Texts within plain data that no path, name or record can hold."""
    if isinstance(data, Mapping):
        named = [
            Problem(key, f"has the key {name!r:.60}, which {why}")
            for name in data
            if (why := impossible(str(name)))
        ]
        return named + [one for name in data for one in impossible_texts(data[name], (*key, name))]
    if isinstance(data, list):
        return [one for n, part in enumerate(data) for one in impossible_texts(part, (*key, n))]
    why = impossible(data) if isinstance(data, str) else ""
    return [Problem(key, f"{data!r:.60} {why}")] if why else []


@dataclass
class _Found:
    """What a piece of YAML holds."""

    data: Any = None
    origin: dict[Key, int | str] = field(default_factory=lambda: {(): 1})
    problems: list[Problem] = field(default_factory=list)


def _parse(text: str, name: str) -> _Found:
    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(text)
    except MarkedYAMLError as error:
        ended = error.problem == "found unexpected end of stream"
        mark = (error.context_mark if ended else None) or error.problem_mark
        line = mark.line + 1 if mark else 1
        plain = PLAIN_WORDS.get(str(error.problem), str(error.problem))
        context = f" {error.context}" if error.context and plain == error.problem else ""
        at = name if name.startswith("--set") else f"{name}:{line}"
        raise ConfigError(f"{at}: not valid YAML{context}: {plain}") from None
    except YAMLError as error:
        why = str(error).splitlines()[0]
        raise ConfigError(f"{name}: not valid YAML: {why}") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested far too deeply for a spec") from None
    found = _Found()
    if node is not None:
        found.data = _plain(node, (), yaml, found, ())
    return found


def _plain(node: Node, key: Key, yaml: YAML, found: _Found, above: tuple[Node, ...]) -> Any:
    """The plain value of a node; lines and problems go to `found`."""
    if any(node is ancestor for ancestor in above) or len(found.origin) > MOST_VALUES:
        message = "refers to itself through an alias, or holds far too much"
        found.problems.append(Problem(key[:1], message))
        return None
    above = (*above, node)
    if isinstance(node, SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            found.origin[(*key, index)] = item.start_mark.line + 1
            items.append(_plain(item, (*key, index), yaml, found, above))
        return items
    if isinstance(node, MappingNode):
        mapping: dict[str, Any] = {}
        for name, value in node.value:
            line = name.start_mark.line + 1
            if not isinstance(name, ScalarNode):
                found.problems.append(Problem(key, "a key must be a word"))
                continue
            inner = (*key, name.value)
            if name.value in mapping:
                message = f"given twice, first in line {found.origin[inner]}; keep one of them"
                found.problems.append(Problem(inner, message))
            found.origin[inner] = line
            mapping[name.value] = _plain(value, inner, yaml, found, above)
        return mapping
    kind = str(node.tag).removeprefix("tag:yaml.org,2002:")
    if kind in NUMBERS:
        try:
            return yaml.constructor.construct_object(node)
        except ValueError:  # thousands of digits
            found.problems.append(Problem(key, "a number too long to read"))
            return None
    if kind not in ("str", "timestamp", "value", "merge"):
        tag = kind if kind.startswith("!") else f"!!{kind}"
        found.problems.append(Problem(key, f"the tag {tag} is not supported; remove it"))
    return node.value


def _step(container: Any, parts: list[str]) -> tuple[str | int, list[str]]:
    """The next key and the parts after it; names may hold dots, so the longest known name wins."""
    if isinstance(container, list) and parts[0].isdecimal():
        return int(parts[0]), parts[1:]
    if isinstance(container, dict):
        for length in range(len(parts), 1, -1):
            name = ".".join(parts[:length])
            if name in container:
                return name, parts[length:]
    return parts[0], parts[1:]


def dotted(key: Key) -> str:
    """`("search", "population")` -> `search.population`."""
    return ".".join(str(part) for part in key)


def nearest(name: str, known: Iterable[object]) -> str | None:
    """The known name that `name` was probably meant to be."""
    names = [str(one) for one in known]
    if (synonym := meant(name, names)) is not None:
        return synonym
    folded = {one.casefold(): one for one in reversed(names)}
    for one in folded:
        if sorted(one) == sorted(name.casefold()):  # letters swapped
            return folded[one]
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def unknown(name: str, known: Iterable[object], there_are: str, what: str = "key") -> str:
    """`unknown key; did you mean population?`, or the list of what there is."""
    names = [str(one) for one in known]
    close = nearest(name, names)
    if close is not None:
        return f"unknown {what}; did you mean {close}?"
    return f"unknown {what}; {there_are} {', '.join(names) or 'none'}"
