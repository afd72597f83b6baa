"""The wheel, built from the sdist: it holds every file, and searches without the repository."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.evo.driving import ROOT, environment

PACKAGES = ("evo", "fitness", "population")


def tracked(*places: str) -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", "-z", *places], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in done.stdout.split("\0") if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from an sdist of a copy of what git knows: nothing is left in the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in tracked(*PACKAGES, "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        to = folder / "source" / name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, to)
    sdist = "from setuptools.build_meta import build_sdist; build_sdist('..')"
    subprocess.run([sys.executable, "-c", sdist], cwd=folder / "source", check=True, timeout=300)
    (archive,) = folder.glob("*.tar.gz")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", folder, archive], check=True, timeout=300)
    (found,) = folder.glob("*.whl")
    return found


@pytest.mark.slow
def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if name.split("/")[0] in PACKAGES}
    assert inside == set(tracked(*PACKAGES))


@pytest.mark.slow
def test_an_installed_wheel_searches_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    site, run = tmp_path / "site", tmp_path / "run"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site)]
    subprocess.run([*pip, str(wheel)], check=True, timeout=300)
    settings = [
        *("search.population=4", "search.replicates=1", "comparison.seeds=1", "baselines=[]"),
        *("budget.evaluations=4", "budget.tokens=1536", "prompts={}"),
    ]
    line = [word for one in settings for word in ("--set", one)]
    done = subprocess.run(
        [sys.executable, "-m", "evo.cli", "launch", "quickstart", "--run", run, "--json", *line],
        cwd=tmp_path,
        env=environment(PYTHONPATH=site),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    facts = [json.loads(text) for text in done.stdout.splitlines()]
    assert facts[-1]["fact"] == "finished"
    assert str(site) in facts[0]["config"]["sources"]["jargon"]["path"]
