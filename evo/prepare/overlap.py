"""Documents that are both held out and trained on: their losses say nothing of new text."""

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from evo.config import SearchConfig
from fitness.data.records import Records
from fitness.data.sources import TokenFile
from fitness.evaluation import Task

SHORTEST = 8  # tokens of a document that counts: a shorter one may well recur by chance
MOST = 100_000_000  # tokens of a source that are looked through, some seconds


def overlap_warnings(config: SearchConfig, task: Task) -> Iterator[str]:
    """Sentences on held-out documents that a source has too, token by token, by domain."""
    if not config.form.mixes or not task.sources:  # a merge of parts reads none
        return
    held_out = {
        (name, split): set(_documents(file))
        for name, splits in task.domains.items()
        for split, file in splits.items()
    }
    for source, file in task.sources.items():
        trained = set(_documents(file))
        for (name, split), documents in held_out.items():
            if both := len(documents & trained):
                yield (
                    f"domains.{name}: {both:,} of the {len(documents):,} documents of its {split} "
                    f"split are in sources.{source} too; losses on text that is trained on "
                    "flatter, so hold out other documents"
                )


def _documents(file: TokenFile) -> Iterator[bytes]:
    """Digests of the distinct documents or records of a file, by their tokens."""
    content = file.open()
    pieces: Iterable[np.ndarray]
    if isinstance(content, Records):
        pieces = (content.tokens[first:end] for first, _, end, _ in content.index)
    else:
        tokens = np.asarray(content[:MOST])
        closing = np.flatnonzero(tokens == content[-1])  # the token that ends each document
        pieces = np.split(tokens, closing + 1)
    for piece in pieces:
        if len(piece) >= SHORTEST:
            yield hashlib.blake2b(np.asarray(piece, "<u4").tobytes(), digest_size=12).digest()
