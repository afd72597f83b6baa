"""Predictions of a launch and its dry run: refusals, warnings, and the work of an evaluation."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import evo.quickstart
from evo import config as configuration
from evo import dry_run, run
from evo.cli import BAD_INPUT, DONE, main
from evo.config import ConfigError
from evo.prepare.outlook import Estimate, Outlook, duration, epochs, outlook
from evo.prepare.task import Prepared, prepare
from evo.progress.live import Progress
from evo.record.ledger import Ledger
from fitness import hardware
from fitness.cost import Shape, cost_of, scoring_flops, scoring_parts
from fitness.errors import InputError
from fitness.models.soundness import Soundness

CORPUS = Path(evo.quickstart.__file__).parent / "corpus"
SPEC = f"""\
name: little
model: {{base: quickstart}}
sources:
  jargon: {{path: {CORPUS}/sources/jargon.jsonl}}
  wordnet: {{path: {CORPUS}/sources/wordnet, limit: 200}}
domains:
  target:
    selection: {{path: {CORPUS}/held_out/jargon.selection.jsonl, limit: 20}}
    test: {{path: {CORPUS}/held_out/jargon.test.jsonl, limit: 20}}
  general:
    selection: {{path: {CORPUS}/held_out/general.selection.jsonl, limit: 150}}
    test: {{path: {CORPUS}/held_out/general.test.jsonl, limit: 10}}
prompts:
  jargon:
    selection: {CORPUS}/prompts/jargon.selection.jsonl
    test: {CORPUS}/prompts/jargon.test.jsonl
    metrics: [distinct_2]
    limit: 4
recipe: {{batch_size: 4, sequence_length: 48}}
genome:
  mixture: {{type: simplex}}
  learning_rate: {{type: float, low: 1e-4, high: 10, log: true}}
objectives: {{target/loss: minimize}}
baselines: []
search: {{strategy: nsga2, population: 4}}
budget: {{evaluations: 8, tokens: 200000}}
resources: {{workers: 1}}
"""
EMULATED, HARDWARE = 36.0, 0.4


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spec") / "search.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture(scope="module")
def prepared(spec: Path) -> Prepared:
    return prepare(configuration.load(spec))


@pytest.fixture
def seen(spec: Path, prepared: Prepared) -> Callable[..., Outlook]:
    """The prediction for the spec with other values."""

    def outlook_of(*overrides: str, **task: Any) -> Outlook:
        config = configuration.load(spec, overrides)
        own = replace(prepared.task, budget_tokens=config.budget.tokens, **task)
        return outlook(config, Prepared(own, {}))

    return outlook_of


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "bfloat16_cost", lambda *_: EMULATED)


def test_genes_and_fields_without_an_effect_are_named(seen: Callable[..., Outlook]) -> None:
    rank = "genome.lora_rank={type: int, low: 2, high: 8}"
    idle = "has no effect: adapter is never lora or dora"
    assert [n for n in seen(rank, "recipe.lora.alpha=4").notes if "no effect" in n] == [
        f"genome.lora_rank {idle}",
        f"recipe.lora_alpha {idle}",
    ]
    choice = "genome.adapter={type: choice, options: [none, lora]}"
    assert not [n for n in seen(rank, choice).notes if "no effect" in n]


def test_priors_that_a_sampler_ignores_are_named(seen: Callable[..., Outlook]) -> None:
    prior = "genome.warmup_share={type: float, low: 0, high: 0.5, prior: {at: 0.1}}"
    (note,) = [n for n in seen(prior, "search.strategy=optuna:tpe").notes if "no effect" in n]
    assert note == "genome.warmup_share.prior has no effect: optuna:tpe draws by itself"
    assert not [n for n in seen(prior).notes if "no effect" in n]


def test_nothing_is_said_of_what_is_fine(seen: Callable[..., Outlook]) -> None:
    found = seen()
    assert found.warnings == ()
    assert found.config.recipe["precision"] == "float32"


@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_gpus_on_a_machine_without_are_refused_before_ray_starts(
    spec: Path,
    dry: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(hardware, "gpus", lambda: 0)
    folder = tmp_path / "run"
    line = ["launch", str(spec), "--run", str(folder), "--set", "resources.gpus=0.5", *dry]
    assert main(line) == BAD_INPUT
    told = capsys.readouterr().err
    assert "resources.gpus 0.5: this machine has no GPU" in told
    assert "set resources.gpus to 0" in told
    assert not folder.exists()


def test_more_gpus_than_there_are_are_refused(
    seen: Callable[..., Outlook], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "gpus", lambda: 1)
    assert seen("resources.gpus=1").warnings == ()
    with pytest.raises(InputError, match=r"2 GPUs.* there is room for 0"):
        seen("resources.gpus=2")
    seen("resources.gpus=2", "resources.address=auto")  # a cluster may have them


def test_a_gpu_of_this_machine_is_used_where_the_spec_says_nothing_of_it(
    seen: Callable[..., Outlook], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert seen().config.resources.gpus == 0
    monkeypatch.setattr(hardware, "driver", lambda: True)
    monkeypatch.setattr(hardware, "gpus", lambda: 2)
    monkeypatch.setattr(hardware, "gpu_memory", lambda: 10**12)
    assert seen().config.resources.gpus == 1
    assert seen("resources.gpus=auto").config.resources.gpus == 1
    assert seen("resources.gpus=0").config.resources.gpus == 0
    assert seen("resources.address=auto").config.resources.gpus == 0
    monkeypatch.setattr(hardware, "gpus", lambda: 0)  # that PyTorch can use
    assert seen("resources.gpus=auto").config.resources.gpus == 0


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("recipe.precision=bfloat16", "precision bfloat16: this CPU"),
        ("genome.precision={type: choice, options: [float32, bfloat16]}", "precision bfloat16:"),
        ("model.dtype=bfloat16", "model.dtype bfloat16: this CPU"),
    ],
)
def test_bfloat16_on_a_cpu_that_emulates_it_is_warned_of(
    seen: Callable[..., Outlook], override: str, named: str
) -> None:
    (warning, *_) = seen(override).warnings
    assert warning.startswith(named)
    assert "36 times" in warning
    assert "set recipe.precision to float32 or auto" in warning


def test_bfloat16_in_hardware_is_not(
    seen: Callable[..., Outlook], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "bfloat16_cost", lambda *_: HARDWARE)
    assert seen("recipe.precision=bfloat16").warnings == ()


@pytest.mark.parametrize(("cost", "taken"), [(EMULATED, "float32"), (HARDWARE, "bfloat16")])
def test_auto_takes_the_faster_precision_and_it_stands_in_the_config(
    seen: Callable[..., Outlook], monkeypatch: pytest.MonkeyPatch, cost: float, taken: str
) -> None:
    monkeypatch.setattr(hardware, "bfloat16_cost", lambda *_: cost)
    found = seen("recipe.precision=auto")
    assert found.config.recipe["precision"] == taken
    assert found.warnings == ()


def test_on_a_cluster_a_worker_tells_what_auto_takes(spec: Path) -> None:
    config = configuration.load(spec, ["recipe.precision=auto", "resources.address=auto"])
    there: Any = SimpleNamespace(bfloat16_cost=lambda: HARDWARE)
    watch = Progress(config, Path(), "plain")
    assert run._measured(config, there, watch).recipe["precision"] == "bfloat16"
    there.bfloat16_cost = lambda: EMULATED
    assert run._measured(config, there, watch).recipe["precision"] == "float32"
    wrong = configuration.load(spec, ["recipe.precision=bfloat16", "resources.address=auto"])
    with pytest.warns(UserWarning, match="36 times"):
        run._measured(wrong, there, watch)


def test_the_cost_of_bfloat16_is_measured_on_this_cpu() -> None:
    assert 0 < hardware.bfloat16_cost() < math.inf


def test_auto_is_no_option_of_a_gene(spec: Path) -> None:
    gene = "genome.precision={type: choice, options: [float32, auto]}"
    with pytest.raises(ConfigError, match="settled once for a search"):
        configuration.load(spec, [gene])


def test_an_evaluation_longer_than_its_time_limit_is_warned_of(
    seen: Callable[..., Outlook],
) -> None:
    whole = seen().estimate
    assert whole is not None
    assert seen(f"resources.timeout={1.01 * whole.seconds}").warnings == ()
    (warning,) = seen(f"resources.timeout={0.99 * whole.seconds}").warnings
    assert warning.startswith("resources.timeout: ")
    assert f"at {whole.seconds:,.0f} s" in warning
    assert "raise it to some" in warning


@pytest.mark.usefixtures("emulated")
def test_an_estimate_in_emulated_bfloat16_is_as_much_longer(
    seen: Callable[..., Outlook],
) -> None:
    plain, slow = seen().estimate, seen("recipe.precision=bfloat16").estimate
    assert plain is not None
    assert slow is not None
    assert slow.seconds == pytest.approx(EMULATED * plain.seconds)


def test_an_estimate_is_the_cost_model_s_and_its_scoring_is_that_of_its_parts(
    seen: Callable[..., Outlook], prepared: Prepared
) -> None:
    found = seen().estimate
    assert found is not None
    assert found.total == pytest.approx(
        cost_of(prepared.task)({"mixture": {}, "batch_size": 4, "sequence_length": 48}, 1.0)
    )
    parts = scoring_parts(prepared.task)
    assert set(parts) == {"domains.target", "domains.general", "prompts.jargon"}
    assert found.scoring == pytest.approx(sum(flops for flops, _ in parts.values()))
    assert prepared.task.model is not None
    whole = scoring_flops(Shape.of(prepared.task.model), prepared.task)
    assert found.scoring == pytest.approx(whole)


def test_where_scoring_dominates_a_limit_is_suggested(seen: Callable[..., Outlook]) -> None:
    (warning,) = seen("budget.tokens=5000").warnings
    assert warning.startswith("domains.general: scoring takes ")
    assert "these 143 items" in warning
    assert "set their `limit`, for example to 100" in warning


def test_a_source_that_is_read_too_often_is_named(
    seen: Callable[..., Outlook], spec: Path, prepared: Prepared
) -> None:
    config = configuration.load(spec, ["budget.tokens=1e6"])
    often = epochs(config, prepared.task)
    assert often["jargon"][1] == 1e6 / prepared.task.sources["jargon"].tokens
    assert often["jargon"][0] == often["jargon"][1] / 2
    timeout = "resources.timeout=1e9"
    (warning,) = seen("budget.tokens=1e6", timeout).warnings
    assert warning.startswith("sources.jargon: its 35 documents are read 59 times")
    assert (
        seen("budget.tokens=1e6", timeout, "recipe.mixture={wordnet: 1}")
        .warnings[0]
        .startswith("sources.wordnet")
    )


ONE = "sources={jargon: {path: " + f"{CORPUS}/sources/jargon.jsonl" + "}}"


def test_a_mixture_of_one_source_is_warned_of_and_refused_where_nothing_else_varies(
    seen: Callable[..., Outlook], spec: Path, prepared: Prepared
) -> None:
    jargon = {"jargon": prepared.task.sources["jargon"]}
    (warning,) = seen(ONE, sources=jargon).warnings
    assert warning.startswith("genome.mixture: is over one source, jargon,")
    with pytest.raises(ConfigError, match=r"genome.mixture: is over one source, jargon, and the o"):
        configuration.load(spec, [ONE, "genome={mixture: {type: simplex}}"])


class Begun(Exception):
    """Raised instead of starting Ray."""


def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(*_: object) -> Iterator[None]:
        raise Begun

    monkeypatch.setattr(run, "_cluster", begin)


def test_a_launch_warns_of_what_its_dry_run_does(
    spec: Path,
    prepared: Prepared,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    limit = "resources.timeout=0.5"
    worst = "aggregates={worst: {max: '*/loss'}}"
    assert main(["launch", str(spec), "--dry-run", "--set", limit, "--set", worst]) == DONE
    printed = " ".join(capsys.readouterr().out.split())
    config = configuration.load(spec, [limit])
    assert f"worst: max of {', '.join(f'{name}/loss' for name in config.domains)} " in printed
    (told,) = outlook(config, prepared).warnings
    assert f"warning: {told}" in printed
    assert "% training and" in printed
    without_ray(monkeypatch)
    with pytest.warns(UserWarning, match="timeout") as caught, pytest.raises(Begun):
        run.launch(config, tmp_path / "run", Progress(config, tmp_path / "run", "plain"))
    assert [str(warning.message) for warning in caught] == [told]
    notes = outlook(config, prepared).notes
    errors = capsys.readouterr().err
    for note, beginning in zip(
        notes,
        (
            "search.population: 4, since the usual 16 do not fit",
            "search.simulate: mixtures are not simulated (search.strategy: nsga2",
        ),
        strict=True,
    ):
        assert note.startswith(beginning)
        assert f"note: {note}" in printed
        assert errors.count(f"evo: note: {note}") == 1


def test_a_base_s_adapter_warning_is_said_at_the_launch_and_in_no_unchanged_resume(
    spec: Path,
    prepared: Prepared,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    few = Soundness(packs=False, layers=100, adaptable={"q_proj": 14}, without={"experts": "3-D"})
    monkeypatch.setattr(run, "prepare", lambda _: replace(prepared, soundness=few))
    without_ray(monkeypatch)
    config = configuration.load(spec, ["recipe.adapter=lora", "recipe.isolate_documents=true"])
    folder = tmp_path / "run"
    watch = Progress(config, folder, "json")
    with pytest.warns(UserWarning, match=r"covers 14% .*experts: 3-D"), pytest.raises(Begun):
        run.launch(config, folder, watch)
    assert "evo: note: this base cannot keep documents" in capsys.readouterr().err
    plain = configuration.to_plain(config)
    known = {"config": plain, "fingerprints": prepared.fingerprints, "time": 1.0}
    Ledger.create(folder, known).close()
    with pytest.raises(Begun):
        run.continue_search(folder, config, watch)
    assert "note" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flops", "told"),
    [
        (1e6, "very roughly under a second, and under a minute in all on 1 CPU worker, includ"),
        (2e11, "very roughly 10 s, and 94 s in all"),  # 30 + 4 * 10 + 3 * 8, scoring being 8 s
        (4e13, "very roughly 33 min, and 4 h in all"),
    ],
)
def test_an_estimate_has_the_start_and_the_base_in_it_and_is_never_0_s(
    flops: float, told: str
) -> None:
    one = Estimate(0.2 * flops, 0.8 * flops, rate=2e10)
    assert told in dry_run._work(one, fine_tunes=4, bases=3, workers=1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "under a second"), (4, "4 s"), (200, "3 min"), (8000, "2 h"), (250_000, "3 days")],
)
def test_durations_are_told_in_the_largest_unit_of_which_there_are_two(
    seconds: float, text: str
) -> None:
    assert duration(seconds) == text
