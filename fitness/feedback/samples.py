"""What a model wrote: samples with their provenance and scores, as JSONL; many make a pool."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from fitness.errors import InputError
from fitness.formats import json_records

Way = Literal["forward", "infill"]
Begun = Literal["prompt", "document", "nothing"]


@dataclass(frozen=True, slots=True)
class Sample:
    """What an individual wrote after `prompt`; by infilling, what it wrote before `suffix` as well.

    Scores are by filter, each in its natural unit.
    """

    prompt: str
    completion: str
    individual: int
    seed: int
    round: int = 1
    way: Way = "forward"
    begun: Begun = "prompt"  # what stood at the beginning: a given prompt, a real text, nothing
    suffix: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Of its content, so that the same text after the same prompt is one sample."""
        content = json.dumps([self.prompt, self.completion, self.suffix]).encode()
        return hashlib.blake2b(content, digest_size=8, person=b"evomix sample").hexdigest()

    @property
    def text(self) -> str:
        """All of it, as one would read it."""
        return self.prompt + self.completion + self.suffix


def to_lines(samples: Iterable[Sample]) -> Iterator[str]:
    """A line of JSON each."""
    for sample in samples:
        record = {"id": sample.id, **asdict(sample)}
        yield json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def read_samples(path: Path) -> Iterator[Sample]:
    """The samples of a pool's file; InputError with file and line for what is none."""
    known = {one.name for one in fields(Sample)}
    for line, record in json_records(path):
        values: dict[str, Any] = {name: record[name] for name in known & record.keys()}
        absent = {"prompt", "completion", "individual", "seed"} - record.keys()
        if absent:
            raise InputError(
                f"{path}:{line}: is no sample of a pool: it lacks {', '.join(sorted(absent))}"
            )
        yield Sample(**values)
