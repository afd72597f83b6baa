"""Random streams by member or by row: results as if each member or row had been computed alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import dropout, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode


class Streams(TorchFunctionMode):
    """While entered, dropout in a batch uses a separate random state and rate for each member.

    A batch has the same number of rows for every member, member after member. Dropout and attention
    with dropout run on each member's rows under that member's own random state, in the
    order in which the member alone would run them: so the numbers are those that it would draw
    alone. Everything else runs on the whole batch. Leaves the global random state changed: enter it
    inside a fork.
    """

    def __init__(
        self, seeds: Sequence[int], device: torch.device, rates: Sequence[float] = ()
    ) -> None:
        """`rates` are the members' dropout rates, in place of whatever rate a module asks for."""
        super().__init__()
        self._source = torch.random if device.type == "cpu" else torch.get_device_module(device)
        self._rates = list(rates)
        self._states = []
        for seed in seeds:
            torch.manual_seed(seed)
            self._states.append(self._source.get_rng_state())

    def keep(self, places: Sequence[int]) -> None:
        """Continue with the members at these places, in this order; drop the others."""
        self._rates = [self._rates[place] for place in places] if self._rates else []
        self._states = [self._states[place] for place in places]

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func is dropout and self._rates:
            training = given.get("training", args[2] if len(args) > 2 else True)
            return self._each(dropout, args[:1], {}, "p") if training else args[0]
        if func is scaled_dot_product_attention and self._rates and given.get("dropout_p"):
            return self._each(func, args, given, "dropout_p")
        return func(*args, **given)

    def _each(self, func: Any, args: Any, given: dict[str, Any], rate: str) -> Any:
        """Apply `func` to each member's rows of all tensors with the batch's rows; concatenate."""
        count, rows = len(self._states), len(args[0])
        results = []
        for place in range(count):
            own = slice(place * rows // count, (place + 1) * rows // count)

            def part(value: Any, own: slice = own) -> Any:
                whole = isinstance(value, torch.Tensor) and value.ndim and len(value) == rows
                return value[own] if whole else value

            named = {name: part(value) for name, value in given.items()}
            named[rate] = self._rates[place]
            self._source.set_rng_state(self._states[place])
            results.append(func(*map(part, args), **named))
            self._states[place] = self._source.get_rng_state()
        return torch.cat(results)


class RowNumbers(TorchFunctionMode):
    """While entered, each row of a batch is sampled by its own random numbers.

    Inverse transform sampling: the token is where the row's cumulative probabilities exceed its
    next number in [0, 1), on any device. No random state is read or changed.
    """

    def __init__(self, numbers: np.ndarray, device: torch.device) -> None:
        """`numbers`: (rows, tokens to sample)."""
        super().__init__()
        self._columns = iter(torch.from_numpy(numbers).float().to(device).split(1, dim=1))

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not torch.multinomial:
            return func(*args, **(kwargs or {}))
        passed = args[0].float().cumsum(dim=-1)  # unlike float64, every device has it
        whole = passed[:, -1:]
        below = torch.nextafter(whole, torch.zeros_like(whole))  # else a number near 1 rounds to it
        return torch.searchsorted(
            passed, torch.minimum(next(self._columns) * whole, below), right=True
        )
