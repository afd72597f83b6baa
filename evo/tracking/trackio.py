"""Runs in Trackio: a group for a search, with a run of its own and one for each evaluation."""

import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path

from evo.config.track import Trackio as Settings
from evo.tracking.records import End, Evaluation, Search

MARK = 6  # digits of a search's identity in names, which are all that identifies a run


class Trackio:
    """A project on this machine, or in a Hugging Face Space."""

    def __init__(self, settings: Settings, run: Path) -> None:
        self._settings = settings
        self._group = self._mark = ""

    def begin(self, search: Search, sent: Sequence[Evaluation]) -> str:
        """The search's own run, which Trackio makes with its first value."""
        self._mark = search.identity[:MARK]  # two runs may have folders of one name
        self._group = f"{search.name} {self._mark}"
        self._log(self._group, "search", search.params, [(0, {"evaluations": 0.0})])
        return f"trackio show --project {self._settings.project}"

    def evaluation(self, one: Evaluation) -> None:
        """A run with its curves by tokens, and a value of the search's run."""
        points: dict[int, dict[str, float]] = {}
        for name, curve in one.curves.items():
            for step, value in curve:
                points.setdefault(step, {})[name] = value
        points[max(points, default=0) + 1] = dict(one.metrics)
        name = f"{one.name} {self._mark}"
        self._log(name, "evaluation", {**one.params, **one.tags}, sorted(points.items()))
        best = {f"best/{objective}": value for objective, value in one.best.items()}
        self._log(self._group, "search", {}, [(one.number, {"evaluations": one.number, **best})])

    def end(self, end: End, report: Path | None) -> None:
        """The closing comparison, as the last values of the search's run."""
        self._log(self._group, "search", {}, [(end.evaluations + 1, end.results)])

    def close(self) -> None:
        """Each run is sent as it is logged."""

    def _log(
        self,
        name: str,
        kind: str,
        config: Mapping[str, str],
        points: Iterable[tuple[int, Mapping[str, float]]],
    ) -> None:
        """Log values at steps that the run does not have yet."""
        import trackio

        with redirect_stdout(io.StringIO()):  # it prints about each run
            run = trackio.init(
                project=self._settings.project,
                name=name,
                group=self._group,
                space_id=self._settings.space,
                config={"kind": kind, **config},
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
            first: int = run._next_step  # 0 for a new run; there is no public name for it
            for step, values in points:
                if step >= first and values:
                    run.log(dict(values), step=step)
            trackio.finish()
