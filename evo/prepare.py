"""Everything that can be found wrong before anything trains: model, data, sizes, prompts."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from evo.config import SearchConfig, largest, possible
from fitness import adapters, models
from fitness.errors import InputError
from fitness.evaluation import Split, Task
from fitness.generation import Prompts, read_prompts
from fitness.sources import cache_folder, file_digest, tokenise

PACKAGES = ("evomix", "torch", "transformers", "peft", "ray", "deap", "numpy")


@dataclass(frozen=True)
class Prepared:
    """The task for the workers, and what identifies the model and the data."""

    task: Task
    fingerprints: Mapping[str, Any]

    @property
    def sizes(self) -> dict[str, int]:
        """Tokens by source."""
        return {name: file.tokens for name, file in self.task.sources.items()}


def prepare(config: SearchConfig) -> Prepared:
    """Locate the model, tokenise what is not in the cache, and check sizes. Raises InputError."""
    if config.evaluator != "builtin":
        task = Task(config.evaluator, threads=config.resources.cpus)
        return Prepared(task, {})
    folder = models.locate(config.model.base)
    _check_targets(config, folder)
    cache = cache_folder()
    here = Path.cwd()
    sources = {
        name: tokenise(f"sources.{name}", source, here, folder, cache)
        for name, source in config.sources.items()
    }
    longest = int(largest(config, "sequence_length"))
    room = models.context(folder)
    if room is not None and longest > room:
        raise InputError(
            f"sequence_length {longest} is longer than the base model's context of {room} tokens; "
            "lower it, in recipe and genome"
        )
    for name, file in sources.items():
        if file.tokens < longest:
            raise InputError(
                f"sources.{name}: {file.tokens} tokens are fewer than one sequence of {longest}; "
                "add text, or lower sequence_length"
            )
    domains = {
        name: {
            split: tokenise(f"domains.{name}.{split}", source, here, folder, cache, half=half)
            for split, (source, half) in domain.splits().items()
        }
        for name, domain in config.domains.items()
    }
    prompts: dict[str, dict[Split, Prompts]] = {
        name: {
            "selection": read_prompts(
                f"prompts.{name}.selection", prompt_set.selection, prompt_set
            ),
            "test": read_prompts(f"prompts.{name}.test", prompt_set.test, prompt_set),
        }
        for name, prompt_set in config.prompts.items()
    }
    task = Task(
        config.evaluator,
        folder,
        config.model.dtype,
        sources,
        domains,
        config.prompts,
        prompts,
        budget_tokens=config.budget.tokens,
        held_out_length=longest,
        threads=config.resources.cpus,
        micro_batch=config.resources.micro_batch,
        checkpointing=config.resources.checkpointing,
        patience=config.budget.patience,
        stop_on=next(iter(config.objectives)).partition("/")[0] if config.budget.patience else "",
    )
    fingerprints = {
        "model": models.fingerprint(folder),
        "sources": {name: file.fingerprint for name, file in sources.items()},
        "domains": {
            name: {split: file.fingerprint for split, file in splits.items()}
            for name, splits in domains.items()
        },
        "prompts": {
            name: {
                "selection": file_digest(Path(prompt_set.selection)),
                "test": file_digest(Path(prompt_set.test)),
            }
            for name, prompt_set in config.prompts.items()
        },
    }
    return Prepared(task, fingerprints)


def _check_targets(config: SearchConfig, folder: Path) -> None:
    """Adapters stand beside modules that the base model has."""
    targets = set(possible(config, "lora_targets")) - {"all"}
    if targets and set(possible(config, "adapter")) != {"none"}:
        modules = models.linear_modules(folder)
        for one in sorted(targets):
            adapters.targeted(modules, one)


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a checkout that is not installed
            continue
    return found
