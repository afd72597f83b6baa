"""Adapters on quantised bases against transformers, PEFT and the quantising library by hand."""

from typing import Any

import pytest
import torch

from fitness.evaluation import Task
from fitness.models.base import Base
from fitness.training.supervised import finetune
from tests.fitness.quickstart import MODEL, batches_of, small_recipe
from tests.fitness.training.test_supervised import longer as longer
from tests.oracles.test_finetunes import plain_loop

LAYERS = [*"qkvo", "gate", "up", "down"]


def quantised(kind: str) -> Any:
    """The quickstart's model, quantised as the documentation of transformers shows it."""
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig, TorchAoConfig

    config: Any = TorchAoConfig(Int8WeightOnlyConfig(), modules_to_not_convert=["lm_head"])
    if kind == "nf4":
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
        )
    return AutoModelForCausalLM.from_pretrained(
        MODEL, dtype=torch.float32, quantization_config=config, device_map={"": "cpu"}
    )


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of PEFT's use of transformers
@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_an_adapter_on_a_quantised_base_learns_what_peft_would_by_hand(
    kind: str, longer: Task
) -> None:
    from peft import LoraConfig, get_peft_model

    recipe = small_recipe(adapter="lora", learning_rate=4e-3)
    batches = batches_of(longer, recipe)
    base = Base(MODEL, quantisation=kind)  # bitsandbytes decodes on every processor from now on
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = LoraConfig(
            r=recipe.lora_rank,
            lora_alpha=recipe.lora_alpha,
            target_modules=[f"{name}_proj" for name in LAYERS],
        )
        model = get_peft_model(quantised(kind), settings)
    wanted, losses = plain_loop(recipe, batches, model)
    with base.prepared(recipe, seed=0) as own:
        report = finetune(own, recipe, batches, steps=len(batches), seed=0)
        found = dict(own.named_parameters())
        trained = [name for name in wanted if "lora_" in name]
        assert len(trained) == 2 * 7 * 3
        for name in trained:
            torch.testing.assert_close(found[name].detach(), wanted[name], atol=1e-6, rtol=1e-4)
    assert [loss for _, loss in report.learning_curve] == pytest.approx(losses, abs=1e-6)
    assert losses[0] - losses[-1] > 0.1
