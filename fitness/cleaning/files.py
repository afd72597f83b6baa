"""Cleaned sources as files in the cache: written once, found again by all that decides them."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fitness.cleaning.cleaner import Cleaner, mapped
from fitness.cleaning.settings import Cleaning
from fitness.data import hub
from fitness.data.documents import Source, documents, files, is_on_hub, records, strings_of
from fitness.data.formats import json_records
from fitness.errors import Faults, InputError
from fitness.files import appearing, file_digest, write_whole

FORMAT = 1  # of the cached files; part of their names
FOLDER = "cleaned"  # in the cache
Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A source after cleaning: where it is, and its documents before, and dropped by reason."""

    source: Source
    read: int
    dropped: Mapping[str, int]

    @property
    def kept(self) -> int:
        return self.read - sum(self.dropped.values())

    @property
    def reasons(self) -> str:
        """Documents dropped, by reason: `length 586, language 4`."""
        return ", ".join(f"{why} {count:,}" for why, count in self.dropped.items())


def cleaned(
    sources: Mapping[str, Source],
    settings: Cleaning,
    evaluated: Sequence[str],
    base: Path,
    cache: Path,
) -> dict[str, Cleaned]:
    """Clean sources, or find them cleaned in the cache; in the order of the mapping.

    `evaluated` are the held-out texts. Raises InputError for a faulty source, and for one of which
    nothing is left.
    """
    cleaner, found = Cleaner(settings, evaluated), {}
    before = hashlib.sha256(json.dumps(sorted(evaluated) if settings.held_out else []).encode())
    folder = cache / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in sources.items():
        try:
            key = _key(source, settings, base, before.hexdigest())
            if settings.duplicates is not None:  # what is kept depends on the sources before
                before.update(key.encode())
            file = folder / f"{key}.jsonl"
            counts = _counts(file)
            if counts is None:
                counts = _written(source, cleaner, base, file)
            else:
                _remembered(source, file, cleaner, settings)
        except InputError as error:
            raise InputError(f"sources.{name}: {error}".replace("\n", "\n  ")) from error
        update = {"path": str(file.absolute()), "format": "jsonl", "template": None, "limit": None}
        update |= {"text": "text"} if source.kind == "text" else {}
        found[name] = Cleaned(source.model_copy(update=update), counts["read"], counts["dropped"])
        if not found[name].kept:
            raise InputError(
                f"sources.{name}: cleaning drops all of its {counts['read']} documents "
                f"({found[name].reasons}); "
                "loosen `cleaning`, or leave this source out of it"
            )
    return found


def _key(source: Source, settings: Cleaning, base: Path, before: str) -> str:
    if is_on_hub(source):
        dataset = hub.parse(source.path, source.split)
        data: list[Any] = [str(dataset), hub.revision(dataset)]
    else:
        data = [[kind, file_digest(path)] for path, kind in files(source, base)]
    read = source.model_dump(include={"kind", "text", "template", "limit"})
    decides = [FORMAT, data, read, settings.model_dump(exclude={"sources"}), before]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def _counts(file: Path) -> dict[str, Any] | None:
    """Counts of a file in the cache; None if it is not there."""
    try:
        counts = json.loads(file.with_suffix(".json").read_bytes())
    except (OSError, ValueError):
        return None
    return dict(counts) if file.is_file() else None


def _written(source: Source, cleaner: Cleaner, base: Path, file: Path) -> dict[str, Any]:
    read, dropped, faults = 0, Counter[str](), Faults()
    with appearing(file) as partial, partial.open("x", encoding="utf-8") as output:
        try:
            for record in _records(source, base, faults):
                read += 1
                mended = mapped(record, cleaner.mended)
                if fault := cleaner.fault("\n".join(strings_of(mended, source))):
                    dropped[fault] += 1
                else:
                    output.write(json.dumps(mended, ensure_ascii=False) + "\n")
        finally:  # such as where nothing is left, because every record was at fault
            faults.check()
    counts = {"read": read, "dropped": dict(dropped.most_common())}
    write_whole(file.with_suffix(".json"), json.dumps(counts))
    return counts


def _records(source: Source, base: Path, faults: Faults) -> Iterator[Record]:
    if source.kind == "text":
        for text in documents(source, base, refuse=faults.add):
            yield {"text": text}
        return
    for _, record in records(source, base, refuse=faults.add):
        yield record


def _remembered(source: Source, file: Path, cleaner: Cleaner, settings: Cleaning) -> None:
    """Take what was kept of a source for known, so that later ones have no duplicates of it."""
    if settings.duplicates is not None:
        for _, record in json_records(file):
            cleaner.remember("\n".join(strings_of(record, source)))
