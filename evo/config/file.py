"""Reading a spec: YAML 1.2 with the line of each key, `--set` overrides, a screenful of errors."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from evo.config.synonyms import synonym_of
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
    """All errors of a spec, a line each: `file:line: key: what is wrong; remedy`."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error in the value at a key; an empty key is the spec as a whole."""

    key: Key
    message: str
    meant: Key = ()  # the key that a misspelt one most likely means


@dataclass
class SpecFile:
    """A spec as read: plain data, the origin of each key, and the problems so far.

    `origin` holds a line number (from 1) or the text of the override that set the key, `written`
    how the user wrote a key that has another name in `data`, such as one in a group.
    """

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    origin: dict[Key, int | str] = field(default_factory=lambda: {(): 1})
    problems: list[Problem] = field(default_factory=list)
    written: dict[Key, Key] = field(default_factory=dict)
    _overrides: list[tuple[Key, str]] = field(default_factory=list, repr=False)  # few, of `origin`

    def error(self, problems: Iterable[Problem]) -> ConfigError:
        """A ConfigError with a line for each of at most 20 problems, by line, overrides last."""
        self._overrides = [(k, o) for k, o in self.origin.items() if isinstance(o, str)]
        lines = sorted({self._located(problem) for problem in problems})
        shown = [text for _, text in lines[:MOST_ERRORS]]
        if len(lines) > MOST_ERRORS:
            shown.append(f"... and {len(lines) - MOST_ERRORS} more")
        return ConfigError("\n".join(shown))

    def _located(self, problem: Problem) -> tuple[float, str]:
        origin = self._origin(problem.key)
        subject = f"{dotted(self._as_written(problem.key))}: " if problem.key else ""
        text = f"{subject}{problem.message}{self._hint(problem)}"
        if isinstance(origin, str):
            return float("inf"), f"{origin}: {text}"
        return origin, f"{self.name}:{origin}: {text}"

    def _as_written(self, key: Key) -> Key:
        """A key as the user wrote it, with the group that it or its container is in."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.written:
                return (*self.written[key[:length]], *key[length:])
        return key

    def _hint(self, problem: Problem) -> str:
        """The key that a misspelt one means: its name alone if it belongs in the same place."""
        if not problem.meant:
            return ""
        shown = dotted(problem.meant)
        if problem.meant[:-1] == problem.key[:-1]:
            group = str(problem.key[-1]).removesuffix(str(self._as_written(problem.key)[-1]))
            name = str(problem.meant[-1])
            if name.startswith(group):  # "" for a key that is in no group
                shown = name.removeprefix(group)
        return f"; did you mean {shown}?"

    def _origin(self, key: Key) -> int | str:
        """Line or override that set a key or its container; an override of a part goes first."""
        overrides = [o for k, o in self._overrides if key and k[: len(key)] == key]
        if overrides:
            return overrides[-1]
        while key not in self.origin:
            key = key[:-1]
        return self.origin[key]

    def override(self, text: str, flat: Callable[[tuple[str, ...]], tuple[str, ...]]) -> None:
        """Apply an override such as `search.population=24`; the value is YAML.

        `flat` turns the path of a key in a group into that of its flat name.
        """
        origin = f"--set {text}"
        path, equals, value = text.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f"{origin}: write it as key=value, e.g. search.population=24")
        parsed = _parse(value, origin)
        if parsed.problems:
            raise ConfigError("\n".join(f"{origin}: {p.message}" for p in parsed.problems))
        written = tuple(path.strip().split("."))
        container, key = self._descend(list(flat(written)), origin)
        self.written = {k: v for k, v in self.written.items() if k[: len(key)] != key}
        if flat(written) != written:
            self.written[key] = written
        if container is None:
            return
        container[key[-1]] = parsed.data
        self.origin = {k: v for k, v in self.origin.items() if k[: len(key)] != key}
        self.origin[key] = origin
        self.drop_empty()

    def drop_empty(self) -> None:
        """Drop sections whose entries are all commented out: they are as good as left out."""
        self.data = {section: value for section, value in self.data.items() if value is not None}

    def _descend(self, parts: list[str], origin: str) -> tuple[Any, Key]:
        """The container of the last part, and the whole key; None if there is no such key."""
        container: Any = self.data
        key: Key = ()
        while True:
            step, parts = _step(container, parts)
            if isinstance(container, list) and step not in range(len(container)):
                return self._no_such_key(
                    key, f"has {len(container)} entries, counted from 0", origin
                )
            if not isinstance(container, dict | list):
                return self._no_such_key(key, f"is a single value, so it has no {step}", origin)
            key = (*key, step)
            if not parts:
                return container, key
            if isinstance(container, dict) and container.get(str(step)) is None:
                if len(key) > 1:
                    return self._no_such_key(
                        key, unknown(str(step), container, "there are"), origin
                    )
                container[str(step)] = {}
                self.origin[key] = origin
            container = container[step]

    def _no_such_key(self, key: Key, message: str, origin: str) -> tuple[None, Key]:
        self.origin[key] = origin
        self.problems.append(Problem(key, message))
        return None, key


@dataclass(frozen=True, slots=True)
class Kind:
    """Descriptions of a kind of file, for messages about one that is malformed."""

    what: str = "a spec is a mapping of sections (`model:`, `genome:` ...)"
    remedy: str = "`evo init DIR` writes one to start from"


SPEC = Kind()


def read(path: Path, kind: Kind = SPEC) -> SpecFile:
    """Read a file; ConfigError if it is not YAML, else errors in `problems`."""
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
    parsed = _parse(text, str(path))
    if parsed.data is None:
        raise ConfigError(f"{path}: the file is empty; {kind.remedy}")
    if not isinstance(parsed.data, dict):
        this = "a list" if isinstance(parsed.data, list) else "a single value"
        raise ConfigError(f"{path}:1: {kind.what}, this is {this}; {kind.remedy}")
    spec = SpecFile(str(path), parsed.data, parsed.origin, parsed.problems)
    spec.drop_empty()
    return spec


def impossible_texts(data: Any, key: Key = ()) -> list[Problem]:
    """Problems for texts in plain data that no path, name or record can contain."""
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
class _Parsed:
    """Plain data of a piece of YAML, with the line of each key, and its problems."""

    data: Any = None
    origin: dict[Key, int | str] = field(default_factory=lambda: {(): 1})
    problems: list[Problem] = field(default_factory=list)


def _parse(text: str, name: str) -> _Parsed:
    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(text)
    except MarkedYAMLError as error:
        ended = error.problem == "found unexpected end of stream"
        mark = (error.context_mark if ended else None) or error.problem_mark
        line = mark.line + 1 if mark else 1
        plain = PLAIN_WORDS.get(str(error.problem), str(error.problem))
        if "alias" in f"{error.context} {error.problem}":
            plain = "a word that begins with `*` refers to another place; put a glob in quotes"
        context = f" {error.context}" if error.context and plain == error.problem else ""
        at = name if name.startswith("--set") else f"{name}:{line}"
        raise ConfigError(f"{at}: not valid YAML{context}: {plain}") from None
    except YAMLError as error:
        why = str(error).splitlines()[0]
        raise ConfigError(f"{name}: not valid YAML: {why}") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested far too deeply for a spec") from None
    parsed = _Parsed()
    if node is not None:
        parsed.data = _plain(node, (), yaml, parsed, ())
    return parsed


def _plain(node: Node, key: Key, yaml: YAML, parsed: _Parsed, above: tuple[Node, ...]) -> Any:
    """The plain value of a node; its lines and problems are added to `parsed`."""
    if any(node is ancestor for ancestor in above) or len(parsed.origin) > MOST_VALUES:
        message = "refers to itself through an alias, or holds far too much"
        parsed.problems.append(Problem(key[:1], message))
        return None
    above = (*above, node)
    if isinstance(node, SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            parsed.origin[(*key, index)] = item.start_mark.line + 1
            items.append(_plain(item, (*key, index), yaml, parsed, above))
        return items
    if isinstance(node, MappingNode):
        mapping: dict[str, Any] = {}
        for name, value in node.value:
            line = name.start_mark.line + 1
            if not isinstance(name, ScalarNode):
                parsed.problems.append(Problem(key, "a key must be a word"))
                continue
            inner = (*key, name.value)
            if name.value in mapping:
                message = f"given twice, first in line {parsed.origin[inner]}; keep one of them"
                parsed.problems.append(Problem(inner, message))
            parsed.origin[inner] = line
            mapping[name.value] = _plain(value, inner, yaml, parsed, above)
        return mapping
    kind = str(node.tag).removeprefix("tag:yaml.org,2002:")
    if kind in NUMBERS:
        try:
            return yaml.constructor.construct_object(node)
        except ValueError:  # thousands of digits
            parsed.problems.append(Problem(key, "a number too long to read"))
            return None
    if kind not in ("str", "timestamp", "value", "merge"):
        tag = kind if kind.startswith("!") else f"!!{kind}"
        parsed.problems.append(Problem(key, f"the tag {tag} is not supported; remove it"))
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
    """The known name that a misspelt or synonymous `name` most likely means, or None."""
    names = [str(candidate) for candidate in known]
    if (synonym := synonym_of(name, names)) is not None:
        return synonym
    folded = {candidate.casefold(): candidate for candidate in reversed(names)}
    for candidate in folded:
        if sorted(candidate) == sorted(name.casefold()):  # letters swapped
            return folded[candidate]
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def unknown_key(key: Key, known: Iterable[object], there_are: str, what: str = "key") -> Problem:
    """Problem of a key that is not among the known keys of its mapping."""
    names = [str(candidate) for candidate in known]
    close = nearest(str(key[-1]), names)
    if close is None:
        return Problem(key, unknown(str(key[-1]), names, there_are, what))
    return Problem(key, f"unknown {what}", (*key[:-1], close))


def unknown(name: str, known: Iterable[object], there_are: str, what: str = "key") -> str:
    """Message such as `unknown key; did you mean population?`, or with the list of known names."""
    names = [str(candidate) for candidate in known]
    close = nearest(name, names)
    if close is not None:
        return f"unknown {what}; did you mean {close}?"
    return f"unknown {what}; {there_are} {', '.join(names) or 'none'}"
