"""Sources as arrays of tokens: tokenised once, cached by fingerprint, memory-mapped."""

import hashlib
import json
import math
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from fitness.data import hub
from fitness.data.documents import Half, Piece, Source, files, is_on_hub, pieces, records
from fitness.data.kinds import Kind
from fitness.data.labels import check_tokenizer, labelled, tagged, tokens_around
from fitness.data.records import COLUMNS, Records, Row, is_chat, notes_of, rows, torn_note, unread
from fitness.data.samples import sample_in
from fitness.data.tokenizer import fingerprint_of_tokenizer, load_tokenizer
from fitness.data.tokens import long_text_tokens, opening_tokens, separator, text_tokens
from fitness.errors import Faults, InputError
from fitness.files import CHECKSUM, appearing, checksum, file_digest, intact, write_whole

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMAT = 2  # of the cache; it is part of every fingerprint, so a new number invalidates all entries
FACTS = frozenset({"tokens", "documents", "bytes", "dtype", "kind", "rows", "notes"})
INDEX = np.dtype("<i8")  # of a source of records
SCORE = np.dtype("<f8")  # of samples
TAG = np.dtype("<i2")  # of each token of a tagged source
BATCH_CHARACTERS = 2**20


@dataclass(frozen=True)
class TokenFile:
    """A tokenised source on disk; `asdict` and `TokenFile(**record)` carry it through JSON."""

    name: str
    path: str
    tokens: int
    documents: int
    bytes: int  # of the documents as UTF-8, without separators; for records, of the tokens
    dtype: str  # of NumPy: "<u2" or "<u4"
    fingerprint: str
    kind: Kind = "text"
    rows: int = 0  # of records; their index follows the tokens in the file
    scores: tuple[str, ...] = ()  # of samples; a column of float64 each, after the index
    notes: tuple[str, ...] = ()  # warnings for the user, sentences without their subject

    def __post_init__(self) -> None:
        for name in ("scores", "notes"):  # lists when they come from JSON
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def size(self) -> int:
        """Size of the file, bytes."""
        if not self.rows:
            return self.tokens * np.dtype(self.dtype).itemsize
        columns = COLUMNS * INDEX.itemsize + len(self.scores) * SCORE.itemsize
        tags = self.tokens * TAG.itemsize if self.kind == "tags" else 0
        return self._index_offset + self.rows * columns + tags

    @property
    def _index_offset(self) -> int:
        used = self.tokens * np.dtype(self.dtype).itemsize
        return used + -used % INDEX.itemsize

    def open(self) -> np.ndarray | Records:
        """The tokens, (tokens,), or a source of records; memory-mapped read-only.

        Raises InputError if the file is missing, or its checksum differs.
        """
        self._check()
        tokens = self._mapped(np.dtype(self.dtype), (self.tokens,))
        if self.kind == "text":
            return tokens
        index = self._mapped(INDEX, (self.rows, COLUMNS), self._index_offset)
        offset = self._index_offset + self.rows * COLUMNS * INDEX.itemsize
        if self.kind == "tags":
            tags = self._mapped(TAG, (self.tokens,), offset)
            return Records(self.kind, tokens, index, tags=tags)
        if not self.scores:
            return Records(self.kind, tokens, index)
        scores = self._mapped(SCORE, (len(self.scores), self.rows), offset)
        return Records(self.kind, tokens, index, dict(zip(self.scores, scores, strict=True)))

    def _check(self) -> None:
        """Compare the file with the checksum beside it, if there is one."""
        path = Path(self.path)
        try:
            sound = intact(path, json.loads(path.with_suffix(".json").read_bytes()))
        except FileNotFoundError:  # missing tokens: `_mapped` raises the error
            return
        except (OSError, ValueError):
            sound = False
        if not sound:
            raise InputError(
                f"{self.name}: its tokens in {self.path} are damaged, their checksum differs; "
                "launch or resume again, which tokenises the source again"
            )

    def _mapped(
        self, dtype: "np.dtype[Any]", shape: tuple[int, ...], offset: int = 0
    ) -> np.ndarray:
        try:
            return np.memmap(self.path, dtype=dtype, mode="r", shape=shape, offset=offset)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.name}: its tokens cannot be read from {self.path} ({error}); set "
                "EVOMIX_CACHE to a folder that every machine of the run reaches"
            ) from error


def tokenise(
    name: str,
    source: Source,
    base: Path,
    tokenizer_path: Path,
    cache: Path,
    *,
    half: Half | None = None,
    labels: Sequence[str] = (),
    without: Collection[str] = (),
) -> TokenFile:
    """Tokenise a source, or find it in the cache; memory does not grow with the source.

    Each document becomes [BOS, if the tokenizer adds one,] its tokens, EOS. A document of more than
    documents.PIECE_CHARACTERS is read in pieces, and gets the same tokens as if read at once. For
    records see fitness.data.records; `labels` are the names of classes by their numbers; samples
    with an id in `without` are left out. `name` is used in errors and in the result, not in the
    fingerprint. Raises InputError for any fault of the source.
    """
    try:
        key = fingerprint(source, base, tokenizer_path, half=half, labels=labels, without=without)
        with _writing(cache):
            facts = _cached(cache, key) or _build(
                source, base, tokenizer_path, cache, key, half, labels, without
            )
    except InputError as error:
        raise InputError(f"{name}: {error}".replace("\n", "\n  ")) from error
    path = str(_tokens_path(cache, key).absolute())
    return TokenFile(name=name, path=path, fingerprint=key, **facts)


def fingerprint(
    source: Source,
    base: Path,
    tokenizer_path: Path,
    *,
    half: Half | None = None,
    labels: Sequence[str] = (),
    without: Collection[str] = (),
) -> str:
    """SHA-256, in hex, over everything that decides the tokens; reads the files in blocks.

    A Hub data set is represented by its commit instead of its content.
    """
    settings = {
        "format": FORMAT,
        "text": source.text,
        "limit": source.limit,
        "half": half,
        "tokenizer": fingerprint_of_tokenizer(tokenizer_path),
    }
    if source.kind != "text":
        settings["kind"] = source.kind
    if source.kind in ("label", "tags"):
        settings["labels"] = list(labels)
    if source.template is not None:
        settings["template"] = source.template
    if source.learn != "all":
        settings["learn"] = source.learn
    if without:
        settings["without"] = sorted(without)
    if is_on_hub(source):
        dataset = hub.parse(source.path, source.split)
        settings["data"] = [str(dataset), hub.revision(dataset)]
    else:
        settings["data"] = [[kind, file_digest(path)] for path, kind in files(source, base)]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _tokens_path(cache: Path, key: str) -> Path:
    return cache / f"{key}.tokens"


def _cached(cache: Path, key: str) -> dict[str, Any] | None:
    """The facts of an intact cache entry, None if there is none."""
    tokens = _tokens_path(cache, key)
    try:
        facts = json.loads(tokens.with_suffix(".json").read_bytes())
        whole = intact(tokens, facts)
        facts.pop(CHECKSUM, None)
        size = TokenFile("", str(tokens), fingerprint=key, **facts).size
        whole = whole and tokens.stat().st_size == size
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return facts if whole and set(facts) - {"scores"} == FACTS else None


def _build(
    source: Source,
    base: Path,
    tokenizer_path: Path,
    cache: Path,
    key: str,
    half: Half | None,
    labels: Sequence[str],
    without: Collection[str],
) -> dict[str, Any]:
    tokenizer = load_tokenizer(tokenizer_path)
    faults = Faults()
    dtype = "<u2" if max(tokenizer.get_vocab().values()) < 2**16 else "<u4"
    cache.mkdir(parents=True, exist_ok=True)
    with appearing(_tokens_path(cache, key)) as partial, partial.open("xb") as file:
        try:
            if source.kind == "text":
                counts = _write_text(
                    pieces(source, base, half=half, refuse=faults.add), tokenizer, dtype, file
                )
            else:
                every = records(source, base, half=half, refuse=faults.add)
                if without:
                    every = (one for one in every if sample_in(one[1], one[0]).id not in without)
                counts = _write_records(every, source, labels, tokenizer, dtype, file, faults)
        except InputError:  # such as an empty source, because every record was at fault
            faults.check()
            raise
        faults.check()
    facts = {**counts, "dtype": dtype, "kind": source.kind}
    sealed = {**facts, CHECKSUM: checksum(_tokens_path(cache, key), facts)}
    write_whole(_tokens_path(cache, key).with_suffix(".json"), json.dumps(sealed))
    return facts


def _write_text(
    every: Iterator[Piece], tokenizer: "PreTrainedTokenizerBase", dtype: str, file: BinaryIO
) -> dict[str, Any]:
    counts: dict[str, Any] = {"tokens": 0, "documents": 0, "bytes": 0, "rows": 0, "notes": []}

    def counted() -> Iterator[Piece]:
        for piece in every:
            counts["documents"] += piece.last
            counts["bytes"] += len(piece.text.encode())
            yield piece

    for tokens in _encoded(counted(), tokenizer):
        file.write(np.array(tokens, dtype=dtype).tobytes())
        counts["tokens"] += len(tokens)
    return counts


def _write_records(
    every: Iterator[tuple[str, dict[str, Any]]],
    source: Source,
    labels: Sequence[str],
    tokenizer: "PreTrainedTokenizerBase",
    dtype: str,
    file: BinaryIO,
    faults: Faults,
) -> dict[str, Any]:
    """Write a source of records: the tokens, then the index, then tags or scores of samples."""
    opening = opening_tokens(tokenizer)
    around = tokens_around(tokenizer) if source.kind in ("label", "tags") else ([], [])
    if source.kind == "tags":
        check_tokenizer(tokenizer)

    def encode(text: str) -> list[int]:
        return text_tokens(tokenizer, text)

    def rows_of(record: dict[str, Any], where: str) -> Iterable[Row]:
        if source.kind == "label":
            return [labelled(record, where, source.text, labels, encode, around)]
        if source.kind == "tags":
            return [tagged(record, where, labels, tokenizer, around)]
        last = source.learn == "last"
        return rows(record, source.kind, where, tokenizer, encode, opening, last=last)

    index, tags, end, documents = array("q"), array("h"), 0, 0
    scores: list[Mapping[str, float]] = []
    ignored: dict[str, None] = {}  # columns, in the order in which they are met
    torn: dict[int, bool] = {}  # by number of the record, whether it is a chat
    first: Row | None = None  # torn one
    for where, record in every:
        documents += 1
        found: Iterable[Row] = ()
        with faults.noted():
            found = rows_of(record, where)
        ignored |= dict.fromkeys(unread(record, source.kind))
        for row in found:
            if row.torn:
                first = first or row
                torn[documents] = is_chat(record)
            file.write(np.array(row.prompt + row.answer, dtype=dtype).tobytes())
            start, answer = end, end + len(row.prompt)
            end = answer + len(row.answer)
            index.extend((start, answer, end, row.label))
            tags.extend(row.tags)
        if source.kind == "sample" and found:
            scores.append(sample_in(record, where).scores)
    written = file.tell()
    file.write(bytes(-written % INDEX.itemsize))
    file.write(np.array(index, dtype=INDEX).tobytes())
    file.write(np.array(tags, dtype=TAG).tobytes())
    notes = notes_of(ignored)
    if first is not None:
        notes.append(torn_note(torn, first, documents, tokenizer))
    counts: dict[str, Any] = {"tokens": end, "documents": documents}
    counts |= {"rows": len(index) // COLUMNS, "notes": notes}
    if source.kind != "sample":
        return {**counts, "bytes": written}
    names = sorted({name for one in scores for name in one})
    for name in names:
        column = [one.get(name, math.nan) for one in scores]
        file.write(np.array(column, dtype=SCORE).tobytes())
    return {**counts, "bytes": written, "scores": names}


def _encoded(every: Iterator[Piece], tokenizer: "PreTrainedTokenizerBase") -> Iterator[list[int]]:
    """The tokens of documents with their opening and end; documents of one piece in batches."""
    opening, closing = opening_tokens(tokenizer), [separator(tokenizer)]
    for documents in _batches(every):
        if isinstance(documents, list):
            encoded = _encode(documents, tokenizer)
            yield [token for inside in encoded for token in (*opening, *inside, *closing)]
        else:
            yield opening
            yield from long_text_tokens(tokenizer, documents)
            yield closing


def _batches(every: Iterator[Piece]) -> Iterator[list[str] | Iterator[str]]:
    """Documents of one piece in lists of many; a document of several pieces alone, as a stream."""
    batch: list[str] = []
    characters = 0
    for piece in every:
        if piece.last:
            batch.append(piece.text)
            characters += len(piece.text)
        if batch and (characters >= BATCH_CHARACTERS or not piece.last):
            yield batch
            batch, characters = [], 0
        if not piece.last:
            yield chain([piece.text], _rest_of_document(every))
    if batch:
        yield batch


def _rest_of_document(every: Iterator[Piece]) -> Iterator[str]:
    for piece in every:
        yield piece.text
        if piece.last:
            return


def _encode(texts: list[str], tokenizer: "PreTrainedTokenizerBase") -> Iterable[list[int]]:
    if not tokenizer.is_fast:
        ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        return ids
    backend = tokenizer.backend_tokenizer  # measured: twice as fast as the wrapper in transformers
    backend.no_truncation()
    backend.no_padding()
    return (one.ids for one in backend.encode_batch_fast(texts, add_special_tokens=False))


@contextmanager
def _writing(cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{cache}: the cache of tokens cannot be used ({error.strerror or error}); set "
            "EVOMIX_CACHE to a folder with room that you may write to"
        ) from error
