"""Base models: what is refused, what a fine-tune borrows, and that all of it is given back."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fitness.errors import InputError
from fitness.evaluation import Task
from fitness.models import adapters
from fitness.models import base as base_module
from fitness.models.base import Base
from fitness.recipe import Recipe
from fitness.training.supervised import finetune
from tests.fitness.quickstart import MODEL, STEPS, batches_of, small_recipe

WEIGHTS = 430_752


def train(model: Any, task: Task, recipe: Recipe) -> None:
    finetune(model, recipe, batches_of(task, recipe), steps=STEPS, seed=0)


def state(model: Any) -> dict[str, Any]:
    """Everything about a model that an evaluation could leave changed."""
    with torch.no_grad():
        logits = model(input_ids=torch.arange(40).reshape(2, 20)).logits
    return {
        "logits": logits.clone(),
        "weights": {name: w.detach().clone() for name, w in model.state_dict().items()},
        "identities": {name: id(w) for name, w in model.named_parameters()},
        "dtypes": {name: w.dtype for name, w in model.named_parameters()},
        "frozen": [name for name, w in model.named_parameters() if not w.requires_grad],
        "gradients": [name for name, w in model.named_parameters() if w.grad is not None],
        "training": [name for name, m in model.named_modules() if m.training],
        "modules": {name: type(m) for name, m in model.named_modules()},
        "attributes": {name: sorted(vars(m)) for name, m in model.named_modules()},
        "rates": {
            name: (getattr(m, "p", None), getattr(m, "attention_dropout", None))
            for name, m in model.named_modules()
        },
    }


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert torch.equal(before.pop("logits"), after.pop("logits"))
    weights, then = before.pop("weights"), after.pop("weights")
    assert weights.keys() == then.keys()
    assert all(torch.equal(weights[name], then[name]) for name in weights)
    assert before == after


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_base_is_given_back_as_it_was_whatever_was_done_with_it(task: Task, dtype: str) -> None:
    base = Base(MODEL, dtype)
    before = state(base.model)
    for changes in (
        {},
        {"adapter": "lora"},
        {"dropout": 0.3},
        {"adapter": "lora", "dropout": 0.3, "lora_layers": 1, "lora_rank": 2},
        {"precision": "bfloat16"},
        {"adapter": "lora", "precision": "bfloat16"},
        {"adapter": "dora", "lora_dropout": 0.3, "lora_targets": "mlp"},
    ):
        recipe = small_recipe(**changes)
        for checkpointing in (False, True):
            with base.prepared(recipe, seed=0, checkpointing=checkpointing) as model:
                train(model, task, recipe)
            assert_same(dict(before), state(base.model))


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_a_base_is_given_back_as_it_was_after_a_failure(
    base: Base, task: Task, adapter: str
) -> None:
    before = state(base.model)
    recipe = small_recipe(adapter=adapter, dropout=0.2)

    def cut_short() -> Iterator[Any]:
        yield from batches_of(task, recipe)
        raise MemoryError

    with pytest.raises(MemoryError), base.prepared(recipe, seed=0) as model:
        finetune(model, recipe, cut_short(), steps=9, seed=0)
    assert_same(before, state(base.model))


def test_a_base_is_given_back_as_it_was_when_an_adapter_could_not_be_built(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft.tuners.lora import LoraModel

    before = state(base.model)
    placed: list[object] = []
    replace = LoraModel._replace_module

    def out_of_memory(*arguments: Any) -> None:
        if len(placed) == 3:
            raise torch.OutOfMemoryError("no more")
        placed.append(replace(*arguments))

    monkeypatch.setattr(LoraModel, "_replace_module", out_of_memory)
    with (
        pytest.raises(torch.OutOfMemoryError),
        base.prepared(small_recipe(adapter="lora"), seed=0),
    ):
        pass
    assert len(placed) == 3
    monkeypatch.undo()
    assert_same(before, state(base.model))


def test_all_weights_are_trained_in_float32_whatever_they_are_kept_in(task: Task) -> None:
    base, recipe = Base(MODEL, "bfloat16"), small_recipe()
    assert {w.dtype for w in base.model.parameters()} == {torch.bfloat16}
    with base.prepared(recipe, seed=0) as model:
        assert {w.dtype for w in model.parameters()} == {torch.float32}
        before = {name: w.detach().clone() for name, w in model.named_parameters()}
        train(model, task, recipe)
        assert not any(torch.equal(before[n], w) for n, w in model.named_parameters())
    assert {w.dtype for w in base.model.parameters()} == {torch.bfloat16}


def test_an_adapter_trains_nothing_but_itself(base: Base, task: Task) -> None:
    recipe = small_recipe(adapter="lora", lora_rank=3, lora_alpha=12.0)
    with base.prepared(recipe, seed=0) as model:
        trained = {name: w for name, w in model.named_parameters() if w.requires_grad}
        before = {name: w.detach().clone() for name, w in model.named_parameters()}
        assert len(trained) == 2 * 7 * 3  # two matrices for each of seven in three layers
        assert all(".lora_A." in name or ".lora_B." in name for name in trained)
        assert all(3 in w.shape for w in trained.values())
        scalings = {m.scaling["default"] for m in model.modules() if hasattr(m, "lora_A")}
        assert scalings == {12.0 / 3}
        train(model, task, recipe)
        changed = {n for n, w in model.named_parameters() if not torch.equal(before[n], w)}
        assert changed == set(trained)


def test_alpha_over_rank_scales_what_an_adapter_adds(base: Base) -> None:
    def added(**changes: Any) -> torch.Tensor:
        ids = torch.arange(20)[None]
        with torch.no_grad():
            plain = base.model(input_ids=ids).logits
            recipe = small_recipe(adapter="lora", lora_layers=1, **changes)
            with base.prepared(recipe, seed=0) as model:
                for name, weight in model.named_parameters():
                    if "lora_B" in name:
                        weight.fill_(1e-5)
                return model(input_ids=ids).logits - plain

    single, double = added(lora_rank=4, lora_alpha=8.0), added(lora_rank=4, lora_alpha=16.0)
    assert single.abs().max() > 1e-5
    torch.testing.assert_close(double, 2 * single, rtol=0.05, atol=2e-5)


@pytest.mark.parametrize(
    ("last", "adapted"), [(0, {0, 1, 2}), (1, {2}), (2, {1, 2}), (9, {0, 1, 2})]
)
def test_only_the_last_layers_get_an_adapter(base: Base, last: int, adapted: set[int]) -> None:
    recipe = small_recipe(adapter="lora", lora_layers=last)
    with base.prepared(recipe, seed=0) as model:
        names = [name for name, w in model.named_parameters() if w.requires_grad]
    assert {int(name.split("layers.")[1].split(".")[0]) for name in names} == adapted


def test_an_adapter_begins_as_nothing_and_its_seed_decides_how(base: Base) -> None:
    def begun(seed: int) -> dict[str, torch.Tensor]:
        with base.prepared(small_recipe(adapter="lora"), seed=seed) as model:
            with torch.no_grad():
                assert torch.equal(model(input_ids=ids).logits, plain)
            return {n: w.detach().clone() for n, w in model.named_parameters() if w.requires_grad}

    ids = torch.arange(20)[None]
    with torch.no_grad():
        plain = base.model(input_ids=ids).logits
    one, again, other = begun(1), begun(1), begun(2)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_dropout_is_applied_while_training_and_only_then(base: Base, adapter: str) -> None:
    ids = torch.arange(40)[None]
    with torch.random.fork_rng(), torch.no_grad():
        for rate in (0.0, 0.5):
            recipe = small_recipe(adapter=adapter, dropout=rate)
            with base.prepared(recipe, seed=0) as model:
                for name, weight in model.named_parameters():
                    if "lora_B" in name:
                        weight.fill_(1e-2)
                model.train()
                one, two = (model(input_ids=ids).logits for _ in range(2))
                assert torch.equal(one, two) == (rate == 0)
                model.eval()
                one, two = (model(input_ids=ids).logits for _ in range(2))
                assert torch.equal(one, two)


@pytest.fixture
def gpt2(tmp_path: Path) -> Path:
    """Another architecture: dropout everywhere by default, Conv1D instead of Linear."""
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 128, "vocab_size": 1024}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPT2LMHeadModel(GPT2Config(**shape, attn_pdrop=0.1)).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MODEL / name, tmp_path)
    return tmp_path


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_every_dropout_of_another_architecture_is_set_and_put_back(
    gpt2: Path, task: Task, adapter: str
) -> None:
    base = Base(gpt2)
    before = state(base.model)
    recipe = small_recipe(adapter=adapter, dropout=0.25)
    with base.prepared(recipe, seed=0) as model:
        rates = [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)]
        assert len(rates) >= 7
        assert set(rates) == {0.25}
        train(model, task, recipe)
    assert_same(before, state(base.model))


def test_a_model_without_linear_modules_to_adapt_is_refused(base: Base) -> None:
    class Layerless(torch.nn.Module):
        config = base.model.config

    with pytest.raises(InputError, match="Layerless has no layers of linear modules"):
        adapters.linear_modules(Layerless(), 0)


# ---------------------------------------------------------------- what is refused


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The quickstart's model, to be damaged."""
    return Path(shutil.copytree(MODEL, tmp_path / "copy"))


def rewritten(folder: Path, change: Any) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_are_refused(copy: Path, value: float) -> None:
    rewritten(copy, lambda weights: weights["model.norm.weight"].select(0, 5).fill_(value))
    with pytest.raises(InputError, match=r"weights of model\.norm\.weight are not finite"):
        Base(copy)


def test_a_device_without_bfloat16_says_so_instead_of_pretending(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Base(MODEL)
    monkeypatch.setattr(base_module, "_has_bfloat16", lambda device: False)
    with pytest.raises(InputError, match=r"model\.dtype bfloat16: this cpu device lacks it"):
        Base(MODEL, "bfloat16")
    recipe = small_recipe(precision="bfloat16")
    with (
        pytest.raises(
            InputError, match="precision bfloat16: this cpu device lacks it; use float32"
        ),
        base.prepared(recipe, seed=0),
    ):
        pass
    with base.prepared(small_recipe(), seed=0) as model:
        train(model, task, small_recipe())


@pytest.mark.filterwarnings("ignore")
def test_a_model_with_weights_left_out_is_refused_and_not_made_up(copy: Path) -> None:
    rewritten(copy, lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(InputError, match=r"1 weights .* such as model\.layers\.1\.mlp\.up_proj"):
        Base(copy)


def test_code_that_comes_with_a_model_is_never_run(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"},
    }
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "own.py").write_text(f"open({str(copy / 'was run')!r}, 'w')\n")
    with pytest.raises((ValueError, KeyError)):
        Base(copy)
    assert not (copy / "was run").exists()


def test_attention_is_computed_as_asked() -> None:
    by_default, eager = Base(MODEL), Base(MODEL, attention="eager")
    kinds = [base.model.config._attn_implementation for base in (by_default, eager)]
    assert kinds == ["sdpa", "eager"]
    one, other = (state(base.model)["logits"] for base in (by_default, eager))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("attention", "package"),
    [("flash_attention_2", "flash-attn"), ("flash_attention_3", "flash-attn-3")],
)
def test_a_kernel_that_is_not_installed_is_not_fetched(attention: str, package: str) -> None:
    wanted = f"model.attention {attention}: needs the package {package}, which is not installed"
    with pytest.raises(InputError, match=wanted):
        Base(MODEL, attention=attention)
