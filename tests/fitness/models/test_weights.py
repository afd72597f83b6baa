"""Weights on disk: whole or not at all, and as good as the model they came from."""

import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fitness.evaluate.evaluator import Evaluator
from fitness.evaluate.held_out import held_out_loss
from fitness.evaluation import Status, Task
from fitness.models import weights
from fitness.models.base import Base
from tests.fitness.quickstart import LENGTH, MODEL, evaluate, small_recipe

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file may grow beyond `room` bytes: what a full disk is to whoever writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(20)[None]).logits


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_a_full_disk_costs_the_weights_and_not_the_evaluation(
    task: Task, tmp_path: Path, adapter: str
) -> None:
    evaluator = Evaluator(replace(task, artifacts=tmp_path))
    with full_disk(10_000):
        evaluation = evaluate(evaluator, individual=3, adapter=adapter)
    assert evaluation.status is Status.OK, evaluation.message
    assert list(tmp_path.iterdir()) == []
    again = evaluate(evaluator, individual=3, adapter=adapter)
    assert weights.folder_of(tmp_path, 3).is_dir()
    assert again.measurements == evaluation.measurements


def test_weights_that_were_kept_survive_a_full_disk(base: Base, tmp_path: Path) -> None:
    folder = weights.folder_of(tmp_path, 3)
    weights.keep(base.model, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with full_disk(10_000):
        weights.keep(base.model, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert list(tmp_path.iterdir()) == [folder]


def test_a_worker_that_dies_while_it_saves_leaves_no_weights_and_its_successor_cleans_up(
    base: Base, tmp_path: Path
) -> None:
    folder = weights.folder_of(tmp_path, 3)
    child = os.fork()
    if child == 0:  # dies at the worst moment: all is written but the name
        os.replace = lambda *paths: os._exit(9)
        weights.keep(base.model, folder)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert not folder.exists()
    (abandoned,) = tmp_path.iterdir()
    assert abandoned.name.startswith(f"individual-3.{child}-")
    other = weights.folder_of(tmp_path, 30)
    weights.keep(base.model, other)
    assert abandoned.exists()
    weights.keep(base.model, folder)
    assert sorted(tmp_path.iterdir()) == [folder, other]


def test_weights_are_kept_for_the_selection_split_only(task: Task, tmp_path: Path) -> None:
    evaluator = Evaluator(replace(task, artifacts=tmp_path))
    evaluate(evaluator, individual=1, split="test")
    evaluate(evaluator, individual=2, fidelity=0.0)
    assert list(tmp_path.iterdir()) == []
    evaluate(evaluator, individual=3)
    assert [path.name for path in tmp_path.iterdir()] == ["individual-3"]


def test_no_weights_are_kept_where_training_failed(task: Task, tmp_path: Path) -> None:
    evaluator = Evaluator(replace(task, artifacts=tmp_path))
    settings = {"learning_rate": 10, "warmup_share": 0, "clip_norm": 0, "batch_size": 1}
    assert evaluate(evaluator, **settings).status is Status.DIVERGED
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("adapter", ["none", "lora", "dora"])
def test_an_assembled_model_loses_what_was_measured(
    task: Task, tmp_path: Path, adapter: str, dtype: str, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    evaluator = Evaluator(replace(task, artifacts=tmp_path, dtype=dtype))
    scaled: dict[str, Any] = {"lora_scaling": "rank_stabilised", "lora_targets": "attention"}
    evaluation = evaluate(evaluator, adapter=adapter, learning_rate=5e-3, **scaled)
    kept, to = weights.folder_of(tmp_path, 0), tmp_path / "assembled"
    assert (kept / weights.ADAPTER).is_file() == (adapter != "none")
    weights.assemble(MODEL, kept, to, dtype=dtype)
    assert capfd.readouterr() == ("", "")
    assert not (to / weights.ADAPTER).exists()
    model = AutoModelForCausalLM.from_pretrained(to)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    loss = held_out_loss(model, task.domains["target"]["selection"], LENGTH)
    rounding = 1e-5 if adapter == "none" or dtype == "float32" else 2e-2  # base computes in it
    assert loss == pytest.approx(evaluation.measurements["target/loss"], abs=rounding)
    tokenizer, base = (AutoTokenizer.from_pretrained(folder) for folder in (to, MODEL))
    assert tokenizer("foo: n. bar")["input_ids"] == base("foo: n. bar")["input_ids"]


def test_a_full_model_is_assembled_to_the_last_bit(base: Base, tmp_path: Path) -> None:
    with base.prepared(small_recipe(), seed=0) as model:
        model.model.norm.weight.data.mul_(1.5)
        wanted = logits(model)
        weights.keep(model, tmp_path / "kept")
    weights.assemble(MODEL, tmp_path / "kept", tmp_path / "to")
    shutil.rmtree(tmp_path / "kept")
    again = Base(tmp_path / "to")
    with again.prepared(small_recipe(), seed=0) as model:
        assert torch.equal(logits(model), wanted)
