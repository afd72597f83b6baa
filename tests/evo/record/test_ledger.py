import contextlib
import json
import multiprocessing
import os
import signal
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evo.config import load
from evo.planning.controls import NOTHING_GENERATED, controls
from evo.record.ledger import Ledger
from evo.starter import QUICKSTART_FOLDER
from fitness.data.documents import Source
from fitness.errors import InputError
from population.individual import Individual
from population.space import Genome
from tests.evo.facts import read

EARLIER = '{"fact":"search","format":1,"config":{},"time":0.0}\n'  # as written without checksums


def created(run: Path, facts: int = 3) -> Path:
    with Ledger.create(run, {"config": {}, "time": 0.0}) as ledger:
        for number in range(facts):
            ledger.append("note", id=number, genome={"x": 0.1 * number})
    return run / "ledger.jsonl"


def test_what_is_appended_is_read_back_in_order(tmp_path: Path) -> None:
    created(tmp_path / "run")
    facts = read(tmp_path / "run")
    assert [fact.get("id") for fact in facts] == [None, 0, 1, 2]
    assert facts[3]["genome"] == {"x": 0.2}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(min_value=1, max_value=200))
def test_a_tail_torn_anywhere_costs_at_most_the_line_it_is_in(tmp_path: Path, cut: int) -> None:
    run = tmp_path / str(cut)
    if not run.exists():
        created(run)
    path = run / "ledger.jsonl"
    whole = path.read_bytes()
    kept = whole[: max(len(whole) - cut, whole.index(b"\n") + 1)]
    path.write_bytes(kept)
    if kept.endswith(b"\n"):
        assert len(read(run)) == kept.count(b"\n")
    else:
        with pytest.warns(UserWarning, match="torn last line"):
            assert len(read(run)) == kept.count(b"\n")
        with pytest.warns(UserWarning, match="torn last line"), Ledger(run) as ledger:
            ledger.append("note", id=99)
        assert read(run)[-1] == {"fact": "note", "id": 99}
    path.write_bytes(whole)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_no_flipped_bit_is_read_as_another_fact(tmp_path: Path, place: int, bit: int) -> None:
    run = tmp_path / f"{place}-{bit}"
    path = created(run)
    facts = read(run)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a torn last line
        with contextlib.suppress(InputError):  # else the end of a line, or of the first checksum
            found = read(run)
            known = [{k: v for k, v in fact.items() if k in facts[0]} for fact in found[:1]]
            assert known + found[1:] in (facts, facts[:-1])


def test_a_line_without_checksum_behind_one_with_is_damaged(tmp_path: Path) -> None:
    path = created(tmp_path / "run")
    path.write_text(path.read_text() + '{"fact":"note","id":7}\n')
    with pytest.raises(InputError, match=r"ledger\.jsonl:5: .+checksum"):
        read(tmp_path / "run")


def test_a_ledger_without_checksums_is_read_and_goes_on_with_them(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "ledger.jsonl").write_text(EARLIER)
    with Ledger(run) as ledger:
        ledger.append("note", id=1)
    assert read(run) == [json.loads(EARLIER), {"fact": "note", "id": 1}]
    assert (run / "ledger.jsonl").read_text().count('"crc"') == 1


GOOD: dict[str, dict[str, Any]] = {
    "individual": {"id": 0, "genome": {"x": 0.1}, "parents": [], "operator": "random",
                   "generation": 0, "learned_from": None},
    "evaluation": {"individual": 0, "seed": 0, "fidelity": 1.0, "split": "selection",
                   "status": "ok", "measurements": {"a/loss": 1.0}, "started": 1.0,
                   "finished": 2.0},
    "winner": {"individual": 0},
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "change", "told"),
    [
        ("individual", {"genome": [1]}, "genome: .+ not \\[1\\]"),
        ("individual", {"parents": [3]}, "the parent 3, which is not before it"),
        ("individual", {"id": True}, "id: "),
        ("evaluation", {"measurements": {"a/loss": "1"}}, "measurements.a/loss"),
        ("evaluation", {"measurements": {"a/loss": float("nan")}}, "finite"),
        ("evaluation", {"status": "fine"}, "status"),
        ("evaluation", {"individual": 8}, "individual 8, which there is not"),
        ("evaluation", {"started": -1}, "started"),
        ("evaluation", {}, "a second evaluation"),
        ("winner", {"individual": 5}, "names individual 5"),
    ],
)
def test_a_fact_that_is_wrong_is_told_with_its_line_and_key(
    tmp_path: Path, kind: str, change: dict[str, object], told: str
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    facts = [{"fact": name, **values} for name, values in GOOD.items()]
    wrong = {"fact": kind, **GOOD[kind], **change}
    if (change and change.keys() != {"individual"}) or kind != "evaluation":
        facts = [one for one in facts if one["fact"] != kind]
    lines = [json.loads(EARLIER), *facts, wrong]
    lines.sort(key=lambda fact: ["search", *GOOD].index(fact["fact"]))
    (run / "ledger.jsonl").write_text("".join(json.dumps(fact) + "\n" for fact in lines))
    with pytest.raises(InputError, match=rf"ledger\.jsonl:\d: .*{told}"):
        read(run)


@pytest.mark.parametrize("damage", ["{not json}\n", "[1, 2]\n", '{"no": "fact"}\n', "\n"])
def test_damage_in_the_middle_stops_with_file_line_and_remedy(tmp_path: Path, damage: str) -> None:
    path = created(tmp_path / "run")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], damage, *lines[2:]]))
    with pytest.raises(InputError, match=r"ledger\.jsonl:3: "):
        read(tmp_path / "run")


def test_a_ledger_of_another_format_is_refused(tmp_path: Path) -> None:
    path = created(tmp_path / "run")
    path.write_text(EARLIER.replace('"format":1', '"format":7'))
    with pytest.raises(InputError, match="format 7"):
        read(tmp_path / "run")


def test_a_folder_without_a_ledger_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no ledger\.jsonl"):
        read(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        read(tmp_path / "nowhere")


def test_a_second_run_cannot_be_created_over_a_first(tmp_path: Path) -> None:
    created(tmp_path / "run")
    with pytest.raises(InputError, match="evo resume"):
        Ledger.create(tmp_path / "run", {"config": {}, "time": 0.0})


def test_a_ledger_in_use_names_its_owner(tmp_path: Path) -> None:
    created(tmp_path / "run")
    with (
        Ledger(tmp_path / "run"),
        pytest.raises(InputError, match=f"process {os.getpid()} on .+ since"),
    ):
        Ledger(tmp_path / "run")
    Ledger(tmp_path / "run").close()


def _hold(run: Path, ready: "multiprocessing.synchronize.Event") -> None:
    with Ledger(run):
        ready.set()
        signal.pause()


def test_a_killed_owner_leaves_no_lock_behind(tmp_path: Path) -> None:
    created(tmp_path / "run")
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    owner = context.Process(target=_hold, args=(tmp_path / "run", ready))
    owner.start()
    assert ready.wait(30)
    with pytest.raises(InputError, match=f"process {owner.pid} "):
        Ledger(tmp_path / "run")
    owner.kill()
    owner.join()
    Ledger(tmp_path / "run").close()


@pytest.mark.parametrize("written", [0, 10])
def test_a_full_disk_leaves_only_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    created(tmp_path / "run")
    real = os.write
    with Ledger(tmp_path / "run") as ledger:
        calls = []

        def full(file: int, data: bytes) -> int:
            calls.append(data)
            if written and len(calls) == 1:
                return real(file, data[:written])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            ledger.append("note", id=9)
        monkeypatch.setattr(os, "write", real)
    assert len(read(tmp_path / "run")) == 4


def test_numbers_survive_bit_for_bit(tmp_path: Path) -> None:
    values = [0.1 + 0.2, 1e-300, 4.35, 2**-1074]
    with Ledger.create(tmp_path / "run", {"config": {}, "time": 0.0}) as ledger:
        ledger.append("note", values=values)
    assert read(tmp_path / "run")[1]["values"] == values
    assert json.loads((tmp_path / "run" / "ledger.jsonl").read_text().splitlines()[1])


def test_numbers_are_read_as_json_reads_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(2**64, size=20_000, dtype=np.uint64).view(np.float64)
    texts = [f(x) for x in values[np.isfinite(values)] for f in (repr, "{:.25e}".format)]
    texts = [text.removeprefix("np.float64(").rstrip(")") for text in texts]
    texts += ["-0", "-0.0", "1e400", "123456789012345678901234567890", '"\\u0000\\ud83d\\ude00"']
    path = created(tmp_path / "run")
    line = f'{{"fact":"x","values":[{",".join(texts)}],"a":1,"a":2}}'
    path.write_text(f"{EARLIER}{line}\n")
    assert repr(read(tmp_path / "run")[-1]) == repr(json.loads(line))


def test_the_driver_keeps_no_samples_and_nothing_of_what_it_appends(tmp_path: Path) -> None:
    run = tmp_path / "run"
    details = {"shares": {"a": 1.0}, "samples": [{"prompt": "x"}]}
    with Ledger.create(run, {"config": {}, "time": 0.0}) as ledger:
        ledger.append("note", details=details)
        assert len(ledger.facts) == 1
    with Ledger(run) as ledger:
        assert ledger.facts[1]["details"] == {"shares": {"a": 1.0}}
    assert read(run)[1]["details"] == details


def test_a_control_and_its_evaluation_are_read_back(tmp_path: Path) -> None:
    config = load(QUICKSTART_FOLDER / "search.yaml")
    genome: Genome = {"mixture": {"jargon": 0.5, "wordnet": 0.5}}
    mixed = config.model_copy(
        update={"sources": {**config.sources, "jargon": Source(path="pool.jsonl", kind="sample")}}
    )
    (control,) = controls(mixed, Individual(0, genome))
    with Ledger.create(tmp_path / "run", {"config": {}, "time": 0.0}) as ledger:
        ledger.append(
            "individual", id=0, genome=genome, parents=[], operator="random", generation=0
        )
        ledger.append("winner", individual=0)
        name, known = NOTHING_GENERATED, control.genome
        ledger.append("control", id=control.id, name=name, individual=0, genome=known)
        ended = {"measurements": {"target/loss": 4.0}, "started": 0.0, "finished": 1.0}
        measured = {"seed": 1, "fidelity": 1.0, "split": "test", "status": "ok", **ended}
        ledger.append("evaluation", individual=control.id, **measured)
        ledger.append("lost", individual=control.id, seed=1, split="test", attempt=1)
    assert [fact.get("individual") for fact in read(tmp_path / "run")][-2:] == [control.id] * 2


def test_a_fact_that_the_disk_takes_in_parts_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does a full disk that gets a little room again and again."""
    write = os.write
    with Ledger.create(tmp_path / "run", {"config": {}, "time": 0.0}) as ledger:
        monkeypatch.setattr(os, "write", lambda file, content: write(file, content[:7]))
        ledger.append("note", id=1, genome={"x": 0.5})
    assert read(tmp_path / "run")[-1] == {"fact": "note", "id": 1, "genome": {"x": 0.5}}
