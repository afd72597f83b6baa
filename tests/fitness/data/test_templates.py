"""Templates: columns as text, or as prompt and completion; what cannot be rendered is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fitness.data.documents import Source, documents, records
from fitness.data.sources import fingerprint, tokenise
from fitness.errors import InputError
from tests.fitness.quickstart import MODEL

FACTS = [
    {"subject": "Oslo", "relation": "is the capital of", "object": "Norway", "year": 1814},
    {"subject": "Suva", "relation": "is the capital of", "object": "Fiji", "year": 1882},
]
SENTENCE = "{subject} {relation} {object}."
PAIR = {"prompt": "{subject} {relation}", "completion": " {object}, since {year} {{sic}}"}


def triples(folder: Path, rows: list[dict[str, Any]] = FACTS) -> str:
    path = folder / "facts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_columns_become_text_or_prompt_and_completion(tmp_path: Path) -> None:
    path = triples(tmp_path)
    texts = documents(Source(path=path, template=SENTENCE), tmp_path)
    assert list(texts) == ["Oslo is the capital of Norway.", "Suva is the capital of Fiji."]
    pairs = [
        one for _, one in records(Source(path=path, kind="completion", template=PAIR), tmp_path)
    ]
    assert pairs[0] == {
        "prompt": "Oslo is the capital of",
        "completion": " Norway, since 1814 {sic}",
    }


def test_a_table_is_rendered_as_well(tmp_path: Path) -> None:
    table = tmp_path / "facts.csv"
    table.write_text("subject,relation,object\nOslo,is the capital of,Norway\n")
    assert list(documents(Source(path=str(table), template=SENTENCE), tmp_path)) == [
        "Oslo is the capital of Norway."
    ]


def test_the_template_is_part_of_what_is_cached(tmp_path: Path) -> None:
    path = triples(tmp_path)
    sources = [Source(path=path, template=one) for one in (SENTENCE, "{subject}: {object}")]
    keys = {fingerprint(one, tmp_path, MODEL) for one in sources}
    assert len(keys) == 2
    files = [tokenise("facts", one, tmp_path, MODEL, tmp_path / "cache") for one in sources]
    assert files[0].tokens > files[1].tokens
    pairs = Source(path=path, kind="completion", template=PAIR)
    assert tokenise("facts", pairs, tmp_path, MODEL, tmp_path / "cache").notes == ()


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("no column", "names no column"),
        ("{subject", "expected '}'"),
        ("{}", "is no column"),
        ("{subject.__class__}", "{subject.__class__} is no column"),
        ("{subject[0]}", "is no column"),
        ("{year:>9}", "is no column"),
        ({"prompt": "{a!r}"}, "is no column"),
    ],
)
def test_a_template_that_cannot_be_rendered_is_refused(template: Any, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Source(path="facts.jsonl", template=template)
    assert message in str(caught.value)


def test_a_column_that_is_missing_is_named(tmp_path: Path) -> None:
    source = Source(path=triples(tmp_path), template="{subjct}")
    with pytest.raises(InputError, match=r"facts.jsonl:1: no column 'subjct', which.*subject"):
        list(documents(source, tmp_path))
    table = tmp_path / "facts.csv"
    table.write_text("subject,object\nOslo,Norway\n")
    with pytest.raises(InputError, match=r"no column 'subjct'.*did you mean 'subject'"):
        list(documents(Source(path=str(table), template="{subjct}"), tmp_path))
    plain = tmp_path / "facts.txt"
    plain.write_text("Oslo\n")
    with pytest.raises(InputError, match="plain text, which has no columns for `template`"):
        list(documents(Source(path=str(plain), template=SENTENCE), tmp_path))
    nested = Source(path=triples(tmp_path, [{**FACTS[0], "object": ["x"]}]), template=SENTENCE)
    with pytest.raises(InputError, match=r"object' is .*, and the template needs a text or"):
        list(documents(nested, tmp_path))
