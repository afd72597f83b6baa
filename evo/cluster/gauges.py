"""Gauges of a search among Ray's metrics, for the cluster's dashboard and Prometheus."""

from collections.abc import Mapping
from typing import Any

GAUGES = {
    "evo_workers": "Workers of the search, starting ones included",
    "evo_workers_busy": "Workers that evaluate now",
    "evo_evaluations_finished": "Finished evaluations of the search, in full fine-tunes",
    "evo_evaluations_failed": "Evaluations of the search that failed",
    "evo_best": "Mean of an objective over the seeds of the best individual so far",
}


class Gauges:
    """Gauges with the tag `run`; `evo_best` has one for each `objective` as well."""

    def __init__(self, run: str) -> None:
        from ray.util.metrics import Gauge

        self._gauges: dict[str, Any] = {
            name: Gauge(name, text, tag_keys=("run", "objective")) for name, text in GAUGES.items()
        }
        self._run = run

    def show(self, values: Mapping[str, float], best: Mapping[str, float]) -> None:
        """Set gauges by name, and `evo_best` by objective; Ray reports them every 10 s."""
        for name, value in values.items():
            self._gauges[name].set(value, {"run": self._run, "objective": ""})
        for objective, value in best.items():
            self._gauges["evo_best"].set(value, {"run": self._run, "objective": objective})


def gauges(address: str, run: str) -> Gauges | None:
    """Gauges of a search by its cluster's address.

    None for Ray on this machine, which is started without an agent that would collect them, and
    through a client's connection, whose process is no part of the cluster.
    """
    return None if address == "local" or address.startswith("ray://") else Gauges(run)
