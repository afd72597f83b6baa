"""Task files for tests: small ones on texts of the quickstart, and faulty ones."""

from pathlib import Path

from fitness.benchmarks.documents import read_benchmark
from fitness.benchmarks.settings import Benchmark, HeldOutTask
from fitness.data.tokenizer import load_tokenizer
from tests.fitness.quickstart import CORPUS, MODEL

FOLDER = Path(__file__).parents[3] / "runs" / "benchmarks"
CONTEXT = 512
TASK = f"""\
task: mine
dataset_path: json
dataset_kwargs: {{data_files: {{test: {CORPUS}/prompts/categories.test.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{prompt}}}}"
doc_to_choice: [artifact, person, plant, act]
doc_to_target: 0
"""


def benchmark(*tasks: str, **settings: object) -> Benchmark:
    values = {"include": str(FOLDER), "limit": 4, **settings}
    return Benchmark.model_validate({"tasks": tasks, **values})


def own_task(folder: Path, *changes: tuple[str, str], name: str = "mine") -> Path:
    """A folder with one task file, TASK with these replacements."""
    text = TASK
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def held_out(settings: Benchmark) -> dict[str, HeldOutTask]:
    return read_benchmark(settings, load_tokenizer(MODEL), CONTEXT)
