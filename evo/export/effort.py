"""Time and disk that an export will take, estimated before anything is trained again."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evo.config import SearchConfig
from evo.prepare.outlook import duration
from evo.record.facts import Facts, cost, details
from fitness.errors import InputError
from fitness.evaluation import EvaluationSpec
from fitness.files import size
from fitness.merging.lineage import needed
from fitness.models import folders, weights

FLOAT_BYTES = 4  # weights are trained and exported in float32


@dataclass(frozen=True, slots=True)
class Effort:
    """Fine-tunes to repeat, their seconds in the run (None if not recorded), and bytes on disk.

    `room` is the folder of repeated fine-tunes until the export in `to` is written.
    """

    fine_tunes: int
    seconds: float | None
    room: Path
    room_bytes: int
    to: Path
    to_bytes: int

    def message(self, individual: int) -> str:
        """Message of one line for the user."""
        ancestors = self.fine_tunes - 1
        of_all = f" with {ancestors} of its ancestors" if ancestors else ""
        time = "an unknown time" if self.seconds is None else duration(self.seconds)
        return (
            f"the checkpoint of individual {individual} was not kept: training it again{of_all}, "
            f"which took {time} in the run; {size(self.room_bytes)} of disk in {self.room} for the "
            f"time being, {size(self.to_bytes)} in {self.to}"
        )

    def check(self) -> None:
        """Raises InputError where a disk has less room than this takes."""
        places = [(self.room, self.room_bytes)] if self.fine_tunes else []
        wanted: dict[int, int] = {}  # bytes, by device
        for place, count in [*places, (self.to, self.to_bytes)]:
            there = _existing(place)
            device = there.stat().st_dev
            wanted[device] = wanted.get(device, 0) + count
            free = shutil.disk_usage(there).free
            if wanted[device] > free:
                raise InputError(
                    f"{place}: an export needs {size(wanted[device])} there and the disk has "
                    f"{size(free)} left; free some, name another --to, or set TMPDIR"
                )


def effort_of(
    run: Path,
    facts: Facts,
    config: SearchConfig,
    spec: EvaluationSpec,
    base: Path,
    to: Path,
    *,
    adapter: bool,
) -> Effort:
    """Effort of exporting the individual of a spec, as a whole model or its `adapter` alone."""
    whole = folders.parameters(base) * FLOAT_BYTES

    def kept(individual: int) -> Path | None:
        folder = weights.folder_of(run / "artifacts", individual)
        return folder if folder.is_dir() else None

    again: list[tuple[int, Mapping[str, Any]]] = []
    if kept(spec.individual) is None:
        gone = (one for one in needed(spec, kept) if kept(one.individual) is None)
        again = [(one.individual, one.recipe) for one in gone]
        again.append((spec.individual, spec.recipe))
    return Effort(
        fine_tunes=len(again),
        seconds=_seconds(facts, config, [individual for individual, _ in again]),
        room=Path(tempfile.gettempdir()),
        room_bytes=sum(_weights_bytes(recipe, base, whole) for _, recipe in again),
        to=to,
        to_bytes=_weights_bytes(spec.recipe, base, whole) if adapter else whole,
    )


def _seconds(facts: Facts, config: SearchConfig, individuals: Sequence[int]) -> float | None:
    """Seconds of training alone, without scoring; None if not recorded.

    The builtin trainer trains an individual in parts if it paused at rungs: these are added up.
    """
    total = 0.0
    for individual in individuals:
        own = [f for f in facts if f["fact"] == "evaluation" and f["individual"] == individual]
        copied = (details(f)["same_as"] for f in own if "same_as" in details(f))
        same = next(copied, individual)
        parts = [
            cost(fact).get("train_seconds")
            for fact in facts
            if fact["fact"] == "evaluation"
            and (fact["individual"], fact["seed"]) == (same, config.seed)
            and fact["split"] == "selection"
            and fact["status"] == "ok"
            and (0 < fact["fidelity"] <= 1 if config.form.trains else fact["fidelity"] == 1)
        ]
        seconds = [part for part in parts if part is not None]
        if not parts or len(seconds) < len(parts):
            return None
        total += sum(seconds)
    return total


def _weights_bytes(recipe: Mapping[str, Any], base: Path, whole: int) -> int:
    """Bytes of all weights, or at most of an adapter: rank * (rows + columns) for each matrix."""
    if recipe["adapter"] == "none":
        return whole
    matrices = (shape for shape in folders.shapes(base) if len(shape) > 1)
    numbers = sum(recipe["lora_rank"] * (shape[-1] + shape[-2]) for shape in matrices)
    return min(whole, numbers * FLOAT_BYTES)


def _existing(place: Path) -> Path:
    return next(one for one in (place, *place.parents) if one.exists())
