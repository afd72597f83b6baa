"""Documents of benchmark tasks: read, split into disjoint halves, and asked about."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fitness.benchmarks.catalogue import config_of, metrics_of, task_files
from fitness.benchmarks.settings import Benchmark, HeldOutTask
from fitness.data.documents import Half
from fitness.errors import InputError
from fitness.suggest import shortened

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HALVES: tuple[Half, Half] = ("selection", "test")
FEW_SHOT_SEED = 1234  # that of lm-eval
NEW_TOKENS = 256  # that lm-eval generates where a task does not say
ROOM = ("tag", "group", "task_list")  # of the index alone
MESSAGE = 300  # characters of an error of the library


def read_benchmark(
    benchmark: Benchmark, tokenizer: "PreTrainedTokenizerBase", context: int | None
) -> dict[str, HeldOutTask]:
    """Read the tasks of a benchmark, and all that is asked. Raises InputError.

    `context` is the most tokens that the model reads, if it has a limit. What is not in the cache
    of `datasets` is downloaded.
    """
    return {
        name: _read(name, file, benchmark, tokenizer, context)
        for name, file in task_files(benchmark).items()
    }


def texts_of(benchmark: Benchmark) -> Iterator[str]:
    """Stream the questions of a benchmark, and each with its answer. Raises InputError."""
    for name, file in task_files(benchmark).items():
        task = load(name, file, benchmark)
        for document in task.eval_docs:
            question, answer = task.doc_to_text(document), task.doc_to_target(document)
            if isinstance(answer, int) and task.config.doc_to_choice is not None:
                answer = task.doc_to_choice(document)[answer]
            if isinstance(question, str):
                yield from (text for text in (question, f"{question} {answer}") if text.strip())


def same(benchmark: Benchmark, known: Mapping[str, HeldOutTask]) -> dict[str, Any]:
    """The tasks of a benchmark, loaded once in a process. InputError if they have changed.

    Nothing is downloaded.
    """
    return _same(benchmark, tuple((name, one.file, one.digest) for name, one in known.items()))


@lru_cache(maxsize=16)
def _same(benchmark: Benchmark, known: Sequence[tuple[str, Path, str]]) -> dict[str, Any]:
    if not all(file.is_file() for _, file, _ in known):  # another machine: lm-eval is elsewhere
        files = task_files(benchmark)
        known = [(name, files[name], digest) for name, _, digest in known]
    tasks = {}
    with offline():
        for name, file, digest in known:
            task = tasks[name] = load(name, file, benchmark)
            if _digest(task, halves(task.eval_docs, benchmark.limit)) != digest:
                raise InputError(
                    f"task {name!r}: not the documents and settings that it had at the launch; "
                    "restore its files, on all machines"
                )
    return tasks


def load(name: str, file: Path, benchmark: Benchmark) -> Any:
    """The task of lm-eval with its data. Raises InputError."""
    import datasets
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    config_of(name, file)
    datasets.disable_progress_bars()
    try:
        config = {k: v for k, v in load_yaml(file).items() if k not in ROOM}
        known = config.get("metadata", {})
        config["metadata"] = known if isinstance(known, dict) else {"metadata": known}
        if benchmark.include is not None and file.is_relative_to(Path(benchmark.include).resolve()):
            _beside(config, file.parent)
        task = ConfigurableTask(config=config)
    except Exception as error:  # of any kind: of the data, of templates, of the task's functions
        raise InputError(
            f"task {name!r}: cannot be loaded ({type(error).__name__}: "
            f"{shortened(error, MESSAGE)}); check {file} and the data that it names"
        ) from error
    _set_examples(name, task, benchmark.few_shot)
    return task


def halves(documents: Iterable[Any], limit: int | None) -> dict[Half, tuple[int, ...]]:
    """Places of the documents of each split, at most `limit` of each, in order.

    A hash of its content decides where a document belongs, and whether it is within the limit. So
    equal documents go together, even those of two tasks.
    """
    hashes = [_hash(one) for one in documents]
    order = sorted(range(len(hashes)), key=lambda place: hashes[place])
    found = {}
    for odd, half in enumerate(HALVES):
        own = [place for place in order if hashes[place][-1] % 2 == odd]
        found[half] = tuple(sorted(own[:limit]))
    return found


def asked(task: Any, places: Sequence[int]) -> list[Any]:
    """The requests of lm-eval on the documents at these places."""
    with silent():
        task.set_fewshot_seed(FEW_SHOT_SEED)
        task.build_all_requests(samples=list(places))
    return list(task.instances)


@contextmanager
def silent() -> Iterator[None]:
    """Hide the progress bars of lm-eval within the context."""
    with redirect_stderr(StringIO()):
        yield


@contextmanager
def offline() -> Iterator[None]:
    """Let `datasets` read its cache alone within the context."""
    import datasets.config
    import huggingface_hub.constants

    places: tuple[Any, ...] = datasets.config, huggingface_hub.constants
    before = [place.HF_HUB_OFFLINE for place in places]
    try:
        for place in places:
            place.HF_HUB_OFFLINE = True
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value


def _read(
    name: str,
    file: Path,
    benchmark: Benchmark,
    tokenizer: "PreTrainedTokenizerBase",
    context: int | None,
) -> HeldOutTask:
    task = load(name, file, benchmark)
    documents = halves(task.eval_docs, benchmark.limit)
    for half in HALVES:
        if not documents[half]:
            raise InputError(
                f"task {name!r}: none of its {len(task.eval_docs)} documents is for {half}, as a "
                "hash of each decides; add some"
            )
    generates = task.OUTPUT_TYPE == "generate_until"
    new = int((task.config.generation_kwargs or {}).get("max_gen_toks", NEW_TOKENS))
    if generates and context is not None and new >= context:
        raise InputError(
            f"task {name!r}: generates up to {new} tokens, and the base model's context has "
            f"{context}; lower max_gen_toks of its generation_kwargs, or name another task"
        )
    try:
        texts = {half: [_text(one) for one in asked(task, documents[half])] for half in HALVES}
    except Exception as error:  # of its templates and functions, on any of its documents
        raise InputError(
            f"task {name!r}: asks nothing of some document ({type(error).__name__}: "
            f"{shortened(error, MESSAGE)}); check {file} and its data"
        ) from error
    sizes = {half: [len(one) for one in tokenizer(texts[half])["input_ids"]] for half in HALVES}
    more = new if generates else 0
    every = [size + more for half in HALVES for size in sizes[half]]
    long = sum(context is not None and size > context for size in every)
    cut = f"{long} of its {len(every)} requests are longer than the base's context of {context} "
    return HeldOutTask(
        file,
        tuple(metrics_of(config_of(name, file))),
        documents,
        _digest(task, documents),
        len(texts["selection"]),
        sum(sizes["selection"]) + more * len(texts["selection"]),
        max(every),
        generates,
        (f"{cut}tokens; lm-eval cuts or divides them",) if long else (),
    )


def _text(request: Any) -> str:
    """All that the model reads of a request."""
    return "".join(part for part in request.args if isinstance(part, str))


def _digest(task: Any, documents: Mapping[Half, Sequence[int]]) -> str:
    """Hash of a task's documents by split, of the requests, and of its metrics."""
    told = hashlib.blake2b(repr(sorted(task.higher_is_better().items())).encode(), digest_size=16)
    for half in HALVES:
        for request in asked(task, documents[half]):
            told.update(json.dumps([half, request.doc, request.args], default=str).encode())
    return told.hexdigest()


def _hash(document: Any) -> bytes:
    plain = json.dumps(document, sort_keys=True, default=str)
    return hashlib.blake2b(plain.encode(), digest_size=16).digest()


def _set_examples(name: str, task: Any, few_shot: int | None) -> None:
    """Set the number of examples. InputError if the task has none that are not scored."""
    own = task.config.num_fewshot
    if few_shot and own == 0:
        raise InputError(f"task {name!r} takes no examples; leave few_shot out")
    count = (own or 0) if few_shot is None else few_shot
    task.set_config(key="num_fewshot", value=count)
    config = task.config
    scored = config.test_split or config.validation_split
    given = task.fewshot_cfg.samples is not None
    source = task.fewshot_cfg.split or config.training_split or config.validation_split or scored
    if count and not given and source == scored:
        raise InputError(
            f"task {name!r}: its {count} examples are among the documents that are scored; set "
            "few_shot to 0, or `fewshot_split` in the task"
        )


def _beside(config: dict[str, Any], folder: Path) -> None:
    """Make paths of data that are relative to the task's file absolute."""
    given = config.get("dataset_kwargs") or {}
    if "data_files" in given:
        config["dataset_kwargs"] = {**given, "data_files": _there(given["data_files"], folder)}
    if isinstance(path := config.get("dataset_path"), str) and (folder / path).is_dir():
        config["dataset_path"] = str(folder / path)


def _there(value: Any, folder: Path) -> Any:
    if isinstance(value, Mapping):
        return {name: _there(one, folder) for name, one in value.items()}
    if isinstance(value, list):
        return [_there(one, folder) for one in value]
    return value if "://" in str(value) else str(folder / value)
