"""transformers 4.57 in a virtual environment of its own, made once and kept between runs."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from filelock import FileLock

from fitness.files import cache_folder

PACKAGES = ("transformers==4.57.*", "huggingface_hub<1", "tokenizers<0.23")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def older_python() -> Path:
    """An interpreter with transformers 4.57, and everything else from the running environment."""
    version = ".".join(map(str, sys.version_info[:2]))
    folder = cache_folder() / f"tests-transformers-4.57-python-{version}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "whole").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _make(folder)
            (folder / "whole").touch()
        # each time: another checkout with an environment of its own may have made the folder
        site = next(folder.glob("lib/python*/site-packages"))
        (site / "running.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "bin" / "python"


def _make(folder: Path) -> None:
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries", "1", "install"]
    target = ["--no-deps", "--quiet", "--target", str(site)]
    done = subprocess.run([*pip, *target, *PACKAGES], capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        pytest.skip(f"pip cannot install {PACKAGES[0]}: {last[0]}")


def in_older(python: Path, script: str, *arguments: object) -> str:
    """Output of a script under transformers 4.57; an error in it fails the test."""
    done = subprocess.run(
        [python, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
