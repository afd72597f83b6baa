"""Cache of models' answers, each a fact, so that a resumed run repeats no request."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fitness.errors import InputError
from fitness.facts import Closing, Fact, FactFile, lock, read_facts

REMEDY = "cut this line out, and it is asked again"


class Asked(Closing):
    """A file of answers by the digest of their requests, locked for writing."""

    def __init__(self, folder: Path, name: str) -> None:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is a file; name a folder")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.jsonl"
        self._lock = lock(folder, name)
        try:
            facts, whole = read_facts(path, REMEDY) if path.exists() else ([], 0)
            self._said: dict[str, Any] = {}
            for number, fact in enumerate(facts, 1):
                if not {"key", "said"} <= fact.keys():
                    raise InputError(f"{path}:{number}: lacks `key` or `said`; {REMEDY}")
                self._said[fact["key"]] = fact["said"]
            self._file = FactFile(path, whole)
        except BaseException:
            self._lock.release()
            raise

    def once(self, kind: str, asked: Fact, ask: Callable[[int], Any]) -> Any:
        """The stored answer, a JSON value, or else that of `ask`, stored before it returns.

        `asked` is all that the answer depends on; `ask` gets a seed that follows from it.
        """
        digest = _digest(kind, asked)
        key = digest.hex()
        if key not in self._said:
            said = ask(int.from_bytes(digest) % 2**31)
            self._file.append({"fact": kind, "key": key, "said": said, **asked})
            self._said[key] = said
        return self._said[key]

    def close(self) -> None:
        self._file.close()
        self._lock.release()


def _digest(kind: str, asked: Fact) -> bytes:
    content = json.dumps([kind, asked], sort_keys=True).encode()
    return hashlib.blake2b(content, digest_size=8, person=b"evomix asked").digest()
