"""Documents that are held out and trained on are told, by domain, split and source."""

import json
from pathlib import Path
from typing import Any

from evo import config as configuration
from evo.prepare.overlap import overlap_warnings
from evo.prepare.task import prepare

SPEC = """\
name: overlap
model: {base: quickstart}
sources:
  own: {path: own.jsonl, kind: KIND}
  other: {path: other.jsonl}
domains:
  held:
    selection: {path: selection.jsonl, kind: KIND}
    test: {path: test.jsonl, kind: KIND}
recipe: {sequence_length: 32}
genome: {mixture: {type: simplex}}
objectives: {held/loss: minimize}
budget: {evaluations: 4, tokens: 640}
"""


def text(number: int) -> dict[str, Any]:
    return {"text": f"Document number {number} says that {number} is not a small number. " * 3}


def answer(number: int) -> dict[str, Any]:
    return {"prompt": f"What is the number after {number} ?", "completion": f" It is {number + 1}."}


def told(folder: Path, kind: str, **files: list[dict[str, Any]]) -> list[str]:
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "search.yaml").write_text(SPEC.replace("KIND", kind))
    config = configuration.load(folder / "search.yaml")
    return list(overlap_warnings(config, prepare(config).task))


def test_documents_that_are_in_a_source_too_are_counted(tmp_path: Path) -> None:
    rest = [text(n) for n in range(100, 140)]
    said = told(
        tmp_path,
        "text",
        own=[text(n) for n in range(30)],
        other=rest,
        selection=[text(n) for n in range(27, 40)],
        test=[text(n) for n in range(50, 60)],
    )
    [one] = said
    assert one.startswith(
        "domains.held: 3 of the 13 documents of its selection split are in source"
    )
    assert "sources.own too" in one


def test_records_are_compared_with_their_answers_and_none_is_found_where_none_is(
    tmp_path: Path,
) -> None:
    rest = [text(n) for n in range(100, 140)]
    given = {"own": [answer(n) for n in range(30)], "other": rest}
    held = {"selection": [answer(n) for n in range(40, 50)], "test": [answer(29), answer(60)]}
    [one] = told(tmp_path, "completion", **given, **held)
    assert one.startswith("domains.held: 1 of the 2 documents of its test split are in sources.own")
    held["test"] = [{**answer(29), "completion": " It is not 30."}]
    assert told(tmp_path, "completion", **given, **held) == []
