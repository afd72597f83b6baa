"""The field's own words for the names of a spec are understood in its errors."""

from typing import get_args

import pytest

from evo.config.aggregates import Combination
from evo.config.budget import Budget, Resources
from evo.config.file import nearest
from evo.config.synonyms import SYNONYMS
from fitness.data.documents import Kind, Source
from fitness.models.heads import ModelTask
from fitness.recipe import Method, Recipe
from population.strategies import STRATEGIES

KINDS = get_args(Kind)


@pytest.mark.parametrize(
    ("word", "known", "name"),
    [
        ("dpo", KINDS, "preference"),
        ("DPO", KINDS, "preference"),
        ("kto", KINDS, "rating"),
        ("sft", KINDS, "completion"),
        ("sft", ("supervised", "preference", "reinforce"), "supervised"),
        ("grpo", ("supervised", "preference", "reinforce"), "reinforce"),
        ("grpo", KINDS, "prompt"),
        ("tpe", (*STRATEGIES, "optuna:tpe"), "optuna:tpe"),
        ("genetic", STRATEGIES, "nsga2"),
        ("lr", tuple(Recipe.model_fields), "learning_rate"),
        ("average", tuple(Combination.model_fields), "mean"),
        ("preferance", KINDS, "preference"),
        ("elephant", KINDS, None),
    ],
)
def test_a_word_of_the_field_is_told_the_name_it_has_here(
    word: str, known: tuple[str, ...], name: str | None
) -> None:
    assert nearest(word, known) == name


def test_every_name_that_a_word_stands_for_exists() -> None:
    models = (Recipe, Budget, Resources, Source)
    fields = [name for model in models for name in model.model_fields]
    options = [
        *get_args(Method),
        *get_args(ModelTask),
        *get_args(Recipe.model_fields["adapter"].annotation),
        *get_args(Recipe.model_fields["precision"].annotation),
        *get_args(Recipe.model_fields["optimizer"].annotation),
    ]
    assert {name for names in SYNONYMS.values() for name in names} <= {
        *KINDS,
        *STRATEGIES,
        *fields,
        *options,
        *Combination.model_fields,
    }
