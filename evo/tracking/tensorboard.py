"""Event files for TensorBoard: a folder for a search, and in it one for each evaluation."""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evo.config.track import Tensorboard as Settings
from evo.tracking.records import End, Evaluation, Search

PARTIAL = ".partial"


class Tensorboard:
    """Event files, by tensorboardX, with the times of the facts.

    An evaluation's folder appears whole. The search's own file is written anew by each process.
    """

    def __init__(self, settings: Settings, run: Path) -> None:
        place = Path(settings.folder) / run.resolve().name if settings.folder else None
        self._root = place or run / "tensorboard"
        self._folder = self._root
        self._writer: Any = None

    def begin(self, search: Search, sent: Sequence[Evaluation]) -> str:
        """Write the spec and the best values after the evaluations that were sent before."""
        parts = search.name.split("/")[1:]
        self._folder = self._root.joinpath(*parts)
        own = self._folder / "search"
        shutil.rmtree(own, ignore_errors=True)
        self._writer = _writer(own)
        self._writer.add_text("spec", _table(search.params), 0, walltime=search.started)
        for one in sent:
            self._best(one)
        self._writer.flush()
        return f"tensorboard --logdir {self._root}"

    def evaluation(self, one: Evaluation) -> None:
        """A folder named by the evaluation, with its recipe for the tab HParams."""
        from tensorboardX.summary import hparams

        whole = self._folder / re.sub(r"[^\w.-]+", "-", one.name)
        partial = whole.with_name(whole.name + PARTIAL)
        shutil.rmtree(partial, ignore_errors=True)
        writer = _writer(partial)
        values = {name: _value(text) for name, text in one.params.items()}
        for summary in hparams(values, dict(one.metrics)):
            writer.file_writer.add_summary(summary, walltime=one.finished)
        for name, value in one.metrics.items():
            writer.add_scalar(name, value, 0, walltime=one.finished)
        for name, points in one.curves.items():
            for step, value in points:
                writer.add_scalar(name, value, step, walltime=one.finished)
        writer.add_text("evaluation", _table(one.tags), 0, walltime=one.finished)
        writer.close()
        shutil.rmtree(whole, ignore_errors=True)
        partial.rename(whole)
        self._best(one)
        self._writer.flush()

    def _best(self, one: Evaluation) -> None:
        for name, value in one.best.items():
            self._writer.add_scalar(f"best/{name}", value, one.number, walltime=one.finished)

    def end(self, end: End, report: Path | None) -> None:
        """The closing comparison and the verdict, which TensorBoard shows as text."""
        for name, value in end.results.items():
            self._writer.add_scalar(name, value, end.evaluations, walltime=end.time)
        told = f"{end.state}: {end.verdict}"
        self._writer.add_text("verdict", told, end.evaluations, walltime=end.time)

    def close(self) -> None:
        """Write what is buffered."""
        if self._writer is not None:
            self._writer.close()


def _writer(folder: Path) -> Any:
    from tensorboardX import SummaryWriter

    return SummaryWriter(str(folder), write_to_disk=True)


def _value(text: str) -> str | float | bool:
    """A value of a recipe: TensorBoard filters and plots by numbers."""
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text


def _table(values: Mapping[str, str]) -> str:
    """A table in Markdown."""
    rows = [f"| {name} | {value.replace('|', ' ')} |" for name, value in values.items()]
    return "\n".join(["| | |", "|---|---|", *rows])
