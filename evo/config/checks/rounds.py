"""Checks of the section `rounds` against the rest of the spec."""

from evo.config.aggregates import measurable
from evo.config.checks.genomes import Problems
from evo.config.file import Problem, unknown
from evo.config.genomes import Constraint, possible
from evo.config.rounds import ADDED, PEOPLE
from evo.config.sections import SearchConfig
from fitness.checks.table import CHECKS
from fitness.errors import InputError
from fitness.feedback.judgements import RATINGS, by_judge, is_rating
from fitness.filters import FILTERS, RATERS, RATING, check_filter, filter_of, of_criterion
from fitness.mixture.thresholds import score_of_field
from fitness.plugins import function_name, load_function
from fitness.recipe import Recipe
from fitness.suggest import listed

UNJUDGED = "needs people's judgements, and there are none: set rounds.judgements"


def rounds(config: SearchConfig) -> Problems:
    """Settings that rounds do not support, and inputs for generation that are missing."""
    section = config.rounds
    if section is None:
        return
    key = ("rounds",)
    against = {
        "an evaluator of its own": not config.form.trains,
        "parts, which are merged without training": bool(config.parts),
        f"model.task {config.model.task}, which generates no text": config.model.task != "causal",
        "resources.processes": config.resources.processes > 1,
    }
    for name in (name for name, there in against.items() if there):
        yield Problem(key, f"cannot be combined with {name}; leave one out")
    if "mixture" not in config.genome:
        message = "generated samples get a share of the mixture; add `mixture: {type: simplex}`"
        yield Problem(("genome", "mixture"), message)
    if section.pairs and not section.require:
        message = "pairs are of samples that meet rounds.require and that do not; give it"
        yield Problem((*key, "pairs"), message)
    for name in ADDED:
        if name in config.sources:
            message = "is the name of a source that rounds add; rename this one"
            yield Problem(("sources", name), message)
    for index, name in enumerate(section.like):
        if name not in config.sources:
            message = unknown(name, config.sources, "there are", "source")
            yield Problem((*key, "like", index), message)
    trained = possible(config, "infill_share") != [0] or "infill_share" in config.genome
    if section.writing.infill and not trained:
        message = "no model is trained to infill: give recipe.infill_share, or a gene of that name"
        yield Problem((*key, "writing", "infill"), message)
    if section.writing.from_prompts and not section.prompts:
        message = "missing, and writing.from_prompts is above 0; name a JSONL file of {prompt}"
        yield Problem((*key, "prompts"), message)


def filters(config: SearchConfig) -> Problems:
    """Filters that are unknown or lack an input, and thresholds on scores that no filter gives."""
    section = config.rounds
    if section is None:
        return
    for index, name in enumerate(section.filters):
        try:
            check_filter(name)
        except InputError as error:
            yield Problem(("rounds", "filters", index), str(error).removeprefix("filter "))
    if "likelihood" in section.filters and not section.second:
        message = "missing; the filter likelihood needs it: name a model, or leave the filter out"
        yield Problem(("rounds", "second"), message)
    judged = ("reward", *section.rated) if section.judgements else ()
    scores = {*section.filters, *judged}
    if missing := section.missing(map(function_name, scores)):
        message = f"no filter gives the score {missing}; add it to rounds.filters, which are "
        message += listed(section.filters)
        if needs_people(missing):
            message = f"{missing} {UNJUDGED}"
        if section.judgements and of_criterion(missing):
            name = missing.removeprefix(f"{RATING}/")
            message = unknown(name, section.criteria, "rounds.criteria has", "criterion")
        yield Problem(("rounds", "require"), message)
    if not section.prompts:
        for index, name in enumerate(section.filters):
            if name in CHECKS:
                message = f"{name} needs prompts with references; name a JSONL in rounds.prompts"
                yield Problem(("rounds", "filters", index), message)
    for place in ("genome", "recipe"):
        for name in getattr(config, place):
            score = score_of_field(name)
            default = Recipe.model_fields[name].default if name in Recipe.model_fields else None
            idle = place == "recipe" and config.recipe[name] == default
            if score in FILTERS and score not in scores and not idle:
                message = f"no filter gives this score; add {score!r} to rounds.filters"
                if score is not None and needs_people(score):
                    message = UNJUDGED
                yield Problem((place, name), message)


def needs_people(score: str) -> bool:
    """True for a score that follows from people's judgements."""
    return filter_of(score).needs == "judgements"


def judging(config: SearchConfig) -> Problems:
    """Criteria that nobody rates by, and ratings that are required of an annotator without any."""
    section = config.rounds
    if section is None:
        return
    key = ("rounds", "criteria")
    if section.criteria and not section.judgements:
        yield Problem(key, "nobody is asked to judge: set rounds.judgements, or leave criteria out")
    if by_judge(section.annotator) and section.criteria:
        yield Problem(key, "a model judges pairs and rates nothing; leave it out")
    for one in section.limits():
        least = one.value if one.sign > 0 else -one.value
        if is_rating(one.score) and least > (RATINGS[-1] if one.sign > 0 else -RATINGS[0]):
            message = f"ratings are from 1 to 5, so {section.require[one.score]} is never met"
            yield Problem(("rounds", "require", one.score), message)
    if not section.judgements:
        return
    if by_judge(section.annotator) and section.needs_ratings:
        message = "a model judges pairs and rates nothing; require no rating, or let people judge"
        yield Problem(("rounds", "require"), message)
    elif section.annotator != PEOPLE and section.raters > 1:
        message = f"{RATERS} must be 1 for the annotator {section.annotator}, which is one; "
        yield Problem(("rounds", "require"), message + "or let people judge")


def ends(config: SearchConfig) -> Problems:
    """A target that is not measured, and an annotator that cannot be imported."""
    section = config.rounds
    if section is None:
        return
    if section.target is not None:
        key = ("rounds", "target")
        try:
            name, factor = (target := Constraint.parse(section.target)).name, target.factor
        except ValueError as error:
            yield Problem(key, str(error))
        else:
            if factor is not None:
                message = f"{section.target!r} is relative to the base, which may change; "
                yield Problem(key, message + "give a number")
            measured = [*measurable(config), *config.aggregates]
            if name not in measured:
                yield Problem(key, unknown(name, measured, "there are", f"measurement {name}"))
    relative = [name for name, one in config.aggregates.items() if one.relative_to]
    if section.begin == "best" and relative:
        message = "the base differs between rounds, as rounds.begin is best; leave relative_to out"
        yield Problem(("aggregates", relative[0], "relative_to"), message)
    if by_judge(section.annotator):
        return  # the model is looked up at the launch
    if section.annotator != PEOPLE:
        try:
            load_function(section.annotator, "annotator")
        except InputError as error:
            message = f"{str(error).removeprefix('annotator ')}; or say `people`"
            yield Problem(("rounds", "annotator"), message)
