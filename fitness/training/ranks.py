"""Data-parallel training: several processes train one individual, each on its part of every batch.

Each process holds the whole model; gradients are summed after each step's backward pass, so that a
step equals that of a single process up to the order of sums.
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
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from fitness.mixture.mixing import Batch
from fitness.training.accumulation import parts

if TYPE_CHECKING:
    from torch import Tensor

MOST_SECONDS = 86_400.0  # longest timeout of communication between the processes
STREAM = 1_000_003  # between the seeds of the ranks' dropout masks


class Parted(RuntimeError):
    """Another process has ended, or did not reach a point of communication in time."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process's rank, and the number of processes. Rank 0 evaluates and writes files."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def seed(self, seed: int) -> int:
        """Seed of this process's own random numbers."""
        return seed + self.rank * STREAM

    def parts(self, batch: Batch, rows: int | None) -> Iterator[tuple[Batch, float]]:
        """This process's parts of a batch, of at most `rows` sequences, with their shares."""
        return islice(self.of_all(batch, rows), self.rank, None, self.size)

    def of_all(self, batch: Batch, rows: int | None) -> Iterator[tuple[Batch, float]]:
        """The parts of all processes, small enough that there is one for each."""
        if self.size > 1:
            each = max(1, -(-batch.sequences // self.size))
            rows = each if rows is None else min(rows, each)
        return parts(batch, rows)

    def add(self, loss: float, weights: Sequence["Tensor"]) -> float:
        """Sum the gradients of the weights over all processes, and return the summed loss.

        A weight without a gradient in every process keeps none: the optimiser leaves it as it is.
        """
        if self.size == 1:
            return loss
        import torch

        device = weights[0].device
        present = [weight.grad is not None for weight in weights]
        gradients = [
            torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights
        ]
        exchanged = torch.cat(
            [
                *(gradient.flatten() for gradient in gradients),
                torch.tensor([*present, loss], dtype=torch.float32, device=device),
            ]
        )
        with _together():
            torch.distributed.all_reduce(exchanged)
        sizes = [weight.numel() for weight in weights]
        *sums, counts, losses = exchanged.split([*sizes, len(weights), 1])
        for weight, total, count in zip(weights, sums, counts.tolist(), strict=True):
            weight.grad = total.view_as(weight).to(weight.dtype) if count else None
        return float(losses)

    def share(self, weights: Sequence["Tensor"]) -> None:
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
        raise Parted(f"another process of this worker has ended ({error})") from None


def meeting_place(address: str | None) -> str:
    """A URL at which the processes connect: a free port at this machine's address.

    `address` None: a file, which opens no port, for processes on one machine.
    """
    if address is None:
        return (Path(tempfile.mkdtemp(prefix="evomix-")) / "ranks").as_uri()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind(("", 0))
        host = f"[{address}]" if family == socket.AF_INET6 else address
        return f"tcp://{host}:{listener.getsockname()[1]}"


def meet(url: str, rank: int, size: int, *, seconds: float, own_gpu: bool) -> Ranks:
    """Wait for all processes to connect; later communication times out after so many seconds."""
    import torch

    if url.startswith("file:") and sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # else by the machine's host name
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
    """Disconnect from the other processes: those still waiting for this one get an error."""
    import torch

    torch.distributed.destroy_process_group()
