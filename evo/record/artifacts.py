"""The weights on disk: kept for the front, and for whom others may begin with; then deleted."""

import shutil
from collections.abc import Collection
from pathlib import Path

import numpy as np

from fitness.merging.lineage import RETRAINED
from fitness.models import weights
from fitness.training import state
from population.individual import Individual


class Artifacts:
    """Follows the front as individuals are scored; work and memory grow with the front alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for abandoned in folder.glob(f"{RETRAINED}*"):  # by a worker that died
            shutil.rmtree(abandoned, ignore_errors=True)
        self._held: set[int] = set()  # besides the front
        self._members: list[int] = []
        self._losses = np.empty((0, 0))  # (members, objectives)

    def keep_or_delete(self, scored: Individual) -> None:
        """Of a scored individual and those it dominates, keep the weights of the front's.

        One that was scored before is judged anew, but nobody's weights come back. Below
        full fidelity there are none.
        """
        if scored.fidelity < 1:
            return
        if scored.id in self._members:
            place = self._members.index(scored.id)
            del self._members[place]
            self._losses = np.delete(self._losses, place, axis=0)
        if scored.failed or scored.violation > 0 or scored.losses is None:
            self._delete(scored.id)
            return
        losses = np.array(scored.losses)
        known = self._losses.reshape(-1, len(losses))
        if ((known <= losses).all(axis=1) & (known < losses).any(axis=1)).any():
            self._delete(scored.id)
            return
        kept = (losses > known).any(axis=1) | (losses == known).all(axis=1)
        for place in np.flatnonzero(~kept).tolist():
            self._delete(self._members[place])
        self._members = [self._members[place] for place in np.flatnonzero(kept).tolist()]
        self._members.append(scored.id)
        self._losses = np.vstack([known[kept], losses])

    @property
    def front(self) -> list[int]:
        """Who is on the front, by what was scored so far."""
        return list(self._members)

    def hold(self, needed: Collection[int]) -> None:
        """Keep the weights of these too, until they are not among them any more."""
        let_go = self._held - set(needed)
        self._held = set(needed)
        for individual in let_go - set(self._members):
            self._delete(individual)

    def delete_state(self, individual: int) -> None:
        """Of a training that has paused and will not go on."""
        state.forget(self._folder, individual)

    def _delete(self, individual: int) -> None:
        if individual in self._held:
            return
        shutil.rmtree(weights.folder_of(self._folder, individual), ignore_errors=True)
