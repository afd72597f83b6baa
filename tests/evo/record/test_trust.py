"""A run folder of somebody else's runs none of their code, and none of their links is followed."""

import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from evo import config as configuration
from evo.cli import main
from evo.config import SearchConfig
from evo.export.model import export
from evo.progress.live import Progress
from evo.record import trust
from fitness.errors import InputError
from fitness.feedback.store import FOLDER, Store
from fitness.models import weights
from tests.evo.export.test_model import (  # noqa: F401 (fixtures)
    FULL,
    LORA,
    QUICKSTART,
    finished,
    run,
    task,
)
from tests.evo.facts import read
from tests.evo.strange import without_sums

EVIL = "evil_module_of_a_stranger:run"
CODE = "from pathlib import Path\nPath(__file__).with_name('was-run').touch()\nrun = print\n"
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def strange(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """A run that nobody launched here, its module in the folder where the user works."""
    monkeypatch.setenv("EVOMIX_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "evil_module_of_a_stranger.py").write_text(CODE)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.syspath_prepend(str(tmp_path / "work"))
    return run


def was_run() -> bool:
    return Path("was-run").exists()


def altered(run: Path, change: Change) -> None:  # noqa: F811
    """The spec that the run was begun with, in its record and its folder, made another one."""
    path = run / "ledger.jsonl"
    first, rest = without_sums(run / "ledger.jsonl").split("\n", 1)
    fact = json.loads(first)
    change(fact["config"])
    fact["time"] = 1.0
    path.write_text(json.dumps(fact) + "\n" + rest)
    configuration.write_yaml(fact["config"], run / "config.yaml")


def base_with(content: dict[str, Any], *, file: str = "config.json") -> Change:
    """The base model beside the run, with more in one of its settings."""

    def change(config: dict[str, Any]) -> None:
        base = Path(shutil.copytree(QUICKSTART / "model", Path("base").resolve()))
        told = json.loads((base / file).read_text())
        (base / file).write_text(json.dumps({**told, **content}))
        config["model"]["base"] = str(base)

    return change


def linking_base(config: dict[str, Any]) -> None:
    """The base model with a link among its tokenizer's files."""
    base_with({})(config)
    Path("secret").write_text("private")
    (Path("base") / "vocab.txt").symlink_to(Path("secret").resolve())


def part_of(settings: dict[str, Any]) -> Change:
    def change(config: dict[str, Any]) -> None:
        Path("part").mkdir()
        Path("part", weights.ADAPTER).write_text(json.dumps({"peft_type": "LORA", **settings}))
        config["parts"] = {"one": str(Path("part").resolve())}

    return change


def rewarded(config: dict[str, Any]) -> None:
    config["recipe"] |= {"method": "reinforce", "rewards": {EVIL: 1.0}}


PROMPTS = {"selection": "x", "test": "x", "metrics": ["chrf", EVIL]}
CHANGES: dict[str, tuple[Change, str]] = {
    "a reward": (rewarded, "recipe names "),
    "rewards as a gene": (
        lambda config: config["genome"].update(
            reinforce_kl={"type": "choice", "options": [0, EVIL]}
        ),
        "genome names ",
    ),
    "a known genome": (
        lambda config: config.update(known=[{"rewards": {EVIL: 1}}]),
        "known names ",
    ),
    "a metric": (
        lambda config: config.update(prompts={"p": PROMPTS}),
        r"prompts\.p\.metrics names ",
    ),
    "a base with code": (
        base_with({"auto_map": {"AutoModelForCausalLM": "evil.Model"}}),
        r"model\.base names 'auto_map",
    ),
    "a tokenizer with code": (
        base_with({"auto_map": {"AutoTokenizer": ["evil.T", None]}}, file="tokenizer_config.json"),
        r"model\.base names 'auto_map",
    ),
    "a kernel": (
        base_with({"_attn_implementation": "evil/kernel"}),
        r"model\.base names '_attn_implementation",
    ),
    "a base with a link": (linking_base, r"model\.base names 'vocab\.txt, a link to /"),
    "an adapter that imports": (
        part_of({"megatron_config": {"x": 1}, "megatron_core": "evil"}),
        r"parts\.one names .megatron_config.*megatron_core: evil",
    ),
    "an adapter of another library": (
        part_of({"auto_mapping": {"parent_library": "evil"}}),
        r"parts\.one names .auto_mapping",
    ),
    "another kind of adapter": (
        part_of({"peft_type": "XLORA"}),
        r"parts\.one names 'peft_type: XLORA",
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize(
    "command",
    [
        ("export", "--to", "to"),
        ("export", "--as", "trl", "--to", "to"),
        ("generate", "--to", "to"),
        ("resume",),
    ],
)
def test_code_of_a_stranger_is_refused_by_every_command_that_would_run_it(
    strange: Path, kind: str, command: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    change, told = CHANGES[kind]
    altered(strange, change)
    name, *options = command
    assert main([name, str(strange), *options]) == 2
    error = capsys.readouterr().err
    assert re.search(told, error), error
    assert "Say --trust if you know who wrote the run" in error
    assert not was_run()
    assert not Path("to").exists()


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"evaluator": EVIL}, "evaluator names "),
        ({"evaluator": {"python": EVIL}}, "evaluator names "),
        ({"evaluator": {"command": ["./evil", "{recipe}"]}}, "evaluator.command names "),
        ({"rounds": {"filters": [EVIL]}}, "rounds.filters names "),
        ({"rounds": {"annotator": EVIL}}, "rounds.annotator names "),
    ],
)
def test_what_a_search_of_a_stranger_runs_is_not_resumed(
    strange: Path, section: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    altered(strange, lambda config: config.update(section))
    assert main(["resume", str(strange)]) == 2
    assert told in capsys.readouterr().err
    assert not was_run()


def test_a_spec_that_was_changed_in_the_folder_alone_is_not_imported(
    strange: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = read(strange)[0]["config"]
    plain["recipe"] |= {"method": "reinforce", "rewards": {EVIL: 1.0}}
    configuration.write_yaml(plain, strange / "config.yaml")
    assert main(["resume", str(strange)]) == 2
    assert "recipe names" in capsys.readouterr().err
    assert not was_run()


def test_an_individual_may_name_code_as_little_as_the_spec(strange: Path) -> None:
    path = strange / "ledger.jsonl"
    path.write_text(
        without_sums(strange / "ledger.jsonl").replace(
            '"adapter":"none"', f'"rewards":{{"{EVIL}":1}}'
        )
    )
    with pytest.raises(InputError, match=f"individual 0 names '{EVIL}'"):
        export(strange, str(LORA), Path("to"))
    assert not was_run()


def test_an_adapter_that_was_put_among_the_weights_is_not_loaded(strange: Path) -> None:
    settings = weights.folder_of(strange / "artifacts", LORA) / weights.ADAPTER
    told = json.loads(settings.read_text())
    settings.write_text(json.dumps({**told, "megatron_config": {}, "megatron_core": "evil"}))
    with pytest.raises(InputError, match=r"artifacts/individual-1 names 'megatron_core: evil'"):
        export(strange, str(LORA), Path("to"))


def test_trusted_code_is_run(strange: Path) -> None:
    altered(strange, rewarded)
    folder = export(strange, str(FULL), Path("to"), trusted=True)
    assert (folder / "config.json").is_file()


def test_what_was_launched_here_needs_no_word_of_trust(strange: Path) -> None:
    altered(strange, rewarded)
    spec = read(strange)[0]["config"]
    trust.remember({**spec, "import_from": "/elsewhere"})
    with pytest.raises(InputError, match="--trust"):  # a module of this name from another folder
        export(strange, str(FULL), Path("to"))
    trust.remember(spec)
    export(strange, str(FULL), Path("to"))
    altered(strange, lambda config: config["recipe"]["rewards"].update({"other:run": 1.0}))
    with pytest.raises(InputError, match=r"recipe names 'other:run'\. Say --trust"):
        export(strange, str(FULL), Path("again"))


def test_a_launch_remembers_what_its_spec_names(
    strange: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evo import run as search
    from evo.launching import launch

    altered(strange, rewarded)
    config = configuration.of(read(strange))
    monkeypatch.setattr(search, "launch", lambda *given, **named: True)

    def plainly(config: SearchConfig, folder: Path) -> Progress:
        return Progress(config, folder, "plain")

    assert launch(config, Path("new"), plainly)
    export(strange, str(FULL), Path("to"))


def test_commands_that_read_a_run_import_nothing_that_it_names(
    strange: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    altered(strange, rewarded)
    altered(strange, lambda config: config.update(prompts={"p": PROMPTS}, known=[{"x": EVIL}]))
    with Store(strange / FOLDER):
        pass
    commands = [
        ("status", strange),
        ("history", strange),
        ("report", strange),
        ("compare", strange, "--html", "compare.html"),
        ("feedback", "report", strange),
        ("feedback", "export", strange, "--as", "rating", "ratings.jsonl"),
    ]
    for command in commands:
        assert main([str(part) for part in command]) in (0, 2), command
        error = capsys.readouterr().err
        assert "trust" not in error
    assert not was_run()


# ---------------------------------------------------------------- links


def link_to_a_secret(folder: Path, name: str) -> None:
    secret = Path("secret").resolve()
    secret.write_text("private")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(secret)


@pytest.mark.parametrize(
    ("individual", "name"),
    [(FULL, "model.safetensors"), (FULL, "config.json"), (LORA, "adapter_model.safetensors")],
)
def test_a_link_among_the_weights_is_refused(strange: Path, individual: int, name: str) -> None:
    link_to_a_secret(weights.folder_of(strange / "artifacts", individual), name)
    with pytest.raises(InputError, match=rf"individual-{individual}/{name}: a link, not a regular"):
        export(strange, str(individual), Path("to"))
    assert not Path("to").exists()


def test_a_link_in_place_of_the_weights_folder_is_refused(strange: Path) -> None:
    folder = weights.folder_of(strange / "artifacts", FULL)
    folder.rename("elsewhere")
    folder.symlink_to(Path("elsewhere").resolve())
    with pytest.raises(InputError, match=r"individual-0: a link, not a folder"):
        export(strange, str(FULL), Path("to"))


def test_a_link_in_place_of_all_weights_is_refused(strange: Path) -> None:
    (strange / "artifacts").rename("elsewhere")
    (strange / "artifacts").symlink_to(Path("elsewhere").resolve())
    with pytest.raises(InputError, match=r"artifacts: a link, not a folder"):
        export(strange, str(FULL), Path("to"))


def test_links_of_the_hubs_cache_are_its_own(tmp_path: Path) -> None:
    model = tmp_path / "models--a--b"
    (model / "blobs").mkdir(parents=True)
    (model / "blobs" / "0").write_text("{}")
    snapshot = model / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").symlink_to("../../blobs/0")
    assert trust.code_in({"model": {"base": str(snapshot)}}) == []


def test_a_pipe_among_the_weights_is_not_waited_for(strange: Path) -> None:
    path = weights.folder_of(strange / "artifacts", FULL) / "model.safetensors"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match="not a regular file"):
        export(strange, str(FULL), Path("to"))


def test_whatever_else_lies_among_the_weights_stays_there(strange: Path) -> None:
    folder = weights.folder_of(strange / "artifacts", FULL)
    link_to_a_secret(folder, "README.md")
    link_to_a_secret(folder, "tokenizer.json")
    (folder / "modeling_evil.py").write_text(CODE)
    (folder / "more").mkdir()
    to = export(strange, str(FULL), Path("to"))
    names = {"README.md", "recipe.yaml", "config.json", "generation_config.json"}
    tokenizer = {"tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in to.iterdir()} == names | tokenizer | {"model.safetensors"}
    assert not any(b"private" in path.read_bytes() for path in to.iterdir())
