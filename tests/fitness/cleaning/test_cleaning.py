"""Cleaning of sources: what each key drops, duplicates across sources, and the cache."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fitness.cleaning.cleaner import Cleaner
from fitness.cleaning.files import Cleaned, cleaned
from fitness.cleaning.settings import Cleaning
from fitness.data.documents import Source, documents, records
from fitness.errors import InputError
from fitness.samples.references import texts_of

ENGLISH = "The daemon waits in the background until somebody asks it to do some work."
GERMAN = "Der Dämon wartet im Hintergrund, bis ihn jemand um eine Arbeit bittet."
LONG = " ".join(f"word{number}" for number in range(60))

Files = Callable[..., dict[str, Source]]


@pytest.fixture
def sources(tmp_path: Path) -> Files:
    """Sources of these texts, by name."""

    def written(**texts: list[str]) -> dict[str, Source]:
        found = {}
        for name, lines in texts.items():
            path = tmp_path / f"{name}.jsonl"
            path.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
            found[name] = Source(path=str(path))
        return found

    return written


def clean(
    sources: dict[str, Source], folder: Path, evaluated: list[str] | None = None, **settings: Any
) -> dict[str, Cleaned]:
    return cleaned(sources, Cleaning(**settings), evaluated or [], folder, folder / "cache")


def kept(one: Cleaned) -> list[str]:
    return list(documents(one.source, Path()))


@pytest.mark.parametrize(
    ("settings", "texts", "left", "dropped"),
    [
        ({}, ["a", "a"], ["a", "a"], {}),
        ({"normalise": True}, ["schÃ¶n &amp; ﬁne"], ["schön & fine"], {}),
        ({"least_words": 2, "most_words": 3}, ["a", "a b", "a b c d"], ["a b"], {"length": 2}),
        ({"repetition": 0.5}, ["a b c d " * 9, LONG], [LONG], {"repetition": 1}),
        ({"languages": ["en"]}, [ENGLISH, GERMAN], [ENGLISH], {"language": 1}),
        ({"languages": ["de", "fr"]}, [ENGLISH, GERMAN], [GERMAN], {"language": 1}),
        ({"duplicates": "exact"}, ["A  b", "a b", "a b c"], ["A  b", "a b c"], {"duplicate": 1}),
        (
            {"duplicates": "near"},
            [LONG, f"{LONG} more", f"{LONG[::-1]}"],
            [LONG, LONG[::-1]],
            {"duplicate": 1},
        ),
    ],
)
def test_each_key_drops_what_it_says(
    sources: Files,
    tmp_path: Path,
    settings: dict[str, Any],
    texts: list[str],
    left: list[str],
    dropped: dict[str, int],
) -> None:
    found = clean(sources(web=texts), tmp_path, **settings)["web"]
    assert kept(found) == left
    assert (found.read, dict(found.dropped)) == (len(texts), dropped)


def test_documents_that_hold_held_out_text_are_dropped(sources: Files, tmp_path: Path) -> None:
    held = " ".join(f"held{number}" for number in range(20))
    short = "one two three four five six seven eight"
    texts = [
        f"before {held} after",
        " ".join(held.split()[:12]),  # twelve words in a row may be chance
        f"so: {short.upper()}!",
        "one two three four five six seven",
    ]
    found = clean(sources(web=texts), tmp_path, [held, short, "a b c"], held_out=True)["web"]
    assert kept(found) == [texts[1], texts[3]]
    assert found.dropped == {"held out": 2}
    template = [f"{short} {number}" for number in range(11)]
    usual = clean(sources(web=[f"{short} and so on"]), tmp_path, [*template], held_out=True)
    assert usual["web"].kept == 1


def test_of_duplicates_across_sources_the_first_is_kept_from_the_cache_too(
    sources: Files, tmp_path: Path
) -> None:
    both = sources(first=[LONG, "a b c"], second=["x y z", LONG.upper()])
    for _ in range(2):
        found = clean(both, tmp_path, duplicates="near")
        assert kept(found["second"]) == ["x y z"]
        assert found["second"].dropped == {"duplicate": 1}
    turned = clean(dict(reversed(both.items())), tmp_path, duplicates="near")
    assert kept(turned["first"]) == ["a b c"]
    cached = sorted((tmp_path / "cache/cleaned").glob("*.jsonl"))
    assert len(cached) == 4
    Path(both["first"].path).write_text(json.dumps({"text": "new"}) + "\n")
    again = clean(both, tmp_path, duplicates="near")
    assert kept(again["second"]) == ["x y z", LONG.upper()], "its duplicate is gone"


def test_records_are_mended_and_dropped_whole(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    rows = [
        {"prompt": "caf\u00c3\u00a9?", "completion": " yes"},
        {"prompt": "one two", "completion": " three four five"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = Source(path=str(path), kind="completion")
    found = clean({"answers": answers}, tmp_path, normalise=True, most_words=4)["answers"]
    assert [one for _, one in records(found.source, tmp_path)] == [
        {"prompt": "café?", "completion": " yes"}
    ]
    chat = {
        "messages": [{"role": "user", "content": "&lt;"}, {"role": "assistant", "content": "b"}]
    }
    path.write_text(json.dumps(chat) + "\n")
    (_, mended), *_ = records(
        clean({"answers": answers}, tmp_path, normalise=True)["answers"].source, tmp_path
    )
    assert mended["messages"][0] == {"role": "user", "content": "<"}


def test_a_template_is_rendered_before_it_is_cleaned(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text('{"a": "Oslo", "b": "Norway"}\n{"a": "Oslo", "b": "Norway"}\n')
    facts = Source(path=str(path), template="{a} is in {b}.")
    found = clean({"facts": facts}, tmp_path, duplicates="exact")["facts"]
    assert kept(found) == ["Oslo is in Norway."]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"least_words": 5, "most_words": 4}, "most_words 4 is below least_words 5"),
        ({"repetition": 2}, "less than or equal to 1"),
        ({"languages": ["English"]}, "pattern"),
        ({"duplicates": "fuzzy"}, "'exact' or 'near'"),
        ({"normalize": True}, "Extra inputs"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Cleaning(**settings)


def test_what_is_wrong_is_said_with_the_source(sources: Files, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"sources\.web: cleaning drops all of its 2 documents"):
        clean(sources(web=["a", "b"]), tmp_path, least_words=3)
    with pytest.raises(InputError, match=r"cleaning\.languages: 'xx' is unknown; there are"):
        Cleaner(Cleaning(languages=("xx",)))
    bad = sources(web=["a"])
    Path(bad["web"].path).write_text('{"txt": "a"}\n')
    with pytest.raises(InputError, match=r"sources\.web: .*web\.jsonl:1: no column 'text'"):
        clean(bad, tmp_path, least_words=1)
    assert not list((tmp_path / "cache/cleaned").glob("*.partial"))


def test_sentences_are_cleaned_by_their_words_and_not_by_their_tags(tmp_path: Path) -> None:
    texts = [" ".join(LONG.split()[:12]), ENGLISH, ENGLISH, "Eins zwei drei"]
    records_ = [
        {"tokens": text.split(), "tags": [tag] * len(text.split())}
        for text, tag in zip(texts, ["O", "O", "B-X", "O"], strict=True)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records_))
    source = Source(path="a.jsonl", kind="tags")
    for _ in range(2):  # written, and found in the cache
        settings: dict[str, Any] = {"repetition": 0.1, "duplicates": "exact", "most_words": 14}
        (one,) = clean({"a": source}, tmp_path, [LONG[:60]], held_out=True, **settings).values()
        assert one.dropped == {"held out": 1, "duplicate": 1}
        assert [record for _, record in records(one.source, Path())] == records_[1::2]
    assert list(texts_of(source, tmp_path))[1] == ENGLISH
