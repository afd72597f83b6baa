"""The kinds of facts in a ledger: a type for each.

Undeclared keys are kept, as are kinds of a later version.

Readers compare `fact["fact"]` with the name of a kind, which tells mypy the keys of the fact.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, cast, get_args

from pydantic import Field, FiniteFloat
from typing_extensions import TypedDict

from fitness.evaluation import Purpose, Status
from fitness.metrics import Direction

Id = Annotated[int, Field(ge=0, lt=2**31)]  # number of the slot in which an individual was bred
AnyId = Annotated[int, Field(gt=-(2**31), lt=2**31)]  # or of a control, which has none: negative
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
LATEST = 1e11
Seconds = Annotated[float, Field(ge=0, lt=LATEST)]  # Unix time, or a duration
Fidelity = Annotated[float, Field(ge=0, lt=1e9)]  # above 1: as many times the budget
Share = Annotated[float, Field(ge=0, lt=1e12)]
Point = Annotated[list[float], Field(min_length=2, max_length=2)]  # tokens, nats per token
Triple = Annotated[list[FiniteFloat], Field(min_length=3, max_length=3)]
Numbers = dict[str, FiniteFloat]
Gene = bool | int | FiniteFloat | str | None | dict[str, FiniteFloat]  # as population.genes
Genome = dict[str, Gene]
Line = Mapping[str, Any]  # of a ledger, of whatever kind
Lines = Sequence[Line]
if TYPE_CHECKING:
    StatusName = str
else:
    StatusName = Literal[tuple(map(str, Status))]


class ModelSection(TypedDict):
    """The model task, of a resolved spec."""

    task: NotRequired[str | None]


class SourceSection(TypedDict):
    """The kind of a source, of a resolved spec."""

    kind: NotRequired[str | None]


class SearchSection(TypedDict):
    """Rungs and replicates, of a resolved spec."""

    rungs: NotRequired[list[FiniteFloat] | None]
    replicates: NotRequired[Count | None]


class BudgetSection(TypedDict):
    """The budget, of a resolved spec."""

    evaluations: NotRequired[Count | None]
    tokens: NotRequired[Count | None]
    inherit_share: NotRequired[FiniteFloat | None]


class RoundsSection(TypedDict):
    """The number of rounds, of a resolved spec."""

    limit: NotRequired[Count | None]


class Config(TypedDict):
    """A resolved spec, as far as `evo.record.spec` is read without validating it as a spec."""

    name: NotRequired[str]
    seed: NotRequired[Seed]
    aggregates: NotRequired[dict[str, dict[str, object]] | None]
    objectives: NotRequired[dict[str, Direction]]
    constraints: NotRequired[list[str] | None]
    genome: NotRequired[dict[str, dict[str, object]]]
    recipe: NotRequired[dict[str, object]]
    sources: NotRequired[dict[str, SourceSection]]
    search: NotRequired[SearchSection | None]
    budget: NotRequired[BudgetSection | None]
    model: NotRequired[ModelSection | None]
    rounds: NotRequired[RoundsSection | None]
    comparison: NotRequired[dict[str, object] | None]


class Items(TypedDict):
    """Scores of one measurement by held-out item; see `fitness.evaluate.items`."""

    unit: str
    count: Count
    sums: list[FiniteFloat]
    weights: NotRequired[list[FiniteFloat]]


class Answer(TypedDict):
    """An answer of a model to a prompt of the spec; several references are alternatives."""

    prompt: str
    output: str
    reference: NotRequired[str | list[str]]


class Details(TypedDict):
    """Details of an evaluation beside its measurements."""

    shares: NotRequired[dict[str, Share]]
    epochs: NotRequired[dict[str, Share]]
    cumulative_tokens: NotRequired[dict[str, Count]]
    learning_curve: NotRequired[list[Point]]
    held_out_curve: NotRequired[list[Point]]  # where early stopping checked
    confusion: NotRequired[dict[str, list[list[Count]]]]  # texts by class and predicted class
    rewarded: NotRequired[list[Triple]]  # reward, tokens of an answer, their correlation, by time
    samples: NotRequired[dict[str, list[Answer]] | list[dict[str, Any]]]
    samples_kept: NotRequired[dict[str, Count]]
    server: NotRequired[str]  # that generated the samples, or why it did not
    items: NotRequired[dict[str, Items]]
    same_as: NotRequired[Id | None]
    inherited_from: NotRequired[list[Id]]
    recalled: NotRequired[str]  # the run that it was evaluated in


class Search(TypedDict):
    """The first fact: the spec, and what identifies model, data and versions."""

    fact: Literal["search"]
    format: int
    config: Config
    fingerprints: NotRequired[dict[str, object]]
    versions: NotRequired[dict[str, object]]
    workers: NotRequired[Count]
    begun: NotRequired[Seconds]
    time: Seconds


class Guiding(TypedDict):
    """An individual of an earlier run at a fidelity, for a guide: means over its seeds."""

    individual: Id  # its number in that run
    genome: Genome  # in the genes that both runs have
    fidelity: Fidelity
    seeds: Annotated[int, Field(ge=1, lt=2**31)]
    measurements: Numbers


class Repeatable(TypedDict):
    """An evaluation of an earlier run that this run would repeat exactly."""

    individual: Id  # its number in that run
    genome: Genome  # in the genes of this run
    seed: Seed
    fidelity: Fidelity
    split: Literal["selection", "test"]
    measurements: Numbers
    details: Details


class Imported(TypedDict):
    """Scores of an earlier run or a proxy, as they were read: what guides, and is recalled.

    `sources` are the earlier run's by those of this run, `base` are the measurements of its
    untouched base, `differs` says why not all of it is recalled, and `refused` counts individuals
    by the reason why they are not used at all.
    """

    fact: Literal["imported"]
    run: str
    proxy: NotRequired[Annotated[int, Field(ge=1, lt=2**31)]]  # number, if it is one of this run
    folder: NotRequired[str]  # checkpoints are copied from it, while it is there
    differs: list[str]
    sources: dict[str, str]
    genes: list[str]
    base: Numbers
    guide: list[Guiding]
    recalled: list[Repeatable]
    refused: dict[str, Count]
    time: Seconds


class Individual(TypedDict):
    """An individual that was bred in the slot of its number."""

    fact: Literal["individual"]
    id: Id
    genome: Genome
    parents: list[Id]
    operator: str
    generation: Count
    learned_from: NotRequired[int | None]


class Repeat(TypedDict):
    """A slot in which an earlier individual is evaluated again, under another seed."""

    fact: Literal["repeat"]
    slot: Id
    individual: Id
    seed: Seed
    fidelity: Fidelity
    learned_from: NotRequired[int | None]


class Evaluated(TypedDict):
    """An evaluation that has ended."""

    fact: Literal["evaluation"]
    individual: AnyId
    seed: Seed
    fidelity: Fidelity
    split: Purpose
    status: StatusName
    measurements: Numbers
    cost: NotRequired[Numbers]
    details: NotRequired[Details | None]
    message: NotRequired[str | None]
    worker: NotRequired[str | None]
    started: Seconds
    finished: Seconds


class Simulated(TypedDict):
    """Mixtures scored as sums of experts, without training; no scores if that failed."""

    fact: Literal["simulation"]
    number: Count
    seed: Seed
    experts: list[Id]
    sources: list[str]
    mixtures: list[dict[str, Share]]
    scores: list[Numbers]
    status: StatusName
    cost: NotRequired[Numbers]
    message: NotRequired[str | None]
    worker: NotRequired[str | None]
    started: Seconds
    finished: Seconds


class Lost(TypedDict):
    """An evaluation that was lost because its worker died."""

    fact: Literal["lost"]
    individual: AnyId
    seed: Seed
    fidelity: NotRequired[Fidelity]
    split: Purpose
    attempt: Count
    message: NotRequired[str | None]


class Winner(TypedDict):
    """The individual that was chosen as best before the test split was read."""

    fact: Literal["winner"]
    individual: Id


class Control(TypedDict):
    """A control for the closing comparison: the winner's recipe on other data."""

    fact: Literal["control"]
    id: Annotated[int, Field(gt=-(2**31), lt=0)]
    name: str
    individual: Id
    genome: Genome


class Resumed(TypedDict):
    """A resume, with the spec if keys that may change were changed."""

    fact: Literal["resumed"]
    begun: NotRequired[Seconds]
    time: Seconds
    config: NotRequired[Config | None]
    workers: NotRequired[Count]


class Ended(TypedDict):
    """The end of a launch or resume: stopped, waiting for judgements, or finished."""

    fact: Literal["stopped", "waiting", "finished"]
    time: NotRequired[Seconds]
    busy_seconds: NotRequired[Seconds]
    driver_seconds: NotRequired[Seconds]
    why: NotRequired[str]
    judgements: NotRequired[Count]


class Pool(TypedDict):
    """Counts of the samples of a round, and of the pool after it."""

    written: NotRequired[Count]
    contaminated: NotRequired[Count]
    met: NotRequired[Count]
    diversity: NotRequired[dict[str, float]]
    collapsed: NotRequired[bool]
    pool: NotRequired[Count]
    pairs: NotRequired[Count]
    judgements: NotRequired[Count]
    judged: NotRequired[dict[str, Count]]
    discriminator: NotRequired[dict[str, float]]


class Round(TypedDict):
    """A finished round."""

    fact: Literal["round"]
    round: Id  # 0: the untouched base
    individual: Id
    loss: NotRequired[FiniteFloat]
    violation: NotRequired[FiniteFloat]
    measurements: NotRequired[Numbers]
    genome: NotRequired[Genome]
    front: NotRequired[list[Genome]]
    seeds: NotRequired[Count]
    pool: NotRequired[Pool]


Fact = (
    Search
    | Imported
    | Individual
    | Repeat
    | Evaluated
    | Simulated
    | Lost
    | Winner
    | Control
    | Resumed
    | Ended
    | Round
)
Facts = Sequence[Fact]

KINDS: Mapping[str, Any] = {
    name: kind for kind in get_args(Fact) for name in get_args(kind.__annotations__["fact"])
}


def typed(lines: Lines) -> list[Fact]:
    """Lines of a ledger, which `check` has passed or this driver wrote, as facts: the same ones."""
    return cast(list[Fact], lines)


def launch_of(facts: Facts) -> Search:
    """The first fact of a ledger: its launch."""
    return next(fact for fact in facts if fact["fact"] == "search")


def details(fact: Evaluated) -> Details:
    """Details of an evaluation; empty if it has none."""
    return fact.get("details") or {}


def samples(fact: Evaluated) -> dict[str, list[dict[str, Any]]]:
    """Samples by prompt set; those that were generated for a pool belong to none, ""."""
    made = details(fact).get("samples") or {}
    by_set = dict(made) if isinstance(made, dict) else {"": made}
    return cast(dict[str, list[dict[str, Any]]], by_set)


def mixture(genome: Mapping[str, object]) -> dict[str, float]:
    """The mixture of a genome, by source; empty if it has none."""
    gene = genome.get("mixture")
    return gene if isinstance(gene, dict) else {}


def cost(fact: Evaluated) -> Numbers:
    """Seconds, tokens and other costs of an evaluation, by name; empty if it has none."""
    return fact.get("cost") or {}
