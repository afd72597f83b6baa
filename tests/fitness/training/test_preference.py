"""The preference losses: what they compare, cut and name, and what training on them does."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from fitness.data.records import ROWS
from fitness.inference.log_probabilities import token_logps
from fitness.mixture.decks import NO_LABEL, Draw, RecordDeck
from fitness.mixture.mixing import Batch, Mixing, separate, stacked
from fitness.models.base import Base
from fitness.recipe import Recipe
from fitness.training.objective import objective
from fitness.training.preference import _answered, preference_loss
from fitness.training.ranks import Ranks
from fitness.training.reference import Reference
from fitness.training.supervised import Diverged, Loss, finetune, precise
from tests.fitness.preferences import EMPTY, LENGTH, case, draws, own_loss, shaken
from tests.fitness.records import PAIRS, deck


@pytest.mark.parametrize("length", [2, 3, 20, 96])
def test_both_answers_of_a_pair_follow_the_same_part_of_its_prompt(
    tmp_path: Path, length: int
) -> None:
    records = case("long_prompts.jsonl")
    found = deck(records, "preference", tmp_path, method="preference", sequence_length=length)
    for number in range(len(records)):
        sides = found.draw("own", number, length).sequences
        asked = [one.tokens[one.labels == NO_LABEL].tolist() for one in sides]
        assert asked[0] == asked[1]
        assert asked[0], "no token of the prompt is left"
        assert all((one.labels != NO_LABEL).any() for one in sides)
        assert max(len(one.tokens) for one in sides) == length


def test_a_rated_draw_alone_in_its_batch_is_not_its_own_divergence(
    base: Base, tmp_path: Path
) -> None:
    """KTO with a record's own answer would have a loss of .5, whatever the model learned."""
    records = case("rated.jsonl")
    found = draws(records, "rating", tmp_path, len(records))
    alone = [own_loss(base, [one], preference_beta=1, preference_sft=0) for one in found]
    assert all(loss != 0.5 for loss in alone)
    twice = [own_loss(base, [one, one], preference_beta=1, preference_sft=0) for one in found]
    assert twice == pytest.approx(alone, abs=1e-5)
    pair = draws(PAIRS, "preference", tmp_path, 1)
    assert own_loss(base, pair, preference_loss="kto", preference_beta=1, preference_sft=0) != 0.5


def test_a_cut_prompt_leaves_another_answer_its_room(base: Base, tmp_path: Path) -> None:
    """Else the other answer might be cut to what the own one is, and be its own divergence."""
    prompt = "bug " * 99
    records = [
        {"prompt": prompt, "completion": completion, "label": True}
        for completion in (" A kind", " A kind of bug that hackers like")
    ]
    own, other = draws(records, "rating", tmp_path, 2)
    assert own.elsewhere is not None
    row = _answered(own.sequences[0], own.elsewhere, LENGTH)
    assert row.tokens[row.labels != NO_LABEL].tolist() == own.elsewhere.tolist()
    assert row.tokens.tolist() == other.sequences[0].tokens.tolist()
    for one in (own, other):
        assert own_loss(base, [one], preference_beta=1, preference_sft=0) != 0.5


@pytest.mark.parametrize("processes", [1, 3])
def test_parts_with_one_rated_draw_have_other_answers_too(
    base: Base, tmp_path: Path, processes: int
) -> None:
    """Parts of a batch under `resources.micro_batch` 1, in one process or several."""
    found = tuple(draws(case("rated.jsonl"), "rating", tmp_path, 4))
    batch = Batch(*EMPTY, 4 * LENGTH, found)
    recipe = Recipe(method="preference", preference_beta=1, preference_sft=0, sequence_length=64)
    loss_of = objective(recipe, Reference(base), base.tokenizer, seed=0)
    parts = [
        (part, share)
        for rank in range(processes)
        for part, share in Ranks(rank, processes).parts(batch, 1)
    ]
    assert sorted(part.others[0].number for part, _ in parts) == [0, 1, 2, 3]
    assert sum(share for _, share in parts) == pytest.approx(1)
    with base.prepared(recipe, seed=0) as model, torch.no_grad():
        shaken(model)
        assert all(float(loss_of(model, part, 0)) != 0.5 for part, _ in parts)


def test_the_divergence_of_a_lone_draw_is_by_the_next_answer(tmp_path: Path) -> None:
    records = case("rated.jsonl")
    first, second, *_ = draws(records, "rating", tmp_path, len(records))
    assert first.elsewhere is not None
    own = second.sequences[0]
    assert first.elsewhere.tolist() == own.tokens[own.labels != NO_LABEL].tolist()


def test_a_record_whose_loss_is_not_finite_is_named(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = draws(PAIRS, "preference", tmp_path, 3)
    recipe = Recipe(method="preference", sequence_length=LENGTH)
    reference = Reference(base)
    of = reference.of

    def broken(draws: list[Draw], recipe: Recipe) -> Any:
        found = of(draws, recipe)
        found[:, [draw.number == 2 for draw in draws]] = math.inf
        return found

    monkeypatch.setattr(reference, "of", broken)
    loss_of = objective(recipe, reference, base.tokenizer, seed=0)
    batch = Batch(*EMPTY, 1, tuple(pairs))
    told = "at step 0; the loss of record 3 of source 'own' is"
    with base.prepared(recipe, seed=0) as model, pytest.raises(Diverged, match=told):
        finetune(model, recipe, [batch], steps=1, seed=0, loss_of=loss_of)


@pytest.mark.parametrize("micro_batch", [None, 1])
@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("kind", ["completion", "preference", "rating", "text"])
def test_what_is_learned_and_has_no_finite_loss_is_named(
    base: Base, tmp_path: Path, kind: Any, packs: bool, micro_batch: int | None
) -> None:
    """Batches of packed records, of windows with several documents, and of ratings under KTO."""
    records = [{**one, "completion": one["chosen"], "label": True} for one in PAIRS]
    if kind == "text":
        records = [{"text": one["prompt"] + one["chosen"]} for one in PAIRS]
    method = {"rating": "preference"}.get(kind, "supervised")
    settings: Any = {"method": method, "sequence_length": LENGTH, "isolate_documents": True}
    recipe, found = Recipe(**settings), deck(records, kind, tmp_path, **settings)
    mixing = Mixing(
        {"own": 1.0},
        {"own": found},
        budget_tokens=4 * LENGTH,
        sequence_length=LENGTH,
        seed=0,
        packs=packs,
    )
    (batch,) = mixing.batches(4)
    judged = objective(recipe, Reference(base), base.tokenizer, seed=0)
    *_, last = [*batch.draws, *batch.others]
    wrong = separate(last.sequences[0])[-1]
    where = {"text": last.number + len(last.sequences[0].tokens) - len(wrong.tokens)}.get(
        kind, (last.answers or (last.number,))[-1]
    )
    if isinstance(found, RecordDeck):
        answer = found.records.answer(where * ROWS[kind]).tolist()
        assert wrong.tokens.tolist()[-len(answer) :] == answer
    told = {"text": f"the text from token {where + 1:,} on", "rating": f"record {where + 1}"}

    def broken(ruined: bool) -> Loss:
        def loss_of(model: Any, part: Batch, step: int) -> Any:
            rows = [*part.input_ids, *(one.sequences[0].tokens for one in part.others)]
            bad = ruined or any(wrong.tokens.tobytes() in row.tobytes() for row in rows)
            return judged(model, part, step) * (math.inf if bad else 1.0)

        return loss_of

    for ruined, message in (
        (False, f"; the loss of {told.get(kind, f'answer {where + 1}')} of source 'own' is"),
        (True, "; no record of its batch has a finite loss, so that the weights are at fault"),
    ):
        settings = {"loss_of": broken(ruined), "micro_batch": micro_batch}
        with base.prepared(recipe, seed=0) as model, pytest.raises(Diverged, match=message):
            finetune(model, recipe, [batch], steps=1, seed=0, **settings)


@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_at_the_base_each_pair_costs_log_two_and_has_a_gradient(
    base: Base, tmp_path: Path, adapter: Any, precision: Any
) -> None:
    recipe = Recipe(method="preference", adapter=adapter, precision=precision, preference_sft=0)
    pairs = draws(PAIRS, "preference", tmp_path, 3)
    with base.prepared(recipe, seed=0) as model, precise(base.device, recipe):
        loss = preference_loss(model, pairs, recipe, Reference(base))
        loss.backward()
        gradients = [w.grad for w in model.parameters() if w.requires_grad and w.grad is not None]
    assert loss.item() == pytest.approx(math.log(2), abs=2e-2 if precision == "bfloat16" else 1e-6)
    assert max(float(gradient.abs().max()) for gradient in gradients) > 1e-3


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_the_reference_is_the_base_whatever_was_trained_before(
    base: Base, tmp_path: Path, adapter: Any
) -> None:
    pairs = draws(PAIRS, "preference", tmp_path, 4)
    recipe = Recipe(adapter=adapter, sequence_length=LENGTH)
    with base.prepared(recipe, seed=0):
        untouched = Reference(base).of(pairs, recipe)
    with base.prepared(recipe, seed=0) as model:
        before = {name: w.detach().clone() for name, w in model.named_parameters()}
        shaken(model)
        moved = Reference(base).of(pairs, recipe)
        again = Reference(base).of(pairs[::-1], recipe).flip(1)
        assert any(not torch.equal(before[n], w) for n, w in model.named_parameters())
    assert torch.equal(untouched, moved)
    assert torch.equal(untouched, again), "it depends on what else is in the batch"


def test_each_part_of_a_batch_counts_by_its_draws(base: Base, tmp_path: Path) -> None:
    pairs = draws(PAIRS, "preference", tmp_path, 3)
    text = deck(PAIRS, "preference", tmp_path, sequence_length=LENGTH).draw("own", 0, LENGTH)
    tokens, labels, positions = (array[None] for array in text.sequences[0])
    recipe = Recipe(method="preference", sequence_length=LENGTH)
    loss_of = objective(recipe, Reference(base), base.tokenizer, seed=0)

    def loss(batch: Batch) -> float:
        with base.prepared(recipe, seed=0) as model, torch.no_grad():
            return float(loss_of(model, batch, 0))

    learned = Batch(tokens, labels, positions, LENGTH)
    judged = Batch(tokens[:0], labels[:0], None, LENGTH, tuple(pairs))
    both = learned._replace(others=tuple(pairs))
    assert loss(both) == pytest.approx((loss(learned) + 3 * loss(judged)) / 4, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["sigmoid", "hinge", "ipo", "kto"])
def test_training_on_preferences_separates_held_out_ones(
    base: Base, tmp_path: Path, loss: Any
) -> None:
    """Nine of the pairs are trained on, six others are asked about."""
    words = ("patch", "queue", "root", "spam", "toast", "user")
    held_out = [{k: v.replace("bug", word) for k, v in PAIRS[0].items()} for word in words]
    found = deck(PAIRS, "preference", tmp_path, method="preference", sequence_length=LENGTH)
    recipe = Recipe(
        method="preference",
        preference_loss=loss,
        sequence_length=LENGTH,
        learning_rate=1e-3,
        decay="constant",
        warmup_share=0,
    )
    loss_of = objective(recipe, Reference(base), base.tokenizer, seed=0)
    batch = Batch(*EMPTY, 1, tuple(found.draw("own", n, LENGTH) for n in range(len(PAIRS))))
    asked = tmp_path / "held out"
    asked.mkdir()
    tested = draws(held_out, "preference", asked, len(words))
    with base.prepared(recipe, seed=0) as model:
        before = margins(model, tested, recipe, Reference(base))
        finetune(model, recipe, [batch] * 12, steps=12, seed=0, loss_of=loss_of)
        after = margins(model, tested, recipe, Reference(base))
    assert before.abs().max() < 1e-4
    assert after.min() > 1


def margins(model: Any, pairs: list[Draw], recipe: Recipe, reference: Reference) -> torch.Tensor:
    """Gain in the log-probability margin of chosen over rejected answers, nats."""
    with torch.no_grad():
        sides = [stacked([pair.sequences[side] for pair in pairs]) for side in (0, 1)]
        chosen, rejected = (token_logps(model, rows).sum(1) for rows in sides)
    wanted, unwanted = reference.of(pairs, recipe)
    return (chosen - wanted) - (rejected - unwanted)
