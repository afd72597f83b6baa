import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from evo import config as configuration
from evo.config import ConfigError, SearchConfig, load
from evo.config.file import MOST_ERRORS
from tests.evo.config.conftest import SPEC, edited, errors_of, written


def test_all_errors_come_in_one_go_sorted_by_line(spec: Path) -> None:
    edited(spec, "search: {population: 6}", "search: {populaton: 6, strategy: nsga9}")
    edited(spec, "batch_size: 8", "batch_size: eight")
    edited(spec, "low: 1e-4, high: 1e-2", "low: 1e-2, high: 1e-4")
    edited(spec, "jargon: {path: jargon.jsonl}", "jargon: {paht: jargon.jsonl}")
    edited(spec, "general/loss <= 3.1", "general/loss < 3.1")
    assert errors_of(spec) == [
        ":4: sources.jargon.paht: unknown key; did you mean path?",
        ":16: recipe.batch_size: needs a whole number, got 'eight'",
        ":19: genome.learning_rate: low must be below high, got low=0.01, high=0.0001; swap them",
        ":24: constraints.0: needs `<measurement> <= <number>` or `<= <number> * base`, or `>=`, "
        "got 'general/loss < 3.1'; write for example `general/loss <= 3.1`, or "
        "`general/loss <= 1.02 * base`",
        ":25: search.populaton: unknown key; did you mean population?",
    ]


def test_more_errors_than_a_screen_holds_are_counted(spec: Path) -> None:
    text = SPEC + "".join(f"key{i}: 1\n" for i in range(MOST_ERRORS + 7))
    lines = errors_of(written(spec, text))
    assert len(lines) == MOST_ERRORS + 1
    assert lines[-1] == "... and 7 more"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: a", "name: a\npopulation: 24", ":2: population: unknown key here; did you mean "
         "search.population?"),
        ("population: 6", "population: 6, seed: 3", ":25: search.seed: unknown key here; did you "
         "mean seed?"),
        ("name: a", "name: a b", ":1: name: must be at most 100 letters, digits, `_`, `-` and `.`, "
         "and begin with a letter or digit, got 'a b'"),
        ("name: a", "name: ..", ":1: name: must be at most 100 letters"),
        ("name: a", "name: 3", ":1: name: needs text, got 3; put it in quotes"),
        ("name: a", "name: a\nseed: -1", ":2: seed: must be at least 0, got -1"),
        ("  devil:", "  de/vil:", ":5: sources.de/vil: the name must be at most 100 letters"),
        ("model: {base: quickstart}", "model: {}", ":2: model.base: missing; name `quickstart`"),
        ("model: {base: quickstart}", "model: {dtype: float16, base: x}",
         ":2: model.dtype: must be float32 or bfloat16, got 'float16'; did you mean bfloat16?"),
        ("target: {path: held_out.jsonl}", "target: {selection: {path: x}}",
         ":8: domains.target.test: missing; held-out text that is read once"),
        ("target: {path: held_out.jsonl}", "target: {path: held_out.jsonl, lmit: 3}",
         ":8: domains.target.lmit: unknown key; did you mean limit?"),
        ("target: {path: held_out.jsonl}", "target: held_out.jsonl",
         ":8: domains.target: needs a mapping (key: value), got 'held_out.jsonl'"),
        ("test: quiz.test.jsonl", "test: quiz.test.jsonl, metrics: [chrff]",
         ":13: prompts.quiz.metrics.0: 'chrff': unknown"),
        ("batch_size: 8", "batch_siez: 8", ":16: recipe.batch_siez: unknown key; did you mean "
         "batch_size?"),
        ("batch_size: 8", "infill_share: 1.5", ":16: recipe.infill_share: must be at most 1"),
        ("batch_size: 8", "mixture: {jargon: 0.5}", ":16: recipe.mixture: shares must sum to 1"),
        ("batch_size: 8", "mixture: {jargn: 1}", ":16: recipe.mixture.jargn: unknown source; did "
         "you mean jargon?"),
        ("batch_size: 8", "decay: constant", ":16: recipe.decay: 'constant' is not among the "
         "gene's options linear, cosine"),
        ("type: simplex", "type: simplx", ":18: genome.mixture.type: unknown type 'simplx'; did "
         "you mean simplex?"),
        ("type: simplex", "type: gaussian", ":18: genome.mixture.type: unknown type 'gaussian'; "
         "it is one of float, int, choice, simplex"),
        ("{type: simplex}", "{floor: 0.1}", ":18: genome.mixture: type is missing; it is one of "
         "float, int, choice, simplex"),
        ("{type: simplex}", "{type: choice, options: [a]}", ":18: genome.mixture.type: a mixture "
         "is a simplex gene, got choice"),
        ("{type: simplex}", "{type: simplex, floor: 0.4}", ":18: genome.mixture: floors must sum "
         "to at most 1, got 1.2"),
        ("{type: simplex}", "{type: simplex, cap: 0.3}", ":18: genome.mixture: caps must sum to at "
         "least 1, got 0.9"),
        ("{type: simplex}", "{type: simplex, floor: abc}", ":18: genome.mixture.floor: needs a "
         "number or a mapping (key: value), got 'abc'"),
        ("{type: simplex}", "{type: simplex, floor: {devil: x}}", ":18: genome.mixture.floor.devil:"
         " needs a number, got 'x'"),
        ("{type: simplex}", "{type: simplex, floor: {devl: 0.1}}", ":18: genome.mixture: floor of "
         "'devl': no such source"),
        ("{type: simplex}", "{type: simplex, over: [jargon, devl]}", ":18: genome.mixture.over.1: "
         "unknown source 'devl'; did you mean devil?"),
        ("  learning_rate: {", "  learning_rte: {", ":19: genome.learning_rte: unknown gene; did "
         "you mean learning_rate?"),
        ("log: true", "lgo: true", ":19: genome.learning_rate.lgo: unknown key; did you mean log?"),
        ("high: 1e-2", "high: 20", ":19: genome.learning_rate.high: must be at most 10, got 20"),
        ("{type: float, low: 1e-4", "{type: simplex, low: 1e-4", ":19: genome.learning_rate.high: "
         "unknown key; the keys here are over, floor, cap, when, type"),
        ("[linear, cosine]", "[linear, cosin]", ":20: genome.decay.options.1: must be constant, "
         "linear, cosine or wsd, got 'cosin'; did you mean cosine?"),
        ("[linear, cosine]", "[linear, cosine], when: {learning_rate: 1}",
         ":20: genome.decay.when: when may name a choice or an int gene"),
        ("decay: {type: choice, options: [linear, cosine]}", "batch_size: {type: float, low: 4, "
         "high: 8}", ":20: genome.batch_size.type: batch_size is a whole number; use type: int"),
        ("decay: {type: choice, options: [linear, cosine]}", "dropout: {type: simplex}",
         ":20: genome.dropout.type: only `mixture` is a simplex gene"),
        ("target/loss: minimize", "target/los: minimize", ":22: objectives.target/los: unknown "
         "measurement target/los; did you mean target/loss?"),
        ("target/loss: minimize", "target/loss: minimise", ":22: objectives.target/loss: must be "
         "minimize or maximize, got 'minimise'; did you mean minimize?"),
        ("general/loss <= 3.1", "novel/loss <= 3.1", ":24: constraints.0: unknown "
         "measurement novel/loss; did you mean"),
        ("general/loss <= 3.1", "general/loss <= 0 * base", ":24: constraints.0: the factor of the "
         "base must be above 0, got 'general/loss <= 0 * base'"),
        ("general/loss <= 3.1", "general/loss >= 0.9 * base", ":24: constraints.0: 'general/loss "
         ">= 0.9 * base' forbids values better than the limit; write `general/loss <= 0.9 * base`"),
        ("general/loss <= 3.1", "quiz/chrf <= base", ":24: constraints.0: 'quiz/chrf <= base' "
         "forbids values better than the limit; write `quiz/chrf >= base`"),
        ('3.1"]', '3.1", "general/loss >= 4"]', ":24: constraints.1: 'general/loss >= 4' leaves "
         "nothing that meets `general/loss <= 3.1`"),
        ("search:", "baselines: [uniform, only devl]\nsearch:", ":25: baselines.1: unknown source "
         "'devl'; did you mean devil?"),
        ("search:", "known: [{rate: 1}]\nsearch:", ":25: known.0.rate: unknown gene; the genes "),
        ("search:", "known: [{mixture: {devl: 1}}]\nsearch:",
         ":25: known.0.mixture.devl: unknown source; did you mean devil?"),
        ("search:", "known: [{learning_rate: fast}]\nsearch:",
         ":25: known.0.learning_rate: the gene needs a number, got 'fast'"),
        ("search:", "baselines: [unifrom]\nsearch:", ":25: baselines.0: must be uniform, "
         "proportional or only <source>, got 'unifrom'; did you mean uniform?"),
        ("population: 6", "strategy: nsga2, population: 3", ":25: search.population: population 3 "
         "is too small for nsga2"),
        ("population: 6", "strategy: nsag2, population: 6", ":25: search.strategy: unknown"
         " strategy; did you mean nsga2?"),
        ("evaluations: 12", "evaluations: 5", ":26: budget.evaluations: 5 is less than one "
         "population of 6; raise it"),
        ("tokens: 1e5", "tokens: 700", ":26: budget.tokens: 700 tokens are less than one step of "
         "the largest batch, 8 sequences of 96; raise it to at least 768"),
        ("budget:", "resources: {cpus: 0.5}\nbudget:", ":26: resources.cpus: needs a whole number, "
         "got 0.5"),
        ("budget:", "resources: {gpus: 1.5}\nbudget:", ":26: resources: gpus above 1 must be "
         "whole"),
        ("budget:", "resources: {timeout: 0}\nbudget:", ":26: resources.timeout: must be above 0"),
        ("budget:", "resources: {timeout: .inf}\nbudget:", ":26: resources.timeout: must be a "
         "finite number"),
        ("batch_size: 8", "method: preference", ":16: recipe.method: preference needs a source of "
         "kind preference or rating"),
        ("batch_size: 8", "adapter: lorra", ":16: recipe.adapter: must be none, lora or dora, got "
         "'lorra'; did you mean lora?"),
        ("decay: {type: choice, options: [linear, cosine]}", "method: {type: choice, options: "
         "[supervised, reinforce]}", ":20: genome.method: reinforce needs a source of kind prompt"),
        ("batch_size: 8", "start: parent\n  adapter: dora", ":17: recipe.adapter: no warm "
         "start from a DoRA adapter; take lora or none"),
        ("population: 6", "population: 6, bucket: 4}\nresources: {checkpointing: true", ":25: "
         "search.bucket: cannot be combined with resources.checkpointing; leave one out"),
        ("population: 6", "population: 6, bucket: 4}\nresources: {processes: 2", ":26: "
         "resources.processes: cannot be combined with search.bucket; leave one out"),
        ("population: 6", "population: 6}\nresources: {processes: 2, gpus: 0.5", ":26: resources: "
         "each of several processes takes one GPU or none, got gpus 0.5; give 1"),
        ("population: 6", "population: 6}\nresources: {sharding: full", ":26: resources.sharding: "
         "one process holds everything; set resources.processes, or leave it out"),
        ("batch_size: 8", "optimizer: adafactor\nresources: {processes: 2, sharding: full}\n#",
         ":16: recipe.optimizer: adafactor has no sharded states; take adamw or muon, or leave "
         "resources.sharding out"),
        ("batch_size: 8",
         "optimizer: muon\n  adapter: lora\nresources: {processes: 2, sharding: full"
         "}\n#", ":16: recipe.optimizer: muon needs more rows than an adapter's matrices may have"),
        ("path: jargon.jsonl", "path: jargon.jsonl, kind: prompts", ":4: sources.jargon.kind: must "
         "be text, completion, preference, comparison, rating, prompt, label, tags or sample, got "
         "'prompts'; did you mean prompt?"),
        ("batch_size: 8", "keep_realness: 0.5", ":16: recipe.keep_realness: is a threshold for "
         "samples, and no source is of kind sample; leave it out"),
        ("decay: {type: choice, options: [linear, cosine]}", "keep_length_low: {type: float, low: "
         "0, high: 0.4}", ":20: genome.keep_length_low: is a threshold for samples"),
        ("decay: {type: choice, options: [linear, cosine]}", "keep_length_low: {type: float, low: "
         "0, high: 0.7}", ":20: genome.keep_length_low.high: must be at most 0.5, got 0.7"),
        ("{path: held_out.jsonl}", "{path: held_out.jsonl, kind: rating}", ":8: "
         "domains.target.kind: a domain is of kind text, completion, preference, label, tags, co"),
        ("{path: general/test.jsonl}", "{path: general/test.jsonl, kind: completion}", ":9: "
         "domains.general: its splits are of kinds completion and text"),
        ("budget: {evaluations: 12, tokens: 1e5}", "", ":1: budget: missing; the budget of the "
         "search"),
    ],
)  # fmt: skip
def test_each_mistake_is_told_at_its_line(spec: Path, old: str, new: str, message: str) -> None:
    lines = errors_of(edited(spec, old, new))
    assert any(line.startswith(message) for line in lines), "\n".join(lines)
    assert not re.search(r"pydantic|https?://|type=|Union|BaseModel", "\n".join(lines))


def test_early_stopping_takes_any_measurement_and_no_rungs(spec: Path) -> None:
    patience = "budget.patience=2"
    load(spec, [patience])
    (rungs,) = errors_of(spec, patience, "search.rungs=[0.5]")
    assert "budget.patience: cannot be combined with search.rungs" in rungs
    load(spec, [patience, "objectives={quiz/chrf: maximize}"])


def test_a_mistake_in_one_place_hides_none_elsewhere(spec: Path) -> None:
    edited(spec, "jargon: {path: jargon.jsonl}", "jargon: {path: jargon.jsonl, limt: 3}")
    edited(spec, "batch_size: 8", "mixture: {jargon: 0.5, devl: 0.5}")
    edited(spec, "{type: simplex}", "{type: simplex, floor: 0.4}")
    edited(spec, "target/loss: minimize", "target/los: minimize")
    edited(spec, "population: 6", "strategy: nsga2, population: 3")
    edited(spec, "budget: {", "baselines: [only jargn]\nbudget: {")
    assert [":".join(line.split(":")[1:3]) for line in errors_of(spec)] == [
        "4: sources.jargon.limt",
        "16: recipe.mixture.devl",
        "18: genome.mixture",
        "22: objectives.target/los",
        "25: search.population",
        "26: baselines.0",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{path: jargon.jsonl}", "{paht: x}", ":4: sources.jargon.paht: unknown key; did you mean "
         "path?"),
        ("{base: quickstart}", "{bsae: quickstart}", ":2: model.bsae: unknown key; did you mean "
         "base?"),
        ("sources:", "souces:", ":3: souces: unknown key; did you mean sources?"),
        ("domains:", "domians:", ":7: domians: unknown key; did you mean domains?"),
        ("genome:", "genom:", ":17: genom: unknown key; did you mean genome?"),
        ("objectives:", "objectivs:", ":21: objectivs: unknown key; did you mean objectives?"),
        ("budget:", "buget:", ":26: buget: unknown key; did you mean budget?"),
        ("tokens: 1e5", "token: 1e5", ":26: budget.token: unknown key; did you mean tokens?"),
        ("test: quiz", "tset: quiz", ":13: prompts.quiz.tset: unknown key; did you mean test?"),
        ("    test: {", "    tets: {", ":11: domains.general.tets: unknown key; did you mean "
         "test?"),
    ],
)  # fmt: skip
def test_a_misspelt_required_key_is_one_error(spec: Path, old: str, new: str, message: str) -> None:
    assert errors_of(edited(spec, old, new)) == [message]


@settings(max_examples=60)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*SearchConfig.model_fields, "x"]), inner, max_size=3)
        ),
        max_leaves=6,
    ),
    st.sampled_from(list(SearchConfig.model_fields)),
)
def test_whatever_a_section_holds_ends_in_an_error_or_a_config(
    tmp_path_factory: pytest.TempPathFactory, value: Any, section: str
) -> None:
    data = YAML(typ="safe", pure=True).load(SPEC)
    path = tmp_path_factory.mktemp("fuzz") / "a.yaml"
    written(path, json.dumps({**data, section: value}))
    try:
        config = load(path)
    except ConfigError as error:
        assert "pydantic" not in str(error)  # noqa: PT017
    else:
        assert configuration.from_plain(configuration.to_plain(config)) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "recipe.adapter: none trains all weights, and model.quantisation nf4 freezes them; "
         "take lora, or leave the quantisation out"),
        (["genome.adapter={type: choice, options: [lora, none]}"], "genome.adapter: none trains "),
        (["recipe.adapter=lora", "model.quantisation=nf5"], "model.quantisation: must be none, "
         "nf4 or int8, got 'nf5'; did you mean nf4?"),
        (["evaluator={command: [\"true\"]}", "recipe.mixture={}"], "model.quantisation: only "
         "evomix's own trainer and TRL quantise a base; leave it out"),
    ],
)  # fmt: skip
def test_quantisation_is_for_adapters_alone(spec: Path, settings: list[str], message: str) -> None:
    found = errors_of(spec, "model.quantisation=nf4", *settings)
    assert any(message in line for line in found), found


FLASH = ["model.attention=flash_attention_2", "resources.gpus=1"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (FLASH[:1], "model.attention: flash_attention_2 needs a GPU; set resources.gpus, or leave"),
        (FLASH, "model.attention: flash_attention_2 computes in bfloat16 alone; set model.dtype"),
        ([*FLASH, "model.dtype=bfloat16"], "model.attention: flash_attention_2 computes in bfloat16"
         " alone, and all weights are trained in float32; set recipe.precision to bfloat16, or"),
        (["model.attention=sdap"], "did you mean sdpa?"),
        (["model.attention=sdpa", "evaluator={command: [\"true\"]}", "recipe.mixture={}"],
         "model.attention: only evomix's own trainer and TRL choose how attention is computed"),
    ],
)  # fmt: skip
def test_flash_attention_has_its_conditions(spec: Path, settings: list[str], message: str) -> None:
    found = errors_of(spec, *settings)
    assert any(message in line for line in found), found


def test_flash_attention_in_bfloat16_on_a_gpu_is_fine(spec: Path) -> None:
    bfloat16 = "model.dtype=bfloat16", "recipe.precision=bfloat16"
    assert load(spec, [*FLASH, *bfloat16]).model.attention == "flash_attention_2"
