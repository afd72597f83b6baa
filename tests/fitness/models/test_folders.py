"""Model folders: what is found, fetched, refused and told without loading anything."""

import importlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fitness.errors import InputError
from fitness.models import folders
from fitness.models.base import Base
from tests.fitness.models.test_base import WEIGHTS, rewritten
from tests.fitness.quickstart import MODEL


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The quickstart's model, to be damaged."""
    return Path(shutil.copytree(MODEL, tmp_path / "copy"))


def test_weights_are_counted_without_loading_them(base: Base) -> None:
    assert folders.parameters(MODEL) == base.model.num_parameters() == WEIGHTS


def test_the_fingerprint_follows_the_weights_and_the_configuration(copy: Path) -> None:
    before = folders.fingerprint(copy)
    assert before == folders.fingerprint(MODEL)
    rewritten(copy, lambda weights: weights["model.norm.weight"].mul_(2))
    after = folders.fingerprint(copy)
    config = (copy / "config.json").read_text()
    (copy / "config.json").write_text(config + "\n")
    assert len({before, after, folders.fingerprint(copy)}) == 3


@pytest.mark.parametrize(
    "damage", ["cut", "longer", "pointer", "empty", "huge header", "no object"]
)
def test_a_damaged_weights_file_is_found_before_anything_loads_it(copy: Path, damage: str) -> None:
    path = copy / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut": whole[:-1],
            "longer": whole + b"x",
            "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "empty": b"",
            "huge header": b"\xff" * 64,
            "no object": (2).to_bytes(8, "little") + b"[]",
        }[damage]
    )
    with pytest.raises(InputError, match=r"model\.safetensors: not a whole safetensors file"):
        folders.locate(str(copy))


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("config.json", r"needs a config\.json"),
        ("*.safetensors", r"no \*\.safetensors in it"),
        ("tokenizer*", "no tokenizer files"),
    ],
)
def test_a_folder_that_is_no_model_says_what_it_lacks(copy: Path, missing: str, told: str) -> None:
    for path in copy.glob(missing):
        path.unlink()
    with pytest.raises(InputError, match=told):
        folders.locate(str(copy))


def test_a_mistyped_folder_names_its_neighbours(copy: Path) -> None:
    with pytest.raises(InputError, match="there is no such folder; beside it are copy"):
        folders.locate(str(copy.parent / "copi"))


def test_a_folder_is_located_as_an_absolute_path(copy: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(copy.parent)
    assert folders.locate("copy") == copy.resolve()


# ---------------------------------------------------------------- the Hub, out of reach


@pytest.fixture
def silent_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Hub that takes connections and never says a word, and an empty cache."""
    from huggingface_hub import constants

    importlib.import_module("huggingface_hub.hf_api")  # before the clock starts
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("silent_hub")
def test_a_hub_that_never_answers_is_waited_for_within_bounds() -> None:
    started = time.perf_counter()
    with pytest.raises(InputError, match=r"model\.base 'some/model': no such folder, not in the"):
        folders.locate("some/model", seconds=0.5)
    assert time.perf_counter() - started < 40


@pytest.mark.usefixtures("silent_hub")
def test_a_model_in_the_cache_needs_no_hub(tmp_path: Path) -> None:
    folder, commit = tmp_path / "hub" / "models--some--model", "0" * 40
    shutil.copytree(MODEL, folder / "snapshots" / commit)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    assert folders.locate("some/model", seconds=0.2) == folder / "snapshots" / commit


@pytest.mark.parametrize("name", ["no spaces allowed", "--"])
def test_a_name_that_the_hub_cannot_have_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="check the name, or give a model folder"):
        folders.locate(name)


def test_a_hub_behind_a_closed_port_is_told_about_at_once(tmp_path: Path) -> None:
    code = (
        "import time; from fitness.models import folders; started = time.perf_counter()\n"
        "try: folders.locate('some/model')\n"
        "except folders.InputError as error: print(error, time.perf_counter() - started, sep='\\n')"
    )
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "PYTHONPATH": str(Path(folders.__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    message, seconds = done.stdout.splitlines()
    assert "the Hub cannot be reached" in message
    assert float(seconds) < 40
