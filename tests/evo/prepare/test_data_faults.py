"""Faults in the data of a spec are reported all at once and before anything is trained."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from evo import config as configuration
from evo.dry_run import plan
from evo.prepare import data as preparing
from evo.prepare.architecture import adapter_warnings
from evo.prepare.task import prepare
from fitness.errors import InputError
from fitness.models.soundness import Soundness
from tests.fitness.quickstart import CORPUS

HELD_OUT = f"{CORPUS}/held_out/jargon"
PROMPTS = f"{CORPUS}/prompts/jargon"


def spec_of(folder: Path, sources: dict[str, object], **changes: object) -> Path:
    """A spec of one domain and one set of prompts with the sources; written as JSON, so YAML."""
    parts = {
        "name": "faults",
        "model": {"base": "quickstart"},
        "sources": sources,
        "domains": {
            "target": {
                "selection": {"path": f"{HELD_OUT}.selection.jsonl", "limit": 10},
                "test": {"path": f"{HELD_OUT}.test.jsonl", "limit": 10},
            }
        },
        "recipe": {"sequence_length": 48, "batch_size": 4},
        "genome": {
            "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
            **({"mixture": {"type": "simplex"}} if len(sources) > 1 else {}),
        },
        "objectives": {"target/loss": "minimize"},
        "search": {"strategy": "random", "population": 4, "replicates": 1},
        "budget": {"evaluations": 4, "tokens": 1920},
        "resources": {"workers": 1},
        "comparison": {"seeds": 1},
        **changes,
    }
    path = folder / "search.yaml"
    path.write_text(json.dumps(parts))
    return path


def lines(path: Path, *records: object) -> dict[str, object]:
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return {"path": str(path)}


def fault(spec: Path) -> str:
    with pytest.raises(InputError) as caught:
        prepare(configuration.load(spec))
    return str(caught.value)


def test_faults_of_sources_domains_and_prompts_are_told_together(tmp_path: Path) -> None:
    sources = {
        "good": {"path": f"{CORPUS}/sources/jargon.jsonl"},
        "short": lines(tmp_path / "short.jsonl", {"text": "too little"}),
        "chats": lines(tmp_path / "chats.jsonl", {"messages": []}),
        "gone": {"path": str(tmp_path / "chat.jsonl")},
    }
    wrong = lines(tmp_path / "held_out.jsonl", {"text": 1}, {"text": "fine"}, {"text": 2})
    right = {"path": f"{HELD_OUT}.test.jsonl", "limit": 10}
    prompts = {"selection": f"{PROMPTS}.selection.jsonl", "test": str(tmp_path / "chats.jsonl")}
    changes = {"domains": {"target": {"selection": wrong, "test": right}}}

    told = fault(spec_of(tmp_path, sources, **changes, prompts={"asked": prompts}))

    assert "domains.target.selection: " in told
    assert "held_out.jsonl:1: 'text' is 1" in told
    assert "held_out.jsonl:3: 'text' is 2" in told
    assert "prompts.asked.test: " in told
    assert "sources.chats: " in told
    assert "these are chats: set `kind: completion`" in told
    assert "did you mean 'chats.jsonl'?" in told
    assert "tokens are fewer than one sequence of 48" in told
    assert "sources.good" not in told


def test_of_thousands_of_faulty_sources_the_first_are_told_and_no_others_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = []
    tokenise = preparing.tokenise

    def counted(name: str, *arguments: Any, **settings: Any) -> object:
        looked_at.append(name)
        return tokenise(name, *arguments, **settings)

    monkeypatch.setattr(preparing, "tokenise", counted)
    sources = {f"s{n}": {"path": f"{tmp_path}/gone{n}.jsonl"} for n in range(200)}

    told = fault(spec_of(tmp_path, dict(sources))).splitlines()

    assert len(told) == preparing.FAULTY + 1
    assert len(looked_at) == preparing.FAULTY + 2  # the domain's two splits
    assert told[-1].startswith("and perhaps more")


def test_the_dry_run_names_the_columns_that_nothing_reads(tmp_path: Path) -> None:
    records = [
        {"prompt": f"{n}?", "completion": " That is the answer.", "level": 3, "tags": ["a"]}
        for n in range(40)
    ]
    source = {**lines(tmp_path / "a.jsonl", *records), "kind": "completion"}
    console = Console(width=200, file=io.StringIO(), record=True)

    console.print(plan(configuration.load(spec_of(tmp_path, {"mine": source}))))

    assert "sources.mine: its columns 'level', 'tags' are not read" in console.export_text()


def test_the_dry_run_says_how_many_records_are_cut_and_to_what(tmp_path: Path) -> None:
    pairs = Path(__file__).parents[2] / "cases" / "answers" / "long_prompts.jsonl"
    sources: dict[str, object] = {"case": {"path": str(pairs), "kind": "preference"}}
    genome = {
        "sequence_length": {"type": "choice", "options": [32, 400]},
        "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2},
    }
    recipe = {"method": "preference", "batch_size": 4}
    spec = spec_of(tmp_path, sources, recipe=recipe, genome=genome)
    console = Console(width=200, file=io.StringIO(), record=True)

    console.print(plan(configuration.load(spec)))

    told = " ".join(console.export_text().split())
    uncut = "warning: sources.case: none of its records is cut at sequence_length 400"
    assert f"{uncut}; at 32, 30 of 30 are, to" in told


@pytest.mark.parametrize("more", [0, 2])
def test_what_an_adapter_does_not_reach_is_told_with_a_remedy(more: int, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, {"a": lines(tmp_path / "a.jsonl", {"text": "long enough " * 50})})
    spec.write_text(
        spec.read_text().replace('"batch_size": 4', '"batch_size": 4, "adapter": "lora"')
    )
    config = configuration.load(spec)
    prepared = prepare(config)
    without = {f"layers.*.experts.{n}": "no linear module" for n in range(3 + more)}
    sound = Soundness(layers=100, adaptable={"layers.0.q_proj": 14}, without=without)

    (told,) = adapter_warnings(config, replace(prepared, soundness=sound))

    assert "covers 14% of the layers' weights" in told
    assert "layers.*.experts.2: no linear module" in told
    assert ("; and 2 more)" in told) == (more == 2)
    assert "experts.3" not in told
    assert "Set `adapter: none` to train all weights" in told
