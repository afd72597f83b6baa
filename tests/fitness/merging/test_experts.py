"""Sums of experts: exact, for all weights and for adapters, at any shares, one after the other."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fitness.merging import lineage
from fitness.merging.experts import Experts
from fitness.models.base import Base
from tests.fitness.merging.test_lineage import logits, trained
from tests.fitness.merging.test_merge import close, dense
from tests.fitness.quickstart import small_recipe

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
SOURCES = ("a", "b", "c")
MIXTURES = ({"a": 0.2, "b": 0.3, "c": 0.5}, {"b": 1.0}, {"a": 0.9, "c": 0.1})
KINDS: dict[str, dict[str, Any]] = {
    "all": {"adapter": "none"},
    "lora": {"adapter": "lora", "lora_rank": 2, "lora_alpha": 8.0},
    "rank stabilised": {"adapter": "lora", "lora_rank": 3, "lora_scaling": "rank_stabilised"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_mixture_is_the_sum_of_the_changes_by_its_shares(
    base: Base, tmp_path: Path, kind: str
) -> None:
    before, settings = logits(base.model), KINDS[kind]
    alone = {
        name: trained(base, tmp_path / name, seed, **settings)
        for seed, name in enumerate(SOURCES, 1)
    }
    folders = {name: tmp_path / name for name in SOURCES}
    experts = Experts.of(base, small_recipe(**settings), folders)
    changes = {name: dense(base, lineage.read(folder)) for name, folder in folders.items()}
    for shares in MIXTURES:
        wanted: dict[str, Any] = {
            name: sum(share * changes[source][name] for source, share in shares.items())
            for name in changes["a"]
        }
        close(dense(base, experts.mixed(shares)), wanted)
    with base.prepared(experts.recipe, seed=9) as model:
        for name in SOURCES:  # nothing is left of the mixture before
            lineage.begin(model, experts.mixed(MIXTURES[0]))
            lineage.begin(model, experts.mixed({name: 1.0}))
            torch.testing.assert_close(logits(model), alone[name], atol=1e-4, rtol=1e-4)
    assert torch.equal(logits(base.model), before)
