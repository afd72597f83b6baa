"""The section `cleaning` of a spec: what is tokenised, what is said, and what is refused."""

from importlib import import_module
from pathlib import Path

import pytest

from evo import config as configuration
from evo.cli import main
from evo.prepare.outlook import outlook
from evo.prepare.task import prepare
from tests.fitness.quickstart import CORPUS, DATA

SPEC = f"""\
name: cleaned
model: {{base: quickstart}}
{DATA}recipe: {{learning_rate: 1e-3, sequence_length: 48, batch_size: 4}}
genome: {{mixture: {{type: simplex}}}}
objectives: {{target/loss: minimize}}
search: {{population: 4}}
budget: {{evaluations: 4, tokens: 10000}}
"""
CLEANING = """\
cleaning: {normalise: true, least_words: 30, languages: [en], held_out: true, duplicates: near}
"""


def spec(tmp_path: Path, more: str = "") -> Path:
    path = tmp_path / "search.yaml"
    path.write_text(SPEC + more)
    return path


def test_sources_are_tokenised_as_cleaned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = prepare(configuration.load(spec(tmp_path)))
    assert plain.cleaned == {}
    path = spec(tmp_path, CLEANING)
    config = configuration.load(path)
    ready = prepare(config)
    found = ready.cleaned["devil"]
    assert found.read == plain.task.sources["devil"].documents
    assert 0 < found.kept == ready.task.sources["devil"].documents < found.read
    assert ready.task.domains == plain.task.domains, "held-out text is left as it is"
    assert ready.fingerprints["sources"] != plain.fingerprints["sources"]
    notes = [note for note in outlook(config, ready).notes if "cleaning dropped" in note]
    both = ready.cleaned.values()
    dropped, read = sum(one.read - one.kept for one in both), sum(one.read for one in both)
    assert len(notes) == 1
    assert notes[0].startswith(f"cleaning dropped {dropped} of {read} documents: of jargon length ")
    assert f"; of devil length {found.read - found.kept}" in notes[0]
    assert main(["launch", str(path), "--dry-run"]) == 0
    assert f" {found.kept:,} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("cleaning: {sources: [devl]}\n", "did you mean devil"),
        ("cleaning: {language: [en]}\n", "cleaning.language: unknown key; did you mean languages"),
        ("cleaning: {duplicates: fuzzy}\n", "cleaning.duplicates"),
        ("cleaning: {least_words: 5, most_words: 2}\n", "most_words 2 is below least_words 5"),
    ],
)
def test_what_cannot_be_cleaned_is_refused(tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(configuration.ConfigError, match=message):
        configuration.load(spec(tmp_path, more))


def test_a_missing_library_is_named_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("evo.config.checks.cleaning"), "find_spec", lambda _: None)
    with pytest.raises(configuration.ConfigError, match=r"languages: needs the package py3langid"):
        configuration.load(spec(tmp_path, "cleaning: {languages: [en]}\n"))


def test_pools_have_filters_of_their_own(tmp_path: Path) -> None:
    pool = f"sources.pool={{path: {CORPUS}/x.jsonl, kind: sample}}"
    with pytest.raises(configuration.ConfigError, match="pool is a pool of samples"):
        configuration.load(spec(tmp_path, "cleaning: {sources: [pool]}\n"), [pool])
