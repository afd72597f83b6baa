"""Conditions of an evaluation: all that decides its result but recipe, sources, seed and split."""

import json
from collections.abc import Mapping
from typing import Any

from evo.config import SearchConfig, largest, to_plain
from evo.config.budget import DECIDES
from evo.record import trust

TRAINING = ("evomix", "torch", "transformers", "peft", "trl")  # packages that decide results
MODEL = ("dtype", "quantisation", "attention", "task", "labels")
SHOWN = 24  # characters of a value that a message shows; of longer ones only the name
SPLITS = ("selection", "test")
ABSENT = object()

Conditions = Mapping[str, Any]


def conditions(
    config: SearchConfig, fingerprints: Mapping[str, Any], versions: Mapping[str, object]
) -> dict[str, Any]:
    """The conditions of a search's evaluations, by name."""
    plain = to_plain(config)
    found: dict[str, Any] = {
        "evaluator": plain["evaluator"],
        "model.base": fingerprints.get("model"),
        **{f"model.{name}": plain["model"][name] for name in MODEL},
        "budget.tokens": config.budget.tokens,
        "budget.patience": config.budget.patience,
        "search.bucket": config.search.bucket,
        "resources.gpus": "some" if config.resources.gpus else "none",
    }
    for name in DECIDES:
        found[f"resources.{name}"] = plain["resources"][name]
    if config.budget.patience:
        found["the objective that patience goes by"] = next(iter(config.objectives))
    if config.form.reads_recipe:
        found["the largest sequence_length"] = largest(config, "sequence_length")
        for name in config.domains:
            found[f"domains.{name}"] = recorded(fingerprints, "domains").get(name)
        for name, given in plain["prompts"].items():
            settings = {key: value for key, value in given.items() if key not in SPLITS}
            files = recorded(fingerprints, "prompts").get(name)
            found[f"prompts.{name}"] = {**settings, "files": files}
        for name, given in plain.get("benchmarks", {}).items():
            tasks = recorded(fingerprints, "benchmarks").get(name)
            found[f"benchmarks.{name}"] = {"few_shot": given["few_shot"], "tasks": tasks}
    if trust.code_in(plain):
        found["import_from"] = plain["import_from"]
    for package in TRAINING:
        found[f"the version of {package}"] = versions.get(package)
    return found


def recorded(fingerprints: Mapping[str, Any], group: str) -> Mapping[str, Any]:
    """Fingerprints of a group, such as the domains; empty if there are none."""
    found = fingerprints.get(group)
    return found if isinstance(found, Mapping) else {}


def differences(earlier: Conditions, now: Conditions) -> list[str]:
    """Names of the conditions that an earlier search did not meet, with short values.

    What it measured beyond does not matter, such as other domains.
    """
    found = [
        _described(name, earlier.get(name, ABSENT), value)
        for name, value in now.items()
        if earlier.get(name, ABSENT) != value
    ]
    if now["search.bucket"] != 1 and earlier.get("search.bucket") == now["search.bucket"]:
        found.append("search.bucket above 1, where numbers depend on the rest of the bucket")
    return found


def _described(name: str, earlier: object, now: object) -> str:
    if earlier is ABSENT:
        return f"{name} (it had none)"
    texts = [json.dumps(value, ensure_ascii=False) for value in (earlier, now)]
    if max(map(len, texts)) > SHOWN:
        return name
    return f"{name} ({texts[0]} there, {texts[1]} here)"
