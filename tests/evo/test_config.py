import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from ruamel.yaml import YAML

from evo import config as configuration
from evo.config import ConfigError, Constraint, Objective, SearchConfig, load
from evo.config.file import MOST_ERRORS, read
from evo.config.sections import Budget, Comparison, Halves, Model, Resources, Search, TwoFiles
from evo.config.starter import QUICKSTART_FOLDER, TEMPLATE, init
from fitness.documents import Source, documents
from fitness.errors import InputError
from fitness.generation import PromptSet, read_prompts
from fitness.recipe import Recipe
from population.space import Choice, Float, Simplex

SPEC = """\
name: a
model: {base: quickstart}
sources:
  jargon: {path: jargon.jsonl}
  devil: {path: texts/devil.txt}
  wordnet: {path: "hub:owner/wordnet"}
domains:
  target: {path: held_out.jsonl}
  general:
    selection: {path: general/selection.jsonl}
    test: {path: general/test.jsonl}
prompts:
  quiz: {selection: quiz.jsonl, test: quiz.test.jsonl}
recipe:
  learning_rate: 1e-3
  batch_size: 8
genome:
  mixture: {type: simplex}
  learning_rate: {type: float, low: 1e-4, high: 1e-2, log: true}
  decay: {type: choice, options: [linear, cosine]}
objectives:
  target/loss: minimize
  quiz/chrf: maximize
constraints: ["general/loss <= 3.1"]
search: {population: 6}
budget: {evaluations: 12, tokens: 1e5}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "a.yaml"
    path.write_text(SPEC, encoding="utf-8")
    return path


def errors_of(path: Path, *overrides: str) -> list[str]:
    """The lines of the error screen, the file's name cut off."""
    with pytest.raises(ConfigError) as raised:
        load(path, overrides)
    return [line.removeprefix(str(path)) for line in str(raised.value).splitlines()]


def edited(path: Path, old: str, new: str) -> Path:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def plain_yaml(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


# ---------------------------------------------------------------- loading


def test_a_spec_loads_with_numbers_as_yaml_1_2_reads_them(spec: Path) -> None:
    config = load(spec)
    assert config.recipe["learning_rate"] == 0.001
    assert config.budget.tokens == 100_000
    assert config.genome["learning_rate"] == Float(1e-4, 1e-2, log=True)


def test_paths_are_taken_from_the_folder_of_the_spec(
    spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = spec.parent
    monkeypatch.chdir(folder.parent)
    config = load(Path(folder.name) / spec.name)
    assert config.sources["devil"].path == str(folder / "texts" / "devil.txt")
    assert config.sources["wordnet"].path == "hub:owner/wordnet"
    target, general = config.domains["target"], config.domains["general"]
    assert isinstance(target, Halves)
    assert isinstance(general, TwoFiles)
    assert target.path == str(folder / "held_out.jsonl")
    assert general.test.path == str(folder / "general" / "test.jsonl")
    assert config.prompts["quiz"].selection == str(folder / "quiz.jsonl")


def test_a_domain_tells_the_source_of_each_split(spec: Path) -> None:
    domains = load(spec).domains
    target, general = domains["target"].splits(), domains["general"].splits()
    assert target["selection"] == (domains["target"], "selection")
    assert target["test"] == (domains["target"], "test")
    assert [half for _, half in general.values()] == [None, None]
    assert general["test"][0].path.endswith("general/test.jsonl")


def test_a_model_is_the_shipped_one_a_folder_or_a_hub_id(spec: Path) -> None:
    (spec.parent / "mine").mkdir()
    assert load(spec).model.base == str(QUICKSTART_FOLDER / "model")
    for given_base, resolved in {
        "mine": str(spec.parent / "mine"),
        "./other": str(spec.parent / "other"),
        "owner/model": "owner/model",
    }.items():
        assert load(spec, [f"model.base={given_base}"]).model.base == resolved


def test_the_quickstart_loads_by_name_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load("quickstart")
    assert config.name == "quickstart"
    assert all(Path(source.path).is_file() for source in config.sources.values())


def test_overrides_reach_sections_lists_genes_and_new_names(spec: Path) -> None:
    config = load(
        spec,
        [
            "search.population=24",
            "budget.evaluations=48",
            "genome.learning_rate.high=1e-1",
            "sources.jargon.path=/elsewhere/x.jsonl",
            "constraints.0=target/loss <= 2",
            "objectives.general/loss=minimize",
            "resources.address=ray://host:10001",
            "sources.rfc={path: rfc.txt}",
        ],
    )
    assert config.search.population == 24
    assert config.genome["learning_rate"] == Float(1e-4, 1e-1, log=True)
    assert config.sources["jargon"].path == "/elsewhere/x.jsonl"
    assert config.constraints == ("target/loss <= 2",)
    assert list(config.objectives) == ["target/loss", "quiz/chrf", "general/loss"]
    assert config.resources.address == "ray://host:10001"
    assert list(config.sources) == ["jargon", "devil", "wordnet", "rfc"]


def test_an_override_finds_names_that_hold_dots(spec: Path) -> None:
    edited(spec, "devil:", "v1.5:")
    config = load(spec, ["sources.v1.5.path=/x.txt"])
    assert config.sources["v1.5"].path == "/x.txt"


def test_an_empty_section_is_as_good_as_left_out(spec: Path) -> None:
    config = load(edited(spec, 'constraints: ["general/loss <= 3.1"]', "constraints:\nresources:"))
    assert config.constraints == ()
    assert config.resources == Resources()


def test_a_config_is_frozen(spec: Path) -> None:
    config = load(spec)
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3  # type: ignore[misc]


# ---------------------------------------------------------------- located errors


def test_all_errors_come_in_one_go_sorted_by_line(spec: Path) -> None:
    edited(spec, "search: {population: 6}", "search: {populaton: 6, strategy: nsga9}")
    edited(spec, "batch_size: 8", "batch_size: eight")
    edited(spec, "low: 1e-4, high: 1e-2", "low: 1e-2, high: 1e-4")
    edited(spec, "jargon: {path: jargon.jsonl}", "jargon: {paht: jargon.jsonl}")
    edited(spec, "general/loss <= 3.1", "general/loss < 3.1")
    assert errors_of(spec) == [
        ":4: sources.jargon.paht: unknown key; did you mean path?",
        ":4: sources.jargon.path: missing; a file, a folder, or hub:owner/name[/config][@split]",
        ":16: recipe.batch_size: needs a whole number, got 'eight'",
        ":19: genome.learning_rate: low must be below high, got low=0.01, high=0.0001; swap them",
        ":24: constraints.0: needs `<measurement> <= <number>` or `>=`, got 'general/loss < 3.1'; "
        "write for example `general/loss <= 3.1`",
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
         ":8: domains.target.test: missing; held-out text to read once"),
        ("target: {path: held_out.jsonl}", "target: {path: held_out.jsonl, lmit: 3}",
         ":8: domains.target.lmit: unknown key; did you mean limit?"),
        ("target: {path: held_out.jsonl}", "target: held_out.jsonl",
         ":8: domains.target: needs a mapping (key: value), got 'held_out.jsonl'"),
        ("test: quiz.test.jsonl", "test: quiz.test.jsonl, metrics: [chrff]",
         ":13: prompts.quiz.metrics.0: 'chrff': unknown"),
        ("batch_size: 8", "batch_siez: 8", ":16: recipe.batch_siez: unknown key; did you mean "
         "batch_size?"),
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
         "linear or cosine, got 'cosin'; did you mean cosine?"),
        ("[linear, cosine]", "[linear, cosine], when: {learning_rate: 1}",
         ":20: genome.decay.when: when may name a choice or an int gene"),
        ("decay: {type: choice, options: [linear, cosine]}", "batch_size: {type: float, low: 4, "
         "high: 8}", ":20: genome.batch_size.type: batch_size is a whole number; use type: int"),
        ("decay: {type: choice, options: [linear, cosine]}", "dropout: {type: simplex}",
         ":20: genome.dropout.type: only `mixture` is a simplex gene"),
        ("target/loss: minimize", "target/los: minimize", ":22: objectives.target/los: nobody "
         "measures target/los; did you mean target/loss?"),
        ("target/loss: minimize", "target/loss: minimise", ":22: objectives.target/loss: must be "
         "minimize or maximize, got 'minimise'; did you mean minimize?"),
        ("general/loss <= 3.1", "novel/loss <= 3.1", ":24: constraints.0: nobody measures "
         "novel/loss; did you mean"),
        ("search:", "baselines: [uniform, only devl]\nsearch:", ":25: baselines.1: unknown source "
         "'devl'; did you mean devil?"),
        ("search:", "baselines: [unifrom]\nsearch:", ":25: baselines.0: must be uniform, "
         "proportional or only <source>, got 'unifrom'; did you mean uniform?"),
        ("population: 6", "population: 3", ":25: search.population: population 3 is too small for "
         "nsga2"),
        ("population: 6", "strategy: nsga, population: 6", ":25: search.strategy: unknown strategy;"
         " did you mean nsga2?"),
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
        ("budget: {evaluations: 12, tokens: 1e5}", "", ":1: budget: missing; what the search may "
         "spend"),
    ],
)  # fmt: skip
def test_each_mistake_is_told_at_its_line(spec: Path, old: str, new: str, message: str) -> None:
    lines = errors_of(edited(spec, old, new))
    assert any(line.startswith(message) for line in lines), "\n".join(lines)
    assert not re.search(r"pydantic|https?://|type=|Union|BaseModel", "\n".join(lines))


def test_a_mistake_in_one_place_hides_none_elsewhere(spec: Path) -> None:
    edited(spec, "jargon: {path: jargon.jsonl}", "jargon: {path: jargon.jsonl, limt: 3}")
    edited(spec, "batch_size: 8", "mixture: {jargon: 0.5, devl: 0.5}")
    edited(spec, "{type: simplex}", "{type: simplex, floor: 0.4}")
    edited(spec, "target/loss: minimize", "target/los: minimize")
    edited(spec, "population: 6", "population: 3")
    edited(spec, "budget: {", "baselines: [only jargn]\nbudget: {")
    assert [":".join(line.split(":")[1:3]) for line in errors_of(spec)] == [
        "4: sources.jargon.limt",
        "16: recipe.mixture.devl",
        "18: genome.mixture",
        "22: objectives.target/los",
        "25: search.population",
        "26: baselines.0",
    ]


def test_errors_of_overrides_name_the_override(spec: Path) -> None:
    assert errors_of(
        spec,
        "search.populaton=6",
        "budget.tokens=many",
        "genome.learning_rate.high=1e-9",
        "sources.jargn.path=x",
        "constraints.3=x",
        "name.first=x",
    ) == [
        "--set budget.tokens=many: budget.tokens: needs a whole number, got 'many'",
        "--set constraints.3=x: constraints: has 1 entries, counted from 0",
        "--set genome.learning_rate.high=1e-9: genome.learning_rate: low must be below high, "
        "got low=0.0001, high=1e-09; swap them",
        "--set name.first=x: name: is a single value, so it has no first",
        "--set search.populaton=6: search.populaton: unknown key; did you mean population?",
        "--set sources.jargn.path=x: sources.jargn: unknown key; did you mean jargon?",
    ]


@pytest.mark.parametrize("override", ["population", "=3", "search.population=[1"])
def test_an_override_that_cannot_be_read_is_refused(spec: Path, override: str) -> None:
    assert errors_of(spec, override)[0].startswith(f"--set {override}: ")


# ---------------------------------------------------------------- files that are no spec


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ": the file is empty"),
        (b"# nothing\n", ": the file is empty"),
        (b"- a\n", ":1: a spec is a mapping of sections (`model:`, `genome:` ...), this is a list"),
        (b"name: x\nsearch:\n\tpopulation: 3\n", ":3: not valid YAML: a tab; indent with spaces"),
        (b"name: x\ny: caf\xe9\n", ":2: not UTF-8 (byte 0xe9 at offset 14)"),
        (b"name: x\na: b: c\n", ":2: not valid YAML: an unexpected `:`"),
        (b"name: x\na: 'b\nc: d\n", ":2: not valid YAML: a quote opens here and never closes"),
        (b"name: x\n---\nname: y\n", ":2: not valid YAML: a second document begins"),
        (b"name: x\x00\n", ": not valid YAML: unacceptable character #x0000"),
        (b"a: " + b"[" * 1000, ": nested far too deeply for a spec"),
    ],
)
def test_a_file_that_is_no_spec_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    assert errors_of(written(tmp_path / "a.yaml", content))[0].startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nseed: 1\nname: b\n", ":3: name: given twice, first in line 1; keep one of them"),
        ("budget: &b\n  tokens: *b\n", ":1: budget: refers to itself through an alias"),
        ("model: !!python/object:os.system {}\nseed: !x 3\n", ":2: seed: the tag !x is not"),
        ("seed: " + "9" * 5000 + "\n", ":1: seed: a number too long to read"),
        ("? [a, b]\n: 3\n", ":1: a key must be a word"),
    ],
)
def test_yaml_that_a_spec_has_no_use_for_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    lines = errors_of(written(tmp_path / "a.yaml", text))
    assert any(line.startswith(message) for line in lines), "\n".join(lines)


def test_aliases_that_multiply_without_bound_are_refused(tmp_path: Path) -> None:
    text = "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n" + "".join(
        f"{here}: &{here} [{', '.join([f'*{before}'] * 9)}]\n"
        for before, here in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert "alias" in "\n".join(errors_of(written(tmp_path / "a.yaml", text)))


def test_a_missing_spec_names_what_is_near(
    tmp_path: Path, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "search.yaml", SPEC)
    for name, message in {
        "serch.yaml": "serch.yaml: there is no such spec; did you mean search.yaml?",
        "quickstrat": "quickstrat: there is no such spec; did you mean quickstart?",
        "zzz": "zzz: there is no such spec; there are a.yaml, search.yaml",
        ".": ".: a folder, not a spec; name the file: a.yaml, search.yaml",
    }.items():
        with pytest.raises(ConfigError) as raised:
            load(name)
        assert str(raised.value) == message


@settings(max_examples=60, deadline=None)
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


# ---------------------------------------------------------------- own evaluators


def test_an_own_evaluator_brings_its_own_genes_and_measurements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "toy_evaluator_a.py", "def score(recipe, **_):\n    return {'cost': 1.0}\n")
    path = written(
        tmp_path / "a.yaml",
        "name: toy\nevaluator: toy_evaluator_a:score\nrecipe: {depth: 3, notes: [1, null]}\n"
        "genome:\n  depth: {type: int, low: 1, high: 9}\n  width: {type: float, low: 0, high: 1}\n"
        "objectives: {cost: minimize}\nsearch: {strategy: random, population: 1}\n"
        "budget: {evaluations: 3, tokens: 1}\n",
    )
    monkeypatch.chdir(tmp_path.parent)
    before = list(sys.path)
    config = load(path)
    assert sys.path == before
    assert config.import_from == str(tmp_path)
    assert configuration.baselines(config, {}) == [("default", {"depth": 3, "width": 0.5})]
    assert configuration.decode(config, {"depth": 4, "width": 0.1}) == {
        "depth": 4,
        "notes": [1, None],
        "width": 0.1,
    }
    assert configuration.from_plain(configuration.to_plain(config)) == config


@pytest.mark.parametrize(
    ("evaluator", "message"),
    [
        ("bultin", "must be builtin or module:function, got 'bultin'; did you mean builtin?"),
        ("toy_evaluator_b:scoer", "'toy_evaluator_b:scoer': toy_evaluator_b has no 'scoer'"),
        ("toy_evaluater_b:score", "'toy_evaluater_b:score': there is no module"),
        ("toy_evaluator_b:LIMIT", "'toy_evaluator_b:LIMIT': is a int; it must be a function"),
        ("toy_evaluator_c:score", "'toy_evaluator_c:score': importing toy_evaluator_c failed"),
    ],
)
def test_an_evaluator_that_does_not_exist_is_told(spec: Path, evaluator: str, message: str) -> None:
    written(spec.parent / "toy_evaluator_b.py", "LIMIT = 3\ndef score(recipe, **_): ...\n")
    written(spec.parent / "toy_evaluator_c.py", "1 / 0\n")
    line = errors_of(spec, f"evaluator={evaluator}")[0]
    assert line.startswith(f"--set evaluator={evaluator}: evaluator: {message}")


def test_reading_a_recorded_config_runs_no_code_of_its_evaluator(spec: Path) -> None:
    plain = configuration.to_plain(load(spec)) | {"evaluator": "no_such_module_at_all:score"}
    assert configuration.from_plain(plain).evaluator == "no_such_module_at_all:score"


# ---------------------------------------------------------------- what a spec means


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


def test_constraints_parse_with_any_spacing() -> None:
    assert Constraint.parse(" a b/loss<=-1e-3 ") == Constraint("a b/loss", 1, -0.001)
    assert Constraint.parse("x >= 0").excess({"x": -1e-9}) == pytest.approx(1.0)
    for text in ("", "a <=", "<= 3", "a <= b", "a <= nan", "a == 3", "a <= 1 <= 2"):
        with pytest.raises(ValueError, match="write for example"):
            Constraint.parse(text)


# ---------------------------------------------------------------- plain form


def test_plain_form_yaml_and_json_lead_back_to_the_same_config(spec: Path, tmp_path: Path) -> None:
    config = load(
        spec,
        [
            "genome.warmup_share={type: float, low: 0, high: 1e-7, when: {decay: [cosine]}}",
            "genome.dropout={type: choice, options: [0, 0.1]}",
            "name='1e-3'",
            "recipe.learning_rate=0.1234567890123456789",
        ],
    )
    plain = configuration.to_plain(config)
    assert configuration.from_plain(json.loads(json.dumps(plain))) == config
    again = tmp_path / "run" / "config.yaml"
    again.parent.mkdir()
    configuration.write_config(config, again)
    reloaded = load(again)
    assert reloaded == config
    assert configuration.difference(plain, configuration.to_plain(reloaded)) == []
    assert list(again.parent.iterdir()) == [again]


PLAIN = st.recursive(
    st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False)
    | st.text(max_size=9)
    | st.sampled_from(["yes", "1e-3", "null", "~", "2024-01-01", "<<", "=", "- a", "a: b", "#"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(["<<", "1"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(value=PLAIN)
def test_whatever_is_written_as_yaml_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, value: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "plain.yaml"
    configuration.write_yaml({"x": value}, path)
    found = read(path)
    assert repr(found.data) == repr({"x": value})
    assert not found.problems


def test_the_config_of_a_run_is_the_last_recorded(spec: Path) -> None:
    first, second = load(spec), load(spec, ["budget.evaluations=99"])
    facts: list[dict[str, Any]] = [
        {"fact": "search", "config": configuration.to_plain(first)},
        {"fact": "resumed", "config": configuration.to_plain(second)},
        {"fact": "finished"},
    ]
    assert configuration.of(facts) == second
    assert configuration.of(facts[:1]) == first


def test_a_recorded_config_that_no_longer_fits_is_told(spec: Path) -> None:
    plain = configuration.to_plain(load(spec))
    plain["search"]["populaton"] = 3
    with pytest.raises(ConfigError, match=r"^the recorded spec: search\.populaton: unknown key"):
        configuration.from_plain(plain)


def test_differences_are_told_a_line_each(spec: Path) -> None:
    old = configuration.to_plain(load(spec))
    new = configuration.to_plain(
        load(spec, ["search.population=8", "recipe.mixture={jargon: 1}", "constraints=[]"])
    )
    assert configuration.difference(old, new) == [
        'recipe.mixture: (left out) -> {"jargon": 1.0}',
        'constraints: ["general/loss <= 3.1"] -> []',
        "search.population: 6 -> 8",
    ]
    assert configuration.difference(old, old) == []


def test_another_order_of_objectives_is_a_difference(spec: Path) -> None:
    old = configuration.to_plain(load(spec))
    new = old | {"objectives": dict(reversed(old["objectives"].items()))}
    assert configuration.difference(old, new) == [
        "objectives: order target/loss, quiz/chrf -> quiz/chrf, target/loss"
    ]


# ---------------------------------------------------------------- schema, template, import


@pytest.mark.parametrize("path", [TEMPLATE, QUICKSTART_FOLDER / "search.yaml"])
def test_shipped_specs_conform_to_the_schema(path: Path) -> None:
    schema = configuration.json_schema()
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    data = plain_yaml(path)
    validator.validate(data)
    data["search"]["populaton"] = 3
    assert not validator.is_valid(data)


def test_every_key_is_described_in_the_schema() -> None:
    schema = configuration.json_schema()
    genes = {"Float", "Int", "Choice", "Simplex"}
    for name, part in {"spec": schema, **schema["$defs"]}.items():
        for key, value in part.get("properties", {}).items():
            described = value.get("description") or (
                "$ref" in value and schema["$defs"][value["$ref"].split("/")[-1]]["description"]
            )
            assert described or name in genes, f"{name}.{key}"


def test_the_template_gives_each_key_with_its_default() -> None:
    text = TEMPLATE.read_text(encoding="utf-8")
    data = plain_yaml(TEMPLATE)
    sections: list[tuple[type[BaseModel], dict[str, Any]]] = [
        (SearchConfig, data),
        (Model, data["model"]),
        (Search, data["search"]),
        (Budget, data["budget"]),
        (Resources, data["resources"]),
        (Comparison, data["comparison"]),
        (Recipe, data["recipe"]),
        (PromptSet, data["prompts"]["jargon"]),
        (Source, data["sources"]["jargon"]),
    ]
    of_this_search = ("base", "sources", "domains", "prompts", "recipe")
    for model, section in sections:
        for key, field in model.model_fields.items():
            if key not in section:
                assert re.search(rf"#: {key}: ", text), f"{model.__name__}.{key} is not shown"
            elif key not in of_this_search and not isinstance(section[key], dict):
                stated = section[key]
                stated = tuple(stated) if isinstance(stated, list) else stated
                assert field.is_required() or stated == field.default, f"{model.__name__}.{key}"
    simplex = data["genome"]["mixture"]
    assert (simplex["floor"], simplex["cap"]) == (Simplex().floor, Simplex().cap)


def test_the_examples_in_the_template_are_valid(tmp_path: Path) -> None:
    text = re.sub(r"^constraints: .*$|^baselines: .*$", "", TEMPLATE.read_text(), flags=re.M)
    path = written(tmp_path / "a.yaml", re.sub(r"#: ", "", text))
    config = load(path)
    assert config.constraints == ("general/loss <= 6.5",)
    assert isinstance(config.genome["lora_rank"].when, dict)
    assert config.sources["jargon"].limit == 1000


def test_init_writes_a_spec_whose_data_can_be_read(tmp_path: Path) -> None:
    files = init(tmp_path / "new")
    assert files[0] == tmp_path / "new" / "search.yaml"
    config = load(files[0])
    for source in config.sources.values():
        assert sum(len(text) for text in documents(source, tmp_path)) > 5_000
    for domain in config.domains.values():
        for source, half in domain.splits().values():
            assert len(list(documents(source, tmp_path, half=half))) >= 10
    prompts = config.prompts["jargon"]
    for path in (prompts.selection, prompts.test):
        assert len(read_prompts("jargon", path, prompts).prompts) == 16


def test_init_leaves_what_is_there(tmp_path: Path) -> None:
    there = tmp_path / "data" / "prompts" / "jargon.test.jsonl"
    there.parent.mkdir(parents=True)
    there.write_text("mine")
    with pytest.raises(InputError, match=r"jargon.test.jsonl: is there already"):
        init(tmp_path)
    assert not (tmp_path / "search.yaml").exists()
    assert there.read_text() == "mine"


def test_importing_the_config_loads_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "ray", "optuna", "pandas", "datasets", "pyarrow", "plotly")
    code = f"import sys, evo.config; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_genes_are_the_ones_of_the_search_space(spec: Path) -> None:
    space = configuration.space(load(spec))
    assert list(space.genes) == ["mixture", "learning_rate", "decay"]
    assert isinstance(space.genes["decay"], Choice)
