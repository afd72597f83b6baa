"""Items to be judged: a prompt with one draft, or with two to choose between.

A file of items, `items.jsonl`, may be appended to while other processes read it; an item's id is a
digest of its content, so that no item is there twice.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fitness.data.formats import json_records, text_in
from fitness.errors import InputError
from fitness.facts import Fact, FactFile, lock, read_facts

FILE = "items.jsonl"
LOCK = "adding"
LOCK_SECONDS = 30.0  # as long as another may take to append
REMEDY = "cut this line out"
OWN = "own"  # the origin of items from a file of one's own


@dataclass(frozen=True, slots=True)
class Draft:
    """A generated text, with the individual and seed that generated it; None if unknown."""

    text: str
    individual: int | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """A prompt and one draft, or two; `origin` is the prompt set, or where else it comes from."""

    prompt: str
    drafts: tuple[Draft, ...]
    origin: str = OWN

    @property
    def id(self) -> str:
        """Digest of the item's texts; two drafts are the same item in either order."""
        content = json.dumps([self.prompt, *sorted(draft.text for draft in self.drafts)]).encode()
        return hashlib.blake2b(content, digest_size=8, person=b"evomix item").hexdigest()

    @property
    def texts(self) -> list[str]:
        """Texts of the drafts."""
        return [draft.text for draft in self.drafts]

    @property
    def pair(self) -> bool:
        return len(self.drafts) == 2


def items_of(
    answers: Mapping[tuple[str, str], Sequence[Draft]], *, pairs: int, rng: np.random.Generator
) -> list[Item]:
    """An item for each different draft, and for each prompt at most `pairs` of two drafts.

    `answers` are the drafts by origin and prompt. Blank ones are left out, and of equal ones all
    but the first. The order is random, so that neighbours seldom share a prompt.
    """
    found: list[Item] = []
    for (origin, prompt), drafts in answers.items():
        first: dict[str, Draft] = {}
        for draft in drafts:
            if draft.text.strip():
                first.setdefault(draft.text, draft)
        different = list(first.values())
        found += [Item(prompt, (draft,), origin) for draft in different]
        couples = list(itertools.combinations(different, 2))
        chosen = rng.permutation(len(couples))[:pairs]
        found += [Item(prompt, couples[number], origin) for number in sorted(chosen)]
    return [found[number] for number in rng.permutation(len(found))]


def own_items(path: Path) -> Iterator[Item]:
    """The items of a JSONL file of {prompt, completion} or {prompt, completions: [a, b]}.

    Raises InputError with file and line for a record that is neither.
    """
    count = 0
    for number, record in json_records(path):
        where = f"{path}:{number}"
        prompt = text_in(record, "prompt", where)
        if ("completion" in record) == ("completions" in record):
            raise InputError(
                f"{where}: needs either a 'completion' to judge or two 'completions' to choose from"
            )
        if "completion" in record:
            texts = [text_in(record, "completion", where)]
        else:
            given = record["completions"]
            if not isinstance(given, list) or len(given) != 2:
                raise InputError(f"{where}: 'completions' must be a list of two texts")
            texts = [text_in({"completions": text}, "completions", where) for text in given]
            if texts[0] == texts[1]:
                raise InputError(f"{where}: the two 'completions' are equal; drop this record")
        if not all(text.strip() for text in texts):
            raise InputError(f"{where}: a completion is blank; drop this record")
        count += 1
        yield Item(prompt, tuple(map(Draft, texts)))
    if not count:
        raise InputError(f"{path}: holds no items; every line must hold a prompt and a completion")


def to_fact(item: Item) -> Fact:
    drafts = [
        {name: value for name, value in asdict(draft).items() if value is not None}
        for draft in item.drafts
    ]
    head = {"fact": "item", "id": item.id, "prompt": item.prompt}
    return {**head, "drafts": drafts, "origin": item.origin}


def read_items(folder: Path) -> dict[str, Item]:
    """The items of a folder by their ids, in the order in which they were added."""
    path = folder / FILE
    return _read(path)[0] if path.exists() else {}


def add_items(folder: Path, items: Iterable[Item]) -> int:
    """Append the items that are not there yet; returns the number of new ones."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    held = lock(folder, LOCK, wait=LOCK_SECONDS)
    try:
        known, whole = _read(path) if path.exists() else ({}, 0)
        new = {item.id: item for item in items if item.id not in known}
        if new:
            with FactFile(path, whole) as file:
                file.append(*map(to_fact, new.values()))
        return len(new)
    finally:
        held.release()


def _read(path: Path) -> tuple[dict[str, Item], int]:
    facts, whole = read_facts(path, REMEDY)
    items = {}
    for number, fact in enumerate(facts, 1):
        try:
            drafts = tuple(Draft(**draft) for draft in fact["drafts"])
            item = Item(fact["prompt"], drafts, fact["origin"])
            known = fact["fact"] == "item" and item.id == fact["id"] and len(drafts) in (1, 2)
        except (KeyError, TypeError, AttributeError):
            known = False
        if not known:
            raise InputError(
                f"{path}:{number}: is no item as evomix writes it: its id is a digest of its "
                f"texts; restore the file from a copy, or {REMEDY}"
            )
        items[item.id] = item
    return items, whole
