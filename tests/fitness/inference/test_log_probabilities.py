"""Cross-entropy from a part of the logits at a time is that of all of them at once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fitness.inference import log_probabilities
from fitness.inference.log_probabilities import large_head, sequences_at_once, token_losses
from fitness.mixture.decks import NO_LABEL
from fitness.mixture.mixing import Batch, Rows
from fitness.models.base import Base
from fitness.models.heads import last_head
from fitness.training.supervised import cross_entropy, precise
from tests.fitness.models.architectures import KINDS, saved
from tests.fitness.quickstart import MODEL, small_recipe

CAPPED = {"gemma2"}  # its logits are more than the output of a linear head
RECIPES: tuple[dict[str, Any], ...] = (
    {"adapter": "none"},
    {"adapter": "lora"},
    {"adapter": "lora", "precision": "bfloat16"},
)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("architectures")


def rows() -> Rows:
    """Three rows of 20 tokens, a third of them not learned, one row not at all."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(2, 1000, (3, 20))
    labels = np.where(rng.random((3, 20)) < 0.3, NO_LABEL, tokens)
    labels[1] = NO_LABEL
    return Rows(tokens, labels)


def derived(model: Any, recipe: Any) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Losses by token, their mean, and its gradients by all that is trained."""
    model.train()
    with precise(torch.device("cpu"), recipe):
        each, mean = token_losses(model, rows()), cross_entropy(model, Batch(*rows()), 0)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    found = torch.autograd.grad(mean + each[0].sum(), trained, allow_unused=True)
    return each.detach(), mean.detach(), [one for one in found if one is not None]


@pytest.mark.parametrize("changes", RECIPES)
def test_a_part_of_the_logits_at_a_time_gives_the_same_losses_and_gradients(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, recipe = Base(MODEL), small_recipe(**changes)
    with base.prepared(recipe, seed=0) as model:
        assert large_head(model, rows()) is None
        each, mean, gradients = derived(model, recipe)
        monkeypatch.setattr(log_probabilities, "LOGITS_AT_ONCE", 7 * 1024)
        head, sizes = large_head(model, rows()), []
        assert head is not None
        with head.register_forward_hook(lambda *call: sizes.append(call[2].shape)):
            one_by_one, theirs, slopes = derived(model, recipe)
    sizes = [size for size in sizes if len(size) == 2]
    assert max(rows for rows, _ in sizes) == 7, "and never more than that"
    assert one_by_one.dtype == theirs.dtype == torch.float32
    assert (each[1] == 0).all()
    scale = 1e-5 if recipe.precision == "float32" else 1e-3  # sums in another order, then rounded
    torch.testing.assert_close(one_by_one, each, rtol=scale, atol=scale)
    torch.testing.assert_close(theirs, mean, rtol=scale, atol=scale)
    for own, other in zip(gradients, slopes, strict=True):
        torch.testing.assert_close(other, own, rtol=scale, atol=scale * float(own.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_head_that_comes_last_is_applied_in_parts(
    kind: str, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Base(saved(kind, folders))
    assert (last_head(base.model) is None) == (kind in CAPPED)
    with torch.no_grad():
        at_once = token_losses(base.model, rows())
        monkeypatch.setattr(log_probabilities, "LOGITS_AT_ONCE", 8 * 1024)
        torch.testing.assert_close(token_losses(base.model, rows()), at_once)
    assert sequences_at_once(base.model, 4) == (2 if kind in CAPPED else 1024)


def test_the_head_is_whole_again_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    base = Base(MODEL)
    monkeypatch.setattr(log_probabilities, "LOGITS_AT_ONCE", 8 * 1024)
    wrong = rows()._replace(input_ids=np.full((3, 20), 10**6))
    with pytest.raises(IndexError):
        token_losses(base.model, wrong)
    with torch.no_grad():
        logits = base.model(input_ids=torch.arange(6)[None]).logits
    assert logits.shape == (1, 6, 1024)


def test_rows_without_a_label_have_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_probabilities, "LOGITS_AT_ONCE", 8 * 1024)
    tokens = np.full((1, 20), 5)
    found = token_losses(Base(MODEL).model, Rows(tokens, np.full_like(tokens, NO_LABEL)))
    assert found.shape == (1, 19)
    assert not found.any()
