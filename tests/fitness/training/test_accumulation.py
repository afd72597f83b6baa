"""Batches in parts and activations computed anew: less memory, the same training."""

import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fitness.data.sources import TokenFile
from fitness.errors import InputError
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import Split, Status, Task
from fitness.mixture.decks import NO_LABEL, Sequence
from fitness.mixture.mixing import Batch, stacked, together
from fitness.models import packing
from fitness.models.base import Base
from fitness.models.layers import checkpointed
from fitness.recipe import Recipe
from fitness.training import supervised
from fitness.training.accumulation import parts
from fitness.training.objective import objective
from fitness.training.reference import Reference
from fitness.training.supervised import cross_entropy, finetune
from tests.fitness.quickstart import BATCH, LENGTH, MODEL, STEPS, batches_of, evaluate, small_recipe
from tests.fitness.records import PAIRS, deck, record_file

LENGTHS = (20, 7, 20, 1, 13)  # of a batch's rows; a row of one token has nothing to predict


@pytest.fixture
def padded() -> Batch:
    """A batch of uneven rows, their ends padded."""
    inputs = np.zeros((len(LENGTHS), max(LENGTHS)), dtype=np.int64)
    labels = np.full(inputs.shape, NO_LABEL)
    rng = np.random.default_rng(0)
    for row, length in enumerate(LENGTHS):
        inputs[row, :length] = labels[row, :length] = rng.integers(5, 1000, length)
    return Batch(inputs, labels)


def gradients(model: Any, batch: Batch, rows: int | None) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of a batch, and the gradients of what is trained."""
    model.zero_grad(set_to_none=True)
    told = 0.0
    for part, share in parts(batch, rows):
        loss = share * cross_entropy(model, part, 0)
        loss.backward()
        told += loss.item()
    return told, {n: w.grad.clone() for n, w in model.named_parameters() if w.requires_grad}


@pytest.mark.parametrize("adapter", ["none", "lora", "dora"])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_parts_add_up_to_the_loss_and_the_gradients_of_the_batch(
    base: Base, padded: Batch, adapter: str, rows: int
) -> None:
    with base.prepared(small_recipe(adapter=adapter), seed=0) as model:
        for name, weight in model.named_parameters():
            if "lora_B" in name:  # else all gradients but its own would be zero
                torch.nn.init.constant_(weight, 1e-2)
        loss, whole = gradients(model, padded, None)
        told, added = gradients(model, padded, rows)
    assert told == pytest.approx(loss, rel=1e-6)
    for name, gradient in whole.items():
        assert gradient.norm() > 0
        assert (added[name] - gradient).norm() < 1e-5 * gradient.norm()


def test_shares_are_of_predicted_tokens_and_sum_to_one(padded: Batch) -> None:
    shares = [(len(part.input_ids), share) for part, share in parts(padded, 2)]
    assert shares == [(2, 25 / 56), (2, 19 / 56), (1, 12 / 56)]
    alone = [len(part.input_ids) for part, _ in parts(padded, 1)]
    assert alone == [1, 1, 1, 1], "none for the lonely token"
    for rows in (None, 5, 9):
        assert [(part, share) for part, share in parts(padded, rows)] == [(padded, 1.0)]


def test_documents_with_rows_of_their_own_are_together_as_if_they_were_packed() -> None:
    lengths = (30, 12, 10, 9, 4, 4, 3)  # of two packed rows of 36
    documents = [Sequence(np.arange(1, n + 1), np.arange(1, n + 1)) for n in lengths]
    batch = Batch(*stacked(documents), learned=2)
    assert batch.sequences == 2
    for rows, shapes in ((None, [(2, 30), (5, 10)]), (1, [(1, 30), (3, 12), (3, 4)])):
        found = list(parts(batch, rows))
        assert [part.input_ids.shape for part, _ in found] == shapes
        assert sum(share for _, share in found) == pytest.approx(1)
    assert list(together([3, 2, 2, 9, 1], 5)) == [
        slice(0, 1),
        slice(1, 3),
        slice(3, 4),
        slice(4, 5),
    ]
    assert list(together([], 5)) == [slice(0, 0)]


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_the_documents_of_long_rows_are_apart_without_a_mask_and_measure_the_same(
    task: Task, adapter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [{"prompt": one["prompt"], "completion": one["chosen"]} for one in PAIRS]
    records = record_file(answers, "completion", tmp_path)
    held: dict[Split, TokenFile] = {"selection": records, "test": records}
    varied = replace(task, domains={"target": held}, held_out_length=64)
    recipe: dict[str, Any] = {"adapter": adapter, "learning_rate": 3e-3, "isolate_documents": True}
    masked = evaluate(Evaluator(varied), **recipe)
    crossed = evaluate(Evaluator(varied), **{**recipe, "isolate_documents": False})
    monkeypatch.setattr(packing, "MASKED", 8)
    apart = evaluate(Evaluator(varied), **recipe)
    assert [Base(MODEL).packs(length) for length in (8, 9)] == [True, False]
    wanted = masked.measurements["target/loss"]
    assert apart.measurements["target/loss"] == pytest.approx(wanted, abs=1e-5)
    assert abs(crossed.measurements["target/loss"] - wanted) > 1e-4
    curves = (masked.details["learning_curve"], apart.details["learning_curve"])
    for (tokens, loss), (same, told) in zip(*curves, strict=True):
        assert (tokens, loss) == (same, pytest.approx(told, abs=1e-5))
    items = [one.details["items"]["target/loss"]["sums"] for one in (masked, apart)]
    assert items[0] == pytest.approx(items[1], abs=1e-3), "by record, in their order"


def test_what_is_compared_is_split_by_draws(base: Base, tmp_path: Path, padded: Batch) -> None:
    """Without cross-entropy beside it, whose mean is over a part's tokens."""
    recipe = Recipe(method="preference", preference_sft=0, sequence_length=64)
    pairs = deck(PAIRS, "preference", tmp_path, method="preference", sequence_length=64)
    draws = tuple(pairs.draw("own", number, 64) for number in range(5))
    batch = padded._replace(others=draws)
    loss_of = objective(recipe, Reference(base), base.tokenizer, seed=0)
    with base.prepared(recipe, seed=0) as model, torch.no_grad():
        whole = float(loss_of(model, batch, 0))
        split = [(part, share * float(loss_of(model, part, 0))) for part, share in parts(batch, 4)]
    assert sum(loss for _, loss in split) == pytest.approx(whole, rel=1e-6)
    assert [len(part.others) for part, _ in split] == [0, 0, 2, 2, 1]


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_an_evaluation_in_parts_measures_the_same(task: Task, adapter: str) -> None:
    uneven = replace(task, budget_tokens=STEPS * BATCH * LENGTH - 20)
    recipe: dict[str, Any] = {"adapter": adapter, "learning_rate": 3e-3}
    whole = evaluate(Evaluator(uneven), **recipe)
    in_parts = evaluate(Evaluator(replace(uneven, micro_batch=3)), **recipe)
    assert whole.status is in_parts.status is Status.OK
    wanted = whole.measurements["target/loss"]
    assert in_parts.measurements["target/loss"] == pytest.approx(wanted, abs=1e-4)
    curves = (whole.details["learning_curve"], in_parts.details["learning_curve"])
    for (tokens, loss), (same, told) in zip(*curves, strict=True):
        assert (tokens, loss) == (same, pytest.approx(told, abs=1e-4))


@pytest.mark.parametrize(
    ("changes", "dtype"),
    [
        ({}, "float32"),
        ({"adapter": "lora", "dropout": 0.3, "lora_layers": 2}, "float32"),
        ({"adapter": "dora", "precision": "bfloat16", "lora_dropout": 0.2}, "bfloat16"),
    ],
)
def test_activations_computed_anew_give_the_same_weights_to_the_last_bit(
    task: Task, changes: dict[str, Any], dtype: str
) -> None:
    base, recipe = Base(MODEL, dtype), small_recipe(**changes)
    passes: list[int] = []

    def trained(checkpointing: bool) -> tuple[int, dict[str, torch.Tensor]]:
        passes.clear()
        with base.prepared(recipe, seed=0, checkpointing=checkpointing) as model:
            layer = base.model.model.layers[-1]
            counting = layer.mlp.register_forward_pre_hook(lambda *_: passes.append(1))
            finetune(model, recipe, batches_of(task, recipe), steps=STEPS, seed=0)
            counting.remove()
            return len(passes), {n: w.detach().clone() for n, w in model.named_parameters()}

    (once, kept), (twice, anew) = trained(False), trained(True)
    assert (once, twice) == (STEPS, 2 * STEPS)
    assert [name for name in kept if not torch.equal(kept[name], anew[name])] == []


def test_an_evaluation_does_as_its_resources_say(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    prepared = Base.prepared

    def recorded(base: Base, recipe: Recipe, **how: Any) -> AbstractContextManager[Any]:
        asked.append(how)
        return prepared(base, recipe, **how)

    monkeypatch.setattr(Base, "prepared", recorded)
    whole = evaluate(Evaluator(task))
    anew = evaluate(Evaluator(replace(task, checkpointing=True)))
    assert [how["checkpointing"] for how in asked] == [False, True]
    assert whole.measurements == anew.measurements


def test_a_model_without_layers_made_for_it_is_refused() -> None:
    with (
        pytest.raises(InputError, match=r"resources\.checkpointing: Linear has no layers made for"),
        checkpointed(torch.nn.Linear(2, 2)),
    ):
        pass


def short_of_memory(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int | None]:
    """Let steps on more rows than `most` run out of memory, half way through; returns the tries."""
    tries: list[int | None] = []
    derived: Any = supervised._derived

    def limited(*given: Any) -> float:
        *before, rows = given
        tries.append(rows)
        if rows is None or rows > most:
            derived(*before, 1)  # leaves gradients, and another random state
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return derived(*before, rows)

    monkeypatch.setattr(supervised, "_derived", limited)
    return tries


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_rows_are_halved_until_they_fit_with_the_result_of_so_few_from_the_start(
    base: Base, task: Task, monkeypatch: pytest.MonkeyPatch, adapter: str
) -> None:
    recipe = small_recipe(adapter=adapter, dropout=0.2, lora_dropout=0.2)
    batches = batches_of(task, recipe)

    def trained(rows: int | None, **how: Any) -> tuple[Any, dict[str, torch.Tensor]]:
        with base.prepared(recipe, seed=0) as model:
            found = finetune(model, recipe, batches, steps=STEPS, seed=0, micro_batch=rows, **how)
            return found, {n: w.detach().clone() for n, w in model.named_parameters()}

    report, wanted = trained(2)
    tries = short_of_memory(monkeypatch, most=2)
    halved, weights = trained(None, halving=True)
    assert tries == [None] + [2] * STEPS
    assert all(torch.equal(weights[name], wanted[name]) for name in wanted)
    assert halved == report
    assert halved.micro_batch == 2
    with pytest.raises(torch.OutOfMemoryError):
        trained(None)
    short_of_memory(monkeypatch, most=0)
    with pytest.raises(torch.OutOfMemoryError):
        trained(None, halving=True)


def test_an_evaluation_begins_with_the_rows_that_fitted_the_one_before(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = short_of_memory(monkeypatch, most=1)
    evaluator = Evaluator(replace(task, micro_batch="auto"))
    first, second = (evaluate(evaluator, seed=seed) for seed in (0, 1))
    assert tries == [None, 2, *[1] * 2 * STEPS]
    assert first.details["micro_batch"] == second.details["micro_batch"] == 1
    other = evaluate(evaluator, sequence_length=LENGTH // 2)
    assert tries[3 + 2 * STEPS - 1] is None  # of another shape
    assert other.status is Status.OK
    fixed = evaluate(Evaluator(task))
    assert fixed.status is Status.OUT_OF_MEMORY


def test_rewards_of_a_try_that_did_not_fit_do_not_count(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [{"prompt": pair["prompt"], "reference": pair["chosen"]} for pair in PAIRS]
    sources = {**task.sources, "asked": record_file(asked, "prompt", tmp_path)}
    recipe: dict[str, Any] = {
        "method": "reinforce",
        "adapter": "lora",
        "reinforce_group": 2,
        "reinforce_new_tokens": 4,
        "rewards": {"length": 1.0},
        "mixture": {"asked": 1.0},
    }
    few = Evaluator(replace(task, sources=sources, micro_batch=2))
    wanted = evaluate(few, **recipe)
    assert wanted.status is Status.OK, wanted.message
    short_of_memory(monkeypatch, most=2)
    found = evaluate(Evaluator(replace(task, sources=sources, micro_batch="auto")), **recipe)
    assert found.details["micro_batch"] == 2
    assert found.details["rewarded"] == wanted.details["rewarded"]


LIMITED = """
import resource, torch
from fitness.models.base import Base
from fitness.training.supervised import finetune
from tests.fitness.quickstart import MODEL, small_recipe
import numpy as np
from fitness.mixture.mixing import Batch

torch.set_num_threads(1)
tokens = np.random.default_rng(0).integers(5, 1000, (32, 256))
recipe, batches = small_recipe(batch_size=32, sequence_length=256), [Batch(tokens, tokens)]
base = Base(MODEL)

def trained(rows, **how):
    with base.prepared(recipe, seed=0) as model:
        report = finetune(model, recipe, batches, steps=1, seed=0, micro_batch=rows, **how)
        return report, torch.cat([w.detach().flatten() for w in model.parameters()])

trained(2)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 150 * 2**20, resource.RLIM_INFINITY))
report, weights = trained(None, halving=True)
assert report.micro_batch < 32
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
_, wanted = trained(report.micro_batch)
assert torch.equal(weights, wanted)
print("rows", report.micro_batch)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_rows_are_halved_where_the_memory_is_really_short() -> None:
    told = subprocess.run(
        [sys.executable, "-c", LIMITED], capture_output=True, text=True, timeout=300
    )
    assert told.stdout.startswith("rows "), told.stderr
