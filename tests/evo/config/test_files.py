from pathlib import Path

import pytest

from evo.config import ConfigError, load
from tests.evo.config.conftest import SPEC, errors_of, written


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ": the file is empty"),
        (b"# nothing\n", ": the file is empty"),
        (b"- a\n", ":1: a spec is a mapping of sections (`model:`, `genome:` ...), this is a list"),
        (b"name: x\nsearch:\n\tpopulation: 3\n", ":3: not valid YAML: a tab; indent with spaces"),
        (b"name: x\ny: caf\xe9\n", ":2: not UTF-8 (byte 0xe9 at offset 14)"),
        (b"name: x\na: b: c\n", ":2: not valid YAML: an unexpected `:`"),
        (b"name: x\na: 'b\nc: d\n", ":2: not valid YAML: a quote opens here and never closes"),
        (b"name: x\n---\nname: y\n", ":2: not valid YAML: a second document begins"),
        (b"name: x\x00\n", ": not valid YAML: unacceptable character #x0000"),
        (b"a: " + b"[" * 1000, ": nested far too deeply for a spec"),
    ],
)
def test_a_file_that_is_no_spec_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    assert errors_of(written(tmp_path / "a.yaml", content))[0].startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nseed: 1\nname: b\n", ":3: name: given twice, first in line 1; keep one of them"),
        ("a:\n  mean: */loss\n", ":2: not valid YAML: a word that begins with `*` refers to"),
        ("a: {mean: [b, *]}\n", ":1: not valid YAML: a word that begins with `*` refers to"),
        ("budget: &b\n  tokens: *b\n", ":1: budget: refers to itself through an alias"),
        ("model: !!python/object:os.system {}\nseed: !x 3\n", ":2: seed: the tag !x is not"),
        ("seed: " + "9" * 5000 + "\n", ":1: seed: a number too long to read"),
        ("? [a, b]\n: 3\n", ":1: a key must be a word"),
    ],
)
def test_yaml_that_a_spec_has_no_use_for_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    lines = errors_of(written(tmp_path / "a.yaml", text))
    assert any(line.startswith(message) for line in lines), "\n".join(lines)


def test_aliases_that_multiply_without_bound_are_refused(tmp_path: Path) -> None:
    text = "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n" + "".join(
        f"{here}: &{here} [{', '.join([f'*{before}'] * 9)}]\n"
        for before, here in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert "alias" in "\n".join(errors_of(written(tmp_path / "a.yaml", text)))


def test_a_missing_spec_names_what_is_near(
    tmp_path: Path, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "search.yaml", SPEC)
    for name, message in {
        "serch.yaml": "serch.yaml: there is no such spec; did you mean search.yaml?",
        "quickstrat": "quickstrat: there is no such spec; did you mean quickstart?",
        "zzz": "zzz: there is no such spec; there are a.yaml, search.yaml",
        ".": ".: a folder, not a spec; name the file: a.yaml, search.yaml",
    }.items():
        with pytest.raises(ConfigError) as raised:
            load(name)
        assert str(raised.value) == message
