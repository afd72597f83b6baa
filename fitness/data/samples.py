"""Generated samples with their provenance and scores, as JSONL; a file of them is a pool."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from numbers import Real
from pathlib import Path
from typing import Any, Literal

from fitness.checks.table import Reference
from fitness.data.formats import json_records, reference_in, text_in
from fitness.errors import InputError
from fitness.suggest import shortened

Way = Literal["forward", "infill"]
Begun = Literal["prompt", "document", "nothing"]


@dataclass(frozen=True, slots=True)
class Sample:
    """Text that an individual generated after `prompt` and, in infilling, before `suffix`.

    Scores are by filter, each in its natural unit.
    """

    prompt: str
    completion: str
    individual: int
    seed: int
    round: int = 1
    way: Way = "forward"
    begun: Begun = "prompt"  # what the text begins with: a given prompt, a real text, nothing
    suffix: str = ""
    ended: bool = False  # by an ending token of the model, not truncated at its longest length
    end: str = ""  # the ending token, where that was not the tokenizer's EOS
    reference: Reference = ""  # the answer that is wanted, where the prompt has one
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Hash of its content, so that the same text after the same prompt is the same sample."""
        content = json.dumps([self.prompt, self.completion, self.suffix]).encode()
        return hashlib.blake2b(content, digest_size=8, person=b"evomix sample").hexdigest()

    @property
    def text(self) -> str:
        """Prompt, completion and suffix together."""
        return self.prompt + self.completion + self.suffix


def to_lines(samples: Iterable[Sample]) -> Iterator[str]:
    """Stream each sample as a line of JSON."""
    for sample in samples:
        record = {"id": sample.id, **asdict(sample)}
        yield json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def read_samples(path: Path) -> Iterator[Sample]:
    """Stream the samples of a pool's file; InputError, with file and line, for an invalid one."""
    for line, record in json_records(path):
        yield sample_in(record, f"{path}:{line}")


def sample_in(record: Mapping[str, Any], where: str) -> Sample:
    """Read a record as a sample; InputError, beginning with `where`, for an invalid one."""
    missing = {"prompt", "completion", "individual", "seed"} - record.keys()
    if missing:
        raise InputError(
            f"{where}: is not a sample of a pool: missing {', '.join(sorted(missing))}"
        )
    texts: dict[str, Any] = {
        name: text_in(record, name, where)
        for name in ("prompt", "completion", "suffix")
        if record.get(name) is not None
    }
    others = {field_.name for field_ in fields(Sample)} - texts.keys() - {"scores"}
    values: dict[str, Any] = {name: record[name] for name in others & record.keys()}
    if values.get("reference") is not None:
        values["reference"] = reference_in(record, where)
    return Sample(**values, **texts, scores=_scores(record.get("scores") or {}, where))


def _scores(given: Any, where: str) -> dict[str, float]:
    """Scores by name; an unknown one, null, is left out."""
    if not isinstance(given, Mapping):
        raise InputError(
            f"{where}: 'scores' must look like {{\"realness\": 0.7}}, got {given!r:.40}"
        )
    scores = {str(name): value for name, value in given.items() if value is not None}
    for name, value in scores.items():
        if not is_score(value):
            raise InputError(
                f"{where}: score {shortened(name)} is {shortened(value, 40)}; it must be a "
                "finite number, or left out"
            )
    return {name: float(value) for name, value in scores.items()}


def is_score(value: Any) -> bool:
    """True for a finite number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    return math.isfinite(value)
