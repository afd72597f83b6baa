"""Checks of model, data, sizes and prompts before anything trains, and the task for the workers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from evo.cluster.machine import check_import_paths, check_temporary_folder
from evo.config import SearchConfig, largest, possible
from evo.config.resolve import reads_data
from evo.prepare.cleaning import dropped_notes
from evo.prepare.data import read_data
from evo.prepare.passes import budget_tokens
from fitness.cleaning.files import Cleaned
from fitness.data.tokenizer import load_tokenizer
from fitness.errors import InputError
from fitness.evaluation import Task
from fitness.files import file_digest
from fitness.merging.merge import check_part, fingerprint_of
from fitness.metrics import SIGN
from fitness.mixture.infilling import LEAST, Sentinels
from fitness.models import folders, head_checks, soundness
from fitness.models.compiling import check_compiler
from fitness.models.heads import LABELLED, Head
from fitness.models.loading import attention_settings
from fitness.models.quantisation import check_installed
from fitness.models.soundness import Soundness
from fitness.training.masked import Masking

PACKAGES = ("evomix", "torch", "transformers", "peft", "trl", "ray", "deap", "numpy")


@dataclass(frozen=True)
class Prepared:
    """The task for the workers, and fingerprints of the model and the data."""

    task: Task
    fingerprints: Mapping[str, Any]
    soundness: Soundness = field(default_factory=Soundness)
    cleaned: Mapping[str, Cleaned] = field(default_factory=dict)

    @property
    def sizes(self) -> dict[str, int]:
        """Tokens by source."""
        return {name: file.tokens for name, file in self.task.sources.items()}

    @property
    def notes(self) -> list[str]:
        """Notes on the data for the user, in whole sentences."""
        task = self.task
        files = {f"sources.{name}": file.notes for name, file in task.sources.items()}
        for group, sets in (("domains", task.domains), ("prompts", task.prompts)):
            for name, splits in sets.items():
                files |= {f"{group}.{name}.{split}": one.notes for split, one in splits.items()}
        notes = [f"{name}: {note}" for name, notes in files.items() for note in notes]
        tasks = ((n, t, one) for n, of in task.benchmark_tasks.items() for t, one in of.items())
        notes += [f"benchmarks.{n}: task {t}: {note}" for n, t, one in tasks for note in one.notes]
        return [*dropped_notes(self.cleaned), *notes]


def prepare(config: SearchConfig) -> Prepared:
    """Locate the model, tokenise what is not in the cache, and check sizes. Raises InputError."""
    evaluator, resources = config.evaluator, config.resources
    if resources.address == "local":
        check_temporary_folder()
    check_import_paths([Path.cwd(), Path(config.import_from)])
    if not reads_data(config):
        return Prepared(Task(evaluator, threads=resources.cpus, timeout=resources.timeout), {})
    folder = folders.locate(config.model.base)
    head = head_of(config, folder)
    sound = soundness.check(folder, head) if config.form.reads_recipe else Soundness()
    quantised = config.model.quantisation != "none"
    attention_settings(config.model.attention)
    if resources.compile and resources.address == "local":
        check_compiler()
    check_installed("model.quantisation", config.model.quantisation)
    if config.form.reads_recipe and "adamw_8bit" in possible(config, "optimizer"):
        check_installed("optimizer", "adamw_8bit")
    _check_targets(config, sound)
    longest = int(largest(config, "sequence_length")) if config.form.mixes else 0
    data = read_data(config, folder, head, longest)
    _check_lengths(config, folder, longest)
    parts = {name: Path(part) for name, part in config.parts.items()}
    for name, part in parts.items():
        check_part(f"parts.{name}", part, folder, quantised=quantised)
    task = Task(
        evaluator,
        folder,
        config.model.dtype,
        head,
        config.model.quantisation,
        config.model.attention,
        data.sources,
        data.domains,
        config.prompts if config.form.reads_recipe else {},
        data.prompts,
        config.benchmarks,
        data.benchmarks,
        parts,
        budget_tokens=budget_tokens(config, data.sources),
        inherit_share=config.budget.inherit_share,
        held_out_length=longest,
        threads=resources.cpus,
        micro_batch=resources.micro_batch,
        processes=resources.processes,
        sharding=resources.sharding,
        checkpointing=resources.checkpointing,
        compile=resources.compile,
        timeout=resources.timeout,
        patience=config.budget.patience,
        **_stopping(config),
    )
    return Prepared(task, _fingerprints(folder, task), sound, data.cleaned)


def _stopping(config: SearchConfig) -> dict[str, Any]:
    """The measurement that early stopping goes by, which is the first objective."""
    if config.budget.patience is None:
        return {}
    name, direction = next(iter(config.objectives.items()))
    return {"stop_on": name, "stop_sign": SIGN[direction]}


def _check_lengths(config: SearchConfig, folder: Path, longest: int) -> None:
    """Raise InputError if sequences do not fit the model's context, or are too short to infill."""
    room = folders.context(folder)
    if room is not None and longest > room:
        raise InputError(
            f"sequence_length {longest} is longer than the base model's context of {room} tokens; "
            "lower it, in recipe and genome"
        )
    answer = int(largest(config, "reinforce_new_tokens"))
    if room is not None and "reinforce" in possible(config, "method") and longest + answer > room:
        raise InputError(
            f"prompts of up to {longest} tokens (sequence_length) and answers of up to {answer} "
            f"(reinforce_new_tokens) do not fit the base model's context of {room}; lower one"
        )
    if longest and largest(config, "infill_share"):
        least = Sentinels.of(load_tokenizer(folder)).cost + LEAST
        if longest < least:
            raise InputError(
                f"sequence_length {longest} has no room for a document to fill in, which takes "
                f"{least} tokens with this tokenizer's markers; raise it, or leave infill_share out"
            )


def _fingerprints(folder: Path, task: Task) -> dict[str, Any]:
    """Fingerprints of the model and the data of a task."""
    fingerprints: dict[str, Any] = {
        "model": folders.fingerprint(folder),
        "sources": {name: file.fingerprint for name, file in task.sources.items()},
        "domains": {
            name: {split: file.fingerprint for split, file in splits.items()}
            for name, splits in task.domains.items()
        },
        "prompts": {
            name: {
                "selection": file_digest(Path(prompt_set.selection)),
                "test": file_digest(Path(prompt_set.test)),
            }
            for name, prompt_set in task.prompt_sets.items()
        },
    }
    if task.benchmarks:
        fingerprints["benchmarks"] = {
            name: {task: one.digest for task, one in tasks.items()}
            for name, tasks in task.benchmark_tasks.items()
        }
    if task.parts:
        fingerprints["parts"] = {name: fingerprint_of(part) for name, part in task.parts.items()}
    return fingerprints


def head_of(config: SearchConfig, folder: Path) -> Head:
    """The head that a search trains, with its class labels. Raises InputError if unsupported."""
    task = config.model.task
    if config.form.reads_recipe:
        head_checks.check(folder, task)
    if task == "masked":
        Masking.of(load_tokenizer(folder))
    if task not in LABELLED:
        return Head(task)
    given = tuple(map(str, config.model.labels))
    sources = config.sources.values()
    return Head(task, head_checks.labels_of(given, folder, sources, Path.cwd(), task))


def _check_targets(config: SearchConfig, sound: Soundness) -> None:
    """Raise InputError for lora_targets that the base model does not have or PEFT cannot adapt."""
    if config.form.reads_recipe and set(possible(config, "adapter")) != {"none"}:
        for targets in sorted(set(possible(config, "lora_targets"))):
            sound.share(targets)


def versions() -> dict[str, str]:
    """Versions of the packages that results depend on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a checkout that is not installed
            continue
    return found
