import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy.stats import norm

from population.genes import Prior
from population.logratio import Coordinates
from population.space import Choice, Float, Gene, Int, SearchSpace, Simplex

WITH_RANK: Any = {"adapter": ["lora", "dora"]}  # a list, as YAML gives it
SPACE = SearchSpace(
    {
        "lora_rank": Int(1, 64, log=True, when=WITH_RANK),
        "scaling": Choice(("plain", "stable"), when={"lora_rank": (8, 16), "adapter": "lora"}),
        "adapter": Choice(("none", "lora", "dora")),
        "mixture": Simplex(("a", "b", "c"), floor={"a": 0.1}, cap=0.7),
        "learning_rate": Float(1e-5, 1e-1, log=True),
        "warmup": Float(0.0, 0.5),
        "batch_size": Int(-3, 9),
    }
)
seeds = st.integers(0, 2**32 - 1)
genomes = seeds.map(lambda seed: SPACE.sample(np.random.default_rng(seed)))
wild = st.fixed_dictionaries(
    {},
    optional={
        "lora_rank": st.floats(-1e6, 1e6),
        "scaling": st.sampled_from(["plain", "stable", "other"]),
        "adapter": st.sampled_from(["none", "lora", "dora", "unheard of"]),
        "mixture": st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.floats(-2, 50)),
        "learning_rate": st.floats(-1, 1e9),
        "warmup": st.integers(-3, 3),
        "batch_size": st.integers(-100, 100),
        "stranger": st.text(max_size=3),
    },
)


def is_valid(genome):
    mixture = genome["mixture"]
    return (
        list(genome) == [name for name in SPACE.genes if name in genome]
        and ("lora_rank" in genome) == (genome["adapter"] != "none")
        and ("scaling" in genome)
        == (genome["adapter"] == "lora" and genome["lora_rank"] in (8, 16))
        and abs(sum(mixture.values()) - 1) <= 1e-12
        and mixture["a"] >= 0.1
        and max(mixture.values()) <= 0.7
        and 1e-5 <= genome["learning_rate"] <= 1e-1
        and type(genome["batch_size"]) is int
        and json.loads(json.dumps(genome)) == genome
    )


@given(genomes)
def test_samples_are_valid_and_repair_leaves_them_alone(genome):
    assert is_valid(genome)
    assert SPACE.repair(genome) == genome


@given(wild)
def test_repair_makes_anything_valid_and_changes_nothing_the_second_time(genome):
    repaired = SPACE.repair(genome)
    assert is_valid(repaired)
    assert SPACE.repair(repaired) == repaired


@given(genomes)
def test_decode_undoes_encode(genome):
    coordinates = SPACE.encode(genome)
    assert coordinates.shape == (SPACE.n_coordinates,)
    assert ((coordinates >= 0) & (coordinates <= 1)).all()
    decoded = SPACE.decode(coordinates)
    assert SPACE.encode(decoded) == pytest.approx(coordinates, abs=1e-7)
    assert decoded.pop("mixture") == pytest.approx(genome["mixture"], abs=1e-12)
    assert decoded == pytest.approx({k: v for k, v in genome.items() if k != "mixture"})


@given(st.lists(st.floats(-5, 5), min_size=SPACE.n_coordinates, max_size=SPACE.n_coordinates))
def test_any_coordinates_decode_to_a_valid_genome(coordinates):
    assert is_valid(SPACE.decode(np.array(coordinates)))


@given(genomes, genomes)
def test_distance_is_symmetric_and_zero_only_for_equals(a, b):
    assert SPACE.distance(a, b) == SPACE.distance(b, a)
    assert SPACE.distance(a, a) == 0
    assert (SPACE.distance(a, b) < 1e-9) == (SPACE.key(a) == SPACE.key(b))


def test_each_gene_adds_at_most_one_to_the_squared_distance_and_inactive_genes_nothing():
    space = SearchSpace(
        {
            "m": Simplex(("a", "b")),
            "x": Float(1, 100, log=True),
            "c": Choice(("p", "q")),
            "y": Int(0, 4, when={"c": "q"}),
        }
    )
    a = {"m": {"a": 1.0, "b": 0.0}, "x": 1.0, "c": "p"}
    assert space.distance(a, a | {"x": 10.0}) == pytest.approx(0.5)
    assert space.distance(a, a | {"m": {"a": 0.0, "b": 1.0}}) == pytest.approx(1.0)
    assert space.distance(a, a | {"c": "q", "y": 3}) == pytest.approx(1.0)
    assert space.distance(a, a | {"y": 4}) == 0
    assert space.distance(a | {"c": "q", "y": 0}, a | {"c": "q", "y": 1}) == pytest.approx(0.25)


@given(genomes, seeds)
def test_the_key_ignores_inactive_genes_order_absent_sources_and_the_thirteenth_digit(genome, seed):
    key = SPACE.key(genome)
    rng = np.random.default_rng(seed)
    names = list(genome)
    shuffled = {names[i]: genome[names[i]] for i in rng.permutation(len(names))}
    assert SPACE.key(shuffled) == key
    if genome["adapter"] == "none":
        assert SPACE.key(genome | {"lora_rank": 8, "scaling": "plain"}) == key
    mixture = genome["mixture"]
    assert SPACE.key(genome | {"mixture": {n: s for n, s in mixture.items() if s}}) == key
    assert SPACE.key(genome | {"batch_size": float(genome["batch_size"])}) == key
    assert SPACE.key(genome | {"warmup": genome["warmup"] + 0.01}) != key
    assert SPACE.key(genome | {"learning_rate": genome["learning_rate"] * 1.001}) != key


def test_the_key_rounds_to_twelve_digits():
    assert SPACE.key({"warmup": 0.1 + 0.2}) == SPACE.key({"warmup": 0.3})
    assert SPACE.key({"mixture": {"a": 1.0, "b": 1e-17}}) == SPACE.key({"mixture": {"a": 1}})


def test_missing_genes_are_filled_with_the_middle_of_their_range():
    filled = SPACE.repair({"adapter": "lora"})
    assert filled["learning_rate"] == pytest.approx(1e-3)
    assert (filled["lora_rank"], filled["batch_size"], filled["scaling"]) == (8, 3, "plain")
    assert filled["mixture"] == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})


def test_a_mixture_of_one_source_is_that_source():
    space = SearchSpace({"m": Simplex(("only",))})
    assert space.sample(np.random.default_rng(0)) == {"m": {"only": 1.0}}
    assert space.decode(np.array([0.0])) == {"m": {"only": 1.0}}


def test_whole_numbers_are_drawn_evenly_also_at_their_bounds():
    for gene in (Int(1, 4), Int(1, 4, log=True)):
        rng = np.random.default_rng(0)
        counts = np.bincount([gene.draw(rng) for _ in range(2000)], minlength=5)[1:]
        widths = np.diff(np.log([0.5, 1.5, 2.5, 3.5, 4.5])) if gene.log else np.ones(4)
        assert counts / 2000 == pytest.approx(widths / widths.sum(), abs=0.04)


@pytest.mark.parametrize("name", ["learning_rate", "batch_size", "mixture"])
def test_a_value_of_the_wrong_kind_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f"gene '{name}'"):
        SPACE.repair({name: "much"})
    with pytest.raises(ValueError, match="coordinates"):
        SPACE.decode(np.zeros(3))


@pytest.mark.parametrize(
    ("gene", "says"),
    [
        ({"type": "float", "low": 2, "high": 1}, r"low must be below high, got low=2.*swap"),
        ({"type": "float", "low": 2, "high": 2}, r"both are 2.*`recipe`"),
        ({"type": "float", "low": 0, "high": 1, "log": True}, r"above 0, got low=0.*drop log"),
        ({"type": "float", "low": 0, "high": float("inf")}, "finite"),
        ({"type": "float", "low": 0, "high": 1, "logg": True}, "logg"),
        ({"type": "int", "low": 0.5, "high": 3}, r"must be whole, got 0\.5.*float gene"),
        ({"type": "int", "low": 3, "high": 1}, "swap"),
        ({"type": "int", "low": 0, "high": 9, "log": True}, "above 0"),
        ({"type": "choice", "options": []}, "at least one value"),
        ({"type": "choice", "options": ["a", "b", "a"]}, "'a' is there twice"),
        ({"type": "simplex", "over": ["a", "b"], "floor": 0.6}, r"sum to at most 1, got 1\.2"),
        ({"type": "simplex", "over": ["a", "b"], "cap": 0.4}, r"sum to at least 1, got 0\.8"),
        ({"type": "simplex", "over": ["a"], "cap": 0.4}, r"sum to at least 1, got 0\.4"),
        (
            {"type": "simplex", "over": ["a", "b"], "floor": {"a": 0.5}, "cap": {"a": 0.3}},
            "above cap",
        ),
        ({"type": "simplex", "over": ["a", "b"], "floor": {"x": 0.5}}, "floor of 'x'.*over a, b"),
        ({"type": "simplex", "over": ["a", "b"], "cap": {"x": 0.5}}, "cap of 'x'"),
        ({"type": "simplex", "over": ["a", "b"], "floor": -0.1}, "from 0 to 1, got -0.1"),
        ({"type": "simplex", "over": ["a", "a"]}, "'a' is there twice"),
        ({"type": "simplexx"}, "simplexx"),
    ],
)
def test_a_gene_that_makes_no_sense_says_what_and_why(gene, says):
    with pytest.raises(ValidationError, match=says):
        TypeAdapter(Gene).validate_python(gene)


def test_genes_survive_json_and_can_be_filled_in_later():
    adapter = TypeAdapter(dict[str, Gene])
    genes = adapter.validate_json(adapter.dump_json(dict(SPACE.genes)))
    assert SearchSpace(genes) == SPACE
    later = Simplex(floor={"x": 0.5})
    assert replace(later, over=("x", "y")).bounds[0].tolist() == [0.5, 0.0]
    with pytest.raises(ValidationError, match="floor of 'x'"):
        replace(later, over=("y", "z"))


@pytest.mark.parametrize(
    ("genes", "says"),
    [
        ({}, "at least one gene"),
        ({"m": Simplex()}, "gene 'm': over must name at least one source"),
        ({"x": Int(1, 2, when={"adaptor": "lora"}), "adapter": Choice(("lora",))}, "did you mean"),
        ({"x": Int(1, 2, when={"c": "r"}), "c": Choice(("p", "q"))}, r"'c' is 'r' never holds"),
        ({"x": Int(1, 2, when={"c": 5}), "c": Int(1, 4)}, "it runs from 1 to 4"),
        ({"x": Int(1, 2, when={"c": ()}), "c": Int(1, 4)}, "no values"),
        ({"x": Int(1, 2, when={"c": 0.5}), "c": Float(0, 1)}, "a choice or an int gene"),
        ({"x": Int(1, 2, when={"x": 1})}, "depend on each other"),
        (
            {"a": Int(1, 2, when={"b": 1}), "b": Int(1, 2, when={"c": 1})}
            | {"c": Int(1, 2, when={"a": 1})},
            "depend on each other: a -> b -> c -> a",
        ),
    ],
)
def test_a_space_that_makes_no_sense_says_what_and_why(genes, says):
    with pytest.raises(ValueError, match=says):
        SearchSpace(genes)


@pytest.mark.parametrize(
    "gene",
    [
        Float(1e-5, 1e-1, log=True, prior=Prior(1e-3)),
        Float(0.0, 1.0, prior=Prior(0.3, "strong")),
        Int(1, 500, log=True, prior=Prior(22, "strong")),
    ],
)
def test_draws_are_near_the_prior_but_everywhere(gene):
    rng = np.random.default_rng(0)
    places = np.array([gene.encode(gene.draw(rng))[0] for _ in range(4000)])
    [middle] = gene.encode(gene.prior.at)
    deviation = {"weak": 0.25, "strong": 0.1}[gene.prior.strength]
    near = np.abs(places - middle) <= deviation
    inside = np.clip([middle - deviation, middle + deviation], 0, 1)
    spread = norm(middle, deviation)
    whole = np.diff(spread.cdf([0, 1]))[0]
    expected = 0.9 * np.diff(spread.cdf(inside))[0] / whole + 0.1 * np.diff(inside)[0]
    assert near.mean() == pytest.approx(expected, abs=0.03)
    assert places.min() < 0.05
    assert places.max() > 0.95
    assert gene.middle() == gene.prior.at


def test_a_prior_outside_the_bounds_is_an_error():
    with pytest.raises(ValidationError, match=r"prior at 2 is outside 0 to 1; move it"):
        Float(0.0, 1.0, prior=Prior(2.0))


def test_cmaes_starts_where_the_prior_is():
    space = SearchSpace({"x": Float(0.0, 1.0, prior=Prior(0.2)), "y": Float(0.0, 1.0)})
    assert Coordinates(space).middle().tolist() == [0.2, 0.5]
