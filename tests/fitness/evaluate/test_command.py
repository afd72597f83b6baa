"""A trainer of one's own as a command: what it is given, and everything that it can do wrong."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evo.cluster.machine import worker_variables
from fitness.evaluate import materialise
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluate.transcript import BEGINNING, END
from fitness.evaluation import Evaluation, EvaluationSpec, Status, Task
from fitness.evaluators import Command
from tests.fitness.quickstart import CORPUS, MIXTURE, MODEL, small_task

OK = "write({'loss': 1.5})"
START = """
import json, os, signal, subprocess, sys, time
def write(values):
    with open(os.environ["EVOMIX_MEASUREMENTS"], "w") as file:
        file.write(values if isinstance(values, str) else json.dumps(values))
"""

Run = Callable[..., Evaluation]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """One evaluation by a Python program given as text, its run folder beside it."""

    def run(
        program: str,
        *arguments: str,
        task: Task | None = None,
        recipe: dict[str, Any] | None = None,
        fidelity: float = 1.0,
        **settings: Any,
    ) -> Evaluation:
        script = tmp_path / "trainer.py"
        script.write_text(START + program)
        command = Command(command=(sys.executable, str(script), *arguments), **settings)
        (tmp_path / "run").mkdir(exist_ok=True)
        task = replace(
            task or Task("builtin", budget_tokens=768),
            evaluator=command,
            artifacts=tmp_path / "run" / "artifacts",
        )
        spec = EvaluationSpec(7, {"rate": 0.5} if recipe is None else recipe, 3, fidelity)
        return Evaluator(task).evaluate(spec)

    return run


def test_a_command_is_given_what_is_asked_and_its_numbers_come_back(run: Run) -> None:
    evaluation = run(
        "asked = json.load(open(sys.argv[1]))\n"
        "assert sys.argv[2:] == ['--seed=3', 'selection', '{seed}', '{\"a\": {}}'], sys.argv\n"
        "assert asked['recipe'] == {'rate': 0.5} and asked['model'] is None, asked\n"
        "assert asked['budget_tokens'] == 768 and asked['individual'] == 7, asked\n"
        "assert os.environ['EVOMIX_SEED'] == str(asked['seed']) == '3'\n"
        "assert os.environ['OMP_NUM_THREADS'] == '1'\n"
        "assert os.getcwd() == os.environ['EVOMIX_FOLDER']\n"
        "assert os.listdir('.') == ['recipe.json']\n"
        "write({'target/loss': 2, 'fidelity': asked['fidelity']})",
        "{recipe}",
        "--seed={seed}",
        "{split}",
        "{{seed}}",
        '{"a": {}}',
        fidelity=0.25,
    )
    assert evaluation.status is Status.OK, evaluation.message
    assert evaluation.measurements == {"target/loss": 2.0, "fidelity": 0.25}
    assert evaluation.cost["train_seconds"] > 0


@pytest.mark.parametrize(
    ("program", "status", "told"),
    [
        ("sys.exit(3)", Status.ERROR, "exit code 3"),
        ("raise ValueError('no such thing')", Status.ERROR, "ValueError: no such thing"),
        ("pass", Status.ERROR, "wrote no measurements; it must write them to the file"),
        ("write('loss = 3')", Status.ERROR, "not JSON"),
        ("write('')", Status.ERROR, "not JSON"),
        ("write('[' * 100000)", Status.ERROR, "not JSON"),
        ("write('[1, 2]')", Status.ERROR, "must be an object of name: number, got [1, 2]"),
        ("write({'loss': '3'})", Status.ERROR, "'loss' must be a number, got '3'"),
        ("write({'loss': None})", Status.ERROR, "say NaN where the fine-tune diverged"),
        ("write({'loss': True})", Status.ERROR, "'loss' must be a number, got True"),
        ("write({'loss': float('nan')})", Status.DIVERGED, "loss is nan"),
        ("write('{\"loss\": 1' + '0' * 400 + '}')", Status.DIVERGED, "loss is inf"),
        ("write('x' * 2 ** 21)", Status.ERROR, "more than 1,048,576 bytes"),
        ("os.mkdir(os.environ['EVOMIX_MEASUREMENTS'])", Status.ERROR, "wrote no measurements"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", Status.ERROR, "signal SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", Status.ERROR, "where memory ran out"),
        ("sys.exit('torch.OutOfMemoryError: CUDA out of memory')", Status.OUT_OF_MEMORY, "CUDA"),
        ("os.remove('recipe.json'); sys.exit('gone')", Status.ERROR, "gone"),
    ],
)
def test_whatever_a_command_does_wrong_is_told(
    run: Run, program: str, status: Status, told: str
) -> None:
    evaluation = run(program)
    assert evaluation.status is status, evaluation.message
    assert told in evaluation.message
    assert evaluation.measurements == {}


def test_a_program_that_is_not_there_is_told_with_the_machine(run: Run, tmp_path: Path) -> None:
    def started(program: Path) -> Evaluation:
        task = Task(Command(command=(str(program),)))
        return Evaluator(task).evaluate(EvaluationSpec(0, {}, 0))

    script = tmp_path / "no_interpreter"
    script.write_text("not a program")
    script.chmod(0o755)
    absent = started(tmp_path / "absent")
    assert absent.status is Status.ERROR
    assert f"cannot be started on {os.uname().nodename} (No such file" in absent.message
    assert "Exec format error" in started(script).message


def documented(page: str, folder: Path) -> list[str]:
    """Write a how-to page's script and its held-out data into a folder; the held-out lines."""
    text = (Path(__file__).parents[3] / "docs" / "how-to" / page).read_text(encoding="utf-8")
    ((name, script),) = re.findall(r"<!-- run: (\S+) -->\n```python\n(.*?)```", text, re.S)
    (folder / name).write_text(script)
    (held_out := folder / "data" / "held_out").mkdir(parents=True)
    lines = (CORPUS / "held_out" / "jargon.selection.jsonl").read_text().splitlines()[:6]
    (held_out / "jargon.jsonl").write_text("\n".join(lines))
    return lines


@pytest.mark.slow
def test_the_trainer_of_the_documents_trains(tmp_path: Path) -> None:
    lines = documented("own-trainer.md", tmp_path)
    script = str(tmp_path / "train.py")
    command = Command(command=(sys.executable, script, "{recipe}", "{measurements}"), data="jsonl")
    task = replace(small_task(tmp_path), evaluator=command)
    recipe = {"mixture": MIXTURE, "sequence_length": 48, "step_size": 0.01}
    evaluation = Evaluator(task).evaluate(EvaluationSpec(7, recipe, 3))
    assert evaluation.status is Status.OK, evaluation.message

    model = AutoModelForCausalLM.from_pretrained(MODEL)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    drawn = materialise.drawn(task, recipe, seed=3, fidelity=1.0)
    materialise.write_jsonl(tmp_path / "drawn.jsonl", drawn, tokenizer)
    for line in (tmp_path / "drawn.jsonl").read_text().splitlines():
        loss_of(model, tokenizer, line).backward()
        optimiser.step()
        optimiser.zero_grad()
    alone = mean(loss_of(model, tokenizer, line).item() for line in lines[::2])
    assert evaluation.measurements == {"loss": pytest.approx(alone, abs=1e-4)}


def loss_of(model: Any, tokenizer: Any, line: str) -> Any:
    """The loss of a line's text, as the scripts of the documents have it."""
    tokens = tokenizer(json.loads(line)["text"], return_tensors="pt").input_ids[:, :512]
    return model(input_ids=tokens, labels=tokens).loss


@pytest.mark.slow
def test_the_sharded_trainer_of_the_documents_trains_one_model_by_two_processes(
    tmp_path: Path,
) -> None:
    """Started by torchrun as on two GPUs, here on the CPU and joined by gloo."""
    lines = documented("several-gpus.md", tmp_path)
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    arguments = (str(tmp_path / "sharded.py"), "{recipe}", "{measurements}")
    command = Command(command=(*torchrun, *arguments), data="jsonl")
    task = replace(small_task(tmp_path), evaluator=command)
    recipe = {"mixture": MIXTURE, "sequence_length": 48, "step_size": 3e-4}
    evaluation = Evaluator(task).evaluate(EvaluationSpec(7, recipe, 3))
    assert evaluation.status is Status.OK, evaluation.message

    model = AutoModelForCausalLM.from_pretrained(MODEL)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-4)

    loss_alone = partial(loss_of, model, tokenizer)
    untouched = mean([loss_alone(line).item() for line in lines[::2]])
    drawn = materialise.drawn(task, recipe, seed=3, fidelity=1.0)
    materialise.write_jsonl(tmp_path / "drawn.jsonl", drawn, tokenizer)
    data = (tmp_path / "drawn.jsonl").read_text().splitlines()
    for one, other in zip(data[::2], data[1::2], strict=False):
        ((loss_alone(one) + loss_alone(other)) / 2).backward()
        optimiser.step()
        optimiser.zero_grad()
    alone = mean([loss_alone(line).item() for line in lines[::2]])
    assert alone < untouched - 0.01
    assert evaluation.measurements == {"loss": pytest.approx(alone, abs=1e-4)}


def is_alive(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


FORKS = """
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]{session})
with open({found!r}, "w") as file:
    file.write(f"{{child.pid}} {{os.getpid()}}")
"""


@pytest.mark.parametrize("session", ["", ", start_new_session=True"])
@pytest.mark.parametrize("ends", [OK, "sys.exit(1)", "time.sleep(600)"])
def test_nothing_that_a_command_started_outlives_it(
    run: Run, tmp_path: Path, session: str, ends: str
) -> None:
    """A child that keeps the output open, in the group or in a session of its own."""
    found = tmp_path / "children"
    limit = 3 if "sleep" in ends else 60  # a slow machine takes a second to start the command
    evaluation = run(FORKS.format(found=str(found), session=session) + ends, timeout=limit)
    expected = {OK: Status.OK, "sys.exit(1)": Status.ERROR}.get(ends, Status.TIMED_OUT)
    assert evaluation.status is expected, evaluation.message
    assert [is_alive(int(process)) for process in found.read_text().split()] == [False, False]


def test_a_command_does_not_outlive_its_worker(tmp_path: Path) -> None:
    found = tmp_path / "children"
    trainer = tmp_path / "trainer.py"
    trainer.write_text(START + FORKS.format(found=str(found), session="") + "time.sleep(600)")
    worker = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\n"
            "from fitness.evaluate.evaluator import Evaluator\n"
            "from fitness.evaluation import EvaluationSpec, Task\n"
            "from fitness.evaluators import Command\n"
            "task = Task(Command(command=(sys.executable, sys.argv[1])))\n"
            "Evaluator(task).evaluate(EvaluationSpec(0, {}, 0))",
            str(trainer),
        ],
    )
    try:
        eventually(lambda: found.is_file() and len(found.read_text().split()) == 2)
        children = [int(process) for process in found.read_text().split()]
        assert all(map(is_alive, children))
        folder = psutil.Process(children[1]).cwd()
    finally:
        worker.kill()
        worker.wait()
    eventually(lambda: not any(map(is_alive, children)) and not os.path.exists(folder))


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError("not within three minutes")
        os.sched_yield()


def test_out_of_time_is_told_with_the_limit_that_ended_it(run: Run) -> None:
    evaluation = run("print('step 1', flush=True); time.sleep(600)", timeout=2)
    assert evaluation.status is Status.TIMED_OUT
    assert "killed after 2 s; raise resources.timeout (and evaluator.timeout)" in (
        evaluation.message
    )
    assert "step 1" in evaluation.message


def test_the_time_limit_of_the_cluster_ends_the_command_a_little_before(run: Run) -> None:
    task = Task("builtin", timeout=1.0)
    evaluation = run("time.sleep(600)", task=task, timeout=300)
    assert evaluation.status is Status.TIMED_OUT
    told = re.search(r"killed after (\S+) s;", evaluation.message)
    assert told is not None
    assert float(told[1]) <= 0.9
    assert "it printed nothing" in evaluation.message


def test_the_output_is_kept_in_the_run_folder_and_named_by_a_failure(
    run: Run, tmp_path: Path
) -> None:
    evaluation = run("print('first'); print('last', file=sys.stderr); sys.exit(1)")
    log = tmp_path / "run" / "logs" / "individual-7.selection.seed-3.log"
    assert sorted(log.read_text().split()) == ["first", "last"]
    assert f"its output: {log}\n" in evaluation.message
    assert run(OK, fidelity=0.5).status is Status.OK
    assert (log.parent / "individual-7.selection.seed-3.fidelity-0.5.log").read_bytes() == b""


def test_a_hundred_megabytes_of_output_leave_a_small_log_with_both_ends(
    run: Run, tmp_path: Path
) -> None:
    size = 100 * 2**20
    evaluation = run(
        f"print('begins', 'x' * {size}, 'ends', flush=True); sys.stdout.close(); sys.exit(9)"
    )
    log = next((tmp_path / "run" / "logs").iterdir()).read_bytes()
    left_out = size + len("begins  ends\n") - BEGINNING - END
    assert log.startswith(b"begins x")
    assert log.endswith(b"x ends\n")
    assert f"\n... {left_out:,} bytes left out ...\n".encode() in log
    assert len(log) < BEGINNING + END + 100
    assert "exit code 9" in evaluation.message
    assert len(evaluation.message) <= 2000


def test_no_secret_of_the_environment_reaches_the_run_folder_even_if_it_is_printed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "correct-horse-battery")
    evaluation = run(
        "key = os.environ['WANDB_API_KEY']\n"
        "print('key', key, flush=True)\n"
        "print('x' * (65536 - 14) + key[:4], end='', flush=True)\n"
        "print(key[4:])\n"
        "sys.exit(key)"
    )
    assert evaluation.status is Status.ERROR
    written = [file.read_text() for file in (tmp_path / "run").rglob("*") if file.is_file()]
    assert len(written) == 1
    for text in (*written, evaluation.message):
        assert "correct-horse" not in text
        assert "battery" not in text
    assert written[0].count("***") == 3


@pytest.mark.parametrize(
    "said", ["pw", "[pw]", "{'loss': pw}", "{pw: 1.5}", "'x' * 70 + pw", "{'loss': {'x': pw}}"]
)
def test_no_secret_of_the_environment_is_in_what_a_command_has_measured(
    run: Run, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://me:correct-horse-battery@h/x")
    evaluation = run(
        f"pw = os.environ['DATABASE_URL'].split(':')[2].split('@')[0]\nsaid = {said}\nwrite(said)"
    )
    told = f"{evaluation.message} {' '.join(evaluation.measurements)}"
    assert "***" in told
    assert "correct" not in told


def test_a_log_that_cannot_be_written_costs_nothing_else(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "logs").write_text("in the way")
    assert run("print('x'); " + OK).measurements == {"loss": 1.5}
    message = run("sys.exit('no reason')").message
    assert "no reason" in message
    assert "its output" not in message


def test_a_command_is_online_as_its_driver_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are not: they find everything on their machine."""
    told = "write({'offline': int(os.environ['HF_HUB_OFFLINE'])})"
    for driver in ("0", "1"):
        monkeypatch.setenv("HF_HUB_OFFLINE", driver)
        variables = worker_variables(1, [])
        assert variables["HF_HUB_OFFLINE"] == "1"
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert run(told).measurements == {"offline": float(driver)}


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_command_may_ask_for_the_mixture(run: Run, task: Task, form: str) -> None:
    read = (
        "rows = [json.loads(line) for line in open(sys.argv[1])]"
        if form == "jsonl"
        else "import pyarrow.parquet as pq; rows = pq.read_table(sys.argv[1]).to_pylist()"
    )
    evaluation = run(
        f"{read}\n"
        "assert set(rows[0]) == {'text', 'source'}, rows[0]\n"
        f"assert os.environ['EVOMIX_MODEL'] == {str(MODEL)!r}\n"
        "write({'rows': len(rows), 'jargon': sum(row['source'] == 'jargon' for row in rows)})",
        "{data}",
        task=task,
        data=form,
        recipe={"mixture": MIXTURE, "sequence_length": 48, "depth": 3},
    )
    assert evaluation.measurements == {"rows": 12.0, "jargon": 6.0}, evaluation.message


@pytest.mark.parametrize(("data", "tokens"), [("jsonl", 288), (None, 576)])
def test_a_share_of_the_tokens_is_that_of_the_mixture(
    run: Run, task: Task, data: str | None, tokens: int
) -> None:
    """Without a mixture the field is the command's own, as any other."""
    evaluation = run(
        "write({'tokens': int(os.environ['EVOMIX_BUDGET_TOKENS'])})",
        task=task,
        data=data,
        recipe={"mixture": MIXTURE, "sequence_length": 48, "train_share": 0.5},
    )
    assert evaluation.measurements == {"tokens": tokens}, evaluation.message
