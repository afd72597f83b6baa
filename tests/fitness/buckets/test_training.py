"""Members of a bucket against their own solo runs under PEFT."""

import math
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fitness.buckets import size, training
from fitness.buckets.lora import Adapter, Member, lent, load
from fitness.buckets.together import fits
from fitness.errors import InputError
from fitness.evaluation import Task
from fitness.inference.sampling import generate, generate_each
from fitness.models.base import Base
from fitness.recipe import Recipe
from fitness.training.supervised import Diverged, TrainingReport
from fitness.training.supervised import finetune as finetune_alone
from tests.fitness.quickstart import MODEL, batches_of, small_recipe
from tests.fitness.records import PAIRS, record_file

STEPS, BATCH, LENGTH = 12, 2, 16
EXACT = 2e-5  # nats per token: float32 sums in another order, after so many steps
ROUNDING = 1e-4  # of the distance that the weights have gone


def recipe_of(place: int, **changes: Any) -> Recipe:
    """Recipes that differ in all that members may differ in, dropout aside."""
    values = {
        "adapter": "lora",
        "batch_size": BATCH,
        "sequence_length": LENGTH,
        "mixture": {"jargon": 0.1 + 0.1 * place, "wordnet": 0.9 - 0.1 * place},
        "lora_rank": (4, 8, 2, 16)[place % 4],
        "lora_alpha": 8.0 + place,
        "lora_scaling": ("standard", "rank_stabilised")[place % 2],
        "lora_targets": "mlp",
        "learning_rate": 1e-3 * (1 + place),
        "warmup_share": 0.05 * place,
        "decay": ("cosine", "linear", "constant")[place % 3],
        "beta2": 0.9 + 0.01 * place,
        "weight_decay": 0.1 * place,
        "clip_norm": (0.0, 0.1, 1.0)[place % 3],
    }
    return small_recipe(**{**values, **changes})


def members_of(count: int, **changes: Any) -> list[Member]:
    return [Member(recipe_of(place, **changes), seed=place) for place in range(count)]


def stream(task: Task, member: Member, steps: int) -> list[Any]:
    tokens = steps * BATCH * member.recipe.sequence_length
    part = replace(task, budget_tokens=tokens)
    return batches_of(part, member.recipe, seed=member.seed)


def together(
    base: Base, task: Task, members: list[Member], steps: int = STEPS
) -> tuple[list[TrainingReport | Diverged], dict[int, Adapter]]:
    """Reports, and the weights of those who went all the way by their number."""
    with lent(base, members) as bucket:
        batches = [stream(task, member, steps) for member in members]
        reports = training.finetune(bucket, batches, steps=steps)
        return reports, {n: bucket.adapter(p) for p, n in enumerate(bucket.present)}


def alone(base: Base, task: Task, member: Member, steps: int = STEPS) -> Any:
    """A report and the weights by name."""
    with base.prepared(member.recipe, seed=member.seed) as model:
        report = finetune_alone(
            model, member.recipe, stream(task, member, steps), steps=steps, seed=member.seed
        )
        return report, weights_in(model)


def weights_in(model: Any) -> dict[str, torch.Tensor]:
    return {n: w.detach().clone() for n, w in model.named_parameters() if w.requires_grad}


def named(adapter: Adapter) -> dict[str, torch.Tensor]:
    """A member's weights under the names that PEFT gives them."""
    found = {}
    for name, (a, b) in adapter.items():
        found[f"base_model.model.{name}.lora_A.default.weight"] = a
        found[f"base_model.model.{name}.lora_B.default.weight"] = b
    return found


def farthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Euclidean distance of all weights together."""
    assert one.keys() == other.keys()
    return math.hypot(*((one[name] - other[name]).double().norm().item() for name in one))


def assert_as_alone(base: Base, task: Task, members: list[Member], steps: int = STEPS) -> None:
    """Losses, learning curve and final weights are those of each one's solo run under PEFT.

    Adam divides by the size of a gradient, so that rounding may move a single weight whose gradient
    is next to nothing much further than all others.
    """
    reports, adapters = together(base, task, members, steps)
    for number, (member, report) in enumerate(zip(members, reports, strict=True)):
        assert isinstance(report, TrainingReport)
        expected, weights = alone(base, task, member, steps)
        assert (report.steps, report.tokens) == (expected.steps, expected.tokens)
        points = zip(report.learning_curve, expected.learning_curve, strict=True)
        for (tokens, loss), (tokens_alone, loss_alone) in points:
            assert tokens == tokens_alone
            assert loss == pytest.approx(loss_alone, abs=EXACT)
        moved = distance(weights, initial(base, member))
        assert distance(named(adapters[number]), weights) < ROUNDING * moved


def initial(base: Base, member: Member) -> dict[str, torch.Tensor]:
    with base.prepared(member.recipe, seed=member.seed) as model:
        return weights_in(model)


@pytest.mark.slow
def test_each_of_eight_members_is_its_solo_run_over_fifty_steps(base: Base, task: Task) -> None:
    assert_as_alone(base, task, members_of(8), steps=50)


RECORDS: list[dict[str, Any]] = [
    {"prompt": pair["prompt"], "completion": pair["chosen"], "individual": 0, "seed": number}
    | {"scores": {"realness": number / len(PAIRS)}}
    for number, pair in enumerate(PAIRS)
]


def test_packed_records_and_documents_kept_apart_are_as_alone(
    base: Base, task: Task, tmp_path: Path
) -> None:
    """Text in one member, answers beside it in the next, a pool by threshold in the third."""
    answers = record_file(RECORDS, "completion", tmp_path)
    pool = record_file(RECORDS, "sample", tmp_path)
    mixed = replace(task, sources={**task.sources, "answers": answers, "pool": pool})
    changes: list[dict[str, Any]] = [
        {},
        {"mixture": {"jargon": 0.5, "answers": 0.5}},
        {"mixture": {"answers": 0.2, "pool": 0.8}, "keep_realness": 0.5},
        {"isolate_documents": True},
    ]
    members = [
        Member(recipe_of(place, **{"sequence_length": 40, **one}), seed=place)
        for place, one in enumerate(changes)
    ]
    assert len({fits(member.recipe) for member in members}) == 1
    assert_as_alone(base, mixed, members, steps=6)


def test_members_with_dropout_draw_the_masks_that_they_would_draw_alone(
    base: Base, task: Task
) -> None:
    rates = (0.3, 0.0, 0.1)
    members = [Member(recipe_of(n, dropout=rate), seed=n) for n, rate in enumerate(rates)]
    assert_as_alone(base, task, members)


def test_a_member_does_not_see_its_neighbours(base: Base, task: Task) -> None:
    members = members_of(3, dropout=0.1)
    other = Member(recipe_of(7, lora_rank=8, dropout=0.2), seed=99)  # no larger rank than before
    reports, adapters = together(base, task, members)
    changed, others = together(base, task, [members[0], other, members[2]])
    assert reports[1] != changed[1]
    for number in (0, 2):
        assert reports[number] == changed[number]
        assert farthest(named(adapters[number]), named(others[number])) == 0.0


def test_a_member_that_diverges_leaves_and_the_others_go_on(base: Base, task: Task) -> None:
    members = members_of(3, dropout=0.1)
    wild = Member(recipe_of(1, learning_rate=10.0, weight_decay=10.0, clip_norm=0.0), seed=1)
    reports, adapters = together(base, task, [members[0], wild, members[2]])
    assert isinstance(reports[1], Diverged)
    assert sorted(adapters) == [0, 2]
    for number in (0, 2):
        expected, weights = alone(base, task, members[number])
        report = reports[number]
        assert isinstance(report, TrainingReport)
        assert report.learning_curve[-1] == pytest.approx(expected.learning_curve[-1], abs=EXACT)
        moved = distance(weights, initial(base, members[number]))
        assert distance(named(adapters[number]), weights) < ROUNDING * moved


def test_the_padding_of_smaller_ranks_stays_zero(base: Base, task: Task) -> None:
    members = members_of(3)
    with lent(base, members) as bucket:
        training.finetune(bucket, [stream(task, m, STEPS) for m in members], steps=STEPS)
        for a, b in bucket.factors.values():
            for place, member in enumerate(members):
                rank = member.recipe.lora_rank
                assert not a[place, rank:].any()
                assert not b[place, :, rank:].any()
                assert b[place, :, :rank].all(dim=0).all()


def test_the_base_is_given_back_as_it_was_even_after_an_error(base: Base) -> None:
    def state() -> dict[str, tuple[int, bool]]:
        return {n: (id(w), w.requires_grad) for n, w in base.model.named_parameters()}

    before, modules = state(), [id(module) for module in base.model.modules()]
    with suppress(ZeroDivisionError), lent(base, members_of(2, dropout=0.5)):
        assert state() != before
        base.model.train()
        raise ZeroDivisionError
    assert state() == before
    assert [id(module) for module in base.model.modules()] == modules
    assert not base.model.training
    assert all(getattr(m, "attention_dropout", 0.0) == 0.0 for m in base.model.modules())


def test_the_global_random_state_is_left_as_it_was(base: Base, task: Task) -> None:
    before = torch.get_rng_state()
    together(base, task, members_of(2, dropout=0.1), steps=2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def gpt2(tmp_path: Path) -> Base:
    """Another architecture: Conv1D instead of Linear, dropout in many places."""
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 128, "vocab_size": 1024}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPT2LMHeadModel(GPT2Config(**shape, attn_pdrop=0.1)).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MODEL / name, tmp_path)
    return Base(tmp_path)


def test_another_architecture_is_served_with_all_its_dropout(gpt2: Base, task: Task) -> None:
    assert_as_alone(gpt2, task, members_of(3, dropout=0.2))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_base_kept_in_bfloat16_has_members_that_follow_their_solo_runs(
    task: Task, precision: str
) -> None:
    base, members = Base(MODEL, "bfloat16"), members_of(2, precision=precision)
    reports, _ = together(base, task, members)
    for member, report in zip(members, reports, strict=True):
        assert isinstance(report, TrainingReport)
        expected, _ = alone(base, task, member)
        assert report.learning_curve[-1][1] == pytest.approx(
            expected.learning_curve[-1][1], abs=0.03
        )


def test_only_lora_recipes_of_one_shape_fit_one_bucket() -> None:
    assert fits(recipe_of(0)) == fits(recipe_of(5, dropout=0.5)) is not None
    assert fits(recipe_of(0)) != fits(recipe_of(0, batch_size=3))
    assert fits(recipe_of(0)) != fits(recipe_of(0, sequence_length=17))
    assert fits(recipe_of(0)) != fits(recipe_of(0, precision="bfloat16"))
    assert fits(recipe_of(0)) != fits(recipe_of(0, lora_layers=1))
    assert fits(recipe_of(0)) != fits(recipe_of(0, lora_targets="all"))
    assert fits(recipe_of(0, adapter="none")) is None


def test_a_field_that_nobody_has_thought_about_trains_alone() -> None:
    class Newer(Recipe):
        novelty: str = "usual"

    values = recipe_of(0).model_dump()
    assert fits(Newer(**values)) == fits(recipe_of(0))
    assert fits(Newer(**values, novelty="unusual")) is None


def test_rows_that_cannot_be_told_apart_are_refused(base: Base) -> None:
    with lent(base, members_of(2)) as bucket:
        with pytest.raises(InputError, match="3 rows does not divide among 2 members"):
            base.model(input_ids=torch.zeros((3, 4), dtype=torch.int64))
        name, some = next(iter(bucket.modules)), torch.zeros((5, 96))
        with pytest.raises(InputError, match="in a batch of 3 rows"):
            bucket.update(name, some, some, training=False)


PROMPTS = ["abbrev: n. ", "bug: n. ", "hack: v. To ", "a"]


@pytest.mark.parametrize("how", [{}, {"temperature": 0.9, "top_p": 0.95}, {"num_beams": 3}])
def test_a_bucket_writes_what_each_member_would_write_alone(
    base: Base, task: Task, how: dict[str, Any]
) -> None:
    settings: dict[str, Any] = {"max_new_tokens": 12, **how}
    members = [
        Member(recipe_of(n, learning_rate=0.02, clip_norm=0.0, weight_decay=0.0), seed=n)
        for n in range(3)
    ]
    with lent(base, members) as bucket:
        training.finetune(bucket, [stream(task, m, STEPS) for m in members], steps=STEPS)
        adapters = [bucket.adapter(place) for place in range(3)]
        together = generate_each(base.model, base.tokenizer, PROMPTS, seeds=[0, 0, 7], **settings)
    assert len({tuple(answers) for answers in together}) == 3
    for member, adapter, seed, answers in zip(members, adapters, [0, 0, 7], together, strict=True):
        with base.prepared(member.recipe, seed=member.seed) as model:
            load(model, adapter)
            alone = generate(model, base.tokenizer, PROMPTS, seed=seed, **settings)
        assert answers == alone


def test_a_bucket_grows_for_as_long_as_that_is_measured_to_pay(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    def costing(**seconds: float) -> int:
        asked = {int(name[1:]): value for name, value in seconds.items()}
        monkeypatch.setattr(size, "step_seconds", lambda b, r, size, steps: asked[size])
        return size.fastest(base, recipe_of(0))

    assert costing(p0=1.0, p2=0.95) == 1
    assert costing(p0=1.0, p2=0.8, p4=0.75) == 2
    assert costing(p0=1.0, p2=0.8, p4=0.6, p8=0.5) == 8


def test_a_step_is_measured_alone_and_in_a_bucket(base: Base) -> None:
    assert size.step_seconds(base, recipe_of(0), 0, steps=1) > 0
    assert size.step_seconds(base, recipe_of(0), 2, steps=1) > 0
