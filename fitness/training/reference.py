"""The reference model of preference and reinforcement learning: the untouched base.

Its log-probabilities of a record are computed once per worker, from the record alone, so that they
do not depend on the other draws of a batch.
"""

from collections.abc import Sequence as Listed
from typing import TYPE_CHECKING

from fitness.inference.log_probabilities import token_logps
from fitness.mixture.decks import Draw
from fitness.mixture.mixing import Rows, stacked
from fitness.models.base import Base
from fitness.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

Key = tuple[str, str, int, int, str]  # use, source, number, longest sequence, precision


class Reference:
    """The reference model: summed log-probabilities of records under the untouched base, nats."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._cache: dict[Key, list[float]] = {}

    def of(self, draws: Listed[Draw], recipe: Recipe) -> "Tensor":
        """Cached sums, (sequences of a draw, draws), during a fine-tune under the recipe."""
        import torch

        keys = [self._key(draw, recipe) for draw in draws]
        missing = [place for place, key in enumerate(keys) if key not in self._cache]
        if missing:
            with self._base.untouched() as model, torch.no_grad():
                for place in missing:
                    rows = stacked(list(draws[place].sequences))
                    self._cache[keys[place]] = token_logps(model, rows).sum(1).tolist()
        sums = [self._cache[key] for key in keys]
        return torch.tensor(sums, device=self._base.device).T

    def now(self, rows: Rows) -> "Tensor":
        """Uncached sums, (b,), for rows that do not recur."""
        import torch

        with self._base.untouched() as model, torch.no_grad():
            return token_logps(model, rows).sum(1)

    def _key(self, draw: Draw, recipe: Recipe) -> Key:
        return (draw.use, draw.source, draw.number, recipe.sequence_length, recipe.precision)
