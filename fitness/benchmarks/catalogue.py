"""Tasks that lm-evaluation-harness knows, by the YAML that describes them; no data is read."""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

from fitness.benchmarks.settings import Benchmark
from fitness.errors import InputError
from fitness.suggest import did_you_mean

KINDS = ("loglikelihood", "multiple_choice", "loglikelihood_rolling", "generate_until")


def measured_names(benchmarks: Mapping[str, Benchmark]) -> list[str]:
    """Names of all measurements of benchmarks, as `glosses/which/acc`. Raises InputError."""
    return [
        f"{name}/{task}/{metric}"
        for name, benchmark in benchmarks.items()
        for task, file in task_files(benchmark).items()
        for metric in metrics_of(config_of(task, file))
    ]


def check_installed() -> None:
    """Raise InputError if lm-evaluation-harness is missing."""
    try:
        version("lm-eval")
    except PackageNotFoundError:
        raise InputError("needs lm-eval; pip install 'evomix[benchmarks]'") from None


def task_files(benchmark: Benchmark) -> dict[str, Path]:
    """The YAML of each task by name, with groups and tags expanded. InputError if unknown."""
    own: Mapping[str, Any] = {}
    if benchmark.include is not None:
        folder = Path(benchmark.include)
        if not folder.is_dir():
            raise InputError(f"include {str(folder)!r}: there is no such folder; name one")
        own = _index(folder)
    names = [task for name in benchmark.tasks for task in _leaves(name, own)]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise InputError(f"task {twice[0]!r} is named twice; name it, or its group, once")
    return {name: _file(name, _entry(name, own)) for name in names}


def config_of(name: str, file: Path) -> dict[str, Any]:
    """A task's YAML with what it includes, functions as texts. InputError if unsupported."""
    from lm_eval.tasks._yaml_loader import load_yaml

    config: dict[str, Any] = load_yaml(file, resolve_func=False)
    if "class" in config:
        raise InputError(f"task {name!r} is a class in Python; name one that is all YAML")
    if config.get("unsafe_code"):
        raise InputError(f"task {name!r} runs code that the model writes; name another")
    if config.get("doc_to_image") or config.get("doc_to_audio"):
        raise InputError(f"task {name!r} shows images or sounds; name one of text")
    if config.get("output_type") not in KINDS:
        kinds = ", ".join(KINDS)
        raise InputError(
            f"task {name!r}: output_type {config.get('output_type')!r}; it must be one of {kinds}"
        )
    return config


def filters_of(config: Mapping[str, Any]) -> list[str]:
    """Names of the filters of a task's answers."""
    return [one["name"] for one in config.get("filter_list") or [{"name": "none"}]]


def metrics_of(config: Mapping[str, Any]) -> list[str]:
    """Names of a task's metrics; with several filters, `exact_match,strict-match` and so on."""
    from lm_eval.api.registry import DEFAULT_METRIC_REGISTRY

    listed = config.get("metric_list")
    names = DEFAULT_METRIC_REGISTRY[config["output_type"]] if listed is None else listed
    metrics = [one if isinstance(one, str) else _name(one["metric"]) for one in names]
    filters = filters_of(config)
    if len(filters) == 1:
        return metrics
    return [f"{metric},{one}" for one in filters for metric in metrics]


def _name(metric: str) -> str:
    """A metric's name, or that of its function: a path and `module.function`."""
    return metric.rpartition(".")[2]


def _leaves(name: str, own: Mapping[str, Any]) -> Iterator[str]:
    """The names of the tasks that a task, group or tag stands for."""
    entry = _entry(name, own)
    if entry.kind.name == "TAG":
        yield from sorted(entry.tags)
    elif entry.kind.name != "GROUP":
        yield name
    else:
        for member in entry.cfg["task"]:
            if not isinstance(member, str):
                raise InputError(
                    f"group {name!r} changes the settings of its tasks; name the tasks themselves"
                )
            yield from _leaves(member, own)


def _entry(name: str, own: Mapping[str, Any]) -> Any:
    if name in own:
        return own[name]
    known = _builtin()
    if name not in known:
        raise InputError(
            f"lm-eval knows no task {name!r}{did_you_mean(name, [*own, *known])}; `lm-eval ls "
            "tasks` lists them, and `include` names a folder with your own"
        )
    return known[name]


def _file(name: str, entry: Any) -> Path:
    if entry.yaml_path is None:
        raise InputError(f"task {name!r} has no YAML; name another")
    return Path(entry.yaml_path)


@cache
def _builtin() -> Mapping[str, Any]:
    """The tasks of the package, which take some seconds to read."""
    return _index(None)


def _index(folder: Path | None) -> Mapping[str, Any]:
    """Tasks, groups and tags by name: those of a folder, or of the package."""
    check_installed()
    from lm_eval.tasks import TaskManager

    getLogger("lm_eval").setLevel(ERROR)
    found = TaskManager(include_path=folder, include_defaults=folder is None)
    index: Mapping[str, Any] = found.task_index
    return index
