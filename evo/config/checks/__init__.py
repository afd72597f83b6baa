"""Checks across the sections of a spec: whether its parts fit each other."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from evo.config.checks import (
    aggregates,
    budget,
    genomes,
    measurements,
    methods,
    proxies,
    rounds,
    search,
)
from evo.config.checks.cleaning import cleaning
from evo.config.checks.genomes import Problems
from evo.config.checks.loading import attention, quantisation, server
from evo.config.checks.tasks import tasks
from evo.config.evaluator import evaluator_problems
from evo.config.file import Key, Problem
from evo.config.genomes import largest, warm_starts
from evo.config.sections import SearchConfig
from fitness.mixture.thresholds import score_of_field
from fitness.recipe import Recipe


def check(config: SearchConfig, sound: Iterable[str], folder: Path) -> list[Problem]:
    """Problems between the sections of a spec, at most one for each key.

    A check runs only if all sections that it reads are in `sound` (the others have errors of
    their own); a later check only if the earlier ones found nothing in these sections. `folder` is
    the folder of the spec.
    """
    usable, problems = set(sound), dict[Key, Problem]()
    checks_of_spec: Checks = (("evaluator model", partial(_evaluator, folder=folder)), *CHECKS)
    with importing_from(folder / config.import_from):
        for checks in (FIRST_CHECKS, checks_of_spec, LATER_CHECKS):
            for sections, examine in checks:
                if usable.issuperset(sections.split()):
                    for problem in examine(config):
                        problems.setdefault(problem.key, problem)  # one for a key is enough
            usable -= {str(key[0]) for key in problems}
    return list(problems.values())


@contextmanager
def importing_from(folder: Path) -> Iterator[None]:
    """Search for modules in the working directory and a folder, within the context."""
    before = list(sys.path)
    sys.path[:0] = [str(Path.cwd()), str(folder)]
    try:
        yield
    finally:
        sys.path[:] = before


def _complete(config: SearchConfig) -> Problems:
    """Missing sections that only an evaluator of one's own can do without."""
    if not config.form.mixes:
        return
    if not config.model.base:
        yield Problem(("model", "base"), "missing; name `quickstart`, a model folder or a Hub id")
    generated = config.rounds is not None and config.rounds.first == "generate"
    if not config.sources and not config.parts and not generated:
        yield Problem(("sources",), "missing; name at least one data set to train on")
    measured = config.domains or config.prompts or config.benchmarks
    if not measured and config.form.reads_recipe:
        message = "missing; name held-out text, e.g. target: {path: held_out.txt}, or prompts"
        yield Problem(("domains",), message)


def _evaluator(config: SearchConfig, *, folder: Path) -> Problems:
    return evaluator_problems(config.evaluator, folder, model=bool(config.model.base))


def _parts(config: SearchConfig) -> Problems:
    """Consistency of `parts`: a merge trains nothing; without parts there is a token budget."""
    if not config.form.trains:
        return
    if not config.parts:
        if config.budget.tokens < 1:
            yield Problem(("budget", "tokens"), "0; give at least one, or parts to merge")
        return
    if config.sources:
        yield Problem(("sources",), "parts are merged without training; leave the sources out")
    if config.budget.tokens:
        message = f"{config.budget.tokens}, but parts are merged without training; give 0"
        yield Problem(("budget", "tokens"), message)
    if warm_starts(config):
        message = "a merge always starts from the parts; leave `start` out"
        yield Problem(genomes.key_of(config, "start"), message)
    if config.search.rungs:
        yield Problem(("search", "rungs"), "a merge cannot pause; leave the rungs out")


def _kinds(config: SearchConfig) -> Problems:
    """Sources of records with a trainer that reads only windows of text (TRL, a command)."""
    if config.form.trains or not config.form.mixes:
        return
    for name, source in config.sources.items():
        if source.kind != "text":
            message = f"only evomix's own trainer reads records, got kind {source.kind}"
            yield Problem(("sources", name, "kind"), f"{message}; leave it out, or set `evaluator`")


def _thresholds(config: SearchConfig) -> Problems:
    """Thresholds for samples (`keep_` fields) in a spec without a source of samples."""
    kinds = {source.kind for source in config.sources.values()}
    if not config.form.reads_recipe or "sample" in kinds or config.rounds:
        return
    fields = {name: field for name, field in Recipe.model_fields.items() if score_of_field(name)}
    active = [name for name in fields if config.recipe.get(name, 1) != fields[name].default]
    for section, names in (("genome", fields), ("recipe", active)):
        for name in (name for name in names if name in getattr(config, section)):
            message = "is a threshold for samples, and no source is of kind sample; leave it out"
            yield Problem((section, name), message)


def _infilling(config: SearchConfig) -> Problems:
    """An `infill_share` without a source of text, whose documents it would rearrange."""
    if not config.form.mixes or not largest(config, "infill_share"):
        return
    if not any(source.kind == "text" for source in config.sources.values()):
        message = "applies to documents of text, and no source is of kind text; leave it out"
        yield Problem(genomes.key_of(config, "infill_share"), message)


Checks = tuple[tuple[str, Callable[[SearchConfig], Problems]], ...]

FIRST_CHECKS: Checks = (  # others read the names of what is measured
    ("model evaluator domains prompts benchmarks", measurements.benchmarks),
)
CHECKS: Checks = (
    ("evaluator model sources parts domains prompts benchmarks rounds", _complete),
    ("evaluator sources parts budget genome recipe search", _parts),
    ("evaluator genome", genomes.genes),
    ("evaluator genome sources parts", genomes.mixtures),
    ("evaluator recipe", genomes.recipe),
    ("evaluator genome recipe sources parts", genomes.fixed_mixture),
    ("genome recipe known sources parts", genomes.starts),
    ("baselines genome sources parts", genomes.baselines),
    ("prompts", measurements.metrics),
    ("domains", measurements.domain_kinds),
    ("evaluator domains prompts benchmarks aggregates", aggregates.aggregates),
    ("evaluator sources", _kinds),
    ("model evaluator sources parts domains prompts genome recipe search", tasks),
    ("model evaluator parts genome recipe", quantisation),
    ("model evaluator genome recipe resources", attention),
    ("model evaluator rounds", server),
    ("evaluator genome recipe sources rounds", methods.methods),
    ("evaluator genome recipe sources rounds", _thresholds),
    ("rounds evaluator parts model search resources genome recipe sources", rounds.rounds),
    ("rounds genome recipe", rounds.filters),
    ("rounds", rounds.judging),
    ("search", search.strategy),
    ("search budget baselines known objectives genome recipe sources parts", search.population),
)
LATER_CHECKS: Checks = (
    ("genome sources parts", genomes.conditions),
    ("genome sources parts rounds", genomes.varied),
    ("baselines evaluator genome model sources parts", genomes.counted),
    ("constraints aggregates domains prompts benchmarks", measurements.towards_worse),
    ("constraints", measurements.constraints),
    (
        "evaluator domains prompts benchmarks aggregates objectives constraints",
        measurements.measured,
    ),
    ("evaluator genome recipe sources domains", methods.of_sources),
    ("model evaluator genome recipe sources parts rounds baselines", methods.learned),
    ("evaluator genome recipe sources", _infilling),
    ("evaluator budget genome recipe parts", budget.steps),
    ("evaluator sources budget rounds", budget.epochs),
    ("evaluator model sources budget genome recipe", budget.learned_tokens),
    ("evaluator sources parts cleaning", cleaning),
    ("evaluator budget aggregates objectives search", budget.patience),
    ("search parts budget resources", search.bucket),
    ("evaluator parts resources search", search.processes),
    ("evaluator genome model parts recipe resources", search.sharding),
    ("evaluator search budget genome recipe parts", search.inheritance),
    ("rounds domains prompts benchmarks aggregates", rounds.ends),
    (
        "model rounds evaluator parts search genome recipe sources baselines known objectives",
        proxies.proxies,
    ),
    ("model evaluator genome recipe parts", proxies.steps),
)
