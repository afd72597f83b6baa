"""Proxies: what their searches are, what transfers from them, and resumes after any end."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evo import config as configuration
from evo import launching
from evo import run as running
from evo.cli import BAD_INPUT, DONE, main
from evo.config import SearchConfig
from evo.progress.listing import listed, runs_in
from evo.progress.live import Progress
from evo.progress.status import status
from evo.proxies.loop import prepared
from evo.proxies.spec import spec_of
from fitness.errors import InputError
from tests.evo.facts import read
from tests.evo.proxies.scenario import LAYERS, Workers, grown, spec
from tests.evo.search.test_loop import outcome
from tests.fitness.quickstart import MODEL

TWO = (
    "proxies: [{base: quickstart, evaluations: 7, tokens: 384}]",
    "proxies: [{base: quickstart, evaluations: 7, tokens: 384}, {base: MIDDLE, evaluations: 6}]",
)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grown(tmp_path_factory.mktemp("large") / "model")


@pytest.fixture(scope="module")
def middle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grown(tmp_path_factory.mktemp("middle") / "model", layers=4)


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Stand-ins in place of Ray; called again, with the evaluation at which the driver ends."""
    monkeypatch.setattr(running, "Cluster", Workers)
    Workers.reset()
    return Workers.reset


def quiet(config: SearchConfig, run: Path) -> Progress:
    return Progress(config, run, "json")


def launch(path: Path, run: Path, *overrides: str) -> bool:
    return launching.launch(configuration.load(path, overrides), run, quiet)


def facts_of(run: Path, kind: str) -> list[Any]:
    return [fact for fact in read(run) if fact["fact"] == kind]


def test_the_spec_of_a_proxy_searches_mixtures_alone(tmp_path: Path, large: Path) -> None:
    known = ("objectives:", "known: [{mixture: {devil: 1}}, {mixture: {devil: 1}, adapter: lora}, "
             "{adapter: lora}]\nobjectives:")  # fmt: skip
    config = configuration.load(
        spec(tmp_path, large, known, ("adapter: lora}}", "adapter: none}}"))
    )
    found = spec_of(config, 1)
    assert list(found.genome) == ["mixture"]
    assert found.model.base == str(MODEL)
    assert found.model.proxies == ()
    assert (found.budget.evaluations, found.budget.tokens) == (7, 384)
    assert found.comparison.seeds == 0
    assert found.known == ({"mixture": {"devil": 1}},)
    assert found.recipe["learning_rate"] == 1e-3
    assert found.recipe["lora_rank"] == configuration.default_genome(config)["lora_rank"]
    assert found.seed == config.seed
    assert configuration.from_plain(configuration.to_plain(found)) == found  # it can be recorded


def test_a_population_too_large_for_the_proxy_is_fitted(tmp_path: Path, large: Path) -> None:
    changes = ("population: 4", "population: 10"), ("evaluations: 6,", "evaluations: 12,")
    found = spec_of(configuration.load(spec(tmp_path, large, *changes)), 1)
    assert found.search.population == 4  # half of 7
    assert configuration.from_plain(configuration.to_plain(found)) == found


def test_a_run_searches_on_the_proxy_and_then_on_the_base_by_its_mixtures(
    tmp_path: Path, large: Path, workers: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert launch(spec(tmp_path, large), run)
    assert [task.model for task in Workers.started] == [MODEL, large]
    own = run / "proxy-1"
    assert not any(fact["split"] == "test" for fact in facts_of(own, "evaluation"))
    [imported] = facts_of(run, "imported")
    assert imported["proxy"] == 1
    assert imported["genes"] == ["mixture"]
    assert imported["recalled"] == []
    assert all(list(one["genome"]) == ["mixture"] for one in imported["guide"])
    assert len(imported["guide"]) == 7
    bred = facts_of(run, "individual")
    assert any(one["operator"] == "guide: proxy-1" for one in bred)
    said = capfd.readouterr().err
    assert "note: proxy-1: 0 individuals to recall, 7 as a guide, 0 refused" in said
    assert "proxy-1: sources by name, since each model has its own tokens: jargon, devil; " in said
    assert "only mixtures are taken: learning_rate, adapter, lora_rank" in said


def test_what_a_proxy_scored_leads_the_base_to_good_mixtures(
    tmp_path: Path, large: Path, workers: Callable[..., None]
) -> None:
    path = spec(tmp_path, large, ("evaluations: 7,", "evaluations: 16,"))
    launch(path, tmp_path / "proxied")
    launch(path, tmp_path / "alone", "model.proxies=[]")
    error = {}
    for name in ("proxied", "alone"):
        bred = [one for one in facts_of(tmp_path / name, "individual") if one["id"] > 0]
        error[name] = min(abs(one["genome"]["mixture"]["jargon"] - 0.8) for one in bred)
    assert error["proxied"] < 0.02
    assert error["proxied"] < error["alone"]


def test_what_is_measured_on_the_workers_is_measured_once_on_the_base(
    tmp_path: Path, large: Path, workers: Callable[..., None]
) -> None:
    run = tmp_path / "run"
    assert launch(spec(tmp_path, large), run, "search.bucket=auto")
    assert [task.model for task in Workers.started] == [large, MODEL, large]
    for folder in (run, run / "proxy-1"):
        assert configuration.of(read(folder)).search.bucket == 2
        assert configuration.load(folder / "config.yaml").search.bucket == 2


def test_each_proxy_guides_all_after_it(
    tmp_path: Path, large: Path, middle: Path, workers: Callable[..., None]
) -> None:
    run = tmp_path / "run"
    assert launch(spec(tmp_path, large, TWO, ("MIDDLE", str(middle))), run)
    assert [task.model for task in Workers.started] == [MODEL, middle, large]
    assert [one["run"] for one in facts_of(run / "proxy-2", "imported")] == ["proxy-1"]
    assert [one["proxy"] for one in facts_of(run, "imported")] == [1, 2]


@pytest.mark.parametrize("stops", [False, True])
def test_a_resume_after_any_end_gives_the_same_run(
    tmp_path: Path, large: Path, middle: Path, workers: Callable[..., None], stops: bool
) -> None:
    path = spec(tmp_path, large, TWO, ("MIDDLE", str(middle)), ("simulate: off", "simulate: auto"))
    assert launch(path, tmp_path / "whole")
    for name in (".", "proxy-1", "proxy-2"):
        assert facts_of(tmp_path / "whole" / name, "simulation")
    every = Workers.evaluated
    for ends in (every // 2,) if stops else (every // 2, every - 2):
        run = tmp_path / f"ended-{ends}"
        workers(ends, stops=stops)
        if stops:
            assert not launch(path, run)
            assert read(run)[-1]["fact"] == "stopped"
        else:
            with pytest.raises(KeyboardInterrupt):
                launch(path, run)
        assert launching.resume(run, [], quiet)
        assert Workers.evaluated == every if not stops else Workers.evaluated <= every + 3
        for name in (".", "proxy-1", "proxy-2"):
            assert outcome(run / name) == outcome(tmp_path / "whole" / name)


def test_a_spec_derived_anew_takes_what_the_launch_settled_for_auto(
    tmp_path: Path, large: Path, workers: Callable[..., None]
) -> None:
    overrides = ["model.proxies=[]", "search.simulate=auto", "recipe.precision=auto"]
    config = configuration.load(spec(tmp_path, large), [*overrides, "search.bucket=auto"])
    run = tmp_path / "run"
    workers(4)
    with pytest.raises(KeyboardInterrupt):
        launching.launch(config, run, quiet)
    begun = configuration.of(read(run))
    assert begun.search.simulate == 24
    with quiet(config, run) as watch:
        assert running.continue_search(run, config, watch)
    assert configuration.of(read(run)) == begun
    with pytest.raises(InputError, match=r"search.simulate: 24 -> 60"):
        launching.resume(run, ["search.simulate=60"], quiet)


def test_a_finished_proxy_is_imported_by_a_resume_and_then_not_needed(
    tmp_path: Path, large: Path, workers: Callable[..., None]
) -> None:
    path, run = spec(tmp_path, large), tmp_path / "run"
    launch(path, tmp_path / "whole")
    launch(path, run)
    lines = (run / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    assert b'"imported"' in lines[1]
    (run / "ledger.jsonl").write_bytes(lines[0])
    workers()
    assert launching.resume(run, [], quiet)
    assert [task.model for task in Workers.started] == [large]
    assert outcome(run) == outcome(tmp_path / "whole")
    (run / "ledger.jsonl").write_bytes(b"".join(lines[:8]))
    shutil.rmtree(run / "proxy-1")
    assert launching.resume(run, [], quiet)
    assert outcome(run) == outcome(tmp_path / "whole")
    assert launching.resume(run, [], quiet)  # at once


def test_the_commands_on_runs_tell_of_the_proxy_while_it_is_searched_on(
    tmp_path: Path, large: Path, workers: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    path, run = spec(tmp_path, large), tmp_path / "runs" / "run"
    workers(4)
    with pytest.raises(KeyboardInterrupt):
        launch(path, run)
    found = status(run)
    assert (found["state"], found["done"], found["total"]) == ("stopped", 0, 6)
    assert found["proxy_under_way"]["run"] == str(run / "proxy-1")
    assert (found["proxy_under_way"]["done"], found["proxy_under_way"]["total"]) == (3, 7)
    capsys.readouterr()
    assert main(["status", str(run)]) == DONE
    assert "proxy-1" in (said := capsys.readouterr().out)
    assert "3 of 7" in said
    assert [one["state"] for one in listed(runs_in([run.parent]))] == ["stopped"]
    assert main(["ls", str(run.parent)]) == DONE
    assert "proxy-1: 3 of 7" in " ".join(capsys.readouterr().out.split())
    assert main(["report", str(run)]) == DONE
    said = capsys.readouterr().out
    assert "No individual has been evaluated yet." in said
    assert f"evo report {run / 'proxy-1'}" in said
    assert main(["history", str(run), "--csv", str(tmp_path / "rows.csv")]) == DONE
    assert launching.resume(run, [], quiet)
    assert "proxy_under_way" not in status(run)
    assert main(["report", str(run / "proxy-1")]) == DONE
    assert "comparison.seeds is 0" in " ".join(capsys.readouterr().out.split())


def test_a_resume_may_raise_the_budget_but_not_change_the_proxies(
    tmp_path: Path, large: Path, workers: Callable[..., None]
) -> None:
    path, run = (
        spec(tmp_path, large, ("evaluations: 7, tokens: 384", "tokens: 384")),
        tmp_path / "r",
    )
    workers(3)
    with pytest.raises(KeyboardInterrupt):
        launch(path, run)
    with pytest.raises(InputError, match=r"(?s)model.proxies: .*restore these"):
        launching.resume(run, ["model.proxies.0.tokens=400"], quiet)
    assert launching.resume(run, ["budget.evaluations=20"], quiet)
    assert status(run / "proxy-1")["total"] == 6  # two sources and 4
    assert status(run)["done"] == 20


def test_code_in_a_proxys_folder_is_not_run_without_trust(
    tmp_path: Path, large: Path, workers: Callable[..., None]
) -> None:
    run = tmp_path / "run"
    workers(3)
    with pytest.raises(KeyboardInterrupt):
        launch(spec(tmp_path, large), run)
    kept = run / "proxy-1" / "artifacts" / "individual-1"
    kept.mkdir(parents=True)
    (kept / "config.json").write_text('{"auto_map": {"AutoModel": "evil.Model"}}')
    with pytest.raises(InputError, match=r"proxy-1: its code would run.*individual-1"):
        launching.resume(run, [], quiet)


def test_a_copy_of_the_base_is_no_proxy_and_a_broken_one_is_told_before_anything_runs(
    tmp_path: Path, large: Path, workers: Callable[..., None]
) -> None:
    copy = shutil.copytree(large, tmp_path / "copy")
    path = spec(tmp_path, large, ("base: quickstart", f"base: {copy}"))
    with pytest.raises(InputError, match=r"proxies.0.base: .*copy has the same weights as model.b"):
        launch(path, tmp_path / "run")
    (copy / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"model.proxies.0.base: .*copy: "):
        launch(path, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert not Workers.started


def test_a_dry_run_checks_the_proxy_and_says_what_it_costs(
    tmp_path: Path, large: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = spec(tmp_path, large)
    assert main(["launch", str(path), "--dry-run"]) == DONE
    said = " ".join(capsys.readouterr().out.split())
    assert f"proxy-1: before, 7 evaluations of mixtures on {MODEL}" in said
    assert "proxy-1: model of 0.43 million weights; 384 tokens a fine-tune" in said
    assert "proxy-1: an evaluation takes about" in said
    path = spec(tmp_path, large, ("base: quickstart", f"base: {tmp_path}"))
    assert main(["launch", str(path), "--dry-run"]) == BAD_INPUT
    assert "model.proxies.0.base" in capsys.readouterr().err


def test_the_grown_model_has_twice_the_weights(tmp_path: Path, large: Path) -> None:
    [(found, _)] = prepared(configuration.load(spec(tmp_path, large)))
    assert found.model.base == str(MODEL)
    assert LAYERS == 7


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_real_run_searches_on_the_quickstarts_model_and_then_on_one_twice_its_size(
    tmp_path: Path, large: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    path = spec(tmp_path, large, ("simulate: off", "simulate: auto"))
    assert main(["launch", str(path), "--run", str(run)]) == DONE
    assert "note: proxy-1: 0 individuals to recall, " in capsys.readouterr().err
    assert facts_of(run / "proxy-1", "simulation")
    assert facts_of(run, "simulation")
    assert any(one["operator"] == "guide: proxy-1" for one in facts_of(run, "individual"))
    assert status(run)["state"] == "finished"
    assert main(["export", str(run), "--to", str(tmp_path / "model")]) == DONE
