import json
from pathlib import Path

import pytest

from evo import config as configuration
from evo.config import Constraint, Objective, load
from fitness.recipe import Recipe
from population.space import Choice, Simplex
from tests.evo.config.conftest import edited, errors_of


def test_genes_are_the_ones_of_the_search_space(spec: Path) -> None:
    space = configuration.space(load(spec))
    assert list(space.genes) == ["mixture", "learning_rate", "decay"]
    assert isinstance(space.genes["decay"], Choice)


def test_a_mixture_is_over_all_sources_unless_it_says_otherwise(spec: Path) -> None:
    sources = ("jargon", "devil", "wordnet")
    assert load(spec).genome["mixture"] == Simplex(sources)
    config = load(spec, ["genome.mixture.over=[devil, jargon]"])
    assert config.genome["mixture"] == Simplex(("devil", "jargon"))


def test_genes_start_at_the_recipe_or_else_in_the_middle(spec: Path) -> None:
    config = load(spec, ["recipe.learning_rate=5"])  # outside its gene, and taken as given
    assert configuration.default_genome(config) == {
        "mixture": dict.fromkeys(("jargon", "devil", "wordnet"), pytest.approx(1 / 3)),
        "learning_rate": 5,
        "decay": "linear",
    }


def test_an_inactive_gene_is_not_in_the_default_genome(spec: Path) -> None:
    config = load(
        spec, ["genome.warmup_share={type: float, low: 0, high: 1, when: {decay: cosine}}"]
    )
    assert "warmup_share" not in configuration.default_genome(config)
    config = load(
        spec,
        [
            "genome.warmup_share={type: float, low: 0, high: 1, when: {decay: cosine}}",
            "recipe.decay=cosine",
            "recipe.warmup_share=0.3",
        ],
    )
    assert configuration.default_genome(config)["warmup_share"] == 0.3


def test_baselines_differ_in_the_mixture_alone(spec: Path) -> None:
    config = load(
        spec,
        [
            "recipe.mixture={jargon: 0.75, devil: 0.25}",
            "baselines=[only devil, proportional, uniform]",
        ],
    )
    tokens = {"jargon": 10, "devil": 30, "wordnet": 60}
    found = configuration.baselines(config, tokens)
    assert [(name, genome["mixture"]) for name, genome in found] == [
        ("default", {"jargon": 0.75, "devil": 0.25, "wordnet": 0.0}),
        ("only devil", {"jargon": 0.0, "devil": 1.0, "wordnet": 0.0}),
        ("proportional", {"jargon": 0.1, "devil": 0.3, "wordnet": 0.6}),
        ("uniform", dict.fromkeys(tokens, pytest.approx(1 / 3))),
    ]
    assert {json.dumps({**genome, "mixture": 0}) for _, genome in found} == {
        '{"mixture": 0, "learning_rate": 0.001, "decay": "linear"}'
    }


def test_with_one_source_the_mixture_is_trivial(spec: Path) -> None:
    one = ["sources={jargon: {path: x}}"]
    config = load(spec, one)
    assert [name for name, _ in configuration.baselines(config, {"jargon": 1})] == ["default"]
    edited(spec, "  mixture: {type: simplex}\n", "")
    assert load(spec, one).recipe["mixture"] == {"jargon": 1.0}


def test_several_sources_without_a_mixture_are_refused(spec: Path) -> None:
    edited(spec, "  mixture: {type: simplex}\n", "")
    assert errors_of(spec)[0].startswith(":14: recipe.mixture: missing; there are 3 sources")
    config = load(spec, ["recipe.mixture={jargon: 0.5, devil: 0.5}"])
    names = [name for name, _ in configuration.baselines(config, dict.fromkeys(config.sources, 1))]
    assert names == ["default", "uniform", "proportional"]


def test_decoding_gives_every_field_of_the_recipe(spec: Path) -> None:
    config = load(spec)
    genome = configuration.default_genome(config) | {"learning_rate": 0.005}
    recipe = configuration.decode(config, genome)
    assert recipe.keys() == Recipe.model_fields.keys()
    assert (recipe["learning_rate"], recipe["batch_size"], recipe["decay"]) == (0.005, 8, "linear")


def test_the_resolved_recipe_says_all_that_no_gene_decides(spec: Path) -> None:
    recipe = load(spec).recipe
    assert recipe["clip_norm"] == Recipe().clip_norm
    assert recipe.keys() == Recipe.model_fields.keys() - {"mixture", "decay"}


def test_the_largest_value_of_a_field_is_known(spec: Path) -> None:
    config = load(spec, ["genome.sequence_length={type: choice, options: [32, 64]}"])
    assert configuration.largest(config, "sequence_length") == 64
    assert configuration.largest(config, "learning_rate") == 1e-2
    assert configuration.largest(config, "batch_size") == 8
    assert configuration.largest(config, "clip_norm") == Recipe().clip_norm


def test_losses_are_oriented_and_violations_summed(spec: Path) -> None:
    config = load(spec, ["constraints=[general/loss <= 2, quiz/chrf >= 40]"])
    good = {"target/loss": 4.5, "quiz/chrf": 50.0, "general/loss": 2.0}
    assert configuration.objectives(config)[1] == Objective("quiz/chrf", -1)
    assert configuration.losses(config, good) == (4.5, -50.0)
    assert configuration.violation(config, good) == 0
    assert configuration.feasible(config, good)
    bad = good | {"quiz/chrf": 30.0, "general/loss": 3.0}
    assert configuration.violation(config, bad) == pytest.approx(0.5 + 0.25)
    assert not configuration.feasible(config, bad)
    with pytest.raises(KeyError):
        configuration.losses(config, {"target/loss": 1.0})


def test_a_constraint_may_be_relative_to_the_untouched_base(spec: Path) -> None:
    config = load(spec, ["constraints=[general/loss <= 1.02 * base, quiz/chrf >= base*0.5]"])
    base = {"target/loss": 4.0, "quiz/chrf": 40.0, "general/loss": 3.0}
    limits = configuration.constraints(config, base)
    assert [limit.limit for limit in limits] == [pytest.approx(3.06), 20.0]
    assert list(map(str, limits)) == [
        "general/loss <= 3.06 (1.02 * base)",
        "quiz/chrf >= 20 (0.5 * base)",
    ]
    assert configuration.feasible(config, base, base)
    met = {"general/loss": 3.05, "quiz/chrf": 20.5}
    assert configuration.violation(config, met, base) == 0
    broken = {"general/loss": 3.06 * 1.1, "quiz/chrf": 15.0}
    assert configuration.violation(config, broken, base) == pytest.approx(0.1 + 0.25)
    assert not configuration.feasible(config, met)  # as long as the base was not measured
    assert str(configuration.constraints(config)[0]) == "general/loss <= 1.02 * base"


@pytest.mark.parametrize("text", ["x <= base", "x <= 1*base", "x<=base * 1.0", "x <= 1e0 *base"])
def test_the_base_times_a_number_can_be_written_either_way(text: str) -> None:
    assert Constraint.parse(text).against({"x": 2.5}).limit == 2.5


def test_constraints_parse_with_any_spacing() -> None:
    assert Constraint.parse(" a b/loss<=-1e-3 ") == Constraint("a b/loss", 1, -0.001)
    assert Constraint.parse("x >= 0").excess({"x": -1e-9}) == pytest.approx(1.0)
    for text in (
        "",
        "a <=",
        "<= 3",
        "a <= b",
        "a <= nan",
        "a == 3",
        "a <= 1 <= 2",
        "a <= base * base",
        "a <= 2 base",
        "a <= nan * base",
        "a <= base + 1",
    ):
        with pytest.raises(ValueError, match="write for example"):
            Constraint.parse(text)
