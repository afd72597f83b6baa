"""Runs in Weights & Biases: a group for a search, with a run of its own and one an evaluation."""

import os
import shutil
from collections.abc import Mapping, Sequence
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from evo.config.track import Wandb as Settings
from evo.tracking.records import End, Evaluation, Search
from fitness.errors import InputError

GROUP = 128  # characters


class Wandb:
    """A project, online or as files for `wandb sync`."""

    def __init__(self, settings: Settings, run: Path) -> None:
        self._settings = settings
        self._group = ""
        self._search: Any = None
        if settings.mode == "online" and not _logged_in():
            raise InputError(
                "track.wandb: no credentials for Weights & Biases; run `wandb login`, set "
                "WANDB_API_KEY, or set mode: offline"
            )

    def begin(self, search: Search, sent: Sequence[Evaluation]) -> str:
        """The search's own run: online the same as before, offline written anew."""
        self._group = search.name[:GROUP]
        self._search = self._run(search.identity, search.name, "search", search.params)
        self._search.define_metric("*", step_metric="evaluations")
        if self._settings.mode == "online":
            return str(self._search.url)
        for one in sent:
            self._best(one)
        return f"wandb sync {_folder(self._search).parent}/offline-run-*"

    def evaluation(self, one: Evaluation) -> None:
        """A run of the group, with its curves by tokens."""
        run = self._run(one.identity, one.name, "evaluation", {**one.params, **one.tags})
        run.define_metric("*", step_metric="tokens")
        for name, points in one.curves.items():
            for step, value in points:
                run.log({name: value, "tokens": step})
        run.summary.update({**one.metrics, "seconds": one.finished - one.started})
        run.finish(exit_code=int(one.failed))
        self._best(one)

    def _best(self, one: Evaluation) -> None:
        best = {f"best/{name}": value for name, value in one.best.items()}
        self._search.log({"evaluations": one.number, **best}, step=one.number)

    def end(self, end: End, report: Path | None) -> None:
        """Results as the run's summary, and the report as an artifact."""
        self._search.summary.update({**end.results, "verdict": end.verdict, "state": end.state})
        if report is not None:
            self._search.log_artifact(str(report), name=f"report-{self._search.id}", type="report")

    def close(self) -> None:
        """Send what is buffered, and end the run."""
        if self._search is not None:
            self._search.finish()
            self._search = None

    def _run(self, identity: str, name: str, kind: str, config: Mapping[str, str]) -> Any:
        import wandb

        run = wandb.init(
            project=self._settings.project,
            entity=self._settings.entity,
            mode=self._settings.mode,
            id=identity,
            name=name,
            group=self._group,
            job_type=kind,
            config=dict(config),
            resume="allow",
            reinit="create_new",
            allow_val_change=True,
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                save_code=False,
                x_disable_meta=True,
                x_disable_stats=True,
            ),
        )
        if self._settings.mode == "offline":  # files of a process that died
            own = _folder(run)
            for earlier in set(own.parent.glob(f"offline-run-*-{identity}")) - {own}:
                shutil.rmtree(earlier)
        return run


def _folder(run: Any) -> Path:
    """The folder of an offline run, in which it has its files."""
    return Path(run.dir).parent


def _logged_in() -> bool:
    """True if there is a key in the environment, or in the netrc file that `wandb login` writes."""
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        known = netrc(os.environ.get("NETRC")).authenticators(host)
    except (OSError, NetrcParseError):
        known = None
    return bool(os.environ.get("WANDB_API_KEY") or known)
