"""Sentences with tags: dates and countries in the fact book of the embedded default, by rule."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from fitness.data.documents import Source, documents
from fitness.data.sources import TokenFile, tokenise
from fitness.evaluation import Task
from fitness.models.heads import Head
from tests.fitness.quickstart import CORPUS, MODEL

TAGS = ("O", "B-DATE", "I-DATE", "B-PLACE", "I-PLACE")
HEAD = Head("token_classification", TAGS)
LENGTH = 48
MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
DATE = rf"\d{{1,2}} (?:{MONTHS})(?: \d{{4}})?|(?:1[5-9]|20)\d\d"


@cache
def sentences() -> list[tuple[list[str], list[str]]]:
    """The first 16 words of each entry, with their tags.

    A date is a year, or a day and month; a place is a country with an entry of its own.
    """
    texts = list(documents(Source(path="sources/factbook.jsonl"), CORPUS))
    countries = sorted({text.partition(".")[0] for text in texts}, key=len, reverse=True)
    named = "|".join(map(re.escape, countries))
    pattern = re.compile(rf"\b(?:(?P<DATE>{DATE})|(?P<PLACE>{named}))(?!\w)")
    found = []
    for text in texts:
        words, tags = [], []
        entities = {m.start(): (m.end(), str(m.lastgroup)) for m in pattern.finditer(text)}
        end, kind = 0, ""
        for word in re.finditer(r"\w+|[^\w\s]", text):
            inside = word.start() < end
            if word.start() in entities:
                end, kind = entities[word.start()]
            tag = f"{'I' if inside else 'B'}-{kind}" if word.start() < end else "O"
            words.append(word[0])
            tags.append(tag)
        found.append((words[:16], tags[:16]))
    return found


def write_tagged(path: Path, *, first: int, last: int, outside: bool = False) -> Path:
    """Sentences as {tokens, tags}; `outside` tags all their words as outside of entities."""
    lines = [
        json.dumps({"tokens": words, "tags": ["O"] * len(words) if outside else tags}) + "\n"
        for words, tags in sentences()[first:last]
    ]
    path.write_text("".join(lines))
    return path


def tagged(folder: Path, model: Path, *, first: int, last: int) -> TokenFile:
    path = write_tagged(folder / f"{first}-{last}.jsonl", first=first, last=last)
    source = Source(path=str(path), kind="tags")
    return tokenise("sources.facts", source, folder, model, folder, labels=TAGS)


def tagging(folder: Path, model: Path = MODEL, **changes: Any) -> Task:
    """Tagging of dates and places: 300 sentences to learn from, 100 others held out."""
    held_out = tagged(folder, model, first=300, last=400)
    values: dict[str, Any] = {
        "model": model,
        "head": HEAD,
        "sources": {"facts": tagged(folder, model, first=0, last=300)},
        "domains": {"held": {"selection": held_out, "test": held_out}},
        "budget_tokens": 80 * 8 * LENGTH,
        "held_out_length": LENGTH,
    }
    return Task("builtin", **{**values, **changes})
