"""The builtin trainer: fine-tunes the base on a recipe's mixture, then scores the model."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fitness import hardware
from fitness.buckets.together import Answers, Trained, train_together
from fitness.cost import Shape, training_flops
from fitness.data.tokens import separator
from fitness.errors import Infeasible, InputError
from fitness.evaluate.details import course, rewards, samples_kept, stops, untrained
from fitness.evaluate.held_out import Measured, answers_each, held_out_loss, measure
from fitness.evaluate.materialise import steps_until
from fitness.evaluate.writing import Served, written
from fitness.evaluation import Evaluation, EvaluationSpec, Simulation, Status, Task
from fitness.inference.sampling import continued
from fitness.merging import lineage, merge
from fitness.merging.experts import Experts
from fitness.mixture.decks import Deck, RecordDeck, deck_of
from fitness.mixture.infilling import Infilling
from fitness.mixture.mixing import Batch, Mixing
from fitness.models import weights
from fitness.models.layers import compiled
from fitness.recipe import Recipe
from fitness.training import state
from fitness.training.classification import balanced
from fitness.training.early_stopping import EarlyStopping
from fitness.training.masked import Masking
from fitness.training.objective import objective
from fitness.training.ranks import ALONE
from fitness.training.reference import Reference
from fitness.training.reinforce import Rewarded
from fitness.training.sharding import ShardedRanks, gather, sharded
from fitness.training.state import NOT_BEGUN, TrainingState
from fitness.training.supervised import (
    Diverged,
    Loss,
    cross_entropy,
    finetune,
    precise,
)

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class Builtin:
    """The builtin evaluator; keeps the base model and the mapped sources between evaluations."""

    def __init__(self, task: Task) -> None:
        import torch

        from fitness.models.base import Base

        if task.model is None:
            raise InputError("the builtin evaluator needs `model.base`")
        torch.set_num_threads(task.threads)
        self._task = task
        self.ranks = ALONE
        self._base = Base.of(task)
        self._served = Served.of(self._base, task.server, task.artifacts)
        self._masking = Masking.of(self._base.tokenizer) if task.head.task == "masked" else None
        self._shape = Shape.of(task.model, task.head)
        self._contents = {name: file.open() for name, file in task.sources.items()}
        self._reference = Reference(self._base)
        self._fitting: dict[tuple[object, ...], int] = {}  # rows at once by shape, if found
        self._experts: tuple[tuple[int, ...], Experts] | None = None  # of the last simulation

    def __call__(self, spec: EvaluationSpec, trained: Trained | None = None) -> Evaluation:
        """Train and measure one individual, or generate its samples. Raises Diverged.

        `trained` is given if it was trained in a bucket already.
        """
        if spec.writing is not None:
            return self._written(spec)
        task = self._task if spec.scored is None else self._task.only(spec.scored)
        if spec.simulation is not None:
            return self._simulated(spec, task, spec.simulation)
        self._experts = None
        if spec.fidelity == 0:
            return self._untouched(spec)
        recipe = Recipe.model_validate(dict(spec.recipe))
        if self._task.parts:
            return self._merged(spec, recipe)
        return self._trained(spec, task, recipe, trained)

    def together(self, specs: Sequence[EvaluationSpec]) -> Mapping[EvaluationSpec, Trained]:
        """Train the compatible specs together, sharing one forward pass of the base."""
        base = self._base
        write = partial(answers_each, base.model, base.tokenizer, self._task)
        return train_together(base, partial(self._mixing, self._task), specs, write)

    def bfloat16_cost(self) -> float:
        """Duration of a matrix product in bfloat16 on this machine, in multiples of float32."""
        return hardware.bfloat16_cost(self._base.device)

    def fastest_bucket(self, recipe: Mapping[str, Any]) -> int:
        """Bucket size that trains such recipes fastest on this machine, as measured."""
        from fitness.buckets.size import fastest

        return fastest(self._base, Recipe.model_validate(dict(recipe)))

    def _untouched(self, spec: EvaluationSpec) -> Evaluation:
        if not self.ranks.leads:
            return Evaluation(spec, Status.OK)
        started = time.perf_counter()
        measurements, told = self._measure(self._base.model, self._task, spec)
        seconds = time.perf_counter() - started
        cost = untrained(0.0, seconds)
        return Evaluation(spec, Status.OK, measurements, cost, told)

    def _written(self, spec: EvaluationSpec) -> Evaluation:
        if not self.ranks.leads:
            return Evaluation(spec, Status.OK)
        cost, details = written(self._base, spec, self._task, self._again, self._served)
        return Evaluation(spec, Status.OK, {}, cost, details)

    def _measure(
        self,
        model: "PreTrainedModel",
        task: Task,
        spec: EvaluationSpec,
        written: Answers | None = None,
    ) -> Measured:
        base = self._base
        packs = base.packs(task.held_out_length)
        with base.on_device():
            return measure(model, base.tokenizer, task, spec, written, packs=packs)

    def _merged(self, spec: EvaluationSpec, recipe: Recipe) -> Evaluation:
        """Measure the parts merged by the recipe's mixture; nothing is trained."""
        started = time.perf_counter()
        base, task = self._base, self._task
        inherited = merge.of_parts(base, recipe, task.parts, seed=spec.seed)
        with base.prepared(recipe, seed=spec.seed) as model:
            lineage.begin(model, inherited)
            scoring = time.perf_counter()
            with precise(base.device, recipe):
                measurements, told = self._measure(model, task, spec)
            _keep_weights(model, task, spec)
        cost = untrained(scoring - started, time.perf_counter() - scoring)
        details = {"shares": dict(recipe.mixture), "epochs": {}, **told}
        return Evaluation(spec, Status.OK, measurements, cost, details)

    def _simulated(self, spec: EvaluationSpec, task: Task, simulation: Simulation) -> Evaluation:
        """Score mixtures whose weights are sums of experts; nothing is trained."""
        started = time.perf_counter()
        base, recipe = self._base, Recipe.model_validate(dict(spec.recipe))
        experts = self._read(spec, simulation, recipe)
        if not self.ranks.leads:
            return Evaluation(spec, Status.OK)
        as_scored = replace(spec, split="selection")
        scores = []
        with base.prepared(experts.recipe, seed=spec.seed) as model:
            scoring = time.perf_counter()
            for mixture in simulation.mixtures:
                lineage.begin(model, experts.mixed(mixture))
                with precise(base.device, recipe):
                    try:
                        measurements, _ = self._measure(model, task, as_scored)
                    except Diverged:
                        measurements = {}
                scores.append(dict(measurements))
        cost = untrained(scoring - started, time.perf_counter() - scoring)
        return Evaluation(spec, Status.OK, {}, cost, {"scores": scores})

    def _read(self, spec: EvaluationSpec, simulation: Simulation, recipe: Recipe) -> Experts:
        """The experts, kept until something else is evaluated; trained again if they are gone."""
        if self._experts is None or self._experts[0] != spec.parents:
            with lineage.parents(spec, self._task, self._again, self.ranks) as folders:
                known = folders if self.ranks.leads else []
                by_source = dict(zip(simulation.sources, known, strict=False))
                self._experts = spec.parents, Experts.of(self._base, recipe, by_source)
        return self._experts[1]

    def _mixing(self, task: Task, spec: EvaluationSpec, recipe: Recipe) -> Mixing:
        """The data of a fine-tune. Raises Infeasible if there is none."""
        if not recipe.mixture:
            raise Infeasible(
                f"{recipe.method} learns from none of the sources that have a share; give one that "
                "it learns from a share, or add it to the `methods` of a source"
            )
        return Mixing(
            recipe.mixture,
            self._decks(recipe, spec.seed),
            budget_tokens=budget_of(task, spec, recipe),
            sequence_length=recipe.sequence_length,
            seed=spec.seed,
            seen=spec.seen,
            seen_seed=spec.ancestors[0].seed if spec.ancestors else spec.seed,
            packs=self._base.packs(recipe.sequence_length),
        )

    def _decks(self, recipe: Recipe, seed: int) -> dict[str, Deck]:
        """Decks by source. Raises Infeasible if no sample of a source with a share passes."""
        end = separator(self._base.tokenizer)
        turning = Infilling.of(recipe, self._base.tokenizer, seed)
        decks = {
            name: deck_of(content, recipe, end, turning) for name, content in self._contents.items()
        }
        for name, samples in samples_kept(decks).items():
            if not samples and recipe.mixture.get(name):
                raise Infeasible(
                    f"source {name!r}: no sample passes all of the recipe's keep_ fields, and its "
                    f"share is {recipe.mixture[name]:.3g}; raise them, or give it a share of 0"
                )
        return decks

    def _learned(
        self, mixing: Mixing, spec: EvaluationSpec, recipe: Recipe, step: int
    ) -> tuple[Iterator[Batch], Loss]:
        """The batches from a step on, and the loss of supervised training on them."""
        batches = mixing.batches(recipe.batch_size, skip=step)
        if self._masking is None:
            return batches, cross_entropy
        share = recipe.mask_share
        return self._masking.batches(batches, share, seed=spec.seed, step=step), self._masking.loss

    def _class_weights(self, recipe: Recipe, mixing: Mixing) -> "Tensor | None":
        """Weights of the classes of texts, (classes,); None where all weigh the same."""
        import torch

        if recipe.class_weights == "equal" or self._task.head.task != "classification":
            return None
        mixed = [(deck, recipe.mixture.get(name, 0.0)) for name, deck in mixing.decks.items()]
        pairs = [(deck, share) for deck, share in mixed if isinstance(deck, RecordDeck)]
        decks, shares = [deck for deck, _ in pairs], [share for _, share in pairs]
        return torch.from_numpy(balanced(decks, shares, len(self._task.head.labels)))

    def _rows_at_once(self, task: Task, recipe: Recipe) -> int | None:
        """Rows computed at once; None for all."""
        if task.micro_batch == "auto":
            return self._fitting.get(_shape(recipe))
        return task.micro_batch

    def _stopping(
        self,
        task: Task,
        model: "PreTrainedModel",
        spec: EvaluationSpec,
        recipe: Recipe,
        steps: int,
        gathered: Callable[[], None],
    ) -> EarlyStopping:
        """Early stopping by the selection split, whatever split is scored afterwards.

        `gathered` is called before the model is scored, to bring its weights up to date.
        """

        def loss() -> float:
            gathered()
            with precise(self._base.device, recipe), self._base.on_device():
                return self.ranks.first(task.stop_sign * self._checked(task, model, spec))

        return EarlyStopping(model, loss, steps=steps, patience=task.patience or 1)

    def _checked(self, task: Task, model: "PreTrainedModel", spec: EvaluationSpec) -> float:
        """The measurement that early stopping goes by; infinitely bad where the model diverges."""
        name, packs = task.stop_on, self._base.packs(task.held_out_length)
        scored, _, measured = name.partition("/")
        if measured == "loss":  # without scores by item
            file = task.domains[scored]["selection"]
            return held_out_loss(model, file, task.held_out_length, self._masking, packs)
        as_selected = replace(spec, split="selection")
        try:
            measurements, _ = self._measure(model, task.only({scored}), as_selected)
        except Diverged:
            return task.stop_sign * math.inf
        return measurements[name]

    def _again(self, spec: EvaluationSpec, task: Task) -> Evaluation:
        """Train an ancestor again whose checkpoint is gone."""
        return self._trained(spec, task, Recipe.model_validate(dict(spec.recipe)))

    def _served_for(self, task: Task, recipe: Recipe) -> Served | None:
        """The server that answers what a fine-tune is rewarded for, if it can have its weights."""
        if self._served is None or recipe.adapter != "lora" or task.sharding != "none":
            return None
        self._served.failure = ""
        return self._served

    def _trained(
        self, spec: EvaluationSpec, task: Task, recipe: Recipe, trained: Trained | None = None
    ) -> Evaluation:
        base = self._base
        mixing = self._mixing(task, spec, recipe)
        steps = mixing.steps(recipe.batch_size)
        until = steps_until(steps, min(1.0, spec.fidelity))
        ranks = self.ranks
        file = task.artifacts and state.file_of(
            task.artifacts, spec.individual, spec.seed, ranks.rank
        )
        begin = _kept(file, until) if spec.continue_from else NOT_BEGUN
        if len(set(ranks.all(begin.step))) > 1:  # a process's saved state is gone
            begin = NOT_BEGUN
        batches, learn = self._learned(mixing, spec, recipe, begin.step)
        train = trained.finetune if trained else finetune
        started = time.perf_counter() - (trained.seconds if trained else 0.0)
        answering = trained.answer_seconds if trained else 0.0
        with lineage.parents(spec, task, self._again, ranks) as folders:
            mine = folders if ranks.leads else []
            inherited = merge.start(base, recipe, mine, seed=spec.seed)
        with base.prepared(recipe, seed=spec.seed, checkpointing=task.checkpointing) as model:
            if inherited is not None:
                lineage.begin(model, inherited)
            if spec.parents:
                ranks.share([weight for weight in model.parameters() if weight.requires_grad])
            trainee, gathered = model, _nothing
            if task.sharding == "full":
                trainee = sharded(model, base.device, ranks)
                ranks, gathered = ShardedRanks(*astuple(ranks)), partial(gather, trainee, model)
            stop = (
                self._stopping(task, model, spec, recipe, steps, gathered)
                if task.patience
                else None
            )
            rewarded: dict[int, list[Rewarded]] = {}  # by step, of answers that were reinforced
            served = self._served_for(task, recipe)
            loss = objective(
                recipe,
                self._reference,
                base.tokenizer,
                seed=spec.seed,
                learn=learn,
                class_weights=self._class_weights(recipe, mixing),
                rewarded=rewarded,
                answer=served.continued if served else continued,
            )
            with compiled(model, wanted=task.compile):
                report = train(
                    trainee,
                    recipe,
                    batches,
                    steps=steps,
                    seed=spec.seed,
                    loss_of=loss,
                    begin=begin,
                    until=until,
                    keep=partial(state.keep, file=file) if file and spec.keep_state else None,
                    micro_batch=self._rows_at_once(task, recipe),
                    halving=task.micro_batch == "auto",
                    undo=lambda step: rewarded.pop(step, None),
                    stop=stop,
                    ranks=ranks,
                )
            if report.micro_batch is not None:
                self._fitting[_shape(recipe)] = report.micro_batch
            gathered()
            if stop is not None:
                stop.go_back()
            if not ranks.leads:
                return Evaluation(spec, Status.OK)
            scoring = time.perf_counter()
            with precise(base.device, recipe):
                written = trained.answers if trained else None
                measurements, told = self._measure(model, task, spec, written)
            if until == steps or not spec.keep_state:  # it will not be continued
                _keep_weights(model, task, spec)
        cost = {
            "tokens": report.tokens,
            "flops": training_flops(self._shape, recipe, report.tokens, task.kinds),
            "train_seconds": scoring - started,
            "evaluate_seconds": time.perf_counter() - scoring + answering,
        }
        details = {
            **course(spec, mixing, begin, report),
            **told,
            **rewards(rewarded),
            **({"server": served.outcome} if served and rewarded else {}),
            **(stops(task, stop, steps, mixing.budget_tokens) if stop is not None else {}),
        }
        if task.micro_batch == "auto":
            details["micro_batch"] = report.micro_batch
        return Evaluation(spec, Status.OK, measurements, cost, details)


def _nothing() -> None:
    """In place of a call that has nothing to do."""


def _shape(recipe: Recipe) -> tuple[object, ...]:
    """The fields that decide how much memory a row of a fine-tune takes."""
    adapter = recipe.adapter, recipe.lora_layers, recipe.precision
    return (recipe.batch_size, recipe.sequence_length, recipe.method, *adapter)


def budget_of(task: Task, spec: EvaluationSpec, recipe: Recipe) -> int:
    """Training tokens of the whole fine-tune of which the spec requests all or the first part."""
    share = task.inherit_share if spec.parents else max(1.0, spec.fidelity)
    return round(task.budget_tokens * recipe.train_share * share)


def _keep_weights(model: "PreTrainedModel", task: Task, spec: EvaluationSpec) -> None:
    if task.artifacts is not None and spec.keep_weights and spec.split == "selection":
        weights.keep(model, weights.folder_of(task.artifacts, spec.individual))


def _kept(file: Path | None, until: int) -> TrainingState:
    """The state to continue from, if it is there and not past step `until`; else the beginning."""
    kept = state.load(file) if file else None
    return kept if kept is not None and kept.step <= until else NOT_BEGUN
