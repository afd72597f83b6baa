"""Imports of earlier searches: what is recalled, what guides, and what is refused, with reasons."""

from pathlib import Path
from typing import Any

import pytest

from evo import config as configuration
from evo.config import SearchConfig
from evo.record.soundness import check
from evo.reuse import imports as module
from evo.reuse.earlier import read_for
from evo.reuse.imports import Import, imported, notes
from evo.reuse.scoring import scored
from fitness.errors import InputError
from population.individual import Individual
from tests.evo.reuse.searches import imports, search, spec, written
from tests.fitness.quickstart import DATA

PRINTS: dict[str, Any] = {
    "model": "m1",
    "sources": {"jargon": "s1", "devil": "s2"},
    "domains": {"target": {"selection": "d1", "test": "d2"}},
}
SPEC = f"""\
name: small
model: {{base: quickstart}}
{DATA}genome:
  mixture: {{type: simplex}}
  learning_rate: {{type: float, low: 1.0e-4, high: 1.0e-2, log: true}}
  adapter: {{type: choice, options: [none, lora]}}
  lora_rank: {{type: int, low: 2, high: 16, when: {{adapter: lora}}}}
objectives: {{target/loss: minimize}}
budget: {{evaluations: 8, tokens: 3000}}
"""
ALONE = {"mixture": {"jargon": 1.0, "devil": 0.0}, "learning_rate": 1e-3, "adapter": "none"}
BOTH = {**ALONE, "mixture": {"jargon": 0.5, "devil": 0.5}, "adapter": "lora", "lora_rank": 4}
SCORES = [(ALONE, {"target/loss": 4.0}), (BOTH, {"target/loss": 3.8}), (BOTH, {})]


def load(folder: Path, *overrides: str) -> SearchConfig:
    path = folder / "small.yaml"
    path.write_text(SPEC)
    return configuration.load(path, overrides)


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    return written(tmp_path / "first", load(tmp_path), SCORES, PRINTS)


def taken(config: SearchConfig, run: Path, prints: dict[str, Any] = PRINTS) -> Import:
    [found] = imported(config, prints, read_for(config, [run]))
    check(found.fact)
    return found


def numbers(one: Import) -> tuple[list[int], list[int]]:
    """Individuals to recall, and those of the guide."""
    guide = [record["individual"] for record in one.fact["guide"]]
    return [record["individual"] for record in one.fact["recalled"]], guide


def test_equal_conditions_and_recipes_are_recalled_and_guide_as_well(
    tmp_path: Path, earlier: Path
) -> None:
    found = taken(load(tmp_path), earlier)
    assert numbers(found) == ([0, 1], [0, 1])
    assert found.fact["refused"] == {"failed": 1}
    assert [record["genome"] for record in found.fact["recalled"]] == [ALONE, BOTH]
    assert list(notes(found)) == [
        "--from first: 2 individuals to recall, 2 as a guide, 1 refused (1 failed)",
        "--from first: sources as there: jargon, devil; genes: mixture, learning_rate, adapter, "
        "lora_rank",
    ]


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("budget.tokens=2000", "budget.tokens (3000 there, 2000 here)"),
        ("model.dtype=bfloat16", 'model.dtype ("float32" there, "bfloat16" here)'),
        ("resources.cpus=2", "resources.cpus (1 there, 2 here)"),
        ("budget.patience=2", "budget.patience (null there, 2 here)"),
        ("search.bucket=2", "search.bucket (1 there, 2 here)"),
        ("recipe.sequence_length=64", "the largest sequence_length (96.0 there, 64.0 here)"),
    ],
)
def test_other_conditions_make_a_guide_and_are_named(
    tmp_path: Path, earlier: Path, override: str, why: str
) -> None:
    found = taken(load(tmp_path, override), earlier)
    assert numbers(found) == ([], [0, 1])
    assert any(line.startswith(why) for line in found.fact["differs"])
    assert "--from first: not recalled where these differ: " in "\n".join(notes(found))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"model": "m2"}, 'model.base ("m1" there, "m2" here)'),
        ({"domains": {"target": {"selection": "d1", "test": "d9"}}}, "domains.target"),
    ],
)
def test_another_model_or_held_out_text_makes_a_guide(
    tmp_path: Path, earlier: Path, changed: dict[str, Any], why: str
) -> None:
    found = taken(load(tmp_path), earlier, {**PRINTS, **changed})
    assert numbers(found) == ([], [0, 1])
    assert found.fact["differs"] == [why]


def test_from_another_base_model_only_the_mixture_is_taken(tmp_path: Path, earlier: Path) -> None:
    found = taken(load(tmp_path), earlier, {**PRINTS, "model": "m2"})
    assert found.fact["genes"] == ["mixture"]
    assert [one["genome"] for one in found.fact["guide"]] == [
        {"mixture": ALONE["mixture"]},
        {"mixture": BOTH["mixture"]},
    ]
    assert (
        "genes: mixture; of another base model, from which only mixtures are taken: learning_rate, "
        "adapter, lora_rank"
    ) in "\n".join(notes(found))
    path = tmp_path / "fixed.yaml"
    fixed = "  mixture: {jargon: 0.5, devil: 0.5}\n"
    path.write_text(SPEC.replace("  mixture: {type: simplex}\n", "") + "recipe:\n" + fixed)
    with pytest.raises(InputError, match="2 of another base model, from which only mixtures are"):
        taken(configuration.load(path), earlier, {**PRINTS, "model": "m2"})


def test_a_recipe_without_the_source_that_changed_is_still_recalled(
    tmp_path: Path, earlier: Path
) -> None:
    found = taken(load(tmp_path), earlier, {**PRINTS, "sources": {"jargon": "s1", "devil": "s9"}})
    assert numbers(found) == ([0], [0, 1])
    assert found.fact["differs"] == ["content of source devil (1)"]
    assert "by name alone: devil" in "\n".join(notes(found))


def test_a_renamed_source_is_matched_but_not_drawn_from_in_the_same_order(
    tmp_path: Path, earlier: Path
) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SPEC.replace("  devil: {", "  satan: {"))
    prints = {**PRINTS, "sources": {"jargon": "s1", "satan": "s2"}}
    found = taken(configuration.load(path), earlier, prints)
    assert numbers(found) == ([0], [0, 1])
    assert found.fact["sources"] == {"jargon": "jargon", "satan": "devil"}
    assert found.fact["guide"][1]["genome"]["mixture"] == {"jargon": 0.5, "satan": 0.5}


def test_other_genes_recall_what_their_recipes_can_say(tmp_path: Path, earlier: Path) -> None:
    path = tmp_path / "small.yaml"
    fixed = "recipe: {adapter: none, lora_rank: 12}\n"
    lines = [line for line in SPEC.splitlines(keepends=True) if " adapter: {" not in line]
    path.write_text("".join(line for line in lines if "lora_rank" not in line) + fixed)
    found = taken(configuration.load(path), earlier)
    assert numbers(found) == ([0], [0, 1])  # without an adapter, its rank decides nothing
    assert found.fact["genes"] == ["mixture", "learning_rate"]
    assert found.fact["differs"] == ["recipe, which this spec cannot make (1)"]


def test_other_seeds_are_not_recalled(tmp_path: Path, earlier: Path) -> None:
    assert taken(load(tmp_path, "seed=7"), earlier).fact["differs"] == ["seed (2)"]
    run = written(tmp_path / "second", load(tmp_path), SCORES, PRINTS, seed=2000)
    assert numbers(taken(load(tmp_path), run))[0] == [0, 1]  # the third replicate's


def test_a_child_of_parents_weights_guides_only(tmp_path: Path) -> None:
    details = {"details": {"inherited_from": [0]}}
    run = written(tmp_path / "heirs", load(tmp_path), SCORES, PRINTS, **details)
    assert numbers(taken(load(tmp_path), run)) == ([], [0, 1])


def test_what_another_objective_lacks_is_said(tmp_path: Path, earlier: Path) -> None:
    """A mean of which one loss is new is known as far as it was measured; of another: nothing."""
    new = "  general: {path: texts.jsonl}\ngenome:"
    (tmp_path / "texts.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    path = tmp_path / "more.yaml"
    path.write_text(
        SPEC.replace("genome:", new).replace("target/loss: min", "quality: min")
        + 'aggregates: {quality: {mean: ["*/loss"]}}\n'
    )
    found = taken(configuration.load(path), earlier)
    assert numbers(found) == ([], [0, 1])
    assert found.fact["differs"] == ["domains.general (it had none)"]
    assert "says nothing of general/loss" in list(notes(found))[-1]
    path.write_text(path.read_text().replace("quality: min", "general/loss: min"))
    with pytest.raises(InputError, match=r"2 without a measurement of general/loss"):
        taken(configuration.load(path), earlier)


def test_a_strategy_without_guides_needs_something_to_recall(tmp_path: Path, earlier: Path) -> None:
    found = taken(load(tmp_path, "search.strategy=nsga2"), earlier)
    assert numbers(found) == ([0, 1], [])
    config = load(tmp_path, "search.strategy=nsga2", "budget.tokens=2000")
    with pytest.raises(InputError) as error:
        taken(config, earlier)
    assert "nothing of it can be used" in str(error.value)
    assert "2 not to be repeated, and nsga2 takes no guides" in str(error.value)
    assert "budget.tokens (3000 there, 2000 here)" in str(error.value)


def test_no_gene_in_common_is_refused(tmp_path: Path, earlier: Path) -> None:
    path = tmp_path / "other.yaml"
    head, _, tail = SPEC.partition("genome:\n")
    gene = "genome:\n  warmup_share: {type: float, low: 0, high: 1}\n"
    mixture = "recipe: {mixture: {jargon: 0.4, devil: 0.6}}\n"
    path.write_text(head + gene + tail[tail.index("objectives") :] + mixture)
    with pytest.raises(InputError, match="2 without a gene that this spec has too"):
        taken(configuration.load(path), earlier)


def test_of_a_large_run_the_baselines_the_best_and_the_latest_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = [(ALONE, {"target/loss": loss}) for loss in (9.0, 5.0, 1.0, 2.0, 8.0, 7.0, 6.0)]
    run = written(tmp_path / "large", load(tmp_path), scores, PRINTS)
    monkeypatch.setattr(module, "MOST", 4)
    found = taken(load(tmp_path), run)
    assert numbers(found)[1] == [2, 3, 5, 6]
    assert found.fact["refused"] == {module.TOO_MANY: 3}


def test_a_chain_of_toy_searches_by_aggregates_relative_to_the_base(tmp_path: Path) -> None:
    relative = "aggregates: {quality: {mean: [target, general], relative_to: base}}\n"
    first = spec(tmp_path, more=relative)
    search(tmp_path / "first", first)
    changed = (("{target: min", "{quality: min"), ("[general <= 2.9]", "[general <= 1.2 * base]"))
    path = spec(tmp_path, *changed, more=relative, strategy="surrogate")
    [found] = imports(path, tmp_path / "first")
    assert found.fact["base"] == {"target": 5.0, "general": 2.0}
    assert found.fact["guide"][0]["measurements"].keys() == {"target", "general"}
    config = configuration.load(path)
    one = scored(config, Individual(0, {}), {"target": 4.0, "general": 3.0}, found.fact["base"])
    assert one.losses == pytest.approx(((4 / 5 + 3 / 2) / 2, 3.0))
    assert one.violation == pytest.approx((3.0 - 2.4) / 2.4)
    assert one.parts == pytest.approx((4 / 5, 3 / 2, 3.0, 3.0 - 2.4))
    without = scored(config, Individual(0, {}), {"target": 4.0, "general": 3.0}, {})
    assert without.losses == (0.0, 3.0)  # nothing is known of an aggregate relative to no base
    assert without.violation == 0
