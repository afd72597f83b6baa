"""Finding a spec's file, and filling in what it leaves out: absolute paths, the full recipe."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evo.config.aggregates import with_names
from evo.config.checks import importing_from
from evo.config.evaluator import resolved_command
from evo.config.file import ConfigError, nearest
from evo.config.genomes import baseline_names, filled_genes, mixable
from evo.config.rounds import Rounds
from evo.config.sections import QUICKSTART, Search, SearchConfig
from evo.config.starter import QUICKSTART_FOLDER
from fitness.data.documents import Source, is_on_hub
from fitness.evaluators import Command
from fitness.models.gguf import is_gguf
from fitness.recipe import Recipe
from population.strategies import least_population


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
        model=_changed(config.model, base=_base(config.model.base, folder)),
        sources=_absolute_in(config.sources, folder),
        parts=_absolute_in(config.parts, folder),
        domains=_absolute_in(config.domains, folder),
        prompts=_absolute_in(config.prompts, folder),
        recipe=recipe,
        genome=filled_genes(config),
        aggregates=aggregates,
        rounds=_rounds(config.rounds, folder),
    )


def _rounds(rounds: Rounds | None, folder: Path) -> Rounds | None:
    if rounds is None:
        return None
    prompts = rounds.prompts and _absolute(rounds.prompts, folder)
    moved: Rounds = _changed(rounds, prompts=prompts, second=_base(rounds.second, folder))
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
    return os.path.normpath(folder / Path(os.path.expanduser(path)))


def _base(base: str, folder: Path) -> str:
    """Absolute path of a model folder or GGUF file; a Hub id unchanged."""
    if base == QUICKSTART:
        return str(QUICKSTART_FOLDER / "model")
    looks_like_a_path = base.startswith((".", "~", "/")) or base.count("/") > 1 or is_gguf(base)
    if base and (looks_like_a_path or (folder / base).is_dir()):
        return _absolute(base, folder)
    return base
