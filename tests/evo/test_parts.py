"""Merging without training: a search over the shares of given fine-tunes."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from evo import config as configuration
from evo import history
from evo.cluster.shipping import marks, missing, moved, stored
from evo.config import ConfigError, SearchConfig
from evo.export.model import export
from evo.prepare.task import prepare
from evo.record.ledger import Fact
from fitness.errors import InputError
from fitness.evaluate.held_out import held_out_loss
from fitness.merging.lineage import read as weights_of
from fitness.models import weights
from fitness.models.base import Base
from tests.evo.facts import read
from tests.evo.planning.test_lineages import QUICKSTART, SPEC, cluster, load, search
from tests.fitness.merging.test_lineage import trained
from tests.fitness.quickstart import MODEL

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
HELD_OUT = SPEC[SPEC.index("domains:") : SPEC.index("recipe:")]
MERGE = f"""\
name: merge
model: {{base: quickstart}}
parts: {{first: parts/all, second: parts/adapter, third: parts/other}}
{HELD_OUT}\
recipe: {{merge_scale: 1.0}}
genome:
  mixture: {{type: simplex}}
  merge_method: {{type: choice, options: [svd, ties, dare_linear]}}
  merge_scale: {{type: float, low: 0.3, high: 1.5}}
objectives: {{target/loss: minimize}}
baselines: [uniform, only first, only second]
search: {{strategy: nsga2, population: 4, parallel: 2, replicates: 1}}
budget: {{evaluations: 7, tokens: 0}}
comparison: {{seeds: 1}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec with its parts: a fine-tune of all weights and two adapters."""
    place = tmp_path_factory.mktemp("merge")
    base = Base(MODEL)
    trained(base, place / "parts/all", 1, adapter="none")
    trained(base, place / "parts/adapter", 2, adapter="lora", lora_rank=2)
    trained(base, place / "parts/other", 3, adapter="lora", lora_rank=3)
    (place / "search.yaml").write_text(MERGE)
    return place


@pytest.fixture(scope="module")
def config(folder: Path) -> SearchConfig:
    return configuration.load(folder / "search.yaml")


@pytest.fixture(scope="module")
def run(folder: Path, config: SearchConfig) -> Path:
    prepared = prepare(config)
    place = folder / "run"
    search(place, config, prepared, cluster(prepared, place))
    return place


def measured(facts: list[Fact]) -> dict[int, float]:
    return {
        f["individual"]: f["measurements"]["target/loss"]
        for f in facts
        if f["fact"] == "evaluation" and f["split"] == "selection" and f["fidelity"] == 1
    }


def test_one_part_alone_is_what_it_was(folder: Path, config: SearchConfig, run: Path) -> None:
    domain = prepare(config).task.domains["target"]["selection"]
    base = Base(MODEL)
    found = measured(read(run))
    with torch.no_grad():
        for name, weight in base.model.named_parameters():
            weight.copy_(weights_of(folder / "parts/all").all[name])
    alone = held_out_loss(base.model, domain, 96)
    assert history.baselines(read(run)) == {"uniform": 0, "only first": 1, "only second": 2}
    assert found[1] == pytest.approx(alone, abs=1e-6)
    assert len({round(loss, 6) for loss in found.values()}) == len(found) == 7


def test_a_merge_trains_nothing_and_is_exported_to_the_bit(tmp_path: Path, run: Path) -> None:
    facts = read(run)
    assert {f["cost"]["tokens"] for f in facts if f["fact"] == "evaluation"} == {0}
    best = history.best(facts)
    export(run, "best", tmp_path / "kept")
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    shutil.rmtree(weights.folder_of(copy / "artifacts", best or 0))
    export(copy, "best", tmp_path / "again")
    first, second = (tmp_path / name / "model.safetensors" for name in ("kept", "again"))
    assert first.read_bytes() == second.read_bytes()
    assert "merges of parts" in (tmp_path / "kept/README.md").read_text()


def test_a_part_that_changed_is_noticed(tmp_path: Path, folder: Path, run: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "merge")
    shutil.rmtree(other / "parts/all")
    shutil.copytree(folder / "parts/adapter", other / "parts/all")
    before, after = (
        prepare(configuration.load(place / "search.yaml")).fingerprints["parts"]
        for place in (folder, other)
    )
    assert before["second"] == after["second"] == after["first"] != before["first"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tokens: 0", "tokens: 768", "merged without training; give 0"),
        (
            "  mixture: {type: simplex}",
            "  start: {type: choice, options: [parent, merge]}",
            "start",
        ),
        ("only second", "only nobody", "part 'nobody'|source 'nobody'"),
        ("parts: {", "sources: {a: {path: x.txt}}\nparts: {", "leave the sources out"),
        (
            "parts: {first: parts/all, second: parts/adapter, third: parts/other}",
            "",
            "at least one",
        ),
    ],
)
def test_what_does_not_go_with_parts_is_said(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, MERGE.replace(old, new))


def _empty(part: Path) -> None:
    for path in part.iterdir():
        path.unlink()


def _smaller(part: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(part / "model.safetensors")
    save_file({name: tensor[:1] for name, tensor in tensors.items()}, part / "model.safetensors")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (shutil.rmtree, "parts.first: there is no folder"),
        (_empty, "neither a model nor a PEFT adapter"),
        (_smaller, "do not have the shapes of the base's"),
    ],
)
def test_a_part_that_cannot_be_merged_is_said_before_anything_runs(
    tmp_path: Path, folder: Path, harm: Callable[[Any], None], message: str
) -> None:
    place = shutil.copytree(folder, tmp_path / "merge")
    harm(place / "parts/all")
    with pytest.raises(InputError, match=message):
        prepare(configuration.load(place / "search.yaml"))


def test_parts_are_sent_to_machines_that_lack_them(
    tmp_path: Path, config: SearchConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVOMIX_CACHE", str(tmp_path))
    task = prepare(config).task
    wanted = marks(task)
    assert missing(task, wanted) == []
    elsewhere = {
        (path if path.is_relative_to(QUICKSTART) else tmp_path / "gone" / path.name): mark
        for path, mark in wanted.items()
    }
    gone = replace(task, parts={"first": tmp_path / "gone"})
    assert tmp_path / "gone/model.safetensors" in missing(gone, elsewhere)
    part = folder / "parts/all"
    copies = {path: stored(path, path.read_bytes(), wanted) for path in part.iterdir()}
    there = moved(task, copies).parts
    assert there["first"] != task.parts["first"]
    assert (there["first"] / "model.safetensors").read_bytes() == (
        part / "model.safetensors"
    ).read_bytes()
    assert there["second"] == task.parts["second"]
