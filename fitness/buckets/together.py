"""Group evaluations into buckets, train each on one forward pass of the base, return results."""

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
    from transformers import PreTrainedModel

    from fitness.models.base import Base

Answers = Mapping[str, list[str]]  # by prompt set, in the order of its prompts
Write = Callable[[Sequence[EvaluationSpec]], Sequence[Answers]]

SHARED = sorted(fields(lambda use: use.bucket == "shared"))
HONOURED = fields(lambda use: use.bucket != "default")


def fits(recipe: Recipe) -> tuple[object, ...] | None:
    """Key of the bucket of a recipe: equal keys can train together; None where it must train alone.

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


def shared(spec: EvaluationSpec) -> tuple[object, ...] | None:
    """Key of the bucket of an evaluation; None where it must train alone.

    A fine-tune that pauses or resumes trains alone, as it did before the pause.
    """
    if spec.fidelity != 1.0 or spec.continue_from or spec.keep_state:
        return None
    common = fits(Recipe.model_validate(dict(spec.recipe)))
    return None if common is None else (spec.split, *common)


@dataclass(frozen=True, slots=True)
class Trained:
    """Result of a member's training, and its share of the bucket's seconds."""

    outcome: TrainingReport | Diverged
    seconds: float
    adapter: Mapping[str, Any] = field(default_factory=dict, repr=False)
    answers: Answers | None = field(default=None, repr=False)
    answer_seconds: float = 0.0  # its share of the seconds of generation

    def finetune(self, model: "PreTrainedModel", *_: Any, **__: Any) -> TrainingReport:
        """Stand-in for `supervised.finetune`: load the trained adapter. Raises Diverged."""
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
    """Train evaluations with equal keys together; evaluations without a partner are left out.

    `mixed` gives their data; `write` generates the answers of the members that finished training.
    """
    groups: dict[object, list[_Prepared]] = defaultdict(list)
    for spec in specs:
        try:
            key = shared(spec)
            if key is not None:
                recipe = Recipe.model_validate(dict(spec.recipe))
                mixing = mixed(spec, recipe)
                if mixing.one_row_each:
                    groups[key].append(_Prepared(spec, recipe, mixing))
        except (InputError, ValueError):
            continue  # it will fail when trained alone, with its own message
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
        generated: Sequence[Answers] = []
        if bucket.present:
            with precise(base.device, members[0].recipe):
                generated = write([members[number].spec for number in bucket.present])
        answers = dict(zip(bucket.present, generated, strict=True))
    seconds = (answering - started) / len(members)
    answer_seconds = (time.perf_counter() - answering) / max(1, len(generated))
    return {
        one.spec: Trained(
            outcome, seconds, adapters.get(number, {}), answers.get(number), answer_seconds
        )
        for number, (one, outcome) in enumerate(zip(members, outcomes, strict=True))
    }
