"""Sources of records from lists, tokenised for the embedded default's model."""

import json
from pathlib import Path
from typing import Any

from fitness.data.documents import Source
from fitness.data.kinds import Kind
from fitness.data.sources import TokenFile, tokenise
from fitness.data.tokenizer import load_tokenizer
from fitness.mixture.decks import Deck, deck_of
from fitness.recipe import Recipe
from tests.fitness.quickstart import MODEL

PAIRS = [
    {
        "prompt": f"{word}: n.",
        "chosen": f" A kind of {word} that hackers like, used in anger.",
        "rejected": f" {word} {word} {word}",
    }
    for word in ("bug", "cruft", "daemon", "flame", "grok", "hack", "kluge", "lurker", "munge")
]


def record_file(records: list[dict[str, Any]], kind: Kind, folder: Path) -> TokenFile:
    path = folder / f"{kind}.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return tokenise(f"sources.{kind}", Source(path=str(path), kind=kind), folder, MODEL, folder)


def deck(records: list[dict[str, Any]], kind: Kind, folder: Path, **recipe: Any) -> Deck:
    content = record_file(records, kind, folder).open()
    return deck_of(content, Recipe(**recipe), load_tokenizer(MODEL).eos_token_id)


def rated(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each side of each pair as a rating of its own."""
    return [
        {"prompt": pair["prompt"], "completion": pair[side], "label": side == "chosen"}
        for pair in pairs
        for side in ("chosen", "rejected")
    ]
