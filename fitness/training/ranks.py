"""Processes that train one individual together, each on its part of every batch.

Data-parallel: all of them hold the whole model, gradients are added up after each step's backward
pass, so that a step is that of one process up to the order of sums.
"""

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from fitness.mixture.mixing import Batch
from fitness.training.accumulation import parts

MOST_SECONDS = 86_400.0  # that processes wait for one another
STREAM = 1_000_003  # between the seeds of the ranks' dropout masks


class Parted(RuntimeError):
    """Another process is gone, or did not come to where this one waited for it."""


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
        """Add up the gradients of the weights over all processes, and return the summed loss.

        A weight that nobody has a gradient of keeps none: an optimiser leaves it as it is.
        """
        if self.size == 1:
            return loss
        import torch

        device = weights[0].device
        held = [weight.grad is not None for weight in weights]
        gradients = [
            weight.grad if has else torch.zeros_like(weight)
            for weight, has in zip(weights, held, strict=True)
        ]
        told = torch.cat(
            [
                *(gradient.flatten() for gradient in gradients),
                torch.tensor([*held, loss], dtype=torch.float32, device=device),
            ]
        )
        with _together():
            torch.distributed.all_reduce(told)
        sizes = [weight.numel() for weight in weights]
        *sums, holders, losses = told.split([*sizes, len(weights), 1])
        for weight, total, count in zip(weights, sums, holders.tolist(), strict=True):
            weight.grad = total.view_as(weight).to(weight.dtype) if count else None
        return float(losses)

    def share(self, weights: Sequence[Any]) -> None:
        """Give all processes the first one's weights."""
        import torch

        for weight in weights if self.size > 1 else ():
            with _together():
                torch.distributed.broadcast(weight.data, 0)

    def first(self, value: float) -> float:
        """The first process's value, in all of them."""
        return self.all(value)[0]

    def all(self, value: float) -> list[float]:
        """The value of each process, in all of them."""
        if self.size == 1:
            return [value]
        import torch

        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        own = torch.tensor([value], dtype=torch.float64, device=device)
        values = [torch.empty_like(own) for _ in range(self.size)]
        with _together():
            torch.distributed.all_gather(values, own)
        return [float(one) for one in values]


ALONE = Ranks()


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise Parted(f"another process of this worker is gone ({error})") from None


def meeting_place(address: str | None) -> str:
    """A URL where the processes find one another: a free port at this machine's address.

    None for a file, which opens no port, if all of them are on this machine.
    """
    if address is None:
        return (Path(tempfile.mkdtemp(prefix="evomix-")) / "ranks").as_uri()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as found:
        found.bind(("", 0))
        host = f"[{address}]" if family == socket.AF_INET6 else address
        return f"tcp://{host}:{found.getsockname()[1]}"


def meet(url: str, rank: int, size: int, *, seconds: float, own_gpu: bool) -> Ranks:
    """Wait for all processes; whatever they do together later fails after so many seconds."""
    import torch

    if url.startswith("file:") and sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # else where the machine's name leads to
    torch.distributed.init_process_group(
        "nccl" if own_gpu else "gloo",  # nccl refuses processes that share a GPU
        init_method=url,
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=min(seconds, MOST_SECONDS)),
        device_id=torch.device("cuda", 0) if own_gpu else None,
    )
    torch.distributed.barrier()
    if rank == 0 and url.startswith("file:"):
        shutil.rmtree(Path(url.removeprefix("file://")).parent, ignore_errors=True)
    return Ranks(rank, size)


def leave() -> None:
    """Part with the other processes: whoever still waits for this one is told."""
    import torch

    torch.distributed.destroy_process_group()
