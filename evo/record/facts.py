"""The kinds of facts in a ledger: a type for each, and a check that facts do not contradict.

A ledger may come from a stranger, or from a disk that flipped a bit. All facts are checked here
when they are read, so that no reader has to check them again. Undeclared keys are kept, as are
kinds of a later version.

Readers compare `fact["fact"]` with the name of a kind, which tells mypy the keys of the fact.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, cast, get_args

from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from evo.config import Constraint
from evo.config.aggregates import Aggregate, is_glob
from fitness.errors import InputError
from fitness.evaluation import Purpose, Status
from fitness.metrics import Direction

Id = Annotated[int, Field(ge=0, lt=2**31)]  # number of the slot in which an individual was bred
AnyId = Annotated[int, Field(gt=-(2**31), lt=2**31)]  # or of a control, which has none: negative
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
LATEST = 1e11
TIMES = ("begun", "time", "started", "finished")
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


class Details(TypedDict):
    """Details of an evaluation beside its measurements."""

    shares: NotRequired[dict[str, Share]]
    epochs: NotRequired[dict[str, Share]]
    cumulative_tokens: NotRequired[dict[str, Count]]
    learning_curve: NotRequired[list[Point]]
    held_out_curve: NotRequired[list[Point]]  # where early stopping checked
    confusion: NotRequired[dict[str, list[list[Count]]]]  # texts by class and predicted class
    rewarded: NotRequired[list[Triple]]  # reward, tokens of an answer, their correlation, by time
    samples: NotRequired[dict[str, list[dict[str, str]]] | list[dict[str, Any]]]
    samples_kept: NotRequired[dict[str, Count]]
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
    return dict(made) if isinstance(made, dict) else {"": made}


def mixture(genome: Mapping[str, object]) -> dict[str, float]:
    """The mixture of a genome, by source; empty if it has none."""
    gene = genome.get("mixture")
    return gene if isinstance(gene, dict) else {}


def cost(fact: Evaluated) -> Numbers:
    """Seconds, tokens and other costs of an evaluation, by name; empty if it has none."""
    return fact.get("cost") or {}


@cache
def _validator(kind: str) -> TypeAdapter[Any] | None:
    return TypeAdapter(KINDS[kind]) if kind in KINDS else None


def _is_time(value: object) -> bool:
    return value is None or (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < LATEST
    )


def check(fact: Mapping[str, Any]) -> None:
    """Raise ValueError, which names the key and the value, for a fact that is not of its kind."""
    kind = fact["fact"]
    validator = _validator(kind) if isinstance(kind, str) else None
    if not isinstance(kind, str):
        raise ValueError(f"`fact` is {kind!r:.40}; it must be the name of a kind")
    try:
        if validator is not None:
            validator.validate_python(fact, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        given = "" if first["type"] == "missing" else f", not {first['input']!r:.40}"
        raise ValueError(f"`{kind}`: {key}: {first['msg'].lower()}{given}") from None
    for key in TIMES:  # read of facts of every kind, those of later versions too
        if not _is_time(fact.get(key)):
            raise ValueError(f"`{kind}`: {key} is {fact[key]!r:.40}; it must be in Unix seconds")
    if kind == "simulation" and fact["scores"] and len(fact["scores"]) != len(fact["mixtures"]):
        raise ValueError(
            f"`{kind}`: {len(fact['scores'])} scores of {len(fact['mixtures'])} mixtures"
        )
    spec = fact.get("config") or {}
    for name, one in (spec.get("aggregates") or {}).items():
        try:
            patterns = Aggregate.model_validate(one).patterns.values()
        except ValidationError as error:
            why = error.errors(include_url=False)[0]["msg"].lower()
            raise ValueError(f"`{kind}`: config.aggregates.{name}: {why}") from None
        if glob := next((pattern for pattern, _ in patterns if is_glob(pattern)), None):
            raise ValueError(f"`{kind}`: config.aggregates.{name}: {glob!r} is a glob, not a name")
    for text in spec.get("constraints") or ():
        try:
            Constraint.parse(text)
        except ValueError as error:
            raise ValueError(f"`{kind}`: config.constraints: {error}") from None


def check_together(facts: Sequence[Mapping[str, Any]], where: str) -> None:
    """Raise InputError, beginning with file and line, if facts contradict one another."""
    bred = {fact["id"] for fact in facts if fact["fact"] in ("individual", "control")}
    ids: set[int] = set()
    mixed: dict[str, bool] = {}  # whether a gene is a mixture, by name: in all genomes or none
    evaluated: set[tuple[Any, ...]] = set()
    for line, fact in enumerate(facts, 1):
        kind, fault = fact["fact"], ""
        if kind == "search" and line > 1:
            fault = "a second `search`"
        elif kind in ("individual", "control"):
            known = ids if kind == "individual" else bred
            parents = fact["parents"] if kind == "individual" else [fact["individual"]]
            if fact["id"] in ids:
                fault = f"a second individual {fact['id']}"
            elif unknown := [parent for parent in parents if parent not in known]:
                fault = (
                    f"individual {fact['id']} has the parent {unknown[0]}, which is not before it"
                )
            for name, gene in fact["genome"].items():
                if mixed.setdefault(name, isinstance(gene, dict)) != isinstance(gene, dict):
                    fault = f"gene {name!r} of individual {fact['id']} is {gene!r:.40}"
            ids.add(fact["id"])
        elif kind == "evaluation":
            key = (fact["individual"], fact["seed"], fact["fidelity"], fact["split"])
            if fact["individual"] not in bred and fact["fidelity"] > 0:
                fault = f"an evaluation of individual {fact['individual']}, which there is not"
            elif key in evaluated:
                fault = f"a second evaluation of individual {key[0]} under seed {key[1]}"
            evaluated.add(key)
        elif kind in ("repeat", "winner") and fact["individual"] not in bred:
            fault = f"`{kind}` names individual {fact['individual']}, which there is not"
        if fault:
            raise InputError(f"{where}:{line}: {fault}; restore the file from a copy")
