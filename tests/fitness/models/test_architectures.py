"""Real architectures, tiny: a base comes back to the bit, losses do not depend on the packing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from fitness.buckets import training
from fitness.buckets.lora import Member, lent
from fitness.data.records import Records
from fitness.data.sources import TokenFile
from fitness.evaluate.held_out import held_out_loss
from fitness.mixture.decks import RecordDeck, Windows
from fitness.mixture.mixing import Batch, Mixing
from fitness.models import weights
from fitness.models.base import Base
from fitness.training.accumulation import parts
from fitness.training.supervised import cross_entropy as loss_of
from fitness.training.supervised import finetune
from tests.fitness.models.architectures import KINDS, LEAKING, saved
from tests.fitness.models.test_base import assert_same, state
from tests.fitness.quickstart import small_recipe

FAST = ("llama", "gpt2", "opt", "mamba", "mixtral", "glm4_moe")
ROWS, LENGTH = 4, 24
CHANGES: tuple[dict[str, Any], ...] = (
    {"adapter": "lora"},
    {},
    {"adapter": "dora", "dropout": 0.1},
    {"adapter": "lora", "lora_targets": "attention"},
)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("architectures")


def random_batches(count: int = 2, seed: int = 0) -> Iterator[Batch]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        tokens = rng.integers(2, 1000, (ROWS, LENGTH))
        yield Batch(tokens, tokens, tokens=tokens.size)


def records() -> Records:
    """Records of 4 to 30 tokens, of which sequences of 64 hold several."""
    rng = np.random.default_rng(3)
    lengths = rng.integers(4, 30, 12)
    ends = np.cumsum(lengths)
    begins = ends - lengths
    index = np.stack([begins, begins + lengths // 3, ends, np.ones_like(ends)], axis=1)
    return Records("completion", rng.integers(2, 1000, ends[-1]).astype(np.uint16), index)


class Held(TokenFile):
    """A file of records that are in memory."""

    def open(self) -> Records:
        return records()


HELD = Held("own", "", 0, 0, 0, "<u2", "", "completion")


def alone(model: Any) -> tuple[float, int]:
    """The summed cross-entropy of each record's answer by itself, by transformers alone."""
    total, count, every = 0.0, 0, records()
    for row in range(len(every.index)):
        prompt, answer = every.prompt(row), every.answer(row)
        ids = torch.from_numpy(np.concatenate([prompt, answer]).astype(np.int64))[None]
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, :-1].float()
        own = slice(max(len(prompt), 1) - 1, None)
        total += cross_entropy(logits[own], ids[0, 1:][own], reduction="sum").item()
        count += len(answer)
    return total, count


@pytest.mark.parametrize(
    "kind",
    [kind if kind in FAST else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS],
)
def test_a_base_comes_back_to_the_bit_and_its_records_never_meet(kind: str, folders: Path) -> None:
    base = Base(saved(kind, folders))
    assert base.probe.packs == (kind not in LEAKING)
    total, count = alone(base.model)
    found = held_out_loss(base.model, HELD, 64, None, base.probe.packs)
    assert found == pytest.approx(total / count, abs=1e-5)
    if kind in LEAKING:  # what it was before
        assert abs(held_out_loss(base.model, HELD, 64) - total / count) > 1e-4
    before = state(base.model)
    for changes in CHANGES:
        if kind in ("mamba", "glm4_moe") and changes.get("lora_targets"):
            continue  # no attention; and one more of the same
        recipe = small_recipe(batch_size=ROWS, sequence_length=LENGTH, **changes)
        with base.prepared(recipe, seed=0) as model:
            trained = {n: w for n, w in model.named_parameters() if w.requires_grad}
            finetune(model, recipe, random_batches(), steps=2, seed=0)
            assert all(w.any() for n, w in trained.items() if "lora_B" in n)
        assert_same(dict(before), state(base.model))


@pytest.mark.parametrize("kind", ["glm4_moe", "opt"])
def test_an_exported_adapter_is_the_individual_that_was_measured(
    kind: str, folders: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    base, ids = Base(saved(kind, folders)), torch.arange(40).reshape(2, 20)
    recipe = small_recipe(adapter="lora", batch_size=ROWS, learning_rate=0.02)
    with torch.no_grad():
        plain = base.model(input_ids=ids).logits
        with base.prepared(recipe, seed=0) as model, torch.enable_grad():
            finetune(model, recipe, random_batches(), steps=2, seed=0)
            with torch.no_grad():
                wanted = model(input_ids=ids).logits
            weights.keep(model, tmp_path / "adapter")
        weights.assemble(base.folder, tmp_path / "adapter", tmp_path / "whole")
        found = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")(input_ids=ids).logits
    change = (wanted - plain).abs().max()
    assert change > 0.01
    assert (found - wanted).abs().max() < 1e-3 * change


@pytest.mark.parametrize("kind", ["qwen3", "mixtral", "glm4_moe", "bloom"])
def test_a_bucket_trains_the_adapters_of_other_architectures_as_alone(
    kind: str, folders: Path
) -> None:
    base = Base(saved(kind, folders))
    before = state(base.model)
    recipe = small_recipe(adapter="lora", batch_size=ROWS)
    members = [Member(recipe, seed) for seed in (1, 2)]
    with lent(base, members) as bucket:
        training.finetune(bucket, [list(random_batches(seed=s)) for s in (1, 2)], steps=2)
        together = [bucket.adapter(place) for place in (0, 1)]
    assert_same(dict(before), state(base.model))
    for seed, adapter in zip((1, 2), together, strict=True):
        with base.prepared(recipe, seed=seed) as model:
            finetune(model, recipe, random_batches(seed=seed), steps=2, seed=seed)
            for name, (a, b) in adapter.items():
                module = model.base_model.model.get_submodule(name)
                torch.testing.assert_close(a, module.lora_A["default"].weight, atol=1e-4, rtol=0)
                torch.testing.assert_close(b, module.lora_B["default"].weight, atol=1e-4, rtol=0)


@pytest.mark.parametrize("isolated", [False, True])
def test_documents_apart_teach_what_packed_ones_do(folders: Path, isolated: bool) -> None:
    """Held by an architecture that can do both: the same loss, and gradients, of every batch."""
    base = Base(saved("llama", folders))
    tokens = np.random.default_rng(0).integers(2, 1000, 2000).astype(np.uint16)
    tokens[::17] = 0  # ends a document
    deck = Windows(tokens, 64, separator=0) if isolated else RecordDeck(records(), "learn", 64)
    losses: dict[bool, list[float]] = {}
    for packs in (True, False):
        mixing = Mixing(
            {"own": 1.0},
            {"own": deck},
            budget_tokens=8 * 64,
            sequence_length=64,
            seed=0,
            packs=packs,
        )
        batches = list(mixing.batches(4))
        assert [batch.tokens for batch in batches] == [256, 256]
        assert all((batch.position_ids is None) != packs for batch in batches)
        losses[packs] = []
        for batch in batches:
            if isolated:  # whose first tokens stand behind nothing once they are apart
                ends = np.roll(batch.position_ids == 0, 0, axis=1) if packs else None
                labels = batch.labels if ends is None else np.where(ends, -100, batch.labels)
                batch = batch._replace(labels=labels)
            assert batch.rows_drawn == 4
            told = [(loss_of(base.model, part, 0), share) for part, share in parts(batch, 3)]
            losses[packs].append(sum(share * loss.item() for loss, share in told))
    assert losses[False] == pytest.approx(losses[True], abs=1e-5)


def test_what_changed_in_place_is_loaded_again(folders: Path) -> None:
    base = Base(saved("llama", folders))
    model, before = base.model, state(base.model)
    with base.prepared(small_recipe(adapter="lora"), seed=0):
        pass
    assert base.model is model
    with base.prepared(small_recipe(adapter="lora"), seed=0) as lent_model:
        weight = next(iter(lent_model.parameters()))
        weight.data[3, 5] += 1e-3  # past torch's counter of versions
    assert base.model is not model
    after = state(base.model)
    assert all(torch.equal(before["weights"][n], after["weights"][n]) for n in after["weights"])
    assert torch.equal(before["logits"], after["logits"])


def test_weights_that_an_architecture_freezes_stay_frozen(folders: Path) -> None:
    base = Base(saved("llama", folders))
    base.model.model.norm.weight.requires_grad_(False)
    base._record = type(base._record)(base.model)
    for changes in ({"adapter": "lora"}, {}):
        with base.prepared(small_recipe(**changes), seed=0):
            pass
        assert not base.model.model.norm.weight.requires_grad
