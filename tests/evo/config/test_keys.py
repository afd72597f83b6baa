"""Groups of keys, such as `lora: {rank: 8}`, and keys that earlier versions had."""

from pathlib import Path
from typing import Any

import pytest

from evo import config as configuration
from evo.config import decode, default_genome, from_plain, load, to_plain
from evo.config.keys import REMOVED, without_removed
from fitness.recipe import Recipe
from population.space import Float
from tests.evo.config.conftest import edited, errors_of

ROUNDS = Path(configuration.__file__).parents[2] / "runs" / "self_improvement.yaml"
FLAT = """
recipe: {adapter: lora, lora_rank: 4, lora_targets: attention, keep_length_low: 0.1}
genome:
  mixture: {type: simplex}
  lora_alpha: {type: float, low: 1, high: 32, log: true}
  keep_realness: {type: float, low: 0.2, high: 1}
  keep_perplexity_high: {type: float, low: 0.5, high: 1}
known: [{keep_realness: 0.4}]
"""
GROUPED = """
recipe:
  adapter: lora
  lora: {rank: 4, targets: attention}
  thresholds: {length: {low: 0.1}}
genome:
  mixture: {type: simplex}
  lora: {alpha: {type: float, low: 1, high: 32, log: true}}
  thresholds:
    realness: {type: float, low: 0.2, high: 1}
    perplexity: {high: {type: float, low: 0.5, high: 1}}
known: [{thresholds: {realness: 0.4}}]
"""
REST = """
name: groups
model: {base: quickstart}
sources:
  pool: {path: pool.jsonl, kind: sample}
  other: {path: other.txt}
domains: {target: {path: target.txt}}
objectives: {target/loss: minimize}
budget: {evaluations: 8, tokens: 4096}
"""

WHOLE = "needs a whole number, got 'x'"


def written(folder: Path, part: str) -> Path:
    for name in ("pool.jsonl", "other.txt", "target.txt"):
        (folder / name).write_text("{}")
    path = folder / "search.yaml"
    path.write_text(REST + part)
    return path


def test_a_group_is_read_as_its_flat_keys(tmp_path: Path) -> None:
    flat, grouped = (load(written(tmp_path, part)) for part in (FLAT, GROUPED))
    assert grouped == flat
    assert list(grouped.genome) == list(flat.genome)
    assert decode(grouped, default_genome(grouped))["lora_targets"] == "attention"


def test_overrides_reach_into_groups_and_win_over_the_file(tmp_path: Path) -> None:
    config = load(
        written(tmp_path, GROUPED),
        [
            "recipe.lora.rank=8",
            "recipe.merge={method: ties}",
            "genome.thresholds.realness.low=0.3",
            "genome.thresholds.perplexity.high.low=0.6",
            "known.0.thresholds.realness=0.9",
        ],
    )
    assert (config.recipe["lora_rank"], config.recipe["merge_method"]) == (8, "ties")
    assert config.genome["keep_realness"] == Float(0.3, 1)
    assert config.genome["keep_perplexity_high"] == Float(0.6, 1)
    assert config.known[0]["keep_realness"] == 0.9


def test_errors_in_a_group_name_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, GROUPED)
    edited(path, "rank: 4", "rang: 4")
    edited(path, "realness: {type: float, low: 0.2", "realnes: {type: float, low: 0.2")
    first, *rest = errors_of(path)
    lines = path.read_text().splitlines()
    rang, realnes = (
        1 + next(place for place, line in enumerate(lines) if word in line)
        for word in ("rang", "realnes")
    )
    assert f":{rang}: recipe.lora.rang: unknown key; did you mean rank?" in first
    assert f":{realnes}: genome.thresholds.realnes: unknown gene; did you mean realness?" in rest[0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rank: 4", "rank: x", "recipe.lora.rank: needs a whole number, got 'x'"),
        ("rank: 4", "learning_rte: 4", "recipe.lora.learning_rte: unknown key; did you mean "
         "recipe.learning_rate?"),
        ("adapter: lora", "adapter: lora\n  lora_rnak: 4", "recipe.lora_rnak: unknown key; did you "
         "mean lora_rank?"),
        ("{low: 0.1}", "{low: 0.7}", "recipe.thresholds.length.low: must be at most 0.5, got 0.7"),
        ("low: 1, high: 32", "low: 32, high: 1", "genome.lora.alpha: low must be below high"),
        ("low: 1, high: 32", "low: 1, high: x", "genome.lora.alpha.high: needs a number, got 'x'"),
        ("{high: {type: float, low: 0.5", "{high: {type: float, low: 0.2",
         "genome.thresholds.perplexity.high.low: must be at least 0.5, got 0.2"),
        ("{realness: 0.4}", "{realness: x}", "known.0.thresholds.realness: the gene needs a num"),
        ("{realness: 0.4}", "{realnes: 0.4}", "known.0.thresholds.realnes: unknown gene; did you "
         "mean realness?"),
    ],
)  # fmt: skip
def test_errors_in_a_group_name_the_key_as_it_was_written(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    [error] = errors_of(edited(written(tmp_path, GROUPED), old, new))
    assert message in error


def test_errors_of_overrides_name_the_key_as_it_was_written(tmp_path: Path) -> None:
    grouped, flat = "recipe.lora.rank=x", "recipe.lora_rank=x"
    path = written(tmp_path, GROUPED)
    assert errors_of(path, grouped) == [f"--set {grouped}: recipe.lora.rank: {WHOLE}"]
    assert errors_of(path, flat) == [f"--set {flat}: recipe.lora_rank: {WHOLE}"]
    both = "recipe.lora={rank: x}"
    assert errors_of(path, both) == [f"--set {both}: recipe.lora.rank: {WHOLE}"]
    part = "genome.lora.alpha.low=x"
    assert errors_of(path, part) == [
        f"--set {part}: genome.lora.alpha.low: needs a number, got 'x'"
    ]


def test_the_same_key_in_a_group_and_flat_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, GROUPED)
    edited(path, "adapter: lora", "adapter: lora\n  lora_rank: 16")
    message = "recipe.lora.rank: given twice, here and as lora_rank; keep one of them"
    assert any(message in error for error in errors_of(path))


@pytest.mark.parametrize("evaluator", ["math:sqrt", "{python: math:sqrt}", "{command: [ls]}"])
def test_a_recipe_of_ones_own_keeps_its_groups(tmp_path: Path, evaluator: str) -> None:
    path = tmp_path / "search.yaml"
    path.write_text(
        f"name: own\nevaluator: {evaluator}\n"
        "recipe: {lora: {rank: 4}}\nobjectives: {x: minimize}\n"
        "genome: {x: {type: float, low: 0, high: 1}}\nbudget: {evaluations: 4, tokens: 64}\n"
    )
    assert load(path, ["recipe.lora.rank=8"]).recipe == {"lora": {"rank": 8}}


def test_a_recorded_spec_with_removed_keys_is_that_without_them(tmp_path: Path) -> None:
    config = load(written(tmp_path, FLAT))
    plain: dict[Any, Any] = to_plain(config)
    for section, name in REMOVED:
        if plain[section] is not None:
            plain[section] = {name: REMOVED[section, name], **plain[section]}
    assert from_plain(plain) == config
    assert configuration.difference(to_plain(from_plain(plain)), to_plain(config)) == []


@pytest.mark.parametrize("key", [key for key in REMOVED if key[0] == "recipe"])
def test_a_removed_key_with_another_value_is_told(tmp_path: Path, key: tuple[str, str]) -> None:
    path = written(tmp_path, FLAT)
    edited(path, "recipe: {", f"recipe: {{{key[1]}: 7, ")
    [error] = errors_of(path)
    assert f"{key[1]}: is no longer a key, it is always {REMOVED[key]}" in error
    plain = to_plain(load(written(tmp_path, FLAT)))
    older = {**plain, "recipe": {**plain["recipe"], key[1]: 7}}
    assert from_plain(older) == from_plain(plain), "a run that had it can be read and exported"


def test_recorded_rounds_have_the_objectives_that_were_added_to_them() -> None:
    plain = to_plain(load(ROUNDS))
    older = {**plain, "rounds": {**plain["rounds"], "general": True}}
    assert from_plain(older) == load(ROUNDS)
    assert without_removed(older)[1] == []
    [problem] = without_removed({**older, "objectives": {"target/loss": "minimize"}})[1]
    assert problem.key == ("rounds", "general")


def test_the_removed_keys_are_no_fields() -> None:
    assert not {name for section, name in REMOVED if section == "recipe"} & {*Recipe.model_fields}
