"""Runs in MLflow: one for a search, and nested in it one for each evaluation."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evo.config.track import Mlflow as Settings
from evo.tracking.records import End, Evaluation, Search

IDENTITY = "evomix.identity"
STATES = {"running": "RUNNING", "finished": "FINISHED"}  # others: the run was stopped
KEY, VALUE = 250, 6000  # characters that every store of MLflow takes
TOGETHER = 100  # values a request, so that params and metrics stay below MLflow's limits
DEFAULTS = {
    # The client retries for minutes; whoever sends tries again later.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
Series = Mapping[str, Sequence[tuple[int, float]]]


class Mlflow:
    """An experiment of a tracking server or database."""

    def __init__(self, settings: Settings, run: Path) -> None:
        self._settings = settings
        self._client: Any = None
        self._experiment = self._run = ""

    def begin(self, search: Search, sent: Sequence[Evaluation]) -> str:
        """The run of the search, made unless it exists; it is running from now on."""
        self._connect()
        within = search.within and self._known(search.within.identity)
        parent = within.info.run_id if within else None
        self._run = self._opened(
            search.name, search.identity, search.started, search.params, parent
        )
        self._client.update_run(self._run, status="RUNNING")
        uri = self._client.tracking_uri
        if not uri.startswith("http"):
            return f"mlflow ui --backend-store-uri {uri}"
        return f"{uri.rstrip('/')}/#/experiments/{self._experiment}/runs/{self._run}"

    def evaluation(self, one: Evaluation) -> None:
        """A nested run; the store keeps one of equal values with equal times."""
        child = self._opened(one.name, one.identity, one.started, one.params, self._run)
        single = {name: [(0, value)] for name, value in one.metrics.items()}
        self._log(child, one.tags, {**single, **one.curves}, one.finished)
        status = "FAILED" if one.failed else "FINISHED"
        self._client.set_terminated(child, status, end_time=_milliseconds(one.finished))
        best = {f"best/{name}": [(one.number, value)] for name, value in one.best.items()}
        self._log(self._run, {}, best, one.finished)

    def end(self, end: End, report: Path | None) -> None:
        """State, verdict and closing comparison of the search, and its report as an artifact."""
        results = {name: [(end.evaluations, value)] for name, value in end.results.items()}
        self._log(self._run, {"verdict": end.verdict}, results, end.time)
        if report is not None:
            self._client.log_artifact(self._run, str(report))
        status = STATES.get(end.state, "KILLED")
        self._client.set_terminated(self._run, status, end_time=_milliseconds(end.time))

    def close(self) -> None:
        """Nothing is buffered."""

    def _connect(self) -> None:
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        self._client, name = MlflowClient(self._settings.uri), self._settings.experiment
        found = self._client.get_experiment_by_name(name)
        made = found.experiment_id if found else self._client.create_experiment(name)
        self._experiment = str(made)

    def _known(self, identity: str) -> Any:
        found = self._client.search_runs(
            [self._experiment], f"tags.`{IDENTITY}` = '{identity}'", max_results=1
        )
        return found[0] if found else None

    def _opened(
        self,
        name: str,
        identity: str,
        started: float,
        params: Mapping[str, str],
        parent: str | None,
    ) -> str:
        """A run with its params, of which MLflow keeps those that it has; made unless it exists."""
        from mlflow.entities import Param

        run = self._known(identity)
        if run is None:
            tags = {IDENTITY: identity} | ({"mlflow.parentRunId": parent} if parent else {})
            begun = {"start_time": _milliseconds(started), "tags": tags, "run_name": name}
            run = self._client.create_run(self._experiment, **begun)
        identifier: str = run.info.run_id
        cut = {_name(name): value[:VALUE] for name, value in params.items()}
        fresh = [Param(name, cut[name]) for name in cut.keys() - run.data.params.keys()]
        for part in _parts(fresh):
            self._client.log_batch(identifier, params=part)
        return identifier

    def _log(self, run: str, tags: Mapping[str, str], series: Series, time: float) -> None:
        from mlflow.entities import Metric, RunTag

        at = _milliseconds(time)
        metrics = [
            Metric(_name(name), value, at, step)
            for name, points in series.items()
            for step, value in points
        ]
        for part in _parts(metrics):
            self._client.log_batch(run, metrics=part)
        if tags:
            texts = [RunTag(_name(name), value[:VALUE]) for name, value in tags.items()]
            self._client.log_batch(run, tags=texts)


def _name(name: str) -> str:
    """A name in the characters that MLflow takes."""
    return re.sub(r"[^\w. :/-]", "_", name, flags=re.ASCII)[:KEY]


def _parts(values: list[Any]) -> Iterator[list[Any]]:
    return (values[place : place + TOGETHER] for place in range(0, len(values), TOGETHER))


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
