"""A small search in rounds, and an annotator, filter and harm of its own; names for its files."""

import os
import signal
from pathlib import Path
from typing import Any

from tests.fitness.quickstart import CORPUS, DATA

SPEC = f"""\
name: rounds
model: {{base: quickstart}}
{DATA}  general:
    selection: {{path: {CORPUS}/held_out/general.selection.jsonl, limit: 4}}
    test: {{path: {CORPUS}/held_out/general.test.jsonl, limit: 4}}
recipe: {{learning_rate: 1e-3, sequence_length: 48, batch_size: 4}}
genome:
  mixture: {{type: simplex}}
  keep_realness: {{type: float, low: 0.3, high: 1}}
objectives: {{target/loss: minimize, general/loss: minimize}}
baselines: [uniform]
search: {{population: 4, replicates: 1, parallel: 2, simulate: 4}}
budget: {{evaluations: 5, tokens: 576}}
resources: {{workers: 1}}
comparison: {{seeds: 1}}
rounds:
  limit: 2
  writers: 2
  like: [jargon]
  writing: {{samples: 70, max_new_tokens: 12}}
"""
CHECKED = f"""\
name: checked
model: {{base: quickstart}}
prompts:
  categories:
    selection: {CORPUS}/prompts/categories.selection.jsonl
    test: {CORPUS}/prompts/categories.test.jsonl
    limit: 8
    max_new_tokens: 4
    metrics: [{__name__}:begun]
recipe: {{learning_rate: 1e-3, sequence_length: 48, batch_size: 4}}
genome:
  mixture: {{type: simplex}}
  method: {{type: choice, options: [supervised, preference]}}
objectives: {{categories/begun: maximize}}
baselines: []
search: {{population: 3, replicates: 1, parallel: 2, simulate: off}}
budget: {{evaluations: 3, tokens: 5760, epochs: {{pool: 2}}}}
resources: {{workers: 1}}
comparison: {{seeds: 1}}
rounds:
  first: generate
  limit: 2
  patience: 2
  prompts: {CORPUS}/prompts/categories.train.jsonl
  writing: {{per_prompt: 4, samples: 200, max_new_tokens: 4, temperature: 1}}
  filters: ['{__name__}:begun']
  require: {{begun: 1}}
  most_per_prompt: 2
  pairs: 1
"""  # a base that generates first, and a checker; no source but what it makes
LOG = "EVOMIX_TEST_LOG"  # the file in which calls are counted
KILL = "EVOMIX_TEST_KILL"  # a file; while it is there, the next call of its name ends the process


def spec(folder: Path, more: str = "") -> Path:
    path = folder / "search.yaml"
    path.write_text(SPEC + more)
    return path


def annotator(prompt: str, drafts: list[str]) -> dict[str, Any]:
    """Longer ones are better; every single draft is cut by its last word."""
    _called("annotator", prompt + "".join(drafts))
    if len(drafts) == 2:
        return {"preference": "first" if len(drafts[0]) > len(drafts[1]) else "second"}
    words = drafts[0].split()
    corrected = {"correction": " ".join(words[:-1])} if len(words) > 2 else {}
    return {"rating": min(5, 1 + len(words) // 2), **corrected}


def begun(prompts: list[str], references: list[str], completions: list[str]) -> list[float]:
    """A checker of one's own: whether the answer begins as the reference does."""
    _called("checker", str(len(completions)))
    pairs = zip(references, completions, strict=True)
    return [float(text.strip()[:1] == wanted[:1]) for wanted, text in pairs]


def bright(prompts: list[str], completions: list[str]) -> list[float]:
    """A filter of one's own: the share of vowels."""
    _called("filter", str(len(completions)))
    return [sum(c in "aeiou" for c in text) / max(1, len(text)) for text in completions]


def _called(name: str, what: str) -> None:
    if (kill := os.environ.get(KILL)) and Path(kill).exists() and Path(kill).read_text() == name:
        Path(kill).unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    if log := os.environ.get(LOG):
        with Path(log).open("a") as file:
            file.write(f"{name} {what!r}\n")
