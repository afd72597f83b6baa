"""Sources from which only some training methods learn: shares, plans, refusals."""

import json
import math
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from evo.config import ConfigError, SearchConfig, decode, load
from evo.config.genomes import baselines, learned_shares
from evo.dry_run import plan
from evo.planning.experts import why_not
from evo.prepare.outlook import epochs
from evo.prepare.task import prepare
from fitness.cost import cost_of
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import Evaluation, EvaluationSpec, Status
from tests.fitness.quickstart import DATA
from tests.fitness.records import PAIRS

SPEC = f"""\
name: by-method
model: {{base: quickstart}}
{DATA}recipe: {{learning_rate: 1e-3, sequence_length: 48, batch_size: 4, reinforce_group: 2,
  reinforce_new_tokens: 8}}
genome:
  mixture: {{type: simplex, over: [jargon, asked]}}
  method: {{type: choice, options: [supervised, reinforce]}}
objectives: {{target/loss: minimize}}
search: {{population: 4}}
budget: {{evaluations: 40, tokens: 1000}}
"""
HALVES = {"jargon": 0.5, "asked": 0.5}


def config_of(folder: Path, *settings: str) -> SearchConfig:
    asked = folder / "asked.jsonl"
    asked.write_text("".join(json.dumps({"prompt": one["prompt"]}) + "\n" for one in PAIRS))
    path = folder / "search.yaml"
    path.write_text(SPEC)
    source = f"sources.asked={{path: {asked}, kind: prompt, methods: [reinforce]}}"
    return load(path, [source, *settings])


def test_a_source_that_the_method_does_not_learn_from_leaves_its_share_to_the_others(
    tmp_path: Path,
) -> None:
    config = config_of(tmp_path)
    task = prepare(config).task
    evaluator, cost = Evaluator(task), cost_of(task)

    def evaluated(method: str, mixture: dict[str, float]) -> tuple[Evaluation, dict[str, Any]]:
        recipe = decode(config, {"method": method, "mixture": mixture})
        return evaluator.evaluate(EvaluationSpec(0, recipe, 0, keep_weights=False)), recipe

    halves, recipe = evaluated("supervised", HALVES)
    whole, alone = evaluated("supervised", {"jargon": 1.0})
    assert halves.status is Status.OK
    assert halves.measurements == whole.measurements
    assert halves.details == whole.details
    assert halves.details["shares"] == {"jargon": 1.0}
    assert cost(recipe, 1.0) == cost(alone, 1.0)
    nothing, _ = evaluated("supervised", {"jargon": 0.0, "asked": 1.0})
    assert nothing.status is Status.INFEASIBLE
    assert nothing.message.startswith("supervised learns from none of the sources that have a sh")
    reinforced, recipe = evaluated("reinforce", HALVES)
    assert recipe["mixture"] == HALVES
    assert reinforced.details["shares"] == pytest.approx(HALVES, abs=0.25)


@given(
    st.lists(st.floats(0.001, 1), min_size=3, max_size=3),
    st.sampled_from(["supervised", "reinforce"]),
)
def test_what_is_left_keeps_its_proportions(weights: list[float], method: str) -> None:
    one = {"path": "-", "kind": "prompt", "methods": ["reinforce"]}
    sources = {"a": {"path": "-"}, "b": {"path": "-"}, "asked": one}
    config = SearchConfig.model_validate(
        {"name": "a", "sources": sources, "genome": {"mixture": {"type": "simplex"}}}
        | {"objectives": {"a/loss": "minimize"}, "budget": {"evaluations": 1, "tokens": 1}}
    )
    mixture = dict(zip(sources, (weight / sum(weights) for weight in weights), strict=True))
    shares = learned_shares(config, {"method": method, "mixture": mixture})
    if method == "reinforce":
        assert shares == mixture, "to the last bit"
    else:
        assert shares.keys() == {"a", "b"}
        assert math.fsum(shares.values()) == pytest.approx(1)
        assert shares["a"] / shares["b"] == pytest.approx(mixture["a"] / mixture["b"])


def test_the_plan_counts_a_source_under_a_method_that_learns_from_it(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    task = prepare(config).task
    alone = 1000 / task.sources["jargon"].tokens
    found = epochs(config, task)
    assert found["jargon"] == pytest.approx((alone, alone)), "all that supervised learns from"
    assert found["devil"][0] == 0
    pass_over = 2 * 48 * len(PAIRS)  # groups of 2 answers, each a sequence
    assert found["asked"] == pytest.approx((500 / pass_over, 1000 / pass_over))
    assert why_not(config) == (
        "sources.asked.methods: the default genome's method does not learn from it"
    )
    printed = StringIO()
    Console(width=200, file=printed).print(plan(config))
    assert "asked (reinforce)" in printed.getvalue()
    genomes = dict(baselines(config, {"jargon": 3, "asked": 1}))
    assert genomes["uniform"]["mixture"] == HALVES, "genomes hold the shares as they were bred"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["sources.asked.methods=[]"], r"sources\.asked\.methods: must not be empty"),
        (
            ["sources.asked.methods=[reinforced]"],
            r"sources\.asked\.methods\.0: must be supervised, .* did you mean reinforce\?",
        ),
        (["sources.asked.methods=reinforce"], r"sources\.asked\.methods: needs a list"),
        (
            ["sources.asked.methods=[reinforce, reinforce]"],
            r"methods: reinforce is there twice; keep one of them",
        ),
        (
            ["sources.jargon.methods=[preference]"],
            r"sources\.jargon\.methods: it would never be learned: the search has supervised and "
            "reinforce alone; add one of them, or leave the source out",
        ),
        (
            ["sources.asked.methods=[supervised]"],
            r"genome\.method: reinforce needs a source of kind prompt",
        ),
        (
            ["genome.mixture.over=[asked]"],
            r"genome\.method: supervised learns from none of the sources that may have a share, "
            "asked, by their `methods`; add it to one of them",
        ),
        (
            ["genome.mixture.floor={asked: 1}"],
            r"genome\.method: supervised learns from none of the sources",
        ),
        (
            ["recipe.mixture={asked: 1}"],
            r"recipe\.mixture: the default method learns from none of its sources",
        ),
        (
            ["baselines=[uniform, only asked]"],
            r"baselines\.1: the default method does not learn from it, by its `methods`; leave it",
        ),
        (
            ["model.proxies=[{base: other}]"],
            r"model\.proxies: mixtures would be searched under the default method alone, and asked",
        ),
        (
            ["domains.target.test.methods=[supervised]"],
            r"domains\.target\.test\.methods: a domain is scored under every method; leave it out",
        ),
        (
            ["evaluator=tests.evo.toy:score", "sources.asked.kind=text"],
            r"sources\.asked\.methods: only evomix's own trainer has methods; leave it out",
        ),
    ],
)
def test_methods_that_cannot_be_meant_are_refused(
    settings: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of(tmp_path, *settings)


def test_a_set_of_prompts_needs_references_only_where_a_metric_reads_them(tmp_path: Path) -> None:
    def prompts(metrics: str, *lines: dict[str, str]) -> SearchConfig:
        file = tmp_path / "set.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        each = f"selection: {file}, test: {file}, metrics: [{metrics}]"
        return config_of(tmp_path, f"prompts.set={{{each}}}")

    without, one = {"prompt": "daemon: n."}, {"prompt": "bug: n.", "reference": "an insect"}
    ready = prepare(prompts("mean_length, distinct_1", without, without))
    assert ready.task.prompts["set"]["test"].references == ["", ""]
    for metrics in ("mean_length, exact_match", "chrf"):
        with pytest.raises(ValueError, match=r"set\.jsonl:1: .*reference"):
            prepare(prompts(metrics, without, without))
    with pytest.raises(ValueError, match=r"set\.jsonl:2: .*reference"):
        prepare(prompts("mean_length", one, without))
