"""What a model wrote: samples with their provenance and scores, as JSONL; many make a pool."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from numbers import Real
from pathlib import Path
from typing import Any, Literal

from fitness.data.formats import json_records, text_in
from fitness.errors import InputError
from fitness.suggest import shortened

Way = Literal["forward", "infill"]
Begun = Literal["prompt", "document", "nothing"]

CONTAMINATION = "contamination"  # a score that no threshold reads: what has it is left out


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
    ended: bool = False  # by the model itself, not cut at its longest length
    end: str = ""  # the token by which it ended, where that was not the tokenizer's EOS
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
    for line, record in json_records(path):
        yield sample_in(record, f"{path}:{line}")


def sample_in(record: Mapping[str, Any], where: str) -> Sample:
    """A record as a sample; InputError, beginning with `where`, for what is none."""
    absent = {"prompt", "completion", "individual", "seed"} - record.keys()
    if absent:
        raise InputError(f"{where}: is no sample of a pool: it lacks {', '.join(sorted(absent))}")
    texts: dict[str, Any] = {
        name: text_in(record, name, where)
        for name in ("prompt", "completion", "suffix")
        if record.get(name) is not None
    }
    known = {one.name for one in fields(Sample)} - texts.keys() - {"scores"}
    values: dict[str, Any] = {name: record[name] for name in known & record.keys()}
    return Sample(**values, **texts, scores=_scores(record.get("scores") or {}, where))


def _scores(given: Any, where: str) -> dict[str, float]:
    """Scores by name; one that could not be told, null, is left out."""
    if not isinstance(given, Mapping):
        raise InputError(
            f"{where}: 'scores' must look like {{\"realness\": 0.7}}, got {given!r:.40}"
        )
    told = {str(name): value for name, value in given.items() if value is not None}
    for name, value in told.items():
        if not is_score(value):
            raise InputError(
                f"{where}: score {shortened(name)} is {shortened(value, 40)}; it must be a "
                "finite number, or left out"
            )
    return {name: float(value) for name, value in told.items()}


def is_score(value: Any) -> bool:
    """Whether it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    return math.isfinite(value)
