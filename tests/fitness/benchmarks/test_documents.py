"""Tasks of benchmarks as they are read: disjoint halves, digests, and faults before training."""

import json
from pathlib import Path

import pytest

from fitness.benchmarks.catalogue import task_files
from fitness.benchmarks.documents import HALVES, asked, halves, load, texts_of
from fitness.errors import InputError
from tests.fitness.benchmarks.tasks import TASK, benchmark, held_out, own_task
from tests.fitness.quickstart import CORPUS

DATA = f"{CORPUS}/prompts/categories.test.jsonl"


def test_no_document_that_reaches_the_model_is_in_both_splits_of_any_two_tasks() -> None:
    settings = benchmark("which", "name", limit=None)
    reached: dict[str, set[str]] = {half: set() for half in HALVES}
    for name, known in held_out(settings).items():
        task = load(name, task_files(settings)[name], settings)
        for half in HALVES:
            documents = [request.doc for request in asked(task, known.documents[half])]
            reached[half] |= {json.dumps(one, sort_keys=True) for one in documents}
    assert len(reached["selection"]) > 100
    assert len(reached["test"]) > 100
    assert not reached["selection"] & reached["test"]


def test_equal_documents_are_in_one_half_and_order_decides_nothing() -> None:
    documents = [{"n": n % 50} for n in range(100)]
    found, turned = halves(documents, None), halves(documents[::-1], None)
    assert sorted([*found["selection"], *found["test"]]) == list(range(100))
    assert all((place + 50) % 100 in found[half] for half in HALVES for place in found[half])
    assert {99 - place for place in turned["test"]} == set(found["test"])


def test_a_limit_takes_some_of_the_same_halves() -> None:
    documents = [{"n": n} for n in range(100)]
    few, every = halves(documents, 5), halves(documents, None)
    assert [len(few[half]) for half in HALVES] == [5, 5]
    assert all(set(few[half]) < set(every[half]) for half in HALVES)


def test_the_digest_follows_the_data_and_the_questions(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_bytes(Path(DATA).read_bytes())
    settings = benchmark("mine", include=str(own_task(tmp_path, (DATA, "data.jsonl"))))
    first = held_out(settings)["mine"].digest
    assert held_out(settings)["mine"].digest == first
    own_task(tmp_path, (DATA, "data.jsonl"), ("{{prompt}}", "Q: {{prompt}}"))
    asked_otherwise = held_out(settings)["mine"].digest
    own_task(tmp_path, (DATA, "data.jsonl"))
    data.write_text(data.read_text("utf-8").replace("Category", "Kind"), encoding="utf-8")
    assert len({first, asked_otherwise, held_out(settings)["mine"].digest}) == 3


def test_few_shot_examples_come_from_the_training_split_alone() -> None:
    settings = benchmark("name", few_shot=2)
    task = load("name", task_files(settings)["name"], settings)
    known = held_out(settings)["name"]
    scored = {one["prompt"] for one in task.eval_docs}
    for request in asked(task, known.documents["test"]):
        examples = request.args[0].removesuffix(request.doc["prompt"])
        assert examples.count("Category:") == 2
        assert not any(prompt in examples for prompt in scored)


def test_questions_and_answers_are_evaluation_texts() -> None:
    texts = list(texts_of(benchmark("which", "prose")))
    first = json.loads(Path(DATA).read_text("utf-8").splitlines()[0])
    assert f"{first['prompt']} {first['reference']}" in texts
    assert any("general" not in text and len(text) > 500 for text in texts)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("multiple_choice", "generate_until\nunsafe_code: true", "runs code that the model writes"),
        ("multiple_choice", "guess", "output_type 'guess'; it must be one of loglikelihood"),
        (DATA, "nowhere.jsonl", "task 'mine': cannot be loaded (FileNotFoundError"),
        ("{{prompt}}", "{{question}}", "task 'mine': cannot be loaded (UndefinedError"),
        ("multiple_choice", "generate_until", "generates up to 256 tokens, and the base"),
    ],
)
def test_a_faulty_task_is_told_before_anything_trains(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    context = [("doc_to_target", "generation_kwargs: {max_gen_toks: 512}\ndoc_to_target")]
    changes = [*(context if "up to" in told else []), (old, new)]
    settings = benchmark("mine", include=str(own_task(tmp_path, *changes)))
    with pytest.raises(InputError) as raised:
        held_out(settings)
    assert told.replace("256", "512") in str(raised.value)


def test_a_class_in_python_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("task: mine\nclass: a.b\n", encoding="utf-8")
    with pytest.raises(InputError, match="a class in Python"):
        held_out(benchmark("mine", include=str(tmp_path)))


def test_documents_that_leave_a_half_empty_are_told(tmp_path: Path) -> None:
    line = Path(DATA).read_text("utf-8").splitlines(keepends=True)[0]
    (tmp_path / "data.jsonl").write_text(line * 3, encoding="utf-8")
    settings = benchmark("mine", include=str(own_task(tmp_path, (DATA, "data.jsonl"))))
    with pytest.raises(InputError, match="none of its 3 documents is for"):
        held_out(settings)


def test_examples_among_the_scored_documents_are_refused(tmp_path: Path) -> None:
    settings = benchmark("mine", include=str(own_task(tmp_path)), few_shot=2)
    with pytest.raises(InputError, match="2 examples are among the documents that are scored"):
        held_out(settings)


def test_requests_that_are_too_long_are_noted() -> None:
    (note,) = held_out(benchmark("prose", limit=None))["prose"].notes
    assert "requests are longer than the base's context of 512 tokens" in note


def test_a_task_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such folder; name one"):
        task_files(benchmark("mine", include=str(tmp_path / "nowhere")))


def test_groups_and_tags_stand_for_their_tasks(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(
            TASK.replace("task: mine", f"task: {name}\ntag: both"), encoding="utf-8"
        )
    (tmp_path / "all.yaml").write_text("group: all\ntask: [two, one]\n", encoding="utf-8")
    assert list(task_files(benchmark("both", include=str(tmp_path)))) == ["one", "two"]
    assert list(task_files(benchmark("all", include=str(tmp_path)))) == ["two", "one"]
    with pytest.raises(InputError, match="task 'one' is named twice"):
        task_files(benchmark("all", "one", include=str(tmp_path)))
