"""Supervised fine-tuning by TRL's SFTTrainer, on the same windows as the builtin trainer draws.

Differences to the builtin one: the warm-up starts at a learning rate of 0, weight decay excludes
the parameters that transformers takes for norms or biases, and the reported loss is TRL's.
"""

import math
import os
import random
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fitness.cost import Shape, training_flops
from fitness.errors import InputError
from fitness.evaluate import materialise
from fitness.evaluate.held_out import Measured, measure
from fitness.evaluation import Evaluation, EvaluationSpec, Status, Task
from fitness.evaluators import Trl, TrlSettings
from fitness.models import weights
from fitness.models.base import Base
from fitness.models.loading import cuda_devices
from fitness.models.repeatable import repeatable
from fitness.recipe import Recipe, fields
from fitness.training.optimisers import wsd_steps
from fitness.training.state import Curve
from fitness.training.supervised import CURVE_POINTS, Diverged, TrainingReport, precise

if TYPE_CHECKING:
    from transformers import PreTrainedModel

HONOURED = fields(lambda use: use.trl)
SCHEDULES = {
    "constant": "constant_with_warmup",
    "linear": "linear",
    "cosine": "cosine",
    "wsd": "warmup_stable_decay",
}


def check_installed() -> None:
    """Raise InputError if TRL is not installed."""
    if find_spec("trl") is None:
        raise InputError(
            "the evaluator trl needs TRL, which is not installed; `pip install 'evomix[trl]'`"
        )


def unhonoured(recipe: Mapping[str, Any]) -> list[str]:
    """Fields of a recipe that are not at their default and that TRL would not honour."""
    others = {name: Recipe.model_fields.get(name) for name in recipe.keys() - HONOURED}
    return sorted(
        name
        for name, field in others.items()
        if field is None or field.get_default(call_default_factory=True) != recipe[name]
    )


def schedule_settings(recipe: Recipe, steps: int) -> dict[str, Any]:
    """Settings of a trainer's schedule beside its name, for a fine-tune of so many steps."""
    if recipe.decay != "wsd":
        return {}
    return {"lr_scheduler_kwargs": {"num_decay_steps": wsd_steps(steps), "decay_type": "linear"}}


def sft_arguments(
    recipe: Recipe, settings: TrlSettings, *, steps: int, seed: int
) -> dict[str, Any]:
    """Arguments of SFTConfig for a fine-tune of so many steps, except the data."""
    return {
        "max_steps": steps,
        "per_device_train_batch_size": recipe.batch_size,
        "gradient_accumulation_steps": 1,
        "train_sampling_strategy": "sequential",
        "max_length": recipe.sequence_length,
        "packing": False,
        "optim": "adamw_torch_fused",
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": SCHEDULES[recipe.decay],
        **schedule_settings(recipe, steps),
        "warmup_steps": round(recipe.warmup_share * steps),
        "adam_beta1": 0.9,
        "adam_beta2": recipe.beta2,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.clip_norm,
        "bf16": recipe.precision == "bfloat16",
        "loss_type": settings.loss_type,
        "neftune_noise_alpha": settings.neftune_noise_alpha or None,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "seed": seed,
    }


def by_trl(task: Task) -> Callable[[EvaluationSpec], Evaluation]:
    """Evaluation function that trains by TRL and scores as the builtin evaluator does."""
    import torch

    evaluator = task.evaluator
    assert isinstance(evaluator, Trl)
    check_installed()
    if task.model is None:
        raise InputError("the evaluator trl needs `model.base`")
    torch.set_num_threads(task.threads)
    base = Base.of(task)
    shape = Shape.of(task.model)

    def run(spec: EvaluationSpec) -> Evaluation:
        started = time.perf_counter()
        if spec.fidelity == 0:
            measurements, told = _measured(base, base.model, task, spec)
            seconds = time.perf_counter() - started
            cost = {"tokens": 0, "flops": 0.0, "train_seconds": 0.0, "evaluate_seconds": seconds}
            return Evaluation(spec, Status.OK, measurements, cost, told)
        recipe = Recipe.model_validate(dict(spec.recipe))
        if missed := unhonoured(recipe.model_dump(exclude_defaults=True)):
            raise InputError(f"recipe: TRL cannot honour {', '.join(missed)}; leave them out")
        mixing = materialise.mixing_of(task, recipe, seed=spec.seed)
        with base.prepared(recipe, seed=spec.seed) as model:
            report = finetune(base, model, recipe, evaluator.trl, task, spec)
            trained = time.perf_counter()
            with precise(base.device, recipe):
                measurements, told = _measured(base, model, task, spec)
            kept = spec.keep_weights and spec.split == "selection" and spec.fidelity == 1
            if task.artifacts is not None and kept:
                weights.keep(model, weights.folder_of(task.artifacts, spec.individual))
        cost = {
            "tokens": report.tokens,
            "flops": training_flops(shape, recipe, report.tokens),
            "train_seconds": trained - started,
            "evaluate_seconds": time.perf_counter() - trained,
        }
        mixed = mixing.drawn_after(report.tokens)
        details: dict[str, Any] = {
            "shares": mixed.shares,
            "epochs": mixed.epochs,
            "learning_curve": report.learning_curve,
            **told,
        }
        return Evaluation(spec, Status.OK, measurements, cost, details)

    return run


def _measured(base: Base, model: "PreTrainedModel", task: Task, spec: EvaluationSpec) -> Measured:
    packs = base.packs(task.held_out_length)
    return measure(model, base.tokenizer, task, spec, packs=packs)


def finetune(
    base: Base,
    model: "PreTrainedModel",
    recipe: Recipe,
    settings: TrlSettings,
    task: Task,
    spec: EvaluationSpec,
) -> TrainingReport:
    """Train `model`, which `base` has prepared for the recipe, in place. Raises Diverged.

    A fidelity below 1 is the first steps of the whole fine-tune, under its schedule.
    """
    import datasets
    from transformers import PrinterCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    steps = materialise.mixing_of(task, recipe, seed=spec.seed).steps(recipe.batch_size)
    until = materialise.steps_until(steps, spec.fidelity)
    windows = materialise.drawn(task, spec.recipe, seed=spec.seed, fidelity=spec.fidelity)
    table = materialise.token_table(windows)

    class StopAt(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = state.global_step >= until

    trained = [weight for weight in model.parameters() if weight.requires_grad]
    with (
        _undisturbed(base, model),
        repeatable(model, trained),
        tempfile.TemporaryDirectory() as folder,
    ):
        arguments = SFTConfig(
            output_dir=folder,
            **sft_arguments(recipe, settings, steps=steps, seed=spec.seed),
            use_cpu=base.device.type == "cpu",
            logging_steps=max(1, steps // CURVE_POINTS),
            logging_nan_inf_filter=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = SFTTrainer(
            model=model,
            args=arguments,
            train_dataset=datasets.Dataset(table),
            processing_class=base.tokenizer,
            data_collator=DataCollatorForLanguageModeling(
                pad_token_id=base.tokenizer.eos_token_id  # masked: any token would do
            ),
            callbacks=[StopAt()],
        )
        for weight in trained:  # TRL rounds them beside a base in 4 bits
            weight.data = weight.data.float()
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        history = trainer.state.log_history
        trainer.accelerator.free_memory()
    lengths = [len(row) for row in table["input_ids"]]
    curve: Curve = []
    for entry in history:
        if "loss" in entry:
            if not math.isfinite(entry["loss"]):
                raise Diverged(f"loss {entry['loss']} at step {entry['step']}")
            rows = entry["step"] * recipe.batch_size
            curve.append((sum(lengths[:rows]), entry["loss"]))
    if not all(w.isfinite().all() for w in model.parameters() if w.requires_grad):
        raise Diverged("the fine-tune left weights that are not finite")
    return TrainingReport(until, sum(lengths[: until * recipe.batch_size]), curve)


@contextmanager
def _undisturbed(base: Base, model: "PreTrainedModel") -> Iterator[None]:
    """Undo a trainer's changes on leaving: patched forwards, configs, random states."""
    import numpy as np
    import torch

    config = base.model.config
    modules = [model, *base.model.modules()]
    records = [*modules, config, config.get_text_config(), base.model.generation_config]
    before = [(record, dict(vars(record))) for record in records if record is not None]
    hooks = [(module._forward_hooks, dict(module._forward_hooks)) for module in modules]
    environment = dict(os.environ)
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=cuda_devices()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for record, values in (*before, *hooks):
            attributes = record if isinstance(record, dict) else vars(record)
            attributes.clear()
            attributes.update(values)
        os.environ.clear()
        os.environ.update(environment)
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        model.eval()
