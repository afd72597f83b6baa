"""Finding a spec's file and those it names, and filling in absolute paths and the full recipe."""

import os
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

from evo.config.aggregates import with_names
from evo.config.checks import importing_from
from evo.config.checks.proxies import fewest_evaluations
from evo.config.evaluator import resolved_command
from evo.config.file import ConfigError, Key, Problem, nearest
from evo.config.genomes import baseline_names, filled_genes, mixable, mixed_sources
from evo.config.rounds import Rounds
from evo.config.search import Search
from evo.config.sections import QUICKSTART, Proxy, SearchConfig
from evo.starter import QUICKSTART_FOLDER
from fitness import hardware
from fitness.data import hub
from fitness.data.documents import Source, existing, is_on_hub
from fitness.errors import InputError
from fitness.evaluators import BUILTIN, Command
from fitness.filters import FILTERS
from fitness.metrics import METRICS
from fitness.models.gguf import is_gguf
from fitness.plugins import REWARD, installed
from fitness.recipe import Recipe
from fitness.remote.store import is_url
from fitness.training.rewards import REWARDS
from population.strategies import least_population

EACH = ""  # stands for every key of a mapping, or place of a list
SOURCES: tuple[Key, ...] = (("sources", EACH), ("domains", EACH), ("domains", EACH, EACH))
FILES: tuple[Key, ...] = (
    ("parts", EACH),
    ("prompts", EACH, "selection"),
    ("prompts", EACH, "test"),
    ("benchmarks", EACH, "include"),
    ("rounds", "prompts"),
)
MODELS: tuple[Key, ...] = (
    ("model", "base"),
    ("model", "proxies", EACH, "base"),
    ("rounds", "second"),
)
BEYOND_SOURCES = 4  # fine-tunes of a proxy by default at the least, beside one for each source
BY_URL = ("sources", "domains")  # sections whose paths may be URLs
MEASURED = ("domains", "prompts", "benchmarks")  # by an evaluator that reads recipes


def resolve_spec(name: str | Path) -> Path:
    """Path of a spec's file, given by path or as `quickstart`. ConfigError if there is none."""
    if str(name) == QUICKSTART:
        return QUICKSTART_FOLDER / "search.yaml"
    path = Path(os.path.expanduser(name))
    if path.is_file():
        return path
    folder = path if path.is_dir() else path.parent
    near = [str(f) for place in (folder, Path("runs")) for f in sorted(place.glob("*.y*ml"))]
    close = nearest(str(path), [*near, QUICKSTART])
    if path.is_dir():
        remedy = (
            f"name the file: {', '.join(near[:8])}" if near else f"`evo init {path}` writes one"
        )
        raise ConfigError(f"{path}: a folder, not a spec; {remedy}")
    if close is not None:
        remedy = f"did you mean {close}?"
    elif near:
        remedy = f"there are {', '.join(near[:8])}"
    else:
        remedy = "`evo init DIR` writes one, and `quickstart` needs none"
    raise ConfigError(f"{path}: there is no such spec; {remedy}")


def fitting_population(config: SearchConfig) -> int:
    """Size of the population of a search whose spec gives none.

    The default, or half of a budget that is smaller than the default, so that the other half can
    be bred; at least what the strategy needs for the baselines, known genomes and objectives.
    """
    default: int = Search.model_fields["population"].default
    evaluations = config.budget.evaluations
    size = default if evaluations >= default else -(-evaluations // 2)
    try:
        least = least_population(
            config.search.strategy,
            objectives=len(config.objectives),
            anchors=len(baseline_names(config)) + len(config.known),
        )
    except ValueError:  # reported by evo.config.checks
        return default
    return max(least, size)


def with_population(config: SearchConfig) -> SearchConfig:
    """Fill in a population that fits budget and strategy if the spec gives none."""
    if "population" in config.search.model_fields_set:
        return config
    search = config.search.model_copy(update={"population": fitting_population(config)})
    return config.model_copy(update={"search": search})


def with_gpus(config: SearchConfig) -> SearchConfig:
    """Fill in a GPU for each worker if the spec gives no number and this machine has one."""
    resources = config.resources
    if "gpus" in resources.model_fields_set or not config.form.reads_recipe:
        return config
    if resources.address != "local" or not (hardware.driver() and hardware.gpus()):
        return config
    return config.model_copy(update={"resources": resources.model_copy(update={"gpus": 1.0})})


def with_functions(config: SearchConfig, folder: Path) -> SearchConfig:
    """Name functions in full: `module:function` for the entry points of installed packages.

    And reward models, `reward:FOLDER`, by absolute folders.
    """

    def full(name: str, group: str, known: Container[str]) -> str:
        path = name.removeprefix(REWARD)
        return installed(name, group, known) if path == name else REWARD + _absolute(path, folder)

    rounds, recipe, given = config.rounds, config.recipe, config.recipe.get("rewards")
    if isinstance(given, dict):
        rewards = {full(name, "rewards", REWARDS): weight for name, weight in given.items()}
        recipe = {**recipe, "rewards": rewards}
    prompts = {
        name: _changed(one, metrics=tuple(full(n, "metrics", METRICS) for n in one.metrics))
        for name, one in config.prompts.items()
    }
    if rounds is not None:
        filters = (full(name, "filters", FILTERS) for name in rounds.filters)
        rounds = _changed(rounds, filters=tuple(filters))
    evaluator = config.evaluator
    if isinstance(evaluator, str):
        evaluator = installed(evaluator, "evaluators", (BUILTIN,))
    changes = {"recipe": recipe, "prompts": prompts, "rounds": rounds, "evaluator": evaluator}
    changed: SearchConfig = _changed(config, **changes)
    return changed


def with_task_folders(config: SearchConfig, folder: Path) -> SearchConfig:
    """Make the folders of the benchmarks' own tasks absolute."""
    benchmarks = {
        name: _changed(one, include=one.include and _absolute(one.include, folder))
        for name, one in config.benchmarks.items()
    }
    changed: SearchConfig = _changed(config, benchmarks=benchmarks)
    return changed


def resolved(config: SearchConfig, folder: Path) -> SearchConfig:
    """Make paths absolute and fill in everything that the spec may leave out."""
    recipe = dict(config.recipe)
    known = mixable(config)
    if config.form.mixes and len(known) == 1 and "mixture" not in config.genome:
        recipe.setdefault("mixture", dict.fromkeys(known, 1.0))
    if config.form.reads_recipe:
        whole = Recipe.model_validate(recipe).model_dump(mode="json")
        genes = config.genome.keys() - recipe.keys()  # these start in the middle of their range
        recipe = {name: value for name, value in whole.items() if name not in genes}
    evaluator = config.evaluator
    if isinstance(evaluator, Command):
        evaluator = resolved_command(evaluator, folder)
    with importing_from(folder / config.import_from):  # metrics, whose names a glob may match
        aggregates = with_names(config)
    return _changed(
        config,
        evaluator=evaluator,
        import_from=_absolute(config.import_from, folder),
        model=_changed(
            config.model,
            base=base_path(config.model.base, folder),
            proxies=tuple(_proxy(config, proxy, folder) for proxy in config.model.proxies),
        ),
        sources=_absolute_in(config.sources, folder),
        parts=_absolute_in(config.parts, folder),
        domains=_absolute_in(config.domains, folder),
        prompts=_absolute_in(config.prompts, folder),
        recipe=recipe,
        genome=filled_genes(config),
        aggregates=aggregates,
        rounds=_rounds(config.rounds, folder),
    )


def _proxy(config: SearchConfig, proxy: Proxy, folder: Path) -> Proxy:
    """A proxy with its defaults, which must not change when a resume raises the budget."""
    half = -(-config.budget.evaluations // 2)
    least = max(len(mixed_sources(config)) + BEYOND_SOURCES, fewest_evaluations(config))
    found: Proxy = _changed(
        proxy,
        base=base_path(proxy.base, folder),
        evaluations=proxy.evaluations or max(half, least),
        tokens=proxy.tokens or config.budget.tokens,
        dtype=proxy.dtype or config.model.dtype,
        quantisation=proxy.quantisation or config.model.quantisation,
    )
    return found


def _rounds(rounds: Rounds | None, folder: Path) -> Rounds | None:
    if rounds is None:
        return None
    prompts = rounds.prompts and _absolute(rounds.prompts, folder)
    moved: Rounds = _changed(rounds, prompts=prompts, second=base_path(rounds.second, folder))
    return moved


def _absolute_in(value: Any, folder: Path) -> Any:
    """Make every path absolute in a path, a source, a split pair, or a mapping of these."""
    match value:
        case str():
            return _absolute(value, folder)
        case Mapping():
            return {name: _absolute_in(v, folder) for name, v in value.items()}
        case Source():
            return (
                value if is_on_hub(value) else _changed(value, path=_absolute(value.path, folder))
            )
        case _:
            return _changed(
                value,
                selection=_absolute_in(value.selection, folder),
                test=_absolute_in(value.test, folder),
            )


def _changed(record: Any, **changes: Any) -> Any:
    return record.model_copy(update=changes)


def _absolute(path: str, folder: Path) -> str:
    """The absolute path of one that is relative to a folder; a URL unchanged."""
    if is_url(path):
        return path
    return os.path.normpath(folder / Path(os.path.expanduser(path)))


def base_path(base: str, folder: Path) -> str:
    """Absolute path of a model folder or GGUF file; a Hub id or URL unchanged."""
    if base == QUICKSTART:
        return str(QUICKSTART_FOLDER / "model")
    looks_like_a_path = base.startswith((".", "~", "/")) or base.count("/") > 1 or is_gguf(base)
    if base and (looks_like_a_path or (folder / base).is_dir()):
        return _absolute(base, folder)
    return base


def reads_data(config: SearchConfig) -> bool:
    """True if model and sources are read: a command may need neither."""
    named = isinstance(config.evaluator, Command) and bool(config.model.base)
    return config.form.mixes or named


def missing_paths(
    data: Mapping[str, object], config: SearchConfig, folder: Path
) -> Iterator[Problem]:
    """Paths in a spec that do not exist, of those that a launch reads.

    `data` is the spec as written, so that errors of other keys hide none; `config` is its valid
    part, and `folder` the folder of the spec.
    """
    if not reads_data(config):
        return
    for key, path in _paths(data, folder):
        if config.form.reads_recipe or key[0] not in MEASURED:
            try:
                if is_url(path) and key[0] not in BY_URL:
                    raise InputError(
                        f"{path}: is a URL, which only sources, domains and models may be; copy "
                        "the file, and give its path"
                    )
                existing(path, folder)
            except InputError as error:
                yield Problem(key, str(error))


def _paths(data: object, folder: Path) -> Iterator[tuple[Key, str]]:
    """Key and text of every path in a spec; what is on the Hub has none."""
    for pattern in SOURCES:
        for key, source in _at(data, pattern):
            path = source.get("path") if isinstance(source, Mapping) else None
            on_hub = isinstance(source, Mapping) and source.get("format") == "hub"
            if isinstance(path, str) and not on_hub and not path.startswith(hub.PREFIX):
                yield (*key, "path"), path
    for pattern in FILES:
        yield from ((key, path) for key, path in _at(data, pattern) if isinstance(path, str))
    for pattern in MODELS:
        for key, base in _at(data, pattern):
            if isinstance(base, str) and os.path.isabs(place := base_path(base, folder)):
                yield key, place


def _at(data: object, pattern: Key, key: Key = ()) -> Iterator[tuple[Key, object]]:
    """Values at all keys of nested mappings and lists that match a pattern, each with its key."""
    if not pattern:
        yield key, data
    elif isinstance(data, Mapping):
        for name in data if pattern[0] == EACH else data.keys() & {pattern[0]}:
            yield from _at(data[name], pattern[1:], (*key, name))
    elif isinstance(data, list) and pattern[0] == EACH:
        for place, item in enumerate(data):
            yield from _at(item, pattern[1:], (*key, place))
