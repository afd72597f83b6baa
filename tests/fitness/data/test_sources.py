import json
import os
import socket
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitness import files
from fitness.data.documents import PIECE_CHARACTERS, Half, Source, documents, half_of, pieces
from fitness.data.sources import TokenFile, tokenise
from fitness.data.tokenizer import load_tokenizer
from fitness.errors import InputError
from fitness.files import cache_folder
from tests.fitness.conftest import END, byte_tokenizer
from tests.fitness.quickstart import tokens_of

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return _write


def read(path: Path | str, base: Path = Path(), **settings: Any) -> list[str]:
    return list(documents(Source(path=str(path), **settings), base))


def jsonl(*texts: object, key: str = "text") -> str:
    return "".join(json.dumps({key: text}) + "\n" for text in texts)


# what is read


def test_a_line_of_jsonl_is_a_document_and_blank_ones_are_left_out(write: Write) -> None:
    path = write("a.jsonl", jsonl("one", "two\nlines", "  ") + "\n" + jsonl("drei ü"))

    assert read(path) == ["one", "two\nlines", "drei ü"]


def test_a_byte_order_mark_and_crlf_are_no_part_of_the_text(write: Write) -> None:
    text = write("a.txt", b"\xef\xbb\xbfone\r\ntwo\r\n")
    lines = write("a.jsonl", b'\xef\xbb\xbf{"text": "one"}\r\n{"text": "two"}\r\n')

    assert read(text) == ["one\ntwo\n"]
    assert read(lines) == ["one", "two"]


def test_a_text_file_is_one_document(write: Write) -> None:
    assert read(write("a.md", "# one\n\n\ntwo\n")) == ["# one\n\n\ntwo\n"]


def test_parquet_is_read_by_column(tmp_path: Path) -> None:
    texts = [f"document {n}" for n in range(5000)]
    table = pa.table({"id": range(5000), "body": pa.array(texts).dictionary_encode()})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=700)

    assert read("a.parquet", tmp_path, text="body") == texts


def test_a_folder_is_read_in_the_order_of_its_names_at_any_depth(write: Write) -> None:
    write("corpus/b.txt", "second")
    write("corpus/c/d.jsonl", jsonl("third", "fourth"))
    write("corpus/a.MD", "first")
    write("corpus/.hidden/e.txt", "no")
    folder = write("corpus/picture.png", b"\xff\xff").parent

    assert read(folder) == read(folder, format="folder") == ["first", "second", "third", "fourth"]


def test_format_overrides_the_suffix(write: Write) -> None:
    assert read(write("a.py", "import this\n"), format="text") == ["import this\n"]


def test_only_the_first_documents_are_read_under_a_limit(write: Write) -> None:
    path = write("a.jsonl", jsonl("one", "", "two") + "not JSON")

    assert read(path, limit=2) == ["one", "two"]


@settings(max_examples=20)
@given(
    words=st.lists(st.sampled_from(["word", "\n", " ", "Grüße", "x" * 70_000]), min_size=1),
    times=st.integers(1, 60),
)
def test_long_documents_come_in_pieces_that_make_up_the_whole(
    words: list[str], times: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = "go" + "".join(words) * times
    folder = tmp_path_factory.mktemp("long")
    (folder / "a.txt").write_text(text, encoding="utf-8")
    (folder / "a.jsonl").write_text(jsonl(text), encoding="utf-8")
    for name in ("a.txt", "a.jsonl"):
        found = list(pieces(Source(path=name), folder))
        assert "".join(piece.text for piece in found) == text
        assert [piece.first for piece in found] == [True] + [False] * (len(found) - 1)
        assert [piece.last for piece in found] == [False] * (len(found) - 1) + [True]
        assert all(len(piece.text) <= PIECE_CHARACTERS[1] for piece in found)
        assert all(len(piece.text) >= PIECE_CHARACTERS[0] for piece in found[:-1])


def test_a_piece_ends_at_a_line_break_if_it_can(write: Write) -> None:
    path = write("a.txt", "a line of text\n" * 40_000)

    found = list(pieces(Source(path=str(path)), Path()))

    assert len(found) > 2
    assert all(piece.text.endswith("\n") for piece in found)


# halves


def test_halves_are_disjoint_complete_and_do_not_depend_on_the_other_documents(
    write: Write,
) -> None:
    texts = [f"document {n}" for n in range(400)]
    path = write("a.jsonl", jsonl(*texts))
    found = {
        half: list(documents(Source(path=str(path)), Path(), half=half))
        for half in ("selection", "test")
    }

    assert sorted(found["selection"] + found["test"]) == sorted(texts)
    assert set(found["selection"]).isdisjoint(found["test"])
    assert 150 < len(found["test"]) < 250
    assert all(half_of(text) == "test" for text in found["test"])


@given(st.text())
def test_documents_that_differ_in_white_space_only_are_in_one_half(text: str) -> None:
    assert half_of(f"\n {text.replace(' ', '  ')}\t") == half_of(text)


def test_a_long_document_is_in_one_half_whatever_the_file_it_is_in(write: Write) -> None:
    for n in range(12):
        text = f"document {n}\n" + "a line\n" * 50_000
        whole = write("a.txt", text)
        lines = write("a.jsonl", jsonl(text))
        half = half_of(text)
        other: Half = "test" if half == "selection" else "selection"
        for path in (whole, lines):
            assert list(documents(Source(path=str(path)), Path(), half=half)) == [text]
            with pytest.raises(
                InputError, match=rf"none of its 1 documents falls into the {other}"
            ):
                list(documents(Source(path=str(path)), Path(), half=other))


# bad input


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "a"', r"a\.jsonl:2: is not JSON \(.*\); every line must hold one JSON object"),
        (b"[1, 2]", r"a\.jsonl:2: is a JSON list, not an object"),
        (b"[" * 100_000, r"a\.jsonl:2: is not JSON"),
        (b"1" * 5000, r"a\.jsonl:2: is not JSON"),
        (
            b'{"txt": "a", "id": 3}',
            r"a\.jsonl:2: no column 'text', it has 'txt', 'id'; did you mea",
        ),
        (b'{"text": 3}', r"a\.jsonl:2: 'text' is 3, a int; it must be a string"),
        (b'{"text": null}', r"a\.jsonl:2: 'text' is None"),
        (b'{"text": "G\xfc"}', r"a\.jsonl:2: byte 12 of this line is not UTF-8; convert.*iconv"),
        (
            b'{"text": "a\\ud800b"}',
            r"a\.jsonl:2: 'text' holds half a surrogate pair at character 2",
        ),
    ],
)
def test_a_bad_line_of_jsonl_is_named(line: bytes, message: str, write: Write) -> None:
    path = write("a.jsonl", jsonl("good").encode() + line + b"\n" + jsonl("good").encode())

    with pytest.raises(InputError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 600


@settings(max_examples=30)
@given(
    before=st.text(max_size=60).map(lambda text: text.replace("\r", "\n")),
    bad=st.sampled_from([b"\xff", b"\xe2\x82", b"\xc3(", b"\xed\xa0\x80"]),
    after=st.sampled_from([b"", b"\n", b"more\n" * 400_000]),
    blocks=st.integers(0, 2),
)
def test_the_first_byte_that_is_not_utf8_is_found_by_line_and_byte(
    before: str, bad: bytes, after: bytes, blocks: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    good = ("ü" * (2**19 - 1) + "x") * blocks + before  # characters across the blocks' borders
    path = tmp_path_factory.mktemp("bad") / "a.txt"
    path.write_bytes(good.encode() + bad + after)
    line = good.count("\n") + 1
    byte = len(good.rpartition("\n")[2].encode()) + 1

    with pytest.raises(InputError, match=rf"a\.txt:{line}: byte {byte} of this line is not UTF-8"):
        read(path)


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_an_empty_file_is_refused(name: str, content: str, write: Write) -> None:
    with pytest.raises(InputError, match="there is no text in it"):
        read(write(name, content))


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("corpus/jargn.jsonl", r"no 'jargn.jsonl' in .*; did you mean 'jargon.jsonl'\?"),
        ("corpse/jargon.jsonl", r"no 'corpse' in .*; did you mean 'corpus'\?"),
        ("stanfordnlp/imdb", r"write hub:stanfordnlp/imdb for a data set of the Hug"),
    ],
)
def test_a_missing_file_is_answered_with_its_neighbour(
    path: str, answer: str, write: Write, tmp_path: Path
) -> None:
    write("corpus/jargon.jsonl", jsonl("a"))

    with pytest.raises(InputError, match=answer):
        read(path, tmp_path)


def test_what_is_neither_file_nor_folder_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")

    with pytest.raises(InputError, match="neither a file nor a folder"):
        read("pipe.jsonl", tmp_path)


def test_an_unknown_suffix_asks_for_the_format(write: Write) -> None:
    with pytest.raises(InputError, match=r"suffix '\.dat'; set `format` to jsonl"):
        read(write("a.dat", "a,b"))


def test_a_format_that_contradicts_the_path_is_refused(write: Write, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a file, not a folder"):
        read(write("a.jsonl", jsonl("a")), format="folder")
    with pytest.raises(InputError, match="is a folder, not jsonl"):
        read(tmp_path, format="jsonl")


def test_a_folder_without_readable_files_says_what_is_readable(write: Write) -> None:
    folder = write("corpus/a.dat", "a,b").parent

    with pytest.raises(InputError, match=r"no readable file .* '\.jsonl', .*'\.parquet'"):
        read(folder)


def test_a_column_that_parquet_lacks_is_answered_with_those_it_has(tmp_path: Path) -> None:
    pq.write_table(pa.table({"texts": ["a"], "id": [1]}), tmp_path / "a.parquet")

    with pytest.raises(InputError, match=r"no column 'text', it has 'texts', 'id'; did you mean"):
        read("a.parquet", tmp_path)


NOT_UTF_8 = pa.Array.from_buffers(
    pa.string(), 2, [None, pa.py_buffer(np.array([0, 1, 2], np.int32)), pa.py_buffer(b"a\xff")]
)


@pytest.mark.parametrize(
    ("column", "what"),
    [
        (["a", None], "row 2: 'text' is None"),
        ([1, 2], "row 1: 'text' is 1, a int"),
        (NOT_UTF_8, "row 2: 'text' is not UTF-8"),
    ],
    ids=["null", "number", "bytes"],
)
def test_a_row_of_parquet_without_a_string_is_named(column: Any, what: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")

    with pytest.raises(InputError, match=rf"a\.parquet, {what}"):
        read("a.parquet", tmp_path)


@pytest.mark.parametrize("damage", ["not parquet", "torn", "scrambled", ""])
def test_unreadable_parquet_is_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"text {n}" for n in range(1000)]}), path)
    content = path.read_bytes()
    middle = bytes(len(content) // 2)
    path.write_bytes(
        {
            "not parquet": b"PAR1 is all it says",
            "torn": content[:-20],
            "scrambled": content[:4] + middle + content[4 + len(middle) :],
            "": b"",
        }[damage]
    )

    with pytest.raises(InputError, match=r"a\.parquet.*(read as Parquet|cannot be read)"):
        read(path)


# the Hub


@pytest.fixture
def silent_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server that accepts connections and never answers."""
    import huggingface_hub.constants

    from fitness.data import hub

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        monkeypatch.setattr(hub, "PATIENCE_SECONDS", 0.5)
        yield


@pytest.mark.usefixtures("silent_hub")
def test_a_hub_that_does_not_answer_is_given_up_and_a_local_folder_proposed() -> None:
    started = time.monotonic()

    with pytest.raises(InputError, match=r"hub:owner/name@train: .*cannot be reached.*hf download"):
        read("hub:owner/name")
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("path", ["hub:name", "hub:", "hub:a/b/c/d", "hub:a b/c"])
def test_a_hub_path_that_is_none_shows_how_to_write_one(path: str) -> None:
    with pytest.raises(InputError, match="write hub:owner/name"):
        read(path)


def test_hub_rows_are_streamed_at_one_commit(monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    """The Hub itself cannot be had offline: its answer and its files are stood in for."""
    import datasets
    from huggingface_hub import HfApi

    path = write("a.jsonl", jsonl("one", "two", key="body") + '{"body": 3.5}\n')
    asked = []
    load = datasets.load_dataset

    def from_file(*arguments: Any, **settings: Any) -> Any:
        asked.append((*arguments, settings["split"], settings["revision"]))
        return load("json", data_files=str(path), split="train", streaming=settings["streaming"])

    class Info:
        sha = "c0ffee"

    monkeypatch.setattr(datasets, "load_dataset", from_file)
    monkeypatch.setattr(HfApi, "dataset_info", lambda *_, **__: Info)

    assert read("hub:owner/name/config@test", text="body", limit=2) == ["one", "two"]
    assert asked == [("owner/name", "config", "test", "c0ffee")]
    with pytest.raises(InputError, match=r"hub:owner/name@train.*row 1: no column 'text'"):
        read("hub:owner/name")


# tokens


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def tokenised(path: Path, tokenizer: Path, cache: Path, **settings: Any) -> TokenFile:
    half = settings.pop("half", None)
    source = Source(path=str(path), **settings)
    return tokenise("mine", source, Path(), tokenizer, cache, half=half)


def test_tokens_are_the_documents_each_closed_by_the_end_token(
    write: Write, tokenizer_folder: Path, cache: Path
) -> None:
    texts = ["the quick fox", "Grüße 🦊", f"a text that says {END}"]
    found = tokenised(write("a.jsonl", jsonl(*texts)), tokenizer_folder, cache)
    tokenizer = load_tokenizer(tokenizer_folder)

    tokens = tokens_of(found)

    expected = [t for text in texts for t in [*tokenizer(text)["input_ids"], 0]]
    assert tokens.tolist() == expected
    assert tokenizer.decode(tokens) == "".join(text + END for text in texts)
    assert (found.tokens, found.documents, found.dtype) == (len(expected), 3, "<u2")
    assert found.bytes == sum(len(text.encode()) for text in texts)
    assert not tokens.flags.writeable


def test_a_token_file_survives_json(write: Write, tokenizer_folder: Path, cache: Path) -> None:
    found = tokenised(write("a.jsonl", jsonl("a")), tokenizer_folder, cache)

    again = TokenFile(**json.loads(json.dumps(asdict(found))))

    assert again == found
    assert Path(again.path).is_absolute()
    assert np.array_equal(tokens_of(again), tokens_of(found))


def test_a_tokenizer_that_begins_texts_with_a_token_begins_documents_with_it(
    write: Write, cache: Path, tmp_path: Path
) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer(bos_token="<s>", additional_special_tokens=["<s>"])
    begin = tokenizer.convert_tokens_to_ids("<s>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", begin)]
    )
    tokenizer.save_pretrained(tmp_path / "bos")

    found = tokenised(write("a.txt", "word " * 80_000), tmp_path / "bos", cache)

    tokens = tokens_of(found)
    assert tokens[0] == begin
    assert tokens[-1] == 0
    assert (tokens == begin).sum() == (tokens == 0).sum() == 1


def test_tokenising_in_batches_and_pieces_gives_the_same_tokens(
    write: Write, tokenizer_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"document {n} the quick fox\n" * (n % 7 + 1) for n in range(500)]
    path = write("a.jsonl", jsonl(*texts))
    whole = tokens_of(tokenised(path, tokenizer_folder, cache))
    monkeypatch.setattr("fitness.data.sources.BATCH_CHARACTERS", 100)
    monkeypatch.setattr("fitness.data.documents.PIECE_CHARACTERS", (20, 60))

    parts = tokens_of(tokenised(path, tokenizer_folder, cache / "other"))

    assert whole.tolist() == parts.tolist()


def test_the_second_time_nothing_is_tokenised(
    write: Write, tokenizer_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("a.jsonl", jsonl("a", "b"))
    first = tokenised(path, tokenizer_folder, cache)
    monkeypatch.setattr("fitness.data.tokenizer.load_tokenizer", lambda _: pytest.fail("tokenised"))

    assert tokenised(path, tokenizer_folder, cache) == first
    assert replace(first, name="other") == tokenise(
        "other", Source(path=str(path)), Path(), tokenizer_folder, cache
    )


def test_whatever_decides_the_tokens_decides_the_fingerprint(
    write: Write, tokenizer_folder: Path, cache: Path, tmp_path: Path
) -> None:
    texts = [f"document {n}" for n in range(20)]
    path = write(
        "a.jsonl", "".join(json.dumps({"text": t, "other": t + "!"}) + "\n" for t in texts)
    )
    other_tokenizer = tmp_path / "other tokenizer"
    byte_tokenizer(additional_special_tokens=["doc"]).save_pretrained(other_tokenizer)
    copy = write("copy.jsonl", path.read_bytes())

    def found(at: Path = path, tokenizer: Path = tokenizer_folder, **settings: Any) -> str:
        return tokenised(at, tokenizer, cache, **settings).fingerprint

    every = [
        found(),
        found(text="other"),
        found(limit=3),
        found(half="selection"),
        found(half="test"),
        found(tokenizer=other_tokenizer),
        found(format="text"),
    ]
    assert found(copy) == every[0]
    path.write_text(jsonl("changed"))
    assert len({*every, found()}) == len(every) + 1


DAMAGES = ["truncated", "grown", "flipped", "gone", "facts torn", "facts foreign", "facts changed"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_built_again(
    damage: str, write: Write, tokenizer_folder: Path, cache: Path
) -> None:
    path = write("a.jsonl", jsonl("the quick fox"))
    found = tokenised(path, tokenizer_folder, cache)
    tokens, tokens_path = tokens_of(found).tolist(), Path(found.path)
    facts = tokens_path.with_suffix(".json")
    if damage == "truncated":
        tokens_path.write_bytes(tokens_path.read_bytes()[:-1])
    elif damage == "grown":
        tokens_path.write_bytes(tokens_path.read_bytes() + b"\0\0")
    elif damage == "flipped":
        content = bytearray(tokens_path.read_bytes())
        content[len(content) // 2] ^= 1
        tokens_path.write_bytes(content)
    elif damage == "gone":
        tokens_path.unlink()
    elif damage == "facts changed":
        facts.write_text(facts.read_text().replace('"bytes": 13', '"bytes": 15'))
    elif damage == "facts torn":
        facts.write_bytes(facts.read_bytes()[:5])
    else:
        facts.write_text('["a list"]')

    if damage not in ("gone", "facts foreign"):
        with pytest.raises(InputError, match=r"^mine: .* damaged.* tokenises"):
            found.open()
    assert tokenised(path, tokenizer_folder, cache) == found
    assert tokens_of(found).tolist() == tokens


def test_a_cache_from_before_checksums_is_read(
    write: Write, tokenizer_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("a.jsonl", jsonl("the quick fox"))
    found = tokenised(path, tokenizer_folder, cache)
    facts = Path(found.path).with_suffix(".json")
    told = json.loads(facts.read_bytes())
    assert len(told.pop("crc32")) == 8
    facts.write_text(json.dumps(told))
    monkeypatch.setattr("fitness.data.sources.load_tokenizer", lambda _: pytest.fail("tokenised"))

    assert tokenised(path, tokenizer_folder, cache) == found
    assert len(tokens_of(found)) == found.tokens


def test_a_checksum_is_computed_once_a_process_and_file(
    write: Write, tokenizer_folder: Path, cache: Path
) -> None:
    found = tokenised(write("a.jsonl", jsonl("the quick fox")), tokenizer_folder, cache)
    found.open()
    before = files._file_checksum.cache_info()

    found.open()

    assert files._file_checksum.cache_info().misses == before.misses
    expected = zlib.crc32(Path(found.path).read_bytes())
    facts = {"tokens": found.tokens}
    whole = zlib.crc32(json.dumps(facts).encode(), expected)
    assert files.checksum(Path(found.path), facts) == f"{whole:08x}"


def test_a_fault_leaves_nothing_in_the_cache_and_begins_with_the_name(
    write: Write, tokenizer_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fitness.data.sources.BATCH_CHARACTERS", 10)
    path = write("a.jsonl", jsonl("good", "also good", "good again", 3))

    with pytest.raises(InputError, match=r"^mine: .*a\.jsonl:4: 'text' is 3"):
        tokenised(path, tokenizer_folder, cache)
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_names_the_way_out(
    write: Write, tokenizer_folder: Path
) -> None:
    in_the_way = write("cache", "a file")

    with pytest.raises(InputError, match="set EVOMIX_CACHE to a folder with room"):
        tokenised(write("a.jsonl", jsonl("a")), tokenizer_folder, in_the_way)


def test_a_full_disk_names_the_way_out(
    write: Write, tokenizer_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fitness.files.os.fsync", full)

    with pytest.raises(InputError, match=r"No space left on device.*EVOMIX_CACHE"):
        tokenised(write("a.jsonl", jsonl("a")), tokenizer_folder, cache)
    assert list(cache.iterdir()) == []


def test_two_processes_at_the_same_source_do_not_disturb_each_other(
    write: Write, tokenizer_folder: Path, cache: Path
) -> None:
    path = write("a.jsonl", jsonl(*(f"document {n} " * 50 for n in range(3000))))
    program = f"""
from pathlib import Path
from fitness.data.documents import Source
from fitness.data.sources import tokenise
found = tokenise("mine", Source(path={str(path)!r}), Path(), Path({str(tokenizer_folder)!r}),
                 Path({str(cache)!r}))
print(found.tokens, int(found.open().astype(int).sum()))
"""
    running = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(2)
    ]
    answers = [process.communicate()[0] for process in running]

    assert [process.returncode for process in running] == [0, 0]
    assert answers[0] == answers[1] != b""
    assert sorted(file.suffix for file in cache.iterdir()) == [".json", ".tokens"]


def test_memory_of_tokenising_does_not_grow_with_the_source(
    write: Write, tokenizer_folder: Path, cache: Path
) -> None:
    """Python's memory; the tokenizer's own, in Rust, is that of one batch."""

    def peak(path: Path) -> int:
        tracemalloc.start()
        tokenised(path, tokenizer_folder, cache)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    line = "the quick fox jumps over the lazy dog\n"
    tokenised(write("warm.txt", line), tokenizer_folder, cache)
    one, three = (peak(write(f"{mb}.txt", line * (mb * 26_000))) for mb in (2, 6))
    assert three < 1.2 * one


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eos_token": None}, "no end-of-sequence token.*set `eos_token`"),
        (None, "no usable tokenizer in it"),
    ],
)
def test_a_tokenizer_that_cannot_be_used_is_refused(
    settings: dict[str, Any] | None, message: str, write: Write, cache: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    if settings is not None:
        byte_tokenizer(**settings).save_pretrained(folder)

    with pytest.raises(InputError, match=message):
        tokenised(write("a.jsonl", jsonl("a")), folder, cache)
    with pytest.raises(InputError, match="no such folder"):
        tokenised(write("a.jsonl", jsonl("a")), tmp_path / "nowhere", cache)


def test_tokens_that_went_missing_name_the_way_out(
    write: Write, tokenizer_folder: Path, cache: Path
) -> None:
    found = tokenised(write("a.jsonl", jsonl("a")), tokenizer_folder, cache)
    Path(found.path).unlink()

    with pytest.raises(InputError, match="EVOMIX_CACHE"):
        found.open()


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("EVOMIX_CACHE", raising=False)
    assert cache_folder() == Path("/home/me/.cache/evomix")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/evomix")
    monkeypatch.setenv("EVOMIX_CACHE", "~/tokens")
    assert cache_folder() == Path("/home/me/tokens")


def test_reading_imports_none_of_the_heavy_libraries() -> None:
    program = (
        "import sys; import fitness.data.sources, fitness.mixture.mixing, fitness.metrics;"
        "import fitness.inference.sampling;"
        "heavy = {'torch', 'transformers', 'ray', 'datasets', 'pandas', 'pyarrow', 'sacrebleu'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert (found.returncode, found.stderr) == (0, "")
