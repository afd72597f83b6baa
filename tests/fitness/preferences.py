"""Draws of comparisons and ratings, and their own losses under a model that has moved."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fitness.mixture.decks import Draw
from fitness.models.base import Base
from fitness.recipe import Recipe
from fitness.training.preference import preference_loss
from fitness.training.reference import Reference
from tests.fitness.records import deck

LENGTH = 64
CASES = Path(__file__).parents[1] / "cases" / "answers"
EMPTY = (np.empty((0, 0), dtype=np.int64), np.empty((0, 0), dtype=np.int64), None)


def draws(records: list[dict[str, Any]], kind: Any, folder: Path, count: int) -> list[Draw]:
    found = deck(records, kind, folder, method="preference", sequence_length=LENGTH)
    return [found.draw("own", number, LENGTH) for number in range(count)]


def shaken(model: Any) -> None:
    """Away from the base, so that no ratio is 1."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.02 * torch.randn_like(weight))


def own_loss(base: Base, found: list[Draw], **changes: Any) -> float:
    recipe = Recipe(method="preference", sequence_length=LENGTH, **changes)
    with base.prepared(recipe, seed=0) as model, torch.no_grad():
        shaken(model)
        return float(preference_loss(model, found, recipe, Reference(base)))


def case(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CASES / name).read_text().splitlines()]
