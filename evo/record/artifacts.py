"""Checkpoints on disk: kept for the front and for warm starts, then deleted."""

import shutil
from collections.abc import Collection
from pathlib import Path

import numpy as np

from fitness.merging.lineage import RETRAINED
from fitness.models import weights
from fitness.training import state
from population.individual import Individual

DELETED = ".deleted"  # suffix of an empty file in place of a checkpoint, for the mirror


class Artifacts:
    """Checkpoints of a run: follows the front as individuals are scored, deletes the others.

    Work and memory grow with the size of the front, not with the number of individuals. For a
    mirror, which may have checkpoints that a worker elsewhere put there, an empty file says what
    is deleted.
    """

    def __init__(self, folder: Path, *, mirrored: bool = False) -> None:
        self._folder = folder
        self._mirrored = mirrored
        self._delete_abandoned()
        self._needed: set[int] = set()  # kept besides the front, for warm starts
        self._members: list[int] = []
        self._losses = np.empty((0, 0))  # (members, objectives)

    def keep_or_delete(self, scored: Individual) -> None:
        """Update the front with a scored individual, and delete the checkpoints not on it.

        An individual may be scored again; a checkpoint that was deleted does not come back.
        Evaluations below full fidelity leave no checkpoint.
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
        front = self._losses.reshape(-1, len(losses))
        if ((front <= losses).all(axis=1) & (front < losses).any(axis=1)).any():  # dominated
            self._delete(scored.id)
            return
        kept = (losses > front).any(axis=1) | (losses == front).all(axis=1)  # not dominated by it
        for place in np.flatnonzero(~kept).tolist():
            self._delete(self._members[place])
        self._members = [self._members[place] for place in np.flatnonzero(kept).tolist()]
        self._members.append(scored.id)
        self._losses = np.vstack([front[kept], losses])

    @property
    def front(self) -> list[int]:
        """Individuals on the front of all scored so far."""
        return list(self._members)

    def keep_also(self, needed: Collection[int]) -> None:
        """Keep these checkpoints besides the front's, until a later call leaves them out."""
        released = self._needed - set(needed)
        self._needed = set(needed)
        for individual in released - set(self._members):
            self._delete(individual)

    def tidy(self) -> None:
        """Delete all else, once nothing is trained any more.

        That is what workers that died have left, and checkpoints of individuals whose bucket was
        trained again for the sake of another.
        """
        self._delete_abandoned()
        kept = {weights.folder_of(self._folder, one) for one in {*self._members, *self._needed}}
        for folder in weights.kept_in(self._folder):
            if folder not in kept:
                self._remove(folder)

    def delete_state(self, individual: int) -> None:
        """Delete the training state of an individual that paused at a rung and is not resumed."""
        state.forget(self._folder, individual)

    def _delete_abandoned(self) -> None:
        """Delete temporary folders of workers that died."""
        for beginning in (RETRAINED, weights.SERVED):
            for abandoned in self._folder.glob(f"{beginning}*"):
                shutil.rmtree(abandoned, ignore_errors=True)

    def _delete(self, individual: int) -> None:
        if individual in self._needed:
            return
        self._remove(weights.folder_of(self._folder, individual))

    def _remove(self, checkpoint: Path) -> None:
        shutil.rmtree(checkpoint, ignore_errors=True)
        if self._mirrored:
            self._folder.mkdir(exist_ok=True)
            checkpoint.with_suffix(DELETED).touch()
