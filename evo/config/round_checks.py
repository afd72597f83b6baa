"""Whether a spec's rounds fit the rest of it."""

from evo.config.file import Problem, unknown
from evo.config.genome_checks import Found
from evo.config.genomes import Constraint, possible
from evo.config.rounds import JUDGED, PEOPLE, POOL
from evo.config.sections import SearchConfig
from fitness.data.thresholds import SCORES, score_of_field
from fitness.errors import InputError
from fitness.evaluators import BUILTIN
from fitness.feedback.judgements import by_judge
from fitness.metrics import measured_names
from fitness.plugins import load_function
from fitness.recipe import Recipe
from fitness.samples.filters import check_filter

GIVES = {"perplexity": ("perplexity", "text_perplexity")}  # by filter, where not its own name


def rounds(config: SearchConfig) -> Found:
    """Models that write, sources to mix what they write with, and filters that can be run."""
    asked = config.rounds
    if asked is None:
        return
    key = ("rounds",)
    against = {
        "an evaluator of its own": config.evaluator != BUILTIN,
        "parts, which nothing is trained on": bool(config.parts),
        f"model.task {config.model.task}, which writes nothing": config.model.task != "causal",
        "search.bucket, which knows no samples": config.search.bucket != 1,
        "resources.processes": config.resources.processes > 1,
    }
    for name in (name for name, there in against.items() if there):
        yield Problem(key, f"cannot be had together with {name}; leave one out")
    if "mixture" not in config.genome:
        message = "what models write gets a share of the mixture; add `mixture: {type: simplex}`"
        yield Problem(("genome", "mixture"), message)
    for name in (POOL, *JUDGED):
        if name in config.sources:
            message = "is the name of what rounds add to the sources; rename this one"
            yield Problem(("sources", name), message)
    for index, name in enumerate(asked.like):
        if name not in config.sources:
            message = unknown(name, config.sources, "there are", "source")
            yield Problem((*key, "like", index), message)
    taught = possible(config, "infill_share") != [0] or "infill_share" in config.genome
    if asked.writing.infill and not taught:
        message = "nobody is taught to fill a gap: give recipe.infill_share, or a gene of that name"
        yield Problem((*key, "writing", "infill"), message)
    if asked.writing.from_prompts and not asked.prompts:
        message = "missing, and writing.from_prompts is above 0; name a JSONL file of {prompt}"
        yield Problem((*key, "prompts"), message)


def filters(config: SearchConfig) -> Found:
    """Each filter is known and has what it needs, and somebody gives each score that is cut by."""
    asked = config.rounds
    if asked is None:
        return
    for index, name in enumerate(asked.filters):
        try:
            check_filter(name)
        except InputError as error:
            yield Problem(("rounds", "filters", index), str(error).removeprefix("filter "))
    if "likelihood" in asked.filters and not asked.second:
        message = "missing, and the filter likelihood needs it; name a model, or leave that out"
        yield Problem(("rounds", "second"), message)
    given = {score for name in asked.filters for score in GIVES.get(name, (name,))}
    given |= {"reward", "rating"} if asked.judgements else set()
    for section in ("genome", "recipe"):
        for name in getattr(config, section):
            score = score_of_field(name)
            default = Recipe.model_fields[name].default if name in Recipe.model_fields else None
            idle = section == "recipe" and config.recipe[name] == default
            if score in SCORES and score not in given and not idle:
                message = f"cuts by a score that no filter of rounds.filters gives; add {score!r}"
                if score in ("reward", "rating"):
                    message = "goes by what people say, and nobody is asked: set rounds.judgements"
                yield Problem((section, name), message)


def ends(config: SearchConfig) -> Found:
    """The target is measured, and the annotator can be asked."""
    asked = config.rounds
    if asked is None:
        return
    if asked.target is not None:
        key = ("rounds", "target")
        try:
            name, factor = (target := Constraint.parse(asked.target)).name, target.factor
        except ValueError as error:
            yield Problem(key, str(error))
        else:
            if factor is not None:
                message = f"{asked.target!r} is relative to the base, which rounds may leave; "
                yield Problem(key, message + "give a number")
            kinds = {domain: one.kind for domain, one in config.domains.items()}
            known = measured_names(kinds, config.prompts)
            if name not in known:
                yield Problem(key, unknown(name, known, "measured are", "measurement"))
    if by_judge(asked.annotator):
        return  # a model is looked for at the launch
    if asked.annotator != PEOPLE:
        try:
            load_function(asked.annotator, "annotator")
        except InputError as error:
            message = f"{str(error).removeprefix('annotator ')}; or say `people`"
            yield Problem(("rounds", "annotator"), message)
