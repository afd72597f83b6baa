"""Which evaluations are trained together, on one forward pass of the base, and what comes of it."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fitness.errors import InputError
from fitness.evaluation import EvaluationSpec
from fitness.mixture.mixing import Mixing
from fitness.recipe import Recipe, fields
from fitness.training.supervised import Diverged, TrainingReport, precise

if TYPE_CHECKING:
    from fitness.models.base import Base

Answers = Mapping[str, list[str]]  # by prompt set, in the order of its prompts
Write = Callable[[Sequence[EvaluationSpec]], Sequence[Answers]]

SHARED = sorted(fields(lambda use: use.bucket == "shared"))
HONOURED = fields(lambda use: use.bucket != "default")


def fits(recipe: Recipe) -> tuple[Any, ...] | None:
    """What members of a bucket must have in common; None where a recipe can only train alone.

    Anything but LoRA trains alone, as does a recipe that sets a field that buckets do not honour.
    """
    every = type(recipe).model_fields
    usual = all(
        getattr(recipe, name) == every[name].get_default(call_default_factory=True)
        for name in every.keys() - HONOURED
    )
    if recipe.adapter != "lora" or not usual:
        return None
    return tuple(getattr(recipe, name) for name in SHARED)


def shared(spec: EvaluationSpec) -> tuple[Any, ...] | None:
    """What evaluations must have in common to be trained together; None for one that is alone.

    Whatever pauses or goes on from a pause is trained alone, as it was until then.
    """
    if spec.fidelity != 1.0 or spec.continue_from or spec.keep_state:
        return None
    common = fits(Recipe.model_validate(dict(spec.recipe)))
    return None if common is None else (spec.split, *common)


@dataclass(frozen=True, slots=True)
class Trained:
    """How the training of a member ended, and its share of the seconds that all took."""

    outcome: TrainingReport | Diverged
    seconds: float
    adapter: Mapping[str, Any] = field(default_factory=dict, repr=False)
    answers: Answers | None = field(default=None, repr=False)
    answer_seconds: float = 0.0  # its share of what writing them took

    def finetune(self, model: Any, *_: Any, **__: Any) -> TrainingReport:
        """In place of `supervised.finetune`: what it would do has been done. Raises Diverged."""
        from fitness.buckets.lora import load

        if isinstance(self.outcome, Diverged):
            raise self.outcome
        load(model, self.adapter)
        model.eval()
        return self.outcome


def train_together(
    base: "Base",
    mixed: Callable[[EvaluationSpec, Recipe], Mixing],
    specs: Sequence[EvaluationSpec],
    write: Write,
) -> dict[EvaluationSpec, Trained]:
    """Train those who fit one another; who fits nobody is left out.

    `mixed` gives their data, `write` has those who went all the way answer the prompts.
    """
    groups: dict[Any, list[_Prepared]] = defaultdict(list)
    for spec in specs:
        try:
            key = shared(spec)
            if key is not None:
                recipe = Recipe.model_validate(dict(spec.recipe))
                groups[key].append(_Prepared(spec, recipe, mixed(spec, recipe)))
        except (InputError, ValueError):
            continue  # will fail alone, and say why
    trained: dict[EvaluationSpec, Trained] = {}
    for members in groups.values():
        if len(members) > 1:
            trained |= _trained(base, members, write)
    return trained


@dataclass(frozen=True, slots=True)
class _Prepared:
    spec: EvaluationSpec
    recipe: Recipe
    mixing: Mixing


def _trained(
    base: "Base",
    members: Sequence[_Prepared],
    write: Write,
) -> dict[EvaluationSpec, Trained]:
    from fitness.buckets.lora import Member, lent
    from fitness.buckets.training import finetune

    started = time.perf_counter()
    size = members[0].recipe.batch_size
    with lent(base, [Member(one.recipe, one.spec.seed) for one in members]) as bucket:
        outcomes = finetune(
            bucket,
            [one.mixing.batches(size) for one in members],
            steps=members[0].mixing.steps(size),
        )
        adapters = {number: bucket.adapter(p) for p, number in enumerate(bucket.present)}
        answering = time.perf_counter()
        written: Sequence[Answers] = []
        if bucket.present:
            with precise(base.device, members[0].recipe):
                written = write([members[number].spec for number in bucket.present])
        answers = dict(zip(bucket.present, written, strict=True))
    seconds = (answering - started) / len(members)
    answer_seconds = (time.perf_counter() - answering) / max(1, len(written))
    return {
        one.spec: Trained(
            outcome, seconds, adapters.get(number, {}), answers.get(number), answer_seconds
        )
        for number, (one, outcome) in enumerate(zip(members, outcomes, strict=True))
    }
