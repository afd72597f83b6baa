"""Tables and compressed files as sources, and what is said of a file of another kind."""

import bz2
import csv
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fitness.data.documents import Source, documents, records
from fitness.data.kinds import other_kind
from fitness.data.sources import tokenise
from fitness.errors import Faults, InputError
from fitness.suggest import did_you_mean, listed
from tests.fitness.quickstart import MODEL

TEXTS = ["one", 'with "quotes", a comma', "two\nlines", "Grüße 🦊", "tab\there"]


def read(path: Path, **settings: Any) -> list[str]:
    return list(documents(Source(path=str(path), **settings), Path()))


def written(path: Path, rows: list[list[str]], delimiter: str = ",") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_a_table_is_read_by_its_columns(suffix: str, delimiter: str, tmp_path: Path) -> None:
    rows = [["id", "body"], *([str(n), text] for n, text in enumerate(TEXTS))]
    path = written(tmp_path / f"a.{suffix}", rows, delimiter)
    assert read(path, text="body") == TEXTS
    assert read(path.rename(tmp_path / "b.data"), text="body", format=suffix) == TEXTS
    pairs = [["prompt", "completion", "label"], ["a", "b", "True"], ["c", "d", "0"]]
    table = Source(path=str(written(tmp_path / "c.csv", pairs)), kind="rating")
    found = dict(records(table, Path()))
    assert list(found.values())[1] == {"prompt": "c", "completion": "d", "label": "0"}
    assert list(found) == [f"{tmp_path / 'c.csv'}:2", f"{tmp_path / 'c.csv'}:3"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text,id\na,1\nb\n", r"a\.csv:3: has 1 fields, and the first line names 2 columns"),
        (b'text\n"a\nb"\n"torn\n', r"a\.csv:\d: cannot be read as a table"),
        (b"text\na\nG\xfc\n", r"a\.csv:3: byte 2 of this line is not UTF-8"),
        (b"a,a\n1,2\n", r"a\.csv:1: the first line must name each column once"),
        (b"body\na\n", r"a\.csv:1: no column 'text', it has 'body'; did you mean 'body'\? name it"),
        (b"", r"there is no text in it"),
        (b"text\n", r"there is no text in it"),
    ],
)
def test_a_bad_table_is_told_by_its_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(content)

    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.csv")


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_a_table_parted_by_another_usual_delimiter_is_read(delimiter: str, tmp_path: Path) -> None:
    rows = [["id", "text"], *([f"1,{n}", text] for n, text in enumerate(TEXTS))]

    assert read(written(tmp_path / "a.csv", rows, delimiter)) == TEXTS
    assert read(written(tmp_path / "a.tsv", rows, ",")) == TEXTS
    assert read(written(tmp_path / "b.csv", [["text"], *([text] for text in TEXTS)])) == TEXTS


@pytest.mark.parametrize(
    ("names", "settings", "told"),
    [
        (["id", "body"], {}, "no column 'text', it has 'id', 'body'; did you mean 'body'? name it"),
        (["id", "text"], {"text": "txt"}, "did you mean 'text'? name it with `text: text`"),
        (["a", "b"], {}, "it has 'a', 'b'; name the one to read with `text`"),
        (["prompt", "completion"], {}, "these are prompts with completions: set `kind: comp"),
        (["text", "class"], {"kind": "label"}, "no column 'label', it has 'text', 'class'; "),
        (
            ["prompt", "good", "bad"],
            {"kind": "preference"},
            "no columns 'chosen', 'rejected', it has 'prompt', 'good', 'bad'; records of kind "
            "preference need 'prompt', 'chosen', 'rejected': name its columns so, unless these are "
            "prompts: set `kind: prompt`",
        ),
        (["prompt", "text"], {"kind": "rating"}, "no columns 'completion', 'label', it has"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_columns_that_a_table_lacks_are_told_once(
    names: list[str], settings: dict[str, Any], told: str, suffix: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "a.csv", [names, *([["x"] * len(names)] * 200)])
    if suffix == "parquet":
        path = tmp_path / "a.parquet"
        pq.write_table(pa.table({name: ["x"] * 200 for name in names}), path)

    with pytest.raises(InputError) as caught:
        tokenise("a", Source(path=str(path), **settings), tmp_path, MODEL, tmp_path / "cache")

    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"a: {path}")
    assert told in line


@pytest.mark.parametrize(("suffix", "method"), [("gz", "gzip"), ("zst", "zstd"), ("XZ", "xz")])
def test_a_file_that_is_not_compressed_as_its_name_says_is_told_so(
    suffix: str, method: str, tmp_path: Path
) -> None:
    for content in ('{"text": "a"}', "<html>not found</html>"):
        (tmp_path / f"a.jsonl.{suffix}").write_text(content)
        with pytest.raises(InputError) as caught:
            read(tmp_path / f"a.jsonl.{suffix}")
        told = f"its name says {method}, but it is not compressed; rename it to a.jsonl, or"
        assert told in str(caught.value)


@pytest.mark.parametrize("suffix", ["gz", "zst", "bz2", "xz"])
def test_a_compressed_file_is_read_as_what_is_in_it(suffix: str, tmp_path: Path) -> None:
    methods: dict[str, Callable[[bytes], bytes]] = {
        "gz": gzip.compress,
        "zst": lambda content: pa.Codec("zstd").compress(content, asbytes=True),
        "bz2": bz2.compress,
        "xz": lzma.compress,
    }
    lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()
    packed = methods[suffix](lines)
    for name in (f"a.jsonl.{suffix}", f"folder/b.JSONL.{suffix}"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(packed)
    (tmp_path / "c").write_bytes(packed)
    (tmp_path / f"d.txt.{suffix}").write_bytes(methods[suffix]("Grüße\r\n".encode()))
    (tmp_path / f"e.jsonl.{suffix}").write_bytes(methods[suffix](lines + b'{"text": "G\xfc"}'))
    (tmp_path / f"f.jsonl.{suffix}").write_bytes(packed[: len(packed) // 2])

    assert read(tmp_path / f"a.jsonl.{suffix}") == TEXTS
    assert read(tmp_path / "folder") == TEXTS
    assert read(tmp_path / "c", format="jsonl") == TEXTS
    assert read(tmp_path / f"d.txt.{suffix}") == ["Grüße\n"]
    with pytest.raises(InputError, match=r":6: byte 12 of this line is not UTF-8"):
        read(tmp_path / f"e.jsonl.{suffix}")
    with pytest.raises(InputError, match=rf"f\.jsonl\.{suffix}: cannot be"):
        read(tmp_path / f"f.jsonl.{suffix}")


def test_an_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"PK\3\4 and so on")

    with pytest.raises(InputError, match=r"a\.txt: is a zip archive; unpack it"):
        read(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("record", "kind", "said"),
    [
        ({"messages": []}, "text", "these are chats: set `kind: completion`"),
        ({"conversations": [], "id": 1}, "text", "these are chats: set `kind: completion`"),
        ({"messages": []}, "preference", "these are chats: set `kind: completion`"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "text", "set `kind: preference`"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "completion", "`kind: preference`"),
        ({"prompt": "a", "completion": "b", "label": True}, "preference", "`kind: rating`"),
        ({"prompt": "a", "completion": "b"}, "rating", "set `kind: completion`"),
        ({"prompt": "a", "completion": "b"}, "text", "set `kind: completion`"),
        ({"text": "a"}, "completion", "these are texts: leave `kind` out"),
        ({"prompt": "a", "reference": "b"}, "completion", "set `kind: prompt`"),
    ],
)
def test_a_record_of_another_kind_is_told_as_such(
    record: dict[str, Any], kind: Any, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(record))

    with pytest.raises(InputError, match=r"a\.jsonl:1: ") as caught:
        tokenise("a", Source(path=str(path), kind=kind), tmp_path, MODEL, tmp_path)
    assert said in str(caught.value)
    assert other_kind(record, kind)


def test_faults_of_one_source_come_together_and_their_number_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    bad = ['{"text": 3}', "no JSON", '{"txt": "a"}', '{"text": "\\ud800"}', "[]", '{"text": null}']

    def fault(lines: list[str]) -> list[str]:
        path.write_text("\n".join(lines))
        with pytest.raises(InputError) as caught:
            tokenise("sources.a", Source(path=str(path)), tmp_path, MODEL, tmp_path / "cache")
        return str(caught.value).splitlines()

    told = fault(['{"text": "good"}', *bad, bad[0]])
    assert told[0].startswith("sources.a: ")
    assert [
        line.strip().removeprefix("sources.a: ")[: len(f"{path}:2: ")] for line in told[:-1]
    ] == [f"{path}:{number}: " for number in range(2, 7)]
    assert told[-1].strip() == "and 2 more"
    assert len(fault([bad[0]])) == 1
    assert fault([bad[0]] * 5000)[-1].strip() == "and at least 95 more"


def test_faults_that_are_none_raise_nothing() -> None:
    faults = Faults()
    faults.check()
    with faults.noted():
        pass
    assert not faults


def test_what_a_user_wrote_at_length_is_not_repeated_at_length(tmp_path: Path) -> None:
    long = "x" * 100_000
    assert did_you_mean(long, ["xxx"]) == ""
    assert len(listed([long] * 3)) < 300
    (tmp_path / "a.jsonl").write_text(json.dumps({long: 1, "text": [long]}) + "\n" + long)
    for settings in ({"text": long + "y"}, {"text": "text"}, {"kind": "completion"}):
        with pytest.raises(InputError) as caught:
            list(documents(Source(path=str(tmp_path / "a.jsonl"), **settings), Path()))
        assert len(str(caught.value)) < 1000
    for path in (long, f"hub:{long}", f"{long}/a.jsonl", "~" + long):
        with pytest.raises(InputError) as caught:
            list(documents(Source(path=path), tmp_path))
        assert len(str(caught.value)) < 1000
