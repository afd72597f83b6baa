"""Checks of model, data, sizes and prompts before anything trains, and the task for the workers."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from evo.cluster.machine import check_temporary_folder
from evo.config import SearchConfig, bounds, largest, possible
from evo.config.resolve import reads_data
from evo.prepare import pools
from fitness.data.kinds import Kind
from fitness.data.prompts import Prompts, read_prompts
from fitness.data.records import Records
from fitness.data.sources import TokenFile, tokenise
from fitness.data.tokenizer import load_tokenizer
from fitness.errors import Faults, InputError
from fitness.evaluation import Split, Task
from fitness.files import cache_folder, file_digest
from fitness.merging.merge import check_part, fingerprint_of
from fitness.methods import LEARN, use_of
from fitness.mixture.decks import RecordDeck
from fitness.mixture.infilling import LEAST, Sentinels
from fitness.models import folders, head_checks, soundness
from fitness.models.heads import Head
from fitness.models.soundness import Soundness
from fitness.recipe import Method
from fitness.training.masked import Masking

MISSING: Mapping[Kind, str] = {  # what a source needs so that something can be learned from it
    "prompt": "reference",
    "rating": "completion that is rated good",
    "sample": "completion",
}
FAULTY = 20  # sources and sets with errors, after which no others are read
PACKAGES = ("evomix", "torch", "transformers", "peft", "trl", "ray", "deap", "numpy")


@dataclass(frozen=True)
class Prepared:
    """The task for the workers, and fingerprints of the model and the data."""

    task: Task
    fingerprints: Mapping[str, Any]
    soundness: Soundness = field(default_factory=Soundness)

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
        return [f"{name}: {note}" for name, notes in files.items() for note in notes]


def prepare(config: SearchConfig) -> Prepared:
    """Locate the model, tokenise what is not in the cache, and check sizes. Raises InputError."""
    if config.resources.address == "local":
        check_temporary_folder()
    evaluator = config.evaluator
    if not reads_data(config):
        resources = config.resources
        return Prepared(Task(evaluator, threads=resources.cpus, timeout=resources.timeout), {})
    folder = folders.locate(config.model.base)
    head = head_of(config, folder)
    sound = soundness.check(folder, head) if config.form.reads_recipe else Soundness()
    _check_targets(config, sound)
    cache = cache_folder()
    here = Path.cwd()
    faults = Faults(shown=FAULTY, most=FAULTY)
    domains: dict[str, dict[Split, TokenFile]] = {}
    for name, domain in (config.domains if config.form.reads_recipe else {}).items():
        domains[name] = {}
        for split, (source, half) in domain.splits().items():
            with faults.noted():
                domains[name][split] = tokenise(
                    f"domains.{name}.{split}",
                    source,
                    here,
                    folder,
                    cache,
                    half=half,
                    labels=head.labels,
                )
    prompts = _prompts(config, folder, faults)
    unclean: Mapping[str, Collection[str]] | None = {}
    if not faults:  # all evaluation texts can be read
        unclean = None
        with faults.noted():
            unclean = pools.contaminated_in(config, prompts, here)
    sources: dict[str, TokenFile] = {}
    for name, source in config.sources.items():
        if unclean is None and source.kind == "sample":
            continue  # the error of one of them is noted already
        with faults.noted():
            sources[name] = tokenise(
                f"sources.{name}",
                source,
                here,
                folder,
                cache,
                labels=head.labels,
                without=(unclean or {}).get(name, ()),
            )
    longest = int(largest(config, "sequence_length")) if config.form.mixes else 0
    for name, file in sources.items():
        with faults.noted():
            _check_source(config, name, file, longest)
    faults.check()
    room = folders.context(folder)
    if room is not None and longest > room:
        raise InputError(
            f"sequence_length {longest} is longer than the base model's context of {room} tokens; "
            "lower it, in recipe and genome"
        )
    answer = int(largest(config, "reinforce_new_tokens"))
    if room is not None and "reinforce" in _methods(config) and longest + answer > room:
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
    parts = {name: Path(part) for name, part in config.parts.items()}
    for name, part in parts.items():
        check_part(f"parts.{name}", part, folder)
    prompt_sets = config.prompts if config.form.reads_recipe else {}
    task = Task(
        evaluator,
        folder,
        config.model.dtype,
        head,
        sources,
        domains,
        prompt_sets,
        prompts,
        parts,
        budget_tokens=config.budget.tokens,
        inherit_share=config.budget.inherit_share,
        held_out_length=longest,
        threads=config.resources.cpus,
        micro_batch=config.resources.micro_batch,
        processes=config.resources.processes,
        checkpointing=config.resources.checkpointing,
        timeout=config.resources.timeout,
        patience=config.budget.patience,
        stop_on=next(iter(config.objectives)).partition("/")[0] if config.budget.patience else "",
    )
    fingerprints: dict[str, Any] = {
        "model": folders.fingerprint(folder),
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
            for name, prompt_set in prompt_sets.items()
        },
    }
    if parts:
        fingerprints["parts"] = {name: fingerprint_of(part) for name, part in parts.items()}
    return Prepared(task, fingerprints, sound)


def head_of(config: SearchConfig, folder: Path) -> Head:
    """The head that a search trains, with its class labels. Raises InputError if unsupported."""
    task = config.model.task
    if config.form.reads_recipe:
        head_checks.check(folder, task)
    if task == "masked":
        Masking.of(load_tokenizer(folder))
    if task != "classification":
        return Head(task)
    given = tuple(map(str, config.model.labels))
    return Head(task, head_checks.labels_of(given, folder, config.sources.values(), Path.cwd()))


def _methods(config: SearchConfig) -> list[Method]:
    """Training methods that the search may use."""
    return possible(config, "method")


def _prompts(config: SearchConfig, folder: Path, faults: Faults) -> dict[str, dict[Split, Prompts]]:
    """Prompts by set and split; none under a user's own evaluator, which measures itself."""
    prompts: dict[str, dict[Split, Prompts]] = {}
    for name, prompt_set in (config.prompts if config.form.reads_recipe else {}).items():
        prompts[name] = {}
        for split, path in prompt_set.files().items():
            subject = f"prompts.{name}.{split}"
            with faults.noted():
                prompts[name][split] = read_prompts(subject, path, prompt_set, folder)
    return prompts


def _check_source(config: SearchConfig, name: str, file: TokenFile, longest: int) -> None:
    """Raises InputError for a source that holds too little, or not what the recipes need."""
    if file.kind == "text" and file.tokens < longest:
        raise InputError(
            f"sources.{name}: {file.tokens} tokens are fewer than one sequence of {longest}; "
            "add text, or lower sequence_length"
        )
    if file.kind in ("prompt", "rating", "sample"):
        _check_answers(config, name, file)
    if file.kind in ("preference", "rating") and config.form.reads_recipe:
        _check_divergence(config, name, file)
    if file.kind == "sample":
        pools.check_scores(config, name, file)


def _check_answers(config: SearchConfig, name: str, file: TokenFile) -> None:
    """Raise InputError if a method learns from a source's records and none can be learned."""
    content = file.open()
    learning = [one for one in _methods(config) if use_of(file.kind, one) == LEARN]
    if not (learning and isinstance(content, Records)):
        return
    if not len(RecordDeck(content, "learn", 2).rows):
        missing = MISSING[file.kind]
        raise InputError(
            f"sources.{name}: {learning[0]} learns from its records, and none of its "
            f"{file.documents} has a {missing}; add some, or choose another method"
        )


def _check_divergence(config: SearchConfig, name: str, file: TokenFile) -> None:
    """Raise InputError if KTO has no mismatched answers to estimate the divergence from.

    KTO estimates how far the model has moved from the base on prompts paired with the answers of
    other records, so that not all answers may be the same.
    """
    losses = possible(config, "preference_loss")
    if "preference" not in _methods(config) or (file.kind == "preference" and "kto" not in losses):
        return
    content = file.open()
    length = int(bounds(config, "sequence_length")[0])
    if isinstance(content, Records) and content.alike(length):
        raise InputError(
            f"sources.{name}: all its {file.documents:,} records have one and the same answer (of "
            f"{length} tokens at most), and KTO, which learns from them, estimates the divergence "
            "from the base on answers of other records; add records with other answers, or choose "
            "another method"
        )


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
