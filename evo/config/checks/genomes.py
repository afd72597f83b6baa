"""Checks of genes, recipe and baselines, against each other and the sources."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from evo.config.errors import problems, show
from evo.config.file import Key, Problem, nearest, unknown, unknown_key
from evo.config.genomes import filled, mixable, mixed_sources, space
from evo.config.sections import ONLY, SearchConfig
from fitness.evaluate.trl import HONOURED, unhonoured
from fitness.evaluators import Command, Trl
from fitness.recipe import DRAWS, Recipe
from population.space import AnyGene, Choice, Float, Simplex

Problems = Iterator[Problem]


def key_of(config: SearchConfig, field: str) -> Key:
    """Key of a recipe's field: in the genome if it is a gene, else in the recipe."""
    return ("genome" if field in config.genome else "recipe", field)


def genes(config: SearchConfig) -> Problems:
    """Genes that are not a field of the recipe, or have values that the field cannot take."""
    for name, gene in config.genome.items():
        key: Key = ("genome", name)
        if not _is_read(config, name):
            continue
        if name not in Recipe.model_fields:
            yield unknown_key(key, Recipe.model_fields, "the recipe has", "gene")
        elif isinstance(config.evaluator, Trl) and name not in HONOURED:
            yield Problem(key, "TRL does not support this field; take it out of the genome")
        elif name == "mixture" and not isinstance(gene, Simplex):
            yield Problem((*key, "type"), f"a mixture is a simplex gene, got {gene.type}")
        elif isinstance(gene, Simplex):
            if name != "mixture":
                yield Problem((*key, "type"), "only `mixture` is a simplex gene; use another type")
        elif isinstance(gene, Choice):
            for index, option in enumerate(gene.options):
                if name == "precision" and option == "auto":
                    message = "`auto` is settled once for a search; give float32 and bfloat16"
                    yield Problem((*key, "options", index), message)
                yield from _as_recipe({name: option}, (*key, "options", index))
        else:
            at_low = list(_as_recipe({name: gene.low}, (*key, "low")))
            yield from at_low or _as_recipe({name: gene.high}, (*key, "high"))
            if isinstance(gene, Float) and Recipe.model_fields[name].annotation is int:
                yield Problem((*key, "type"), f"{name} is a whole number; use type: int")


def _is_read(config: SearchConfig, name: str) -> bool:
    """True where evomix itself reads this field of a recipe, with any trainer."""
    return config.form.reads_recipe or (config.form.mixes and name in DRAWS)


def _as_recipe(value: Mapping[str, Any], key: Key) -> Problems:
    try:
        Recipe.model_validate(value)
    except ValidationError as error:
        for problem in problems(error, value, Recipe.model_json_schema()):
            yield Problem(key, problem.message)


def mixtures(config: SearchConfig) -> Problems:
    """Mixtures over unknown sources, or with floors and caps that no mixture meets."""
    for name, gene in config.genome.items():
        if not isinstance(gene, Simplex):
            continue
        key: Key = ("genome", name)
        known = mixable(config)
        if not (gene.over or known):
            if not config.form.mixes:
                yield Problem(key, "over is empty and there are no sources; list the names")
            continue
        for index, source in enumerate(gene.over):
            if config.form.mixes and source not in known:
                message = unknown(source, known, "there are", f"{kind(config)} {source!r}")
                yield Problem((*key, "over", index), message)
        try:
            filled(gene, known)
        except ValidationError as error:
            yield from (Problem(key, str(item["ctx"]["error"])) for item in error.errors())


def varied(config: SearchConfig) -> Problems:
    """A genome with one possible value: a mixture over one source alone is always that source."""
    over = mixed_sources(config)
    if set(config.genome) == {"mixture"} and len(over) == 1 and config.rounds is None:
        yield Problem(
            ("genome", "mixture"),
            f"is over one {kind(config)}, {over[0]}, and the only gene: all individuals would be "
            f"the same; name a second {kind(config)}, or another gene such as learning_rate",
        )


def kind(config: SearchConfig) -> str:
    """Word for what a mixture is over: `source`, or `part` of a merge."""
    return "part" if config.parts else "source"


def conditions(config: SearchConfig) -> Problems:
    """Conditions (`when`) that no genome meets."""
    try:
        space(config)
    except ValueError as error:
        named = re.match(r"gene '([^']+)': ", str(error))
        key = ("genome", named[1], "when") if named else ("genome",)
        yield Problem(key, str(error)[named.end() if named else 0 :])


def recipe(config: SearchConfig) -> Problems:
    """Fields of the recipe that are unknown, invalid, or not supported by TRL where it trains."""
    read = {name: value for name, value in config.recipe.items() if _is_read(config, name)}
    try:
        Recipe.model_validate(read)
    except ValidationError as error:
        yield from problems(error, read, Recipe.model_json_schema(), ("recipe",))
    else:
        for name in unhonoured(read) if isinstance(config.evaluator, Trl) else ():
            yield Problem(("recipe", name), "TRL does not support this field; leave it out")


def starts(config: SearchConfig) -> Problems:
    """Values in the recipe or in known genomes that the genes of the same names cannot take."""
    for name, gene in config.genome.items():
        if config.recipe.get(name) is not None:
            yield from _value(config, gene, config.recipe[name], ("recipe", name))
    for index, genome in enumerate(config.known):
        for name, value in genome.items():
            key: Key = ("known", index, name)
            if name in config.genome:
                yield from _value(config, config.genome[name], value, key)
            else:
                yield unknown_key(key, config.genome, "the genes are", "gene")


def _value(config: SearchConfig, gene: AnyGene, value: Any, key: Key) -> Problems:
    """Problems of a value that a gene cannot take; one outside the gene's bounds is allowed."""
    if isinstance(gene, Simplex):
        over = gene.over or mixable(config)
        for source in value if isinstance(value, Mapping) else ():
            if source not in over:
                message = unknown(str(source), over, "the mixture is over", "source")
                yield Problem((*key, str(source)), message)
            elif isinstance(value[source], bool) or not isinstance(value[source], int | float):
                yield Problem((*key, str(source)), f"needs a share, got {show(value[source])}")
        if not isinstance(value, Mapping):
            yield Problem(key, f"needs a share for each source, got {show(value)}")
    elif isinstance(gene, Choice):
        if value not in gene.options:
            options = ", ".join(str(option) for option in gene.options)
            yield Problem(key, f"{show(value)} is not among the gene's options {options}")
    elif isinstance(value, bool) or not isinstance(value, int | float):
        yield Problem(key, f"the gene needs a number, got {show(value)}")


def fixed_mixture(config: SearchConfig) -> Problems:
    """A missing mixture over several sources, or one with unknown names."""
    if not config.form.mixes or "mixture" in config.genome:
        return
    mixture = config.recipe.get("mixture")
    known = mixable(config)
    if mixture is None and len(known) > 1:
        yield Problem(
            ("recipe", "mixture"),
            f"missing; there are {len(known)} {kind(config)}s and no gene `mixture`: give each a "
            "share here, or add `mixture: {type: simplex}` to the genome",
        )
    for source in mixture if isinstance(mixture, Mapping) else ():
        if source not in known:
            message = unknown(source, known, "there are", kind(config))
            yield Problem(("recipe", "mixture", source), message)


def baselines(config: SearchConfig) -> Problems:
    """Baselines that are unknown, given twice, or need sizes of sources that are not listed."""
    over = mixed_sources(config)
    for index, name in enumerate(config.baselines):
        key: Key = ("baselines", index)
        source = name.removeprefix(ONLY)
        if name in config.baselines[:index]:
            yield Problem(key, f"{name!r} is there twice; keep one of them")
        elif name.startswith(ONLY):
            if source not in over:
                yield Problem(key, unknown(source, over, "there are", f"source {source!r}"))
        elif name not in ("uniform", "proportional"):
            close = nearest(name, ("uniform", "proportional", *(ONLY + one for one in over)))
            hint = f"; did you mean {close}?" if close else ""
            yield Problem(
                key, f"must be uniform, proportional or only <source>, got {name!r}{hint}"
            )
        elif name == "proportional" and not set(over) <= set(config.sources):
            yield Problem(key, "needs the sizes of all the mixture's names; list them as sources")


def counted(config: SearchConfig) -> Problems:
    """A `proportional` baseline where the tokens of the sources cannot be counted."""
    named = isinstance(config.evaluator, Command) and bool(config.model.base)
    if config.form.mixes or named or len(mixed_sources(config)) < 2:
        return
    for index, name in enumerate(config.baselines):
        if name == "proportional":
            yield Problem(
                ("baselines", index),
                "the tokens of the sources are not counted for this evaluator; leave it out"
                + (", or name model.base" if isinstance(config.evaluator, Command) else ""),
            )
