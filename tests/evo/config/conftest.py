from pathlib import Path

import pytest

from evo.config import ConfigError, load

SPEC = """\
name: a
model: {base: quickstart}
sources:
  jargon: {path: jargon.jsonl}
  devil: {path: texts/devil.txt}
  wordnet: {path: "hub:owner/wordnet"}
domains:
  target: {path: held_out.jsonl}
  general:
    selection: {path: general/selection.jsonl}
    test: {path: general/test.jsonl}
prompts:
  quiz: {selection: quiz.jsonl, test: quiz.test.jsonl}
recipe:
  learning_rate: 1e-3
  batch_size: 8
genome:
  mixture: {type: simplex}
  learning_rate: {type: float, low: 1e-4, high: 1e-2, log: true}
  decay: {type: choice, options: [linear, cosine]}
objectives:
  target/loss: minimize
  quiz/chrf: maximize
constraints: ["general/loss <= 3.1"]
search: {population: 6}
budget: {evaluations: 12, tokens: 1e5}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "a.yaml"
    path.write_text(SPEC, encoding="utf-8")
    return path


def errors_of(path: Path, *overrides: str) -> list[str]:
    """The lines of the error screen, the file's name cut off."""
    with pytest.raises(ConfigError) as raised:
        load(path, overrides)
    return [line.removeprefix(str(path)) for line in str(raised.value).splitlines()]


def edited(path: Path, old: str, new: str) -> Path:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path
