"""Data and models by URL: fetched once for each version, and said plainly where there is none."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fitness.data.documents import Source, files
from fitness.errors import InputError
from fitness.models import folders
from fitness.remote.fetched import fetched
from fitness.remote.store import Store
from tests.fitness.quickstart import MODEL


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("EVOMIX_CACHE", str(tmp_path / "cache"))
    fetched.cache_clear()
    yield tmp_path / "cache"
    fetched.cache_clear()


def test_a_file_is_fetched_once_for_each_version_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text('{"text": "a"}\n')
    names: list[str] = []
    download = Store.download

    def noted(store: Store, name: str, to: Path) -> None:
        names.append(name)
        download(store, name, to)

    monkeypatch.setattr(Store, "download", noted)
    first = fetched(file.as_uri())
    assert first.name == "data.jsonl"
    assert first.read_bytes() == file.read_bytes()
    fetched.cache_clear()
    assert fetched(file.as_uri()) == first
    assert len(names) == 1
    file.write_text('{"text": "another"}\n')
    assert fetched(file.as_uri()) == first  # one version for as long as a process runs
    fetched.cache_clear()
    assert fetched(file.as_uri()).read_bytes() == file.read_bytes()
    assert first.read_text() == '{"text": "a"}\n'


def test_a_source_may_be_a_folder_by_url(tmp_path: Path) -> None:
    (tmp_path / "texts" / "deep").mkdir(parents=True)
    (tmp_path / "texts" / "a.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "texts" / "deep" / "b.txt").write_text("b")
    url = (tmp_path / "texts").as_uri()
    found = files(Source(path=url), Path("/nowhere"))
    assert [(path.name, path.read_text(), kind) for path, kind in found] == [
        ("a.jsonl", '{"text": "a"}\n', "jsonl"),
        ("b.txt", "b", "text"),
    ]


def test_a_model_is_fetched_with_the_files_that_it_is_loaded_from_alone(tmp_path: Path) -> None:
    there = shutil.copytree(MODEL, tmp_path / "small")
    (there / "pytorch_model.bin").write_bytes(b"pickled")
    folder = folders.locate(there.as_uri())
    assert folder.name == "small"
    assert folder.parents[2] == (tmp_path / "cache").resolve()
    assert {path.name for path in folder.iterdir()} == {path.name for path in MODEL.iterdir()}
    assert folders.fingerprint(folder) == folders.fingerprint(MODEL)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///nowhere/data.jsonl", "there is no such file or folder; check the address"),
        ("s4://bucket/data.jsonl", r"must begin with 's3://'.*did you mean 's3://'\?"),
        ("gs://bucket/data.jsonl", r"needs the package gcsfs; `pip install 'evomix\[gs\]'`"),
        ("s3://key:secret@bucket/data.jsonl", "may be a secret and would be recorded"),
    ],
)
def test_a_url_that_cannot_be_read_is_said_with_a_remedy(url: str, message: str) -> None:
    for read in (lambda: files(Source(path=url), Path()), lambda: folders.locate(url)):
        with pytest.raises(InputError, match=message) as caught:
            read()
        assert "key:secret" not in str(caught.value)
