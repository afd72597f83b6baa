"""A recipe as configuration of other trainers: TRL, axolotl and LLaMA-Factory.

There is a function for each trainer's configuration, and one for what it cannot express.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fitness.evaluate.trl import SCHEDULES, schedule_settings, sft_arguments, unhonoured
from fitness.evaluators import TrlSettings
from fitness.recipe import Recipe

DATA = "data"  # the folder of the mixture, beside the configuration
OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class Fine:
    """A fine-tune to write as a trainer's configuration."""

    base: str  # a folder or a Hub id
    base_dtype: str
    quantisation: str
    recipe: Recipe
    steps: int
    seed: int
    settings: TrlSettings
    adapted: Sequence[str]  # names of modules, for an adapter
    dropouts: Mapping[str, float]  # of the architecture


@dataclass(frozen=True, slots=True)
class Trainer:
    """A trainer: its configuration file, the command that takes it, the columns of its data."""

    name: str
    file: str
    command: str
    columns: tuple[str, ...]
    configuration: Callable[[Fine], dict[str, Any]]
    missing: Callable[[Fine], list[str]]


def _trl(fine: Fine) -> dict[str, Any]:
    recipe = fine.recipe
    arguments = {
        "model_name_or_path": fine.base,
        "dtype": "float32" if recipe.adapter == "none" else fine.base_dtype,
        "dataset_name": DATA,
        "output_dir": OUTPUT,
        **sft_arguments(recipe, fine.settings, steps=fine.steps, seed=fine.seed),
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": max(1, fine.steps // 20),
    }
    if fine.dropouts and recipe.dropout:
        arguments["model_init_kwargs"] = dict(fine.dropouts)
    if recipe.adapter != "none":
        arguments |= {
            "use_peft": True,
            "use_dora": recipe.adapter == "dora",
            "use_rslora": recipe.lora_scaling == "rank_stabilised",
            "lora_r": recipe.lora_rank,
            "lora_alpha": round(recipe.lora_alpha),
            "lora_dropout": recipe.adapter_dropout,
            "lora_target_modules": list(fine.adapted),
        }
    if fine.quantisation == "nf4":  # TRL's default of 4 bits
        arguments |= {"load_in_4bit": True, "use_bnb_nested_quant": True}
    return {name: value for name, value in arguments.items() if value is not None}


def _optimised(fine: Fine) -> dict[str, Any]:
    """Settings of the optimiser that axolotl and LLaMA-Factory both name as transformers does."""
    recipe = fine.recipe
    return {
        "warmup_steps": round(recipe.warmup_share * fine.steps),
        "adam_beta1": 0.9,
        "adam_beta2": recipe.beta2,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.clip_norm,
        "bf16": recipe.precision == "bfloat16",
    }


def _axolotl(fine: Fine) -> dict[str, Any]:
    recipe = fine.recipe
    options: dict[str, Any] = {
        "base_model": fine.base,
        "datasets": [{"path": f"{DATA}/train.jsonl", "ds_type": "json"}],
        "dataset_prepared_path": "prepared",
        "shuffle_merged_datasets": False,
        "curriculum_sampling": True,
        "val_set_size": 0.0,
        "output_dir": OUTPUT,
        "sequence_len": recipe.sequence_length,
        "sample_packing": False,
        "pad_to_sequence_len": False,
        "micro_batch_size": recipe.batch_size,
        "gradient_accumulation_steps": 1,
        "max_steps": fine.steps,
        "num_epochs": 1,
        "optimizer": "adamw_torch_fused",
        "learning_rate": recipe.learning_rate,
        "lr_scheduler": SCHEDULES[recipe.decay],
        **schedule_settings(recipe, fine.steps),
        **_optimised(fine),
        "fp16": False,
        "tf32": False,
        "gradient_checkpointing": fine.settings.gradient_checkpointing,
        "save_strategy": "no",
        "logging_steps": max(1, fine.steps // 20),
        "seed": fine.seed,
    }
    if fine.settings.neftune_noise_alpha:
        options["neftune_noise_alpha"] = fine.settings.neftune_noise_alpha
    if fine.dropouts and recipe.dropout:
        options["overrides_of_model_config"] = dict(fine.dropouts)
    if recipe.adapter != "none":
        options |= {
            "adapter": "lora",
            "peft_use_dora": recipe.adapter == "dora",
            "peft_use_rslora": recipe.lora_scaling == "rank_stabilised",
            "lora_r": recipe.lora_rank,
            "lora_alpha": round(recipe.lora_alpha),
            "lora_dropout": recipe.adapter_dropout,
            "lora_target_modules": list(fine.adapted),
        }
    if fine.quantisation == "nf4":
        options |= {"adapter": "qlora", "load_in_4bit": True}
    return options


def _llamafactory(fine: Fine) -> dict[str, Any]:
    recipe = fine.recipe
    options: dict[str, Any] = {
        "stage": "pt",
        "do_train": True,
        "model_name_or_path": fine.base,
        "dataset": "evomix",
        "dataset_dir": DATA,
        "tokenized_path": f"{DATA}/tokenized",
        "disable_shuffling": True,
        "cutoff_len": recipe.sequence_length,
        "packing": False,
        "output_dir": OUTPUT,
        "max_steps": fine.steps,
        "per_device_train_batch_size": recipe.batch_size,
        "gradient_accumulation_steps": 1,
        "optim": "adamw_torch_fused",
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": SCHEDULES[recipe.decay],
        **schedule_settings(recipe, fine.steps),
        **_optimised(fine),
        "disable_gradient_checkpointing": not fine.settings.gradient_checkpointing,
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": max(1, fine.steps // 20),
        "seed": fine.seed,
        "finetuning_type": "full" if recipe.adapter == "none" else "lora",
    }
    if fine.settings.neftune_noise_alpha:
        options["neftune_noise_alpha"] = fine.settings.neftune_noise_alpha
    if fine.settings.loss_type == "dft":
        options["use_dft_loss"] = True
    if recipe.adapter != "none":
        options |= {
            "use_dora": recipe.adapter == "dora",
            "use_rslora": recipe.lora_scaling == "rank_stabilised",
            "lora_rank": recipe.lora_rank,
            "lora_alpha": round(recipe.lora_alpha),
            "lora_dropout": recipe.adapter_dropout,
            "lora_target": ",".join(fine.adapted),
        }
    if fine.quantisation == "nf4":
        options |= {"quantization_method": "bnb", "quantization_bit": 4}
    return options


def _missing_everywhere(fine: Fine) -> list[str]:
    recipe = fine.recipe
    changed = recipe.model_dump(exclude_defaults=True)
    found = [f"{name}: {changed[name]!r} has no counterpart" for name in unhonoured(changed)]
    if warmup := round(recipe.warmup_share * fine.steps):
        found.append(
            f"warmup_share: step i of the {warmup} of the warm-up has i/{warmup} of the learning "
            f"rate, counted from 0; evomix counts from 1"
        )
    if fine.quantisation == "int8":
        found.append("model.quantisation: int8, with a scale for each row, has no counterpart")
    if recipe.adapter != "none" and recipe.lora_alpha != round(recipe.lora_alpha):
        found.append(f"lora_alpha: {recipe.lora_alpha:g} must be a whole number there")
    return found


def _missing_in_trl(fine: Fine) -> list[str]:
    found = _missing_everywhere(fine) + _without_rates(fine)
    if fine.quantisation == "nf4":
        found.append(
            "model.quantisation: beside 4 bits it trains the adapter in bfloat16; evomix in float32"
        )
    return found


def _without_rates(fine: Fine) -> list[str]:
    if fine.recipe.dropout and not fine.dropouts:
        return ["dropout: the model's configuration has no dropout rate"]
    return []


def _missing_in_axolotl(fine: Fine) -> list[str]:
    found = _missing_everywhere(fine) + _without_rates(fine)
    if fine.recipe.precision == "bfloat16" and fine.recipe.adapter == "none":
        found.append("precision: bf16 keeps the weights in bfloat16; in evomix they stay float32")
    if fine.recipe.precision == "float32" and fine.base_dtype != "float32":
        found.append(f"model.dtype: the base is loaded as float32, in evomix as {fine.base_dtype}")
    if fine.settings.loss_type != "nll":
        found.append(f"trl.loss_type: {fine.settings.loss_type} has no counterpart")
    return found


def _missing_in_llamafactory(fine: Fine) -> list[str]:
    found = _missing_everywhere(fine)
    if fine.recipe.dropout:
        found.append("dropout: only an adapter's can be set, not the model's own")
    found.append(
        "a tokenizer without a padding token uses the one that ends documents, which is then not "
        "learned"
    )
    return found


EXACT = ("input_ids", "attention_mask", "labels")
TRAINERS = {
    trainer.name: trainer
    for trainer in (
        Trainer(
            "trl",
            "sft.yaml",
            "trl sft --config sft.yaml",
            ("text", "source", "input_ids"),
            _trl,
            _missing_in_trl,
        ),
        Trainer(
            "axolotl",
            "axolotl.yaml",
            "axolotl train axolotl.yaml",
            EXACT,
            _axolotl,
            _missing_in_axolotl,
        ),
        Trainer(
            "llamafactory",
            "llamafactory.yaml",
            "llamafactory-cli train llamafactory.yaml",
            ("text", "source"),
            _llamafactory,
            _missing_in_llamafactory,
        ),
    )
}
