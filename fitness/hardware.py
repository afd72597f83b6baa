"""Abilities of this machine's hardware: GPUs, memory, and whether bfloat16 is fast or emulated."""

import gc
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Of NVIDIA's and AMD's GPUs, and under Windows.
DRIVERS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")
# For libraries that are not loaded yet.
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
NO_MEMORY = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
WIDTH = 128  # of the matrices of one product: 40 ms where it is emulated, too small to warm a cache
WIDE = 512  # of those of one product in float32 by numpy: 3 ms
EFFICIENCY = 0.5  # of training and scoring, beside such a product
REPETITIONS = 3  # the fastest counts: noise only adds time
EMULATED = 2.0  # from this many times float32's time on, it counts as emulated
WORTH = 0.8  # up to this share of float32's time, `precision: auto` chooses bfloat16


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit NumPy, scikit-learn and PyTorch to one thread, whether they are loaded already or not.

    The order of sums, and with it their last digit, depends on the number of threads.
    """
    import torch
    from threadpoolctl import threadpool_limits

    before = {name: os.environ.get(name) for name in ONE_THREAD}
    threads = torch.get_num_threads()
    os.environ.update(ONE_THREAD)
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def driver() -> bool:
    """True if this machine has the driver of a GPU, of which PyTorch may know nothing."""
    return any(map(Path.exists, map(Path, DRIVERS)))


def gpus() -> int:
    """Number of GPUs that PyTorch can use here."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def use_only(number: int) -> None:
    """Hide all GPUs but one from this process, before it has used any; numbered from 0."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else []
    os.environ["CUDA_VISIBLE_DEVICES"] = names[number] if names else str(number)


def gpu_memory() -> int:
    """Bytes of memory of the smallest GPU that PyTorch can use here; 0 without any."""
    import torch

    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = [torch.cuda.get_device_properties(number).total_memory for number in range(there)]
    return min(found, default=0)


def is_out_of_memory(error: BaseException) -> bool:
    """True for Python's MemoryError, torch's OutOfMemoryError, or an allocator's RuntimeError."""
    of_device = type(error).__name__ == "OutOfMemoryError"
    allocator = isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
    return isinstance(error, MemoryError) or of_device or allocator


def release_memory() -> None:
    """Free the GPU memory that PyTorch caches: other workers may share the GPU.

    Only works outside an `except` block, since the frames of an error reference tensors.
    """
    gc.collect()
    if "torch" in sys.modules:
        import torch

        torch.cuda.empty_cache()  # does nothing where no GPU was used


def bfloat16_cost(device: "torch.device | None" = None) -> float:
    """Time of a matrix product in bfloat16 over that in float32; measured on a CPU.

    A CPU without instructions for it (AVX512-BF16, AMX) emulates it, tens of times slower. For a
    GPU the answer is by support: WORTH / 2 or infinite. `device` None is the CPU.
    """
    import torch

    if device is not None and device.type == "cuda":
        has_it = torch.cuda.is_bf16_supported(including_emulation=False)
        return WORTH / 2 if has_it else math.inf
    return _of_torch(torch.bfloat16) / _of_torch(torch.float32)


@cache
def core_flops() -> float:
    """Floating-point operations a second of a core here that trains in float32: a rough estimate.

    It is measured with as many threads as numpy has, which is one in the driver of a search.
    """
    import numpy as np

    matrix = np.ones((WIDE, WIDE), dtype=np.float32)
    return EFFICIENCY * 2.0 * WIDE**3 / _seconds(lambda: matrix @ matrix)


def _of_torch(dtype: "torch.dtype") -> float:
    """Seconds of a matrix product on the CPU."""
    import torch

    matrix = torch.ones((WIDTH, WIDTH), dtype=dtype)
    return _seconds(lambda: torch.mm(matrix, matrix))


def _seconds(product: Callable[[], object]) -> float:
    """Seconds of the fastest of REPETITIONS calls."""
    product()  # chooses its algorithm
    seconds = []
    for _ in range(REPETITIONS):
        begun = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)
