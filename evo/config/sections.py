"""The sections of a search spec, frozen: type, default and description of each key."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    JsonValue,
    StrictInt,
    Tag,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from evo.config.aggregates import Aggregate
from evo.config.base_section import Name, Section
from evo.config.evaluator import Evaluator, with_python
from evo.config.rounds import Rounds
from fitness.cleaning.settings import Cleaning
from fitness.data.documents import Half, Source
from fitness.data.kinds import Kind
from fitness.data.prompts import PromptSet
from fitness.evaluators import BUILTIN, Form, form_of
from fitness.metrics import Direction
from fitness.models.heads import ModelTask
from fitness.recipe import Recipe
from population.space import Gene

QUICKSTART = "quickstart"
ONLY = "only "

SLACK = 0.08  # for each doubling of `parallel`; `make bench NAME=schedule` measures busy workers

NUMBERS = (
    "Numbers are those of YAML 1.2, such as 1e-4 or 1.0e-4. Programs that read YAML 1.1, such as "
    "PyYAML, take 1e-4 for text: for them write the point and the sign, 1.0e-4 or 1.0e+5."
)

SEED_STEP = 1000  # between the seeds of a search; the closing comparison uses seeds in between


DTYPE = "Precision in which weights are stored while they are not trained."


class Proxy(Section):
    """A smaller model on which mixtures are searched first, by the builtin evaluator."""

    base: str = Field(min_length=1, description="The smaller model, as `model.base`.")
    evaluations: int | None = Field(
        default=None,
        ge=1,
        description="Fine-tunes of the proxy. Default: half of `budget.evaluations`, at least the "
        "sources and 4 more.",
    )
    tokens: int | None = Field(
        default=None,
        ge=1,
        description="Training tokens of each fine-tune of the proxy. Default: `budget.tokens`.",
    )
    dtype: Literal["float32", "bfloat16"] | None = Field(
        default=None, description=f"{DTYPE} Default: `model.dtype`."
    )


class Model(Section):
    """The base model that every fine-tune starts from."""

    base: str = Field(
        default="",
        description="`quickstart` (shipped with evomix), a model folder or a GGUF file relative to "
        "the spec, or a Hub id. Required by the builtin evaluator.",
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description=DTYPE,
    )
    task: ModelTask = Field(
        default="causal",
        description="Model task, by what is predicted: the next token (`causal`), the class of a "
        "text (`classification`, trained on sources of kind `label`), the tag of each word "
        "(`token_classification`, on kind `tags`), which of two answers people prefer (`reward`, "
        "on kind `preference`), or masked tokens (`masked`, for encoders such as BERT).",
    )
    labels: tuple[str | StrictInt, ...] = Field(
        default=(),
        description="Names of the classes or tags, in the order of the head's outputs. Default: "
        "those of a base that is a classifier already.",
    )
    proxies: tuple[Proxy, ...] = Field(
        default=(),
        description="Smaller models on which mixtures are searched first, cheaper ones first; each "
        "search guides those after it, and the last one is that of the base.",
    )

    @field_validator("labels")
    @classmethod
    def _names_apart(cls, labels: tuple[str | int, ...]) -> tuple[str, ...]:
        names = tuple(map(str, labels))
        if len(names) == 1:
            raise ValueError(f"one label, {names[0]}, is not enough to classify by; give two")
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"label {twice[0]!r} is given twice; keep one of them")
        return names


class TwoFiles(Section):
    """Held-out text in two files: the search reads `selection`, the closing comparison `test`."""

    selection: Source = Field(description="Held-out text that the search is guided by.")
    test: Source = Field(description="Held-out text that is read once, after the winner is named.")

    @property
    def kind(self) -> Kind:
        """Kind of the held-out text or records."""
        return self.selection.kind

    def splits(self) -> dict[Half, tuple[Source, Half | None]]:
        """Source of each split, and the half of its documents to take (None: all)."""
        return {"selection": (self.selection, None), "test": (self.test, None)}


class Halves(Source):
    """Held-out text whose documents are split by hash into `selection` and `test`."""

    def splits(self) -> dict[Half, tuple[Source, Half | None]]:
        """Source of each split, and the half of its documents to take."""
        return {"selection": (self, "selection"), "test": (self, "test")}


def _domain_kind(value: object) -> str:
    whole = isinstance(value, Source) or (isinstance(value, Mapping) and "path" in value)
    return "halves" if whole else "two files"


Domain = Annotated[
    Annotated[Halves, Tag("halves")] | Annotated[TwoFiles, Tag("two files")],
    Discriminator(_domain_kind),
]


def default_slack(parallel: int) -> float:
    """Slack of the clock: enough to keep `parallel` workers busy 95 % of the time.

    Measured for log-normal durations (sigma 0.6) that the cost model predicts up to a log-normal
    factor of sigma 0.2. The slack grows with log2(parallel), since the longest of more evaluations
    that run at the same time is late by more.
    """
    return round(SLACK * math.log2(parallel), 3)


class Search(Section):
    """The search: strategy, population, schedule, rungs of fidelity, and seeds."""

    strategy: str = Field(
        default="surrogate",
        description="How genomes are bred: `surrogate` (evolution whose offspring a surrogate "
        "screens), `nsga2` or `nsga3` (evolution), `cmaes`, "
        "`regression` (a random design, then a prediction), `random` (the control), or "
        "`optuna:` with tpe, gp, cmaes, nsga2, nsga3, qmc or random.",
    )
    population: int = Field(
        default=16,
        ge=1,
        description="Individuals to breed from, and in a generation; the first are the baselines. "
        "Default: 16, or half of the evaluations if the budget has fewer than 16, so that the "
        "other half is bred; never fewer than the strategy needs.",
    )
    schedule: Literal["clock", "asynchronous", "generational"] = Field(
        default="clock",
        description="Evaluations that the next genome is bred from: `clock`, those finished in "
        "virtual time, so that the search is the same on any number of workers; `asynchronous`, "
        "all that have really finished; `generational`, those of complete generations.",
    )
    parallel: int = Field(
        default=4,
        ge=1,
        description="Virtual workers of the clock, that is evaluations at the same time. It "
        "affects the search; the number of real workers does not.",
    )
    slack: float = Field(
        default_factory=lambda known: default_slack(known.get("parallel", 1)),
        ge=0,
        description="Share of its virtual duration by which an evaluation may be late before "
        "others wait for it; default: 0.08 for each doubling of `parallel`.",
    )
    bucket: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default=1,
        description="Individuals that are bred together; those with matching recipes (LoRA, equal "
        "batches, precision and layers) are trained on one forward pass of the base. 1: off; "
        "`auto` measures at the launch which size is fastest for the default recipe, and records "
        "it. It affects the search.",
    )
    replicates: int = Field(
        default=3,
        ge=1,
        le=100,
        description="Seeds under which an individual is evaluated before it may be named the best; "
        "these evaluations of the contenders are part of the budget. 1: off.",
    )
    rungs: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(),
        description="Shares of the token budget, lowest first, at which a fine-tune pauses and is "
        "scored; if it is promoted, training resumes there. Default: none, all train to the end.",
    )
    promotion: Literal["halving", "stopping"] = Field(
        default="halving",
        description="Fine-tunes that resume from a rung: the best quarter (`halving`), or all but "
        "those that are hopeless by their learning curves (`stopping`).",
    )

    simulate: Literal["auto", "off"] | Annotated[StrictInt, Field(ge=1, le=1000)] = Field(
        default="auto",
        description="Number of mixtures to simulate: the first fine-tunes are experts, one for "
        "each source, and sums of their weight changes are scored without training, to guide the "
        "`surrogate`. `auto` does so where it applies, for a tenth of the cost of the fine-tunes; "
        "a dry run says how many, or why none.",
    )

    @property
    def together(self) -> int:
        """Size of a bucket; 1 while `auto` has not been measured."""
        return 1 if self.bucket == "auto" else self.bucket

    @field_validator("rungs")
    @classmethod
    def _lowest_first(cls, rungs: tuple[float, ...]) -> tuple[float, ...]:
        if list(rungs) != sorted(set(rungs)):
            raise ValueError(f"rungs must rise, got {', '.join(map(str, rungs))}; sort them")
        return rungs


Passes = Annotated[float, Field(gt=0, le=10_000)]


class Budget(Section):
    """The budget of the search, in evaluations and training tokens."""

    evaluations: int = Field(
        ge=1,
        description="Fine-tunes in the search, including failed ones and the baselines; one that "
        "pauses at a rung, or trains on a `train_share`, counts as its share of the tokens.",
    )
    tokens: int = Field(
        ge=0,
        description="Training tokens of each fine-tune, or of one whose `train_share` is 1, met "
        "exactly; 0 where `parts` are merged.",
    )
    epochs: Passes | dict[Name, Passes] | None = Field(
        default=None,
        description="Passes after which a fine-tune ends, where that is before `tokens`: over all "
        "sources together, or by source, as `{pool: 3}`; a mixture spreads as many tokens by its "
        "shares. Default: `tokens` alone decide.",
    )
    learned_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Learned tokens after which a fine-tune of the default genome's mixture ends, "
        "where that is before `tokens` (and `epochs`): tokens of completions, of both answers of a "
        "preference, and all of a text, but no prompts and no padding. Default: they decide alone.",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="Early stopping: the first objective, which must be a measurement, is scored "
        "ten times during a fine-tune on the selection split; after so many scores that are no "
        "better it stops and returns to its best weights. Default: off, all tokens are spent.",
    )
    inherit_share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Share of `tokens` that a child trains on if it starts from its parents' "
        "weights (`start` in recipe or genome); it counts as that share of a fine-tune. Many short "
        "fine-tunes with 1 have done better than long ones with a quarter.",
    )

    @property
    def by_data(self) -> bool:
        """True where the data may end a fine-tune before `tokens`."""
        return self.epochs is not None or self.learned_tokens is not None


class Resources(Section):
    """Machines for evaluations, and the CPUs, GPUs, memory and time of each."""

    workers: int | None = Field(
        default=None,
        ge=1,
        description="Evaluations at the same time; default: as many as fit machine or cluster.",
    )
    cpus: int = Field(default=1, ge=1, description="CPUs and threads of one evaluation.")
    gpus: float = Field(
        default=0.0, ge=0, description="GPUs of one evaluation; 0.25 lets four share a GPU."
    )
    processes: int = Field(
        default=1,
        ge=1,
        description="Processes that train one individual together (data parallel), each on a part "
        "of every batch, with `cpus` and `gpus` for each, on one or several machines.",
    )
    micro_batch: int | None = Field(
        default=None,
        ge=1,
        description="Sequences of a batch computed at once, to save memory; their gradients add up "
        "to those of the batch. Default: all of them.",
    )
    checkpointing: bool = Field(
        default=False,
        description="Gradient checkpointing: recompute activations for the gradients instead of "
        "storing them: less memory, about a quarter more time, the same result.",
    )
    timeout: float = Field(
        default=600.0, gt=0, description="Seconds after which an evaluation is stopped as failed."
    )
    retries: int = Field(
        default=3, ge=0, description="How often an evaluation is repeated when its worker dies."
    )
    address: str = Field(
        default="local",
        min_length=1,
        description="`local` starts Ray on this machine; `auto`, `host:port` or `ray://host:port` "
        "joins a cluster.",
    )

    @model_validator(mode="after")
    def _whole_gpus_above_one(self) -> Self:
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus above 1 must be whole, got {self.gpus:g}; give a whole number")
        if self.processes > 1 and self.gpus not in (0, 1):
            raise ValueError(
                f"each of several processes takes one GPU or none, got gpus {self.gpus:g}; give 1"
            )
        return self


class Comparison(Section):
    """The closing comparison on the test split, of the winner with every baseline."""

    seeds: int = Field(
        default=5,
        ge=0,
        lt=SEED_STEP,
        description="New seeds for each contender; 2 or more give a standard error, 0 leaves the "
        "comparison out.",
    )


class SearchConfig(Section):
    """A search spec (search.yaml)."""

    name: Name = Field(description="Name of the run's folder: runs/<name>-<time>.")
    seed: int = Field(default=0, ge=0, description="Seed of all randomness of search and training.")
    model: Model = Field(default_factory=Model, description="The base model.")
    sources: dict[Name, Source] = Field(
        default_factory=dict,
        description="Data sets to train on, by name; the mixture is over these.",
    )
    cleaning: Cleaning | None = Field(
        default=None,
        description="Cleaning of the sources before they are tokenised. Default: as they are.",
    )
    parts: dict[Name, str] = Field(
        default_factory=dict,
        description="Fine-tunes of the base to merge, by name: folders of models or PEFT adapters. "
        "With these nothing is trained: the mixture is over them, and there are no sources.",
    )
    domains: dict[Name, Domain] = Field(
        default_factory=dict,
        description="Held-out text by name, measured as <domain>/loss and <domain>/perplexity: "
        "{selection, test}, or one {path} whose documents are split by hash into halves.",
    )
    prompts: dict[Name, PromptSet] = Field(
        default_factory=dict,
        description="Prompts with references, by name; generated answers are measured as "
        "<prompt set>/<metric>.",
    )
    recipe: Annotated[
        dict[str, JsonValue],
        WithJsonSchema(
            {
                "type": "object",
                "title": "Recipe",
                "properties": Recipe.model_json_schema()["properties"],
            }
        ),
    ] = Field(
        default_factory=dict,
        description="The default recipe: fields that are not genes, and initial values of genes.",
    )
    genome: dict[Name, Gene] = Field(
        min_length=1, description="Genes: fields of the recipe that evolve, with their values."
    )
    aggregates: dict[Name, Aggregate] = Field(
        default_factory=dict,
        description="Means, maxima and minima of measurements by name, such as `quality: {mean: "
        '["*/loss"]}`. They are recorded as measurements; objectives and constraints name them as '
        "they name any other.",
    )
    objectives: dict[str, Direction] = Field(
        min_length=1,
        description="Measurements to improve; the first one decides which individual is best.",
    )
    constraints: tuple[str, ...] = Field(
        default=(),
        description="`<measurement> <= <number>` or `>=`, or `<= <number> * base` for a limit "
        "relative to the untouched base; the winner must meet all of them.",
    )
    baselines: tuple[str, ...] = Field(
        default=("uniform", "proportional"),
        description="Mixtures to compare against, and the first individuals: `uniform`, "
        "`proportional` (to the tokens of each source), `only <source>`. The untouched base, and "
        "the recipe's own mixture if it gives one, are always compared.",
    )
    known: tuple[dict[Name, JsonValue], ...] = Field(
        default=(),
        description="Genomes to evaluate first, after the baselines, such as the front of an "
        "earlier search (see `evo history`); a gene left out has the recipe's value.",
    )
    search: Search = Field(default_factory=Search, description="How genomes are searched.")
    budget: Budget = Field(description="The budget of the search.")
    resources: Resources = Field(default_factory=Resources, description="Where evaluations run.")
    evaluator: Evaluator = Field(
        default=BUILTIN,
        description="`builtin` fine-tunes with the recipe; `module:function`, or {python: "
        "module:function}, calls your own function(recipe, *, seed, fidelity, split) -> "
        "measurements by name; {command: [program, argument, ...]} runs any other trainer; {trl: "
        "{}} fine-tunes with TRL's SFTTrainer.",
        json_schema_extra=with_python,
    )
    import_from: str = Field(
        default=".",
        description="Folder, relative to the spec, in which each `module:function` is looked up, "
        "besides the working directory and the installed packages.",
    )
    comparison: Comparison = Field(
        default_factory=Comparison, description="The closing comparison on the test split."
    )
    rounds: Rounds | None = Field(
        default=None,
        description="Repeated searches, each with samples of the best models so far as one more "
        "source. Default: one search.",
    )

    @model_validator(mode="before")
    @classmethod
    def _compared(cls, given: Any) -> Any:
        """For a reward model, preferences are comparisons, which it is trained and scored on."""
        model = given.get("model") if isinstance(given, Mapping) else None
        if not isinstance(model, Mapping) or model.get("task") != "reward":
            return given
        compared = {name: _as_comparisons(given.get(name)) for name in ("sources", "domains")}
        return {**given, **{name: one for name, one in compared.items() if one is not None}}

    @property
    def form(self) -> Form:
        """The form of the evaluator, with what it can do."""
        return form_of(self.evaluator)


def _as_comparisons(value: Any) -> Any:
    """A section with kind `preference`, however deep, as kind `comparison`."""
    if not isinstance(value, Mapping):
        return value
    changed = {name: _as_comparisons(one) for name, one in value.items()}
    return {**changed, "kind": "comparison"} if changed.get("kind") == "preference" else changed


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a spec, for editors."""
    schema = SearchConfig.model_json_schema()
    schema["description"] += f" {NUMBERS}"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
