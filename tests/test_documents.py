"""README.md and docs/: commands and specs can be typed; benches, files and links exist."""

import argparse
import importlib
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ruamel.yaml import YAML

from evo.cli import CALLS
from evo.cli.arguments import parser
from evo.cli.feedback_arguments import with_action
from evo.config import ConfigError, SearchConfig, load
from evo.config.rounds import Rounds
from evo.config.search import Search
from evo.record.facts import KINDS
from evo.replay import roles
from fitness.data.kinds import NEEDED
from fitness.recipe import Recipe

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted((*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))
BENCHES = {
    path.stem
    for path in (ROOT / "tests" / "benchmarks").glob("*.py")
    if "__main__" in path.read_text(encoding="utf-8")
}
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
PLACEHOLDERS = {"RUN": "runs/first", "FILE": "file.jsonl", "N": "3", "HEAD": "localhost"}
# A complete spec that fragments shown in the documents are put into, section by section.
BASE: dict[str, Any] = {
    "name": "fragment",
    "model": {"base": "quickstart"},
    "sources": {"jargon": {"path": "jargon.jsonl"}, "devil": {"path": "devil.jsonl"}},
    "domains": {"target": {"path": "held_out.jsonl"}},
    "genome": {"mixture": {"type": "simplex"}},
    "objectives": {"target/loss": "minimize"},
    "budget": {"evaluations": 40, "tokens": 100_000},
}


class Block(NamedTuple):
    """A fenced block: its document and line, its language, its text."""

    place: str
    language: str
    text: str


def blocks(*languages: str) -> list[Block]:
    """The fenced blocks of these languages in README.md and docs/."""
    return [
        Block(
            f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, found.start()) + 1}",
            found[2],
            re.sub(rf"^{found[1]}", "", found[3], flags=re.MULTILINE),
        )
        for path in DOCUMENTS
        if path.name not in ("CHANGELOG.md", "ARCHITECTURE.md")
        for text in [path.read_text(encoding="utf-8")]
        for found in FENCE.finditer(text)
        if found[2] in languages
    ]


def lines(block: Block, beginning: str) -> Iterator[list[str]]:
    """The commands of a block that begin with a word, split as a shell does, without comments."""
    text = block.text.replace("\\\n", " ")
    for line in re.split(r"\n|&&", text):
        words = shlex.split(re.split(r"\s+#(?=\s)|\s2>&1", line.strip().removeprefix("$ "))[0])
        if words[:1] == [beginning]:
            yield words[1:]


def commands() -> list[Any]:
    """Every `evo` command of the documents, in fenced blocks, with its place."""
    shown = [
        (block.place, words) for block in blocks("sh", "text") for words in lines(block, "evo")
    ]
    return [pytest.param(place, words, id=shlex.join(words)[:60]) for place, words in shown]


def parsed(words: list[str]) -> argparse.Namespace:
    """A command's arguments by the real parser; placeholders such as RUN stand for a value."""
    given = [PLACEHOLDERS.get(word, word) for word in words]
    return parser(CALLS).parse_args(with_action(given))


@pytest.mark.parametrize(("place", "words"), commands())
def test_every_command_shown_parses(
    place: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        assert callable(parsed(words).command)
    except SystemExit:
        pytest.fail(f"{place}: evo {shlex.join(words)}: {capsys.readouterr().err}")


def test_commands_are_found_and_a_wrong_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(commands()) > 40
    with pytest.raises(SystemExit):
        parsed(["launch", "search.yaml", "--dryrun-it"])
    assert "--dryrun-it" in capsys.readouterr().err


def test_every_target_of_make_that_is_shown_exists() -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    shown = {words[0] for block in blocks("sh", "text") for words in lines(block, "make")}
    assert shown <= set(targets)
    assert {"run", "test"} <= shown


def specs() -> list[Any]:
    """Every YAML block of the documents that is a spec or a part of one, as pytest parameters."""
    found = [(block, YAML(typ="safe", pure=True).load(block.text)) for block in blocks("yaml")]
    return [
        pytest.param(data, id=block.place)
        for block, data in found
        if not block.text.startswith("# roles.yaml")
    ]


def completed(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A fragment within a complete spec; what is complete stays as it is."""
    whole = {"name", "genome", "objectives", "budget"} <= spec.keys()
    if whole:
        return dict(spec)
    merged = dict(BASE)
    for section, given in spec.items():
        own = BASE.get(section)
        merged[section] = {**own, **given} if isinstance(own, dict) else given
    if isinstance(spec.get("evaluator"), dict) and "command" in spec["evaluator"]:
        merged["objectives"], merged["domains"] = {"loss": "minimize"}, {}
    return merged


@pytest.mark.parametrize("spec", specs())
def test_every_spec_shown_is_one_that_loads(
    spec: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its keys, their values, and whether they fit each other; no data is read."""
    assert spec.keys() <= SearchConfig.model_fields.keys()
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("torchrun", "python"):  # whichever machine this is
        (programs / name).symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    (tmp_path / "benchmarks").symlink_to(ROOT / "runs" / "benchmarks")  # tasks are looked up
    path = tmp_path / "search.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(completed(spec), file)
    assert load(path).name == spec.get("name", BASE["name"])


def test_specs_are_found_and_a_wrong_key_is_refused(tmp_path: Path) -> None:
    assert len(specs()) > 10
    path = tmp_path / "search.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(completed({"search": {"populaton": 3}}), file)
    with pytest.raises(ConfigError, match="populaton"):
        load(path)


def test_the_roles_shown_can_be_read(tmp_path: Path) -> None:
    (shown,) = [block for block in blocks("yaml") if block.text.startswith("# roles.yaml")]
    path = tmp_path / "roles.yaml"
    path.write_text(shown.text, encoding="utf-8")
    columns = ["w_a", "w_b", "learning_rate", "batch_size", "adapter", "loss"]
    assert roles.load(path, columns, "runs.csv").roles.objectives == {"loss": "minimize"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_bench_and_file_named_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = set(re.findall(r"make bench\s+NAME=(\w+)", text))
    assert named <= BENCHES
    packages = "tests|evo|fitness|population|docs|oracles|runs/(?=[\\w-]+\\.yaml)"
    shown = re.findall(rf"`((?:{packages})[\w/.-]*[\w/])`", text)
    assert [one for one in shown if "/" in one and not is_there(one)] == []


def is_there(name: str) -> bool:
    """Whether a file or a folder is there; docs/oracles.md names tests by their place in tests/."""
    return (ROOT / name).exists() or (ROOT / "tests" / name).exists()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    broken = []
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:|mailto:", target):
            continue
        name, _, heading = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists() or (heading and heading not in anchors(file)):
            broken.append(target)
    assert broken == []


def anchors(path: Path) -> set[str]:
    """The headings of a page as anchors; those of what is included into it as well."""
    text = path.read_text(encoding="utf-8")
    if path.name == "results.md":
        text += (ROOT / "tests" / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    if path.name == "spec.md":
        return {*_slugs(text), "evaluator-as-a-command"}  # generated from the models
    return _slugs(text)


def _slugs(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {
        re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles
    }


def test_ruff_has_one_version() -> None:
    hook = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    (version,) = re.findall(r"rev: v(\S+)", hook)
    assert f"ruff=={version}\n" in (ROOT / "constraints.txt").read_text(encoding="utf-8")


def test_the_page_on_methods_has_every_kind_of_source() -> None:
    methods = (ROOT / "docs" / "how-to" / "method.md").read_text(encoding="utf-8")
    assert [kind for kind in NEEDED if f"| `{kind}`" not in methods] == []


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The hooks of mkdocs, which generate the reference."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module("hooks")


def test_the_reference_has_every_command_key_and_fact(hooks: Any) -> None:
    marked = {
        name for path in DOCUMENTS for name in hooks.MARK.findall(path.read_text(encoding="utf-8"))
    }
    assert marked == hooks.PARTS.keys()
    pages = {name: make() for name, make in hooks.PARTS.items()}
    assert [name for name in CALLS if f"## evo {name}\n" not in pages["commands"]] == []
    keys = {*SearchConfig.model_fields, *Search.model_fields, *Rounds.model_fields}
    assert [key for key in keys if f"| `{key}` |" not in pages["spec"]] == []
    assert [key for key in Recipe.model_fields if f"| `{key}` |" not in pages["recipe"]] == []
    assert [kind for kind in KINDS if f"`{kind}`" not in pages["fact_kinds"]] == []
    assert "| `replicates` | whole number | `3` | >= 1, &lt;= 100 |" in pages["spec"]


def test_a_page_that_would_fetch_something_is_found(hooks: Any, tmp_path: Path) -> None:
    local = '<link href="a.css"><a href="https://x.org">x</a><script src="a.js"></script>'
    (tmp_path / "local.html").write_text(local, encoding="utf-8")
    assert list(hooks.fetched(tmp_path)) == []
    for text in (
        '<script async src="https://x.org/a.js"></script>',
        "<link rel=stylesheet href=//x.org/a.css>",
        "<style>a { background: url(http://x.org/a.png) }</style>",
    ):
        (tmp_path / "other.html").write_text(text, encoding="utf-8")
        assert len(list(hooks.fetched(tmp_path))) == 1
