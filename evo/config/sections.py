"""The sections of a search spec, frozen. Each key's meaning and default has its home here."""

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

from evo.config.evaluator import Evaluator, with_python
from evo.config.rounds import Rounds
from evo.config.section import Name, Section
from fitness.data.documents import Half, Source
from fitness.data.kinds import Kind
from fitness.data.prompts import PromptSet
from fitness.evaluators import BUILTIN
from fitness.models.heads import ModelTask
from fitness.recipe import Recipe
from population.space import Gene

QUICKSTART = "quickstart"
ONLY = "only "

SLACK = 0.08  # for each doubling of `parallel`; `make bench NAME=schedule` shows what it keeps busy

SEED_STEP = 1000  # between the seeds of a search; those of the closing comparison lie in between


class Model(Section):
    """The base model that every fine-tune starts from."""

    base: str = Field(
        default="",
        description="`quickstart` (shipped with evomix), a model folder or a GGUF file relative to "
        "the spec, or a Hub id. The builtin evaluator needs it.",
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="Precision in which weights are kept while nothing trains them.",
    )
    task: ModelTask = Field(
        default="causal",
        description="What the model predicts: the next token (`causal`), the class of a text "
        "(`classification`, of sources of kind `label`), or tokens that are hidden (`masked`, for "
        "encoders such as BERT).",
    )
    labels: tuple[str | StrictInt, ...] = Field(
        default=(),
        description="The names of the classes, in the order of the head's outputs. Left out, those "
        "of a base that is a classifier already.",
    )

    @field_validator("labels")
    @classmethod
    def _names_apart(cls, labels: tuple[str | int, ...]) -> tuple[str, ...]:
        names = tuple(map(str, labels))
        if len(names) == 1:
            raise ValueError(f"one label, {names[0]}, leaves nothing to tell apart; give two")
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"label {twice[0]!r} is there twice; keep one of them")
        return names


class TwoFiles(Section):
    """Held-out text in two files: the search reads `selection`, the closing comparison `test`."""

    selection: Source = Field(description="Held-out text to read while searching.")
    test: Source = Field(description="Held-out text to read once, after the winner is named.")

    @property
    def kind(self) -> Kind:
        """Of what is held out."""
        return self.selection.kind

    def splits(self) -> dict[Half, tuple[Source, Half | None]]:
        """The source of each split, and which half of its documents that is (None: all)."""
        return {"selection": (self.selection, None), "test": (self.test, None)}


class Halves(Source):
    """Held-out text whose documents are split by hash into `selection` and `test`."""

    def splits(self) -> dict[Half, tuple[Source, Half | None]]:
        """The source of each split, and which half of its documents that is."""
        return {"selection": (self, "selection"), "test": (self, "test")}


def _domain_kind(value: object) -> str:
    whole = isinstance(value, Source) or (isinstance(value, Mapping) and "path" in value)
    return "halves" if whole else "two files"


Domain = Annotated[
    Annotated[Halves, Tag("halves")] | Annotated[TwoFiles, Tag("two files")],
    Discriminator(_domain_kind),
]


def default_slack(parallel: int) -> float:
    """Enough to keep 95 % of `parallel` workers busy with log-normal durations (sigma 0.6).

    Of which the cost model predicts all but a log-normal factor of sigma 0.2. The more workers,
    the later the last of those that run: the slack grows with their logarithm.
    """
    return round(SLACK * math.log2(parallel), 3)


class Search(Section):
    """What breeds the next genome."""

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
        description="Individuals to breed from, and of a generation; the baselines are the first. "
        "Left out, 16, or half of a smaller budget, and at least what the strategy needs.",
    )
    islands: int = Field(
        default=1,
        ge=1,
        description="Parts of the population that breed apart, and now and then send one of their "
        "front to the next; 1 is one population.",
    )
    schedule: Literal["clock", "asynchronous", "generational"] = Field(
        default="clock",
        description="Who learns from whom: `clock` from whatever has finished in virtual time, so "
        "that the search is the same on any number of workers; `asynchronous` from all that has "
        "really finished; `generational` from whole generations.",
    )
    parallel: int = Field(
        default=4,
        ge=1,
        description="Virtual workers of the clock: how many evaluations at a time it is made for. "
        "It is a part of the search, the number of real workers is not.",
    )
    slack: float = Field(
        default_factory=lambda known: default_slack(known.get("parallel", 1)),
        ge=0,
        description="By what share of its virtual duration the clock lets an evaluation be late "
        "before others wait for it; default: 0.08 for each doubling of `parallel`.",
    )
    bucket: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default=1,
        description="Slots that are bred together; those whose recipes fit (LoRA, of equal "
        "batches, precision and layers) are trained on one forward pass of the base. 1 is off; "
        "`auto` measures at the launch which size is fastest for the default recipe, and writes "
        "that down. It is a part of the search.",
    )
    replicates: int = Field(
        default=3,
        ge=1,
        le=100,
        description="Seeds under which an individual is evaluated before it may be named the best; "
        "the contenders take slots of the budget for it. 1 is off.",
    )
    rungs: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(),
        description="Shares of the token budget, lowest first, at which a fine-tune pauses and is "
        "scored; who is promoted goes on from there. Left out, all are trained to the end.",
    )
    promotion: Literal["halving", "stopping"] = Field(
        default="halving",
        description="Who goes on from a rung: the best quarter (`halving`), or all but those that "
        "are hopeless by their learning curves (`stopping`).",
    )

    @property
    def together(self) -> int:
        """The size of a bucket; 1 until it was measured."""
        return 1 if self.bucket == "auto" else self.bucket

    @field_validator("rungs")
    @classmethod
    def _lowest_first(cls, rungs: tuple[float, ...]) -> tuple[float, ...]:
        if list(rungs) != sorted(set(rungs)):
            raise ValueError(f"rungs must rise, got {', '.join(map(str, rungs))}; sort them")
        return rungs


class Budget(Section):
    """What the search may spend."""

    evaluations: int = Field(
        ge=1,
        description="Fine-tunes in the search, failed ones and the baselines included; one that "
        "pauses at a rung counts by its share of the tokens.",
    )
    tokens: int = Field(
        ge=0,
        description="Training tokens of each fine-tune, met exactly; 0 where `parts` are merged.",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="A fine-tune is scored ten times on the selection split, by the first "
        "objective's domain; after so many scores without a lower loss it stops, and goes back to "
        "its best weights. Left out, all tokens are spent.",
    )
    inherit_share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="The share of these tokens that a child trains on if it begins with its "
        "parents' weights (`start` in recipe or genome); it counts as such a part of a fine-tune. "
        "Many short fine-tunes with 1 have done better than long ones with a quarter.",
    )


class Resources(Section):
    """Where evaluations run, and what each may use."""

    workers: int | None = Field(
        default=None,
        ge=1,
        description="Evaluations at the same time; left out, as many as machine or cluster fit.",
    )
    cpus: int = Field(default=1, ge=1, description="CPUs, and threads, of one evaluation.")
    gpus: float = Field(
        default=0.0, ge=0, description="GPUs of one evaluation; 0.25 lets four share a GPU."
    )
    processes: int = Field(
        default=1,
        ge=1,
        description="Processes that train one individual together, each on a part of every batch "
        "and with so many CPUs and GPUs of its own, on one machine or several.",
    )
    micro_batch: int | None = Field(
        default=None,
        ge=1,
        description="Rows of a batch computed at once, to save memory; their gradients add up to "
        "those of the batch. Left out, all of them.",
    )
    checkpointing: bool = Field(
        default=False,
        description="Compute activations anew for the gradients instead of keeping them: less "
        "memory, about a quarter more time, the same result.",
    )
    timeout: float = Field(
        default=600.0, gt=0, description="Seconds after which an evaluation is given up."
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
    """The closing comparison on the test split: the winner against every baseline."""

    seeds: int = Field(
        default=5,
        ge=1,
        lt=SEED_STEP,
        description="Fresh seeds for each side; 2 or more give a standard error.",
    )


class SearchConfig(Section):
    """A search spec (search.yaml), validated and frozen; `evo.config.load` makes one."""

    name: Name = Field(description="Names the run folder: runs/<name>-<time>.")
    seed: int = Field(
        default=0, ge=0, description="All randomness of the search and of training follows from it."
    )
    model: Model = Field(default_factory=Model, description="The base model.")
    sources: dict[Name, Source] = Field(
        default_factory=dict,
        description="Data sets that may be trained on, by name; the mixture is over these.",
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
        description="Prompts with references by name; what the model writes is measured as "
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
        description="The default recipe: what no gene decides, and where genes start.",
    )
    genome: dict[Name, Gene] = Field(
        min_length=1, description="What evolves: a recipe's field and the values it may take."
    )
    objectives: dict[str, Literal["minimize", "maximize"]] = Field(
        min_length=1,
        description="Measurements to improve; `best` means best by the first of them.",
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
        description="Genomes to begin with after the baselines, such as the front of an earlier "
        "search (`evo history` has them); a gene left out starts at the recipe's value.",
    )
    search: Search = Field(default_factory=Search, description="What breeds the next genome.")
    budget: Budget = Field(description="What the search may spend.")
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
        description="Evolve again and again, each time with what the best models wrote as one more "
        "source; left out, there is one search.",
    )

    @model_validator(mode="before")
    @classmethod
    def _general_domains(cls, spec: Any) -> Any:
        """Rounds with one objective get the losses of the other domains as well."""
        if not (isinstance(spec, Mapping) and isinstance(rounds := spec.get("rounds"), Mapping)):
            return spec
        named, domains = spec.get("objectives"), spec.get("domains")
        if not (isinstance(named, Mapping) and isinstance(domains, Mapping)):
            return spec
        if len(named) != 1 or rounds.get("general") is False:
            return spec
        others = [one for one in domains if not str(next(iter(named))).startswith(f"{one}/")]
        return {**spec, "objectives": {**named, **{f"{one}/loss": "minimize" for one in others}}}


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a spec, for editors."""
    schema = SearchConfig.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
