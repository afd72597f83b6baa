"""Memory that a worker needs, predicted from recipe and model, beside what this machine has."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from evo.cluster.machine import available_memory
from evo.config import SearchConfig, possible
from evo.config.genomes import decode, largest
from fitness.errors import InputError
from fitness.evaluation import Task
from fitness.files import size
from fitness.recipe import Recipe
from fitness.training import hardware

if TYPE_CHECKING:
    from fitness.evaluate.memory import Memory

PROCESS = 600_000_000  # bytes of a process with its libraries, or of the context on a GPU
LARGEST = ("batch_size", "sequence_length", "lora_rank")
REMEDY = (
    "lower batch_size or sequence_length, or set resources.micro_batch, resources.checkpointing "
    "or model.quantisation"
)


def needed(config: SearchConfig, task: Task) -> "Memory | None":
    """Memory of the largest fine-tune of the search, for text; None where it is not predicted."""
    from fitness.evaluate.memory import predicted

    if not config.form.trains or config.parts or task.model is None or task.head.task != "causal":
        return None
    if task.micro_batch == "auto":  # which gets along with as little as a single row takes
        task = replace(task, micro_batch=1)
    wide = {name: int(largest(config, name)) for name in LARGEST}
    plain = {**decode(config, {}), **wide}
    found = []
    for adapter in possible(config, "adapter"):
        try:
            found.append(predicted(task, Recipe.model_validate({**plain, "adapter": adapter})))
        except InputError:
            return None
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
        if room and memory.peak > room:
            raise InputError(
                f"resources.gpus {resources.gpus:g}: a worker has {size(room)} of a GPU, and its "
                f"largest fine-tune is predicted to take {size(memory.peak)}; {REMEDY}"
            )
        return
    count = (workers or 1) * resources.processes
    if count * each > available_memory():
        yield (
            f"{count} processes are predicted to take {size(count * each)} of memory, and this "
            f"machine has {size(available_memory())}: evaluations may be lost; set fewer "
            f"resources.workers, or {REMEDY}"
        )
