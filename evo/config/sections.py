"""The sections of a search spec, frozen: type, default and description of each key."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

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
from evo.config.budget import Budget, Comparison, Resources
from evo.config.evaluator import Evaluator, with_python
from evo.config.keys import with_groups
from evo.config.rounds import Rounds
from evo.config.search import Search
from evo.config.track import Track
from fitness.benchmarks.settings import Benchmark
from fitness.cleaning.settings import Cleaning
from fitness.data.documents import Half, Source
from fitness.data.kinds import Kind
from fitness.data.prompts import PromptSet
from fitness.errors import InputError
from fitness.evaluators import BUILTIN, Form, form_of
from fitness.metrics import Direction
from fitness.models.heads import ModelTask
from fitness.models.loading import Attention
from fitness.models.quantisation import Quantisation
from fitness.recipe import Recipe
from fitness.remote.store import WRITABLE, check_url
from population.space import Gene

QUICKSTART = "quickstart"
ONLY = "only "

NUMBERS = (
    "Numbers are those of YAML 1.2, such as 1e-4 or 1.0e-4. Programs that read YAML 1.1, such as "
    "PyYAML, take 1e-4 for text: for them write the point and the sign, 1.0e-4 or 1.0e+5."
)


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
    quantisation: Quantisation | None = Field(
        default=None, description="As `model.quantisation`, which is the default."
    )


class Model(Section):
    """The base model that every fine-tune starts from."""

    base: str = Field(
        default="",
        description="`quickstart` (shipped with evomix), a model folder or a GGUF file relative to "
        "the spec, a Hub id, or the URL of a folder or file in a store (`s3://bucket/model`). "
        "Required by the builtin evaluator.",
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description=DTYPE,
    )
    quantisation: Quantisation = Field(
        default="none",
        description="Bits in which the linear weights of the layers are stored, for adapters on "
        "top (QLoRA): `nf4` (4.13 bits a weight, by bitsandbytes) or `int8` (by torchao), "
        "both in the extra `quantised`. `dtype` is the precision of the other weights, and of the "
        "products.",
    )
    attention: Attention = Field(
        default="auto",
        description="How attention is computed; `auto` is what transformers chooses, `sdpa` for "
        "most models. FlashAttention needs a GPU, its package, and `dtype: bfloat16`.",
    )
    server: str | None = Field(
        default=None,
        description="Address of an OpenAI-compatible server of the base, http://host:port/v1, that "
        "loads adapters while it runs, as vLLM does: it generates the samples of pools, rounds and "
        "`method: reinforce`, for LoRA and the untouched base. Samples then do not follow from the "
        "seed alone.",
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

    @field_validator("server")
    @classmethod
    def _an_address(cls, server: str | None) -> str | None:
        if server is None:
            return None
        from fitness.inference.server import url_of

        try:
            return url_of(server)
        except InputError as error:
            raise ValueError(str(error)) from None

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
    benchmarks: dict[Name, Benchmark] = Field(
        default_factory=dict,
        description="Tasks of lm-evaluation-harness (the extra `benchmarks`), by name; measured as "
        "<benchmark>/<task>/<metric>.",
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
        min_length=1,
        description="Genes: fields of the recipe that evolve, with their values.",
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
    track: Track = Field(
        default_factory=Track, description="Trackers that follow the run. Default: none."
    )
    rounds: Rounds | None = Field(
        default=None,
        description="Repeated searches, each with samples of the best models so far as one more "
        "source. Default: one search.",
    )
    mirror: str | None = Field(
        default=None,
        description="URL of a folder in a store (`s3://bucket/path`, `gs://`, `az://`, `file://`), "
        "below which the run folder is mirrored while the search runs, to resume it on another "
        "machine. Credentials come from the environment. Default: no mirror.",
    )

    @field_validator("mirror")
    @classmethod
    def _a_store(cls, mirror: str | None) -> str | None:
        if mirror is None:
            return None
        try:
            return check_url(mirror, WRITABLE)
        except InputError as error:
            raise ValueError(str(error)) from None

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
    with_groups(schema["properties"]["genome"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
