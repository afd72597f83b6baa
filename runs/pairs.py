"""Writes runs/pairs/*.jsonl: how an entry of a dictionary goes on, and how another one does.

The texts are the quickstart's (their origin is in NOTICE). `python runs/pairs.py` writes the same
files each time.
"""

import json
from pathlib import Path

HERE = Path(__file__).parent
CORPUS = HERE.parent / "evo" / "quickstart" / "corpus"
WORDS = (6, 24)  # of the opening, and of what follows
FILES = {
    "train": ("sources/jargon.jsonl", "sources/devil.jsonl"),
    "selection": ("held_out/jargon.selection.jsonl",),
    "test": ("held_out/jargon.test.jsonl",),
}
AT_MOST = 240


def pairs(texts: list[str]) -> list[dict[str, str]]:
    """The opening of each text with what follows, and with what follows in the text after it."""
    opening, following = WORDS
    cut = [text.split() for text in texts]
    cut = [words for words in cut if len(words) >= opening + following]
    ends = [" " + " ".join(words[opening : opening + following]) for words in cut]
    return [
        {"prompt": " ".join(words[:opening]), "chosen": own, "rejected": other}
        for words, own, other in zip(cut, ends, [*ends[1:], *ends[:1]], strict=True)
    ]


for name, files in FILES.items():
    texts = [
        json.loads(line)["text"]
        for file in files
        for line in (CORPUS / file).read_text(encoding="utf-8").splitlines()
    ]
    lines = [json.dumps(pair, ensure_ascii=False) for pair in pairs(texts)[:AT_MOST]]
    (HERE / "pairs" / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
