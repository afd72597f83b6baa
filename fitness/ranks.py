"""Processes that train one individual together, each on its part of every batch.

Data-parallel: all of them hold the whole model, gradients are added up after each step's backward
pass, so that a step is that of one process up to the order of sums.
"""

import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from fitness.mixing import Batch
from fitness.training.accumulation import parts

STREAM = 1_000_003  # between the seeds of the ranks' dropout masks


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which of how many processes this is. The first one scores, and writes down."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def seed(self, seed: int) -> int:
        """Of this process's own random numbers."""
        return seed + self.rank * STREAM

    def parts(self, batch: Batch, rows: int | None) -> Iterator[tuple[Batch, float]]:
        """This process's parts of a batch, of at most `rows` sequences, with their shares."""
        if self.size > 1:
            sequences = len(batch.input_ids) + sum(len(draw.sequences) for draw in batch.others)
            each = max(1, -(-sequences // self.size))
            rows = each if rows is None else min(rows, each)
        for place, part in enumerate(parts(batch, rows)):
            if place % self.size == self.rank:
                yield part

    def add(self, loss: float, weights: Sequence[Any]) -> float:
        """Add up the gradients of the weights over all processes, and return the summed loss."""
        if self.size == 1:
            return loss
        import torch

        for weight in weights:
            if weight.grad is None:  # no part of the batch was left for this process
                weight.grad = torch.zeros_like(weight)
        flat = torch.cat([weight.grad.flatten() for weight in weights])
        told = torch.cat([flat, torch.tensor([loss], dtype=flat.dtype, device=flat.device)])
        torch.distributed.all_reduce(told)
        begin = 0
        for weight in weights:
            weight.grad.copy_(told[begin : begin + weight.numel()].view_as(weight.grad))
            begin += weight.numel()
        return float(told[-1])

    def first(self, value: float) -> float:
        """The first process's value, in all of them."""
        return self.all(value)[0]

    def all(self, value: float) -> list[float]:
        """The value of each process, in all of them."""
        if self.size == 1:
            return [value]
        import torch

        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values


ALONE = Ranks()


def meeting_place(*, here: bool) -> str:
    """A URL where the processes find one another: a file if all are `here`, else a free port."""
    if here:
        return (Path(tempfile.mkdtemp(prefix="evomix-")) / "ranks").as_uri()
    with socket.socket() as found:
        found.bind(("", 0))
        return f"tcp://{socket.gethostbyname(socket.gethostname())}:{found.getsockname()[1]}"


def meet(url: str, rank: int, size: int, seconds: float) -> Ranks:
    """Wait for all processes; whatever they do together later fails after so many seconds."""
    import torch

    backend = "nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(
        backend, init_method=url, rank=rank, world_size=size, timeout=timedelta(seconds=seconds)
    )
    torch.distributed.barrier()
    if rank == 0 and url.startswith("file:"):
        shutil.rmtree(Path(url.removeprefix("file://")).parent, ignore_errors=True)
    return Ranks(rank, size)
