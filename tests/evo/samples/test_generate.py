"""`evo generate`: a run's individual writes a pool, and a search can learn from it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evo import config as configuration
from evo.cli import main
from evo.prepare.task import prepare
from evo.record.ledger import Ledger
from evo.samples.generate import DEFAULT_FILTERS
from evo.samples.texts import documents
from fitness.data.samples import Sample, read_samples, to_lines
from fitness.data.tokenizer import load_tokenizer
from fitness.errors import InputError
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import EvaluationSpec
from fitness.feedback.store import FOLDER, Store
from fitness.samples.scoring import scored
from fitness.samples.separation import read_separation
from tests.evo.export.test_model import (  # noqa: F401 (fixtures)
    GENOMES,
    LORA,
    SPEC,
    finished,
    run,
    task,
)
from tests.evo.facts import read
from tests.fitness.feedback.people import rated, singles
from tests.fitness.quickstart import MODEL

FEW = ("--samples", "6", "--max-new-tokens", "8")


def pool_of(run: Path, to: Path, *options: str) -> Path:  # noqa: F811
    assert main(["generate", str(run), "--to", str(to), *FEW, *options]) == 0
    return to


def test_a_pool_is_written_scored_and_can_be_a_source(
    run: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pool = pool_of(run, tmp_path / "pools" / "a.jsonl", "--individual", str(LORA))
    told = capsys.readouterr().out
    assert "6 samples; 0 contain evaluation text" in told
    found = read_separation(pool)
    assert found is not None
    assert 0 <= found.low <= found.auc <= found.high <= 1
    assert f"AUC of its discriminator {found}" in " ".join(told.split())
    assert ("unusable" in told) != found.usable
    samples = list(read_samples(pool))
    assert {one.individual for one in samples} == {LORA}
    names = {name for one in samples for name in one.scores}
    assert names == set(DEFAULT_FILTERS)
    again = pool_of(run, tmp_path / "again.jsonl", "--individual", str(LORA))
    assert again.read_text() == pool.read_text()

    spec = tmp_path / "next.yaml"
    source = f"sources:\n  pool: {{path: {pool}, kind: sample}}"
    gene = "genome:\n  keep_realness: {type: float, low: 0.5, high: 1}"
    spec.write_text(SPEC.replace("sources:", source, 1).replace("genome:", gene, 1))
    prepared = prepare(configuration.load(spec))
    assert prepared.task.sources["pool"].documents == 6
    assert "realness" in prepared.task.sources["pool"].scores


def test_a_run_that_people_judged_scores_by_what_they_said(
    run: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    few = ("--individual", "0", "--filters", "length,reward")
    to = tmp_path / "a.jsonl"
    assert main(["generate", str(run), "--to", str(to), *FEW, *few]) == 2
    assert "filter 'reward': there is too little to learn from" in capsys.readouterr().err
    items = singles(30)
    with Store(run / FOLDER) as store:
        store.take_in("told", items, rated(items))
    pool = pool_of(run, tmp_path / "b.jsonl", "--individual", "0")
    names = [one.scores.keys() for one in read_samples(pool)]
    assert all(one == {*DEFAULT_FILTERS, "reward"} for one in names)


def test_what_cuts_would_leave_of_a_pool_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores: list[dict[str, float]] = [{"realness": n / 10} for n in range(9)]
    samples = [
        Sample(f"p{n}", f" completion {n}", 0, 0, scores=one) for n, one in enumerate([*scores, {}])
    ]
    pool = tmp_path / "pool.jsonl"
    pool.write_text("".join(to_lines(samples)))
    assert main(["pool", str(pool), "--keep", "realness=0.33"]) == 0
    told = capsys.readouterr().out
    assert "3 of 10 samples are kept" in told
    assert "dropped by realness (0): p0[...] completion 0" in told
    for options, error in (
        (("--keep", "realnes=0.5"), "did you mean 'realness'"),
        (("--keep", "realness"), "write it as realness=0.5"),
        (("--keep", "realness=2"), "--keep realness=2: Input should be less than"),
        (("--keep", "repetition=0.5"), "score it with this filter"),
    ):
        assert main(["pool", str(pool), *options]) == 2
        assert error in capsys.readouterr().err
    assert main(["pool", str(tmp_path / "nowhere.jsonl")]) == 2
    assert "there is no such file" in capsys.readouterr().err


def test_prompts_of_ones_own_are_gone_on_from(run: Path, tmp_path: Path) -> None:  # noqa: F811
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"prompt": "frob: v. "}))
    weights = ("--prompts", str(prompts), "--from-prompts", "1", "--from-documents", "0")
    pool = pool_of(run, tmp_path / "a.jsonl", *weights, "--filters", "length,repetition")
    samples = list(read_samples(pool))
    assert {one.prompt for one in samples} == {"frob: v. "}
    assert {name for one in samples for name in one.scores} == {"length", "repetition"}


def test_a_chat_is_a_prompt_as_prompt_sets_render_it(
    run: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"prompt": [{"role": "user", "content": "frob?"}]}))
    options = ("--prompts", str(prompts), "--from-prompts", "1", "--from-documents", "0")
    to = tmp_path / "a.jsonl"
    assert main(["generate", str(run), "--to", str(to), *FEW, *options]) == 2
    assert "prompts.jsonl:1: holds chat messages" in capsys.readouterr().err
    tokenizer = load_tokenizer(MODEL)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    monkeypatch.setattr("fitness.data.prompts.load_tokenizer", lambda folder: tokenizer)
    pool_of(run, to, *options, "--filters", "length")
    assert {one.prompt for one in read_samples(to)} == {"user: frob?\nassistant:"}


def test_a_pool_that_another_process_wrote_meanwhile_is_left_alone(
    run: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    to = tmp_path / "pools" / "a.jsonl"

    def scored_late(*given: Any) -> Any:
        to.parent.mkdir()
        to.write_text("theirs")
        return scored(*given)

    monkeypatch.setattr("evo.samples.generate.scored", scored_late)
    assert main(["generate", str(run), "--to", str(to), *FEW, "--filters", "length"]) == 2
    assert to.read_text() == "theirs"
    told = capsys.readouterr().err
    (other,) = set(to.parent.iterdir()) - {to}
    assert str(other) in told
    assert len(list(read_samples(other))) == 6


def test_a_pool_is_written_in_parts_and_of_sources_that_are_there(
    run: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    whole = list(read_samples(pool_of(run, tmp_path / "whole.jsonl", "--filters", "length")))
    part = pool_of(run, tmp_path / "part.jsonl", "--filters", "length", "--first", "4")
    assert list(read_samples(part))[:2] == whole[4:]
    config = configuration.of(read(run))
    with pytest.raises(InputError, match=r"source 'jargn': has a share of 0\.5 and is not among"):
        documents(config, {"jargn": 0.5, "jargon": 0.5}, 2000, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--individual", "99"), "has no individual '99'"),
        (("--filters", "realnes"), "did you mean 'realness'"),
        (("--filters", "likelihood"), "filter 'likelihood': needs a model"),
        (("--samples", "0"), "--samples: Input should be greater than or equal to 1"),
        (("--from-documents", "0"), "are all 0; raise one"),
        (("--infill", "1"), "individual 0 was not trained to fill in a middle"),
        (("--infill", "-1"), "--infill: Input should be greater than or equal to 0"),
        (("--infill-words", "0"), "--infill-words: Input should be greater than or equal to 1"),
        (("--seed", "-1"), "--seed is -1; it must be 0 or more"),
        (("--first", "-3"), "--first is -3; it must be 0 or more"),
        (("--from-prompts", "1"), "from_prompts is 1, and there are no prompts"),
        (("--prompts", "nowhere.jsonl"), "there is no 'nowhere.jsonl'"),
    ],
)
def test_what_cannot_be_done_is_told_and_leaves_no_file(
    run: Path,  # noqa: F811
    tmp_path: Path,
    options: tuple[str, ...],
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    to = tmp_path / "a.jsonl"
    assert main(["generate", str(run), "--to", str(to), *FEW, *options]) == 2
    assert told in capsys.readouterr().err
    assert not to.exists()
    to.write_text("mine")
    assert main(["generate", str(run), "--to", str(to), *FEW]) == 2
    assert to.read_text() == "mine"


def test_who_was_taught_fills_gaps_within_real_texts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "little.yaml"
    taught = "genome:\n  infill_share: {type: float, low: 0.5, high: 1}"
    spec.write_text(SPEC.replace("genome:", taught, 1))
    config = configuration.load(spec)
    genome = {**GENOMES[LORA], "infill_share": 0.5}
    artifacts = tmp_path / "run" / "artifacts"
    evaluator = Evaluator(replace(prepare(config).task, artifacts=artifacts))
    evaluation = evaluator.evaluate(EvaluationSpec(0, configuration.decode(config, genome), 0))
    header = {"config": configuration.to_plain(config), "fingerprints": {}, "time": 0.0}
    with Ledger.create(tmp_path / "run", header) as ledger:
        values = {"parents": [], "operator": "random", "generation": 0, "learned_from": None}
        ledger.append("individual", id=0, genome=genome, **values)
        untouched = replace(evaluation.spec, fidelity=0.0)  # constraints are relative to it
        ledger.append("evaluation", **evaluator.evaluate(untouched).fact())
        ledger.append("evaluation", **evaluation.fact())
    gaps = ("--infill", "1", "--from-documents", "0", "--infill-words", "3")
    pool = pool_of(tmp_path / "run", tmp_path / "gaps.jsonl", *gaps)
    samples = list(read_samples(pool))
    assert {(one.way, one.begun) for one in samples} == {("infill", "document")}
    assert all(one.prompt and one.suffix for one in samples)
    assert samples[0].suffix.strip().split()[0] in capsys.readouterr().out


def test_no_text_or_no_room_for_it_is_told_before_anything_is_turned(tmp_path: Path) -> None:
    spec = tmp_path / "little.yaml"
    taught = SPEC.replace("batch_size: 4,", "batch_size: 4, infill_share: 0.5,")
    spec.write_text(taught.replace("sequence_length: 48", "sequence_length: 18"))
    with pytest.raises(InputError, match=r"sequence_length 18 has no room .* takes 19 tokens"):
        prepare(configuration.load(spec))
    spec.write_text(
        taught.replace(".jsonl}", ".jsonl, kind: prompt}").replace(
            "limit: 200}", "limit: 200, kind: prompt}"
        )
    )
    with pytest.raises(InputError, match=r"recipe\.infill_share: .*no source is of kind text"):
        configuration.load(spec)
