"""Whether a device computes in bfloat16 by itself, or slowly makes up for not having it."""

import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

WIDTH = 128  # of the matrices of one product: 40 ms where it is emulated, too small to warm a cache
REPETITIONS = 3  # the best counts: noise only adds
EMULATED = 2.0  # times as long as in float32, and more, is no hardware's doing
WORTH = 0.8  # of the time in float32, and less, is what `precision: auto` takes bfloat16 for


def gpus() -> int:
    """How many GPUs PyTorch can use here."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def bfloat16_cost(device: "torch.device | None" = None) -> float:
    """How many times as long as in float32 a matrix product takes in bfloat16; on a CPU, measured.

    A CPU without instructions for it (AVX512-BF16, AMX) emulates it, tens of times slower. A GPU
    (None: the CPU) has it or has not.
    """
    import torch

    if device is not None and device.type == "cuda":
        has_it = torch.cuda.is_bf16_supported(including_emulation=False)
        return WORTH / 2 if has_it else math.inf
    return _seconds(torch.bfloat16) / _seconds(torch.float32)


def _seconds(dtype: "torch.dtype") -> float:
    """Of the fastest of some products of two matrices on the CPU."""
    import torch

    matrix = torch.ones((WIDTH, WIDTH), dtype=dtype)
    torch.mm(matrix, matrix)  # chooses its algorithm
    taken = []
    for _ in range(REPETITIONS):
        begun = time.perf_counter()
        torch.mm(matrix, matrix)
        taken.append(time.perf_counter() - begun)
    return min(taken)
