"""The whole way of an individual, for tiny models of the architectures that people use."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fitness.errors import InputError
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluate.held_out import held_out_loss
from fitness.evaluation import Status, Task
from fitness.models import head_checks, soundness, weights
from fitness.models.heads import CAUSAL
from tests.fitness.models.architectures import saved
from tests.fitness.quickstart import LENGTH, evaluate

FAST = ("llama", "gpt2")
USUAL = (
    *("llama", "qwen3", "gemma3_text", "mistral", "gpt2", "phi", "olmo2"),
    *("mixtral", "qwen2_moe", "mamba"),
)
NEW = 6  # tokens of an answer


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("usual")


@pytest.mark.parametrize(
    ("kind", "adapter"),
    [
        *((kind, adapter) for kind in FAST for adapter in ("none", "lora")),
        *(pytest.param(kind, "lora", marks=pytest.mark.slow) for kind in USUAL if kind not in FAST),
    ],
)
def test_it_is_checked_trained_measured_and_exported_as_what_it_was(
    kind: str, adapter: str, task: Task, folders: Path, tmp_path: Path
) -> None:
    from sacrebleu import corpus_chrf
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = saved(kind, folders)
    head_checks.check(folder, "causal")
    assert soundness.check(folder, CAUSAL).share("all") > 0
    greedy = {"max_new_tokens": NEW, "temperature": 0.0, "metrics": ("chrf",)}
    settings = task.prompt_sets["jargon"].model_copy(update=greedy)
    here = replace(task, model=folder, artifacts=tmp_path, prompt_sets={"jargon": settings})
    evaluator = Evaluator(here)
    evaluation = evaluate(evaluator, adapter=adapter, learning_rate=1e-2)
    assert evaluation.status is Status.OK, evaluation.message
    untouched = evaluate(evaluator, fidelity=0.0).measurements["target/loss"]
    assert evaluation.measurements["target/loss"] < untouched - 1e-3
    weights.assemble(folder, weights.folder_of(tmp_path, 0), tmp_path / "export")

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "export")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "export")
    packs = soundness.check(folder, CAUSAL).packs
    loss = held_out_loss(model, task.domains["target"]["selection"], LENGTH, None, packs)
    assert loss == pytest.approx(evaluation.measurements["target/loss"], abs=1e-4)
    answers = []
    prompts = task.prompts["jargon"]["selection"]
    for prompt in prompts.prompts:
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        with torch.no_grad():
            told = model.generate(ids, max_new_tokens=NEW, do_sample=False)[0, ids.shape[1] :]
        answers.append(tokenizer.decode(told, skip_special_tokens=True).strip())
    chrf = corpus_chrf(answers, [prompts.references]).score
    assert evaluation.measurements["jargon/chrf"] == pytest.approx(chrf)


def test_a_model_of_two_parts_is_refused_clearly(tmp_path: Path) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    T5ForConditionalGeneration(T5Config(vocab_size=1024, **sizes)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="is an encoder-decoder model"):
        head_checks.check(tmp_path, "causal")
