"""Trust in code: finds the code that a run or spec names, and decides whether it may run.

`evo launch` trusts the spec that the user names: it runs its code, and records that code in the
cache folder of this machine. A run folder may come from somebody else, so `resume`, `export` and
`generate` refuse code that was never launched on this machine, unless `--trust` is given. All
other commands on a run read its record and import nothing that it names.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from evo.record.facts import Facts
from fitness.errors import InputError
from fitness.feedback.judgements import JUDGE
from fitness.files import cache_folder, write_whole
from fitness.models import adapters, weights
from fitness.models.exported import CONFIG, REMOTE_CODE, TOKENIZER

FOLDER = "trusted"  # in the cache: a file for each piece of code that was launched here
SHOWN = 5  # in a message
KERNELS = ("attn_implementation", "experts_implementation")  # of the Hub, if there is a slash


class Code(NamedTuple):
    """Something that is imported or started: where it is named, and how."""

    where: str
    name: str


def code_in(spec: Mapping[str, Any]) -> list[Code]:
    """Code that the sections of a spec name; the spec need not be valid."""
    found = list(_of_evaluator(spec.get("evaluator")))
    for section in ("recipe", "genome", "known"):
        found += _functions(section, spec.get(section))
    prompts = spec.get("prompts")
    for name, one in prompts.items() if isinstance(prompts, Mapping) else ():
        if isinstance(one, Mapping):
            found += _functions(f"prompts.{name}.metrics", one.get("metrics"))
    benchmarks = spec.get("benchmarks")
    for name, one in benchmarks.items() if isinstance(benchmarks, Mapping) else ():
        if isinstance(one, Mapping) and one.get("include"):  # whose tasks may name functions
            found.append(Code(f"benchmarks.{name}.include", str(one["include"])))
    rounds = spec.get("rounds")
    if isinstance(rounds, Mapping):
        found += _functions("rounds.filters", rounds.get("filters"))
        annotator = _functions("rounds.annotator", rounds.get("annotator"))
        found += (one for one in annotator if not one.name.startswith(JUDGE))
    model, parts = spec.get("model"), spec.get("parts")
    if isinstance(model, Mapping):
        for where, base in _bases(model):
            found += code_of_model(where, base)
            found += _links_of(where, base)
    for name, part in parts.items() if isinstance(parts, Mapping) else ():
        found += code_of_model(f"parts.{name}", part)
    return list(dict.fromkeys(found))


def _bases(model: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Folders of the base model and of its proxies, each with where it is named."""
    yield "model.base", model.get("base")
    proxies = model.get("proxies")
    for index, one in enumerate(proxies if isinstance(proxies, list | tuple) else ()):
        if isinstance(one, Mapping):
            yield f"model.proxies.{index}.base", one.get("base")


def code_of_run(run: Path, facts: Facts, spec: Mapping[str, Any]) -> list[Code]:
    """Code that a run names: in its spec, its individuals, and its checkpoints."""
    found = code_in(spec)
    for fact in facts:
        if fact["fact"] in ("individual", "control"):
            found += _functions(f"individual {fact['id']}", fact["genome"])
    for kept in sorted((run / "artifacts").glob("*")):
        found += code_of_model(f"artifacts/{kept.name}", kept)
    return list(dict.fromkeys(found))


def code_of_model(where: str, folder: object) -> list[Code]:
    """Code that the files of a model or adapter folder name; none for a Hub id."""
    if not isinstance(folder, str | Path) or not folder or not Path(folder).is_dir():
        return []
    adapter = _settings(Path(folder) / weights.ADAPTER)
    unusual = adapters.unusual(adapter) if adapter else {}
    names = [f"{name}: {value}" for name, value in unusual.items()]
    for file in (CONFIG, TOKENIZER):
        names += _in_settings(_settings(Path(folder) / file))
    return [Code(where, name) for name in names]


def _links_of(where: str, folder: object) -> list[Code]:
    """Links among the files of a model folder that lead out of it, except in the Hub's cache.

    An export copies the files that links point to, which may be any file of this machine.
    """
    if not isinstance(folder, str) or not folder or not Path(folder).is_dir():
        return []
    own = Path(folder).resolve()
    room = own.parent.parent if own.parent.name == "snapshots" else own
    links = [path for path in sorted(own.iterdir()) if path.is_symlink()]
    out = [path for path in links if not path.resolve().is_relative_to(room)]
    return [Code(where, f"{path.name}, a link to {os.readlink(path)}") for path in out]


def check(run: Path, code: Iterable[Code], import_from: str, *, trust: bool) -> None:
    """Raise InputError for code that was not launched on this machine, unless trusted."""
    strange = [one for one in code if not _mark(one, import_from).is_file()]
    if trust or not strange:
        return
    named = [f"{one.where} names {one.name!r:.200}" for one in strange[:SHOWN]]
    more = f", and {len(strange) - SHOWN} more" if len(strange) > SHOWN else ""
    raise InputError(
        f"{run}: its code would run with your permissions, and was not launched on this machine: "
        f"{'; '.join(named)}{more}. Say --trust if you know who wrote the run and its modules"
    )


def remember(spec: Mapping[str, Any]) -> None:
    """Record the code that a spec names as launched by this user."""
    for one in code_in(spec):
        mark = _mark(one, str(spec["import_from"]))
        with suppress(OSError):  # if nothing can be recorded, a resume will need --trust
            mark.parent.mkdir(parents=True, exist_ok=True)
            write_whole(mark, f"{one.where}: {one.name}\n")


def _mark(code: Code, import_from: str) -> Path:
    """File that marks code as trusted; by its name and import folder, not its place in a spec."""
    identity = json.dumps([code.name, os.path.abspath(import_from)])
    return cache_folder() / FOLDER / hashlib.sha256(identity.encode()).hexdigest()


def _of_evaluator(evaluator: object) -> Iterator[Code]:
    if isinstance(evaluator, Mapping):
        if "command" in evaluator:
            yield Code("evaluator.command", json.dumps(evaluator["command"], default=str))
        evaluator = evaluator.get("python")
    yield from _functions("evaluator", evaluator)


def _functions(where: str, value: object) -> list[Code]:
    """Every text, however deep, that could be a `module:function`."""
    return [Code(where, text) for text in _texts(value) if ":" in text]


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(name)
            yield from _texts(inner)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from _texts(inner)


def _in_settings(settings: Mapping[str, Any]) -> Iterator[str]:
    for name, value in settings.items():
        kernel = name.lstrip("_") in KERNELS and any("/" in text for text in _texts(value))
        if kernel or (name == REMOTE_CODE and value):
            yield f"{name}: {json.dumps(value)}"
        elif isinstance(value, Mapping):
            yield from _in_settings(value)


def _settings(path: Path) -> Mapping[str, object]:
    """Read a JSON object; empty if it cannot be read, which is reported on loading the folder."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, Mapping) else {}
