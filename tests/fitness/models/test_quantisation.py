"""Quantised bases: what is quantised, given back, merged, trained in buckets, and refused."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fitness.errors import InputError
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluate.held_out import held_out_loss
from fitness.evaluation import Task
from fitness.merging.merge import check_part
from fitness.models import adapters, quantisation, weights
from fitness.models.base import Base
from fitness.models.heads import Head
from fitness.models.quantisation import BITS, Quantisation, check_installed, stored
from fitness.models.restoring import checksum
from fitness.training.supervised import finetune
from tests.fitness.buckets.test_training import assert_as_alone, members_of
from tests.fitness.models.architectures import saved
from tests.fitness.models.test_architectures import random_batches
from tests.fitness.models.test_base import train
from tests.fitness.models.test_weights import logits
from tests.fitness.quickstart import LENGTH, MODEL, evaluate, small_recipe

KINDS = ("nf4", "int8")


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def base(kind: str) -> Base:
    return Base(MODEL, quantisation=kind)


def size(model: Any, names: list[str]) -> int:
    """Bytes in which the weights of these modules are stored."""
    tensors = stored(model.get_submodule(name).weight for name in names)
    return sum(one.numel() * one.element_size() for one in tensors)


def test_the_linear_weights_of_the_layers_alone_are_stored_in_fewer_bits(
    base: Base, kind: str
) -> None:
    plain = Base(MODEL)
    inside = list(adapters.adaptable(plain.model, last=0))
    count = sum(plain.model.get_submodule(name).weight.numel() for name in inside)
    bytes_each = size(base.model, inside) / count
    assert bytes_each == pytest.approx(BITS[kind] / 8, rel=0.05)  # and a scale for each row
    others = {n: w for n, w in plain.model.named_parameters() if n.rpartition(".")[0] not in inside}
    found = dict(base.model.named_parameters())
    assert "model.embed_tokens.weight" in others
    assert all(torch.equal(found[name], weight) for name, weight in others.items())
    assert base.probe == plain.probe
    assert (logits(base.model) - logits(plain.model)).abs().max() < 2  # of 14
    assert not torch.equal(logits(base.model), logits(plain.model))


def test_every_processor_computes_the_same_in_4_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    def answered(has: bool) -> torch.Tensor:
        monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: has)
        return logits(Base(MODEL, quantisation="nf4").model)

    assert torch.equal(answered(True), answered(False))


@pytest.mark.parametrize("shape", [(96, 96), (64, 128), (32, 48), (5, 98), (3, 33)])
def test_4_bits_are_decoded_as_they_were_stored_whatever_the_shape(shape: tuple[int, int]) -> None:
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    Base(MODEL, quantisation="nf4")
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    packed, how = quantize_4bit(weight, blocksize=64, quant_type="nf4")
    codes = torch.stack([packed.view(-1) >> 4, packed.view(-1) & 15], 1).view(-1)[: weight.numel()]
    scales = how.absmax[torch.arange(weight.numel()) // 64]  # a block runs on over rows
    wanted = (how.code[codes.long()] * scales).view(shape)
    torch.testing.assert_close(dequantize_4bit(packed, how), wanted)


@pytest.mark.parametrize("adapter", ["lora", "dora"])
def test_a_quantised_base_comes_back_to_the_bit(base: Base, task: Task, adapter: str) -> None:
    model, before, summed = base.model, logits(base.model), checksum(base.model)
    for _ in range(2):
        recipe = small_recipe(adapter=adapter, learning_rate=4e-3)
        with base.prepared(recipe, seed=0) as lent:
            train(lent, task, recipe)
            assert not torch.equal(logits(lent), before)
            with base.untouched() as untouched:
                assert torch.equal(logits(untouched), before)
    assert base.model is model
    assert checksum(model) == summed
    assert torch.equal(logits(model), before)


def test_members_of_a_bucket_learn_what_they_learn_alone(base: Base, task: Task) -> None:
    assert_as_alone(base, task, members_of(2))


def test_a_merged_model_loses_what_was_measured(
    task: Task, tmp_path: Path, kind: Quantisation
) -> None:
    from transformers import AutoModelForCausalLM

    evaluator = Evaluator(replace(task, artifacts=tmp_path, quantisation=kind))
    evaluation = evaluate(evaluator, adapter="lora", learning_rate=5e-3)
    kept, to = weights.folder_of(tmp_path, 0), tmp_path / "merged"
    weights.assemble(MODEL, kept, to, quantisation=kind)
    model = AutoModelForCausalLM.from_pretrained(to)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    domain = task.domains["target"]["selection"]
    measured = evaluation.measurements["target/loss"]
    assert held_out_loss(model, domain, LENGTH) == pytest.approx(measured, abs=1e-5)
    weights.assemble(MODEL, kept, tmp_path / "other")  # into the weights before they were quantised
    other = AutoModelForCausalLM.from_pretrained(tmp_path / "other")
    assert abs(held_out_loss(other, domain, LENGTH) - measured) > 1e-4


@pytest.mark.parametrize("architecture", ["gpt2", "mamba", "mixtral"])
def test_other_architectures_are_quantised_and_merged(
    architecture: str, kind: str, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    folder, ids = saved(architecture, tmp_path), torch.arange(40)[None]
    base = Base(folder, quantisation=kind)
    plain = Base(folder)
    assert base.probe.packs == plain.probe.packs
    recipe = small_recipe(adapter="lora", learning_rate=0.02)
    with base.prepared(recipe, seed=0) as model:
        finetune(model, recipe, random_batches(), steps=2, seed=0)
        with torch.no_grad():
            wanted = model(input_ids=ids).logits
        weights.keep(model, tmp_path / "adapter")
    weights.assemble(folder, tmp_path / "adapter", tmp_path / "whole", quantisation=kind)
    with torch.no_grad():
        found = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")(input_ids=ids).logits
        before = base.model(input_ids=ids).logits
    change = (wanted - before).abs().max()
    assert change > 0.01
    assert (found - wanted).abs().max() < 1e-3 * change


def test_the_head_of_a_classifier_is_not_quantised(kind: str) -> None:
    base = Base(MODEL, head=Head("classification", ("a", "b")), quantisation=kind)
    assert type(base.model.score) is torch.nn.Linear
    assert base.model.score.weight.dtype == torch.float32
    with base.prepared(small_recipe(adapter="lora"), seed=0) as model:
        trained = [name for name, w in model.named_parameters() if w.requires_grad]
        assert any("score" in name for name in trained)


def test_all_weights_of_a_quantised_base_cannot_be_trained(base: Base, kind: str) -> None:
    wanted = f"model.quantisation {kind}: quantised weights cannot be trained; take a recipe with"
    with pytest.raises(InputError, match=wanted), base.prepared(small_recipe(), seed=0):
        pass


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_base_with_weights_that_are_not_finite_is_refused(
    tmp_path: Path, kind: str, value: float
) -> None:
    folder = Path(shutil.copytree(MODEL, tmp_path / "base"))
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = value
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"layers\.1\.mlp\.up_proj\.weight are not finite"):
        Base(folder, quantisation=kind)


def test_a_missing_package_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> str:
        raise quantisation.PackageNotFoundError(package)

    check_installed("model.quantisation", kind)
    monkeypatch.setattr(quantisation, "version", missing)
    check_installed("model.quantisation", "none")
    first = {"nf4": "bitsandbytes", "int8": "torchao"}[kind]
    wanted = rf"model.quantisation {kind}: needs {first} and accelerate; .*evomix\[quantised\]"
    with pytest.raises(InputError, match=wanted):
        check_installed("model.quantisation", kind)
    with pytest.raises(InputError, match="optimizer adamw_8bit: needs bitsandbytes; install"):
        check_installed("optimizer", "adamw_8bit")


def test_a_whole_model_is_no_part_of_a_quantised_base() -> None:
    check_part("parts.own", MODEL, MODEL)
    with pytest.raises(InputError, match=r"parts\.own: .* holds no adapter, and to a quan"):
        check_part("parts.own", MODEL, MODEL, quantised=True)
