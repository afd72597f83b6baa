"""Memory that a worker needs, predicted from recipe and model, beside what this machine has."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evo.cluster.machine import available_memory
from evo.config import SearchConfig, possible
from evo.config.genomes import decode, largest
from fitness import hardware
from fitness.errors import InputError
from fitness.evaluation import Task
from fitness.files import size
from fitness.recipe import Recipe

if TYPE_CHECKING:
    from fitness.evaluate.memory import Memory

PROCESS = 600_000_000  # bytes of a process with its libraries, or of the context on a GPU
TOLERATED = 1.2  # times a GPU's memory: predictions may be above by that much
LARGEST = ("batch_size", "sequence_length", "lora_rank", "dropout")
HUNGRIEST: dict[str, tuple[str, ...]] = {  # values by falling need of memory
    "precision": ("float32", "bfloat16"),
    "optimizer": ("adamw", "muon", "adamw_8bit", "adafactor"),
}
REMEDY = (
    "lower batch_size or sequence_length, or set resources.micro_batch, resources.checkpointing "
    "or model.quantisation"
)


def needed(config: SearchConfig, task: Task) -> "Memory | None":
    """Memory of the largest fine-tune of the search, for text; None for what is not predicted.

    Raises InputError where the architecture cannot be predicted.
    """
    from fitness.evaluate.memory import predicted

    if not config.form.trains or config.parts or task.model is None or task.head.task != "causal":
        return None
    if task.sharding == "full":  # whose peak depends on when layers are gathered
        return None
    if task.micro_batch == "auto":  # which gets along with as little as a single row takes
        task = replace(task, micro_batch=1)
    wide: dict[str, Any] = {name: largest(config, name) for name in LARGEST}
    wide |= {name: int(wide[name]) for name in ("batch_size", "sequence_length", "lora_rank")}
    for name, order in HUNGRIEST.items():
        wide[name] = next(one for one in order if one in (*possible(config, name), order[-1]))
    if isinstance(config.search.bucket, int):  # whose members share one batch
        wide["batch_size"] *= config.search.bucket
    plain = {**decode(config, {}), **wide}
    adapters = possible(config, "adapter")
    found = [predicted(task, Recipe.model_validate({**plain, "adapter": one})) for one in adapters]
    return max(found, key=lambda one: one.peak)


def memory_note(config: SearchConfig, memory: "Memory", workers: int | None) -> str:
    """Sentence on a worker's memory, and on that of this machine if the workers run here."""
    here = ""
    if config.resources.address == "local":
        if config.resources.gpus:
            here = f"; a GPU here has {size(hardware.gpu_memory())}"
        else:
            count = f"{workers} workers" if workers and workers > 1 else "1 worker"
            here = f"; this machine has {size(available_memory())} for {count}"
    return (
        f"memory: a worker's largest fine-tune takes {size(memory.peak)} "
        f"({size(memory.weights)} weights, {size(memory.moments)} optimiser, "
        f"{size(memory.rest)} activations, gradients and the like), and some {size(PROCESS)} for "
        f"its process{here}"
    )


def memory_warnings(config: SearchConfig, memory: "Memory", workers: int | None) -> Iterator[str]:
    """Warning that the workers need more memory than this machine has.

    Raises InputError where a GPU of this machine is too small for its workers.
    """
    resources, each = config.resources, memory.peak + PROCESS
    if resources.address != "local":
        return
    if resources.gpus:
        room = round(hardware.gpu_memory() * min(1.0, resources.gpus))
        told = (
            f"resources.gpus {resources.gpus:g}: a worker has {size(room)} of a GPU, and its "
            f"largest fine-tune is predicted to take {size(memory.peak)}; {REMEDY}"
        )
        if room and memory.peak > TOLERATED * room:
            raise InputError(told)
        if room and memory.peak > room:
            yield told
        return
    count = (workers or 1) * resources.processes
    if count * each > available_memory():
        yield (
            f"{count} processes are predicted to take {size(count * each)} of memory, and this "
            f"machine has {size(available_memory())}: evaluations may be lost; set fewer "
            f"resources.workers, or {REMEDY}"
        )
