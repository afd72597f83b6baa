"""Compiled layers: the same loss and gradients, in training alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from evo.cli import BAD_INPUT, main
from fitness.evaluate import builtin
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import Task
from fitness.models.compiling import compiled
from tests.fitness.quickstart import evaluate


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch.compile
def test_compiled_layers_have_the_same_loss_and_gradients() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **sizes, **heads))
    rows = torch.randint(0, 64, (2, 16))

    def stepped() -> tuple[float, list[torch.Tensor], int]:
        torch._dynamo.utils.counters.clear()
        model.zero_grad()
        loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        gradients = [weight.grad.clone() for weight in model.parameters()]
        return loss.item(), gradients, torch._dynamo.utils.counters["frames"]["ok"]

    loss, gradients, frames = stepped()
    with compiled(model, wanted=True):
        same_loss, same_gradients, compiled_frames = stepped()
    assert (frames, compiled_frames > 0, stepped()[2]) == (0, True, 0)
    assert same_loss == pytest.approx(loss, rel=1e-6)
    for ours, theirs in zip(same_gradients, gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


def test_an_evaluation_compiles_its_training_where_resources_say_so(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[bool] = []

    @contextmanager
    def recorded(model: Any, **how: bool) -> Iterator[None]:
        wanted.append(how["wanted"])
        yield

    monkeypatch.setattr(builtin, "compiled", recorded)
    for how in (False, True):
        evaluate(Evaluator(replace(task, compile=how)))
    assert wanted == [False, True]


def test_a_machine_without_a_compiler_is_told_before_anything_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (
        main(["launch", "quickstart", "--dry-run", "--set", "resources.compile=true"]) == BAD_INPUT
    )
    assert "resources.compile: needs a C++ compiler" in capsys.readouterr().err
