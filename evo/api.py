"""Python API: what the commands do, for scripts and notebooks. Imported as `evo`.

Bad input is an `InputError`, whose message says what is wrong and what to do. Libraries are
imported where they are needed, so that `import evo` takes milliseconds.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from evo.printable import say
from fitness.errors import InputError
from fitness.hardware import one_thread
from fitness.secrets import without_secrets

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from evo.config import SearchConfig
    from evo.launching import Watching
    from evo.record.facts import Facts
    from evo.record.state import State

RUNS = Path("runs")  # where launches go unless told otherwise
Show = Literal["auto", "lines", "table"]
P = ParamSpec("P")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Scored:
    """An individual with its recipe and its mean scores on the selection split, by measurement."""

    individual: int
    recipe: Mapping[str, Any]
    measurements: Mapping[str, float]


def _masked(call: Callable[P, Answer]) -> Callable[P, Answer]:
    """A function whose errors show no secrets: a notebook keeps them."""

    @wraps(call)
    def masked(*args: P.args, **named: P.kwargs) -> Answer:
        try:
            return call(*args, **named)
        except InputError as error:
            error.args = (without_secrets(str(error)),)
            raise

    return masked


@_masked
def load(spec: str | Path, overrides: Sequence[str] = ()) -> "SearchConfig":
    """Read and check a spec, `quickstart` or a file; `overrides` are texts KEY=VALUE.

    Raises InputError with every problem at once.
    """
    from evo import config as configuration

    return configuration.load(spec, overrides, existing=True)


@_masked
def launch(
    config: "SearchConfig | str | Path",
    folder: str | Path | None = None,
    *,
    earlier: Sequence[str | Path] = (),
    show: Show = "auto",
) -> "Run":
    """Launch a search, and return its run once it has finished, or was stopped by Ctrl-C.

    `folder` is a new one, by default in `runs/`; scores of `earlier` runs and tables are imported.
    Progress is shown on standard error: as lines, or as a table on a terminal. The code that the
    spec names is run, and trusted on this machine from now on. Raises InputError, and ClusterError
    where Ray fails; what was recorded until then is resumed by `resume`.
    """
    from evo import launching

    spec = load(config) if isinstance(config, str | Path) else config
    run = Path(folder) if folder is not None else new_folder(spec.name)
    with one_thread():
        launching.launch(spec, run, _watching(show), [Path(one) for one in earlier])
    return Run(run)


@_masked
def resume(
    folder: str | Path,
    overrides: Sequence[str] = (),
    *,
    trusted: bool = False,
    show: Show = "auto",
) -> "Run":
    """Resume a run that was stopped or killed; a finished one is returned as it is.

    Of the URL of a mirror, the run is fetched into `runs` first. Code that was not launched on this
    machine is refused unless it is `trusted`. Errors as of `launch`.
    """
    from evo import launching
    from evo.storage.fetch import resumable

    run, overrides = resumable(folder, None, overrides)
    with one_thread():
        launching.resume(run, overrides, _watching(show), trusted=trusted)
    return Run(run)


def open_run(folder: str | Path) -> "Run":
    """Open a run, under way or finished, to read its results; none of its code is run.

    Of the URL of a mirror, a copy without weights is opened, as the mirror is now. Raises
    InputError if there is no ledger.
    """
    from evo.storage.fetch import readable

    run = Run(readable(folder))
    _ = run.state
    return run


def new_folder(name: str) -> Path:
    """Folder of a new run, by its name and the time."""
    return RUNS / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"


class Run:
    """A run folder. Results are read from it anew at each call, so that they may be under way.

    Of a run of rounds, `history` has all rounds, and the others its best finished round.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @property
    def state(self) -> "State":
        """Running, stopped, waiting (for people's judgements) or finished."""
        from evo.record.ledger import in_use, read
        from evo.record.state import state

        return state(read(self.folder), alive=in_use(self.folder))

    @property
    def config(self) -> "SearchConfig":
        """The spec as it was resolved at the launch, or at the last resume."""
        from evo import config as configuration
        from evo.record.ledger import read

        return configuration.of(read(self.folder))

    def status(self) -> dict[str, Any]:
        """The JSON of `evo status --json`."""
        from evo.progress.status import status

        return status(self.folder)

    def history(self) -> "pd.DataFrame":
        """Every evaluation, a row each; columns as of `evo history --csv`."""
        from evo.history.rounds import rows
        from evo.record.ledger import read

        return rows(self.folder, read(self.folder))

    def front(self) -> "pd.DataFrame":
        """The Pareto front: individuals that meet the constraints and that no other dominates.

        Columns as of `history`, means over an individual's seeds, sorted by the first objective.
        """
        from evo import history

        return history.front(self._searched()).copy()

    def comparison(self) -> "pd.DataFrame":
        """The closing comparison on the test split, a row per contender and measurement.

        Empty before it has begun. Columns as of `evo.history.comparison.comparison`.
        """
        from evo import history

        return history.comparison(self._searched()).copy()

    def best(self) -> Scored:
        """The winner, or the best individual so far. Raises InputError before there is one."""
        from evo import history
        from evo.export.model import recipe_of

        facts = self._searched()
        named = history.winner(facts)
        number = history.best(facts) if named is None else named
        if number is None:
            raise InputError(
                f"{self.folder}: no individual is the best: none has finished, or the untouched "
                "base is better; see `evo status`"
            )
        scores = history.scores(facts).set_index("individual").loc[[number]].iloc[0].to_dict()
        columns = history.Columns.of(facts).measurements
        return Scored(
            number,
            recipe_of(self.folder, facts, history.spec(facts), number),
            {name: float(scores[column]) for name, column in columns.items()},
        )

    def figure(self, name: str = "progress") -> "go.Figure":
        """A figure of the report, by its name: plotly's, which a notebook shows.

        Raises InputError with the names that there are, for a run of which it shows nothing.
        """
        from evo.report.figures import charts
        from evo.report.figures.style import View

        drawn = charts(View.of(self._searched()))
        if name not in drawn:
            raise InputError(f"no figure {name!r} of {self.folder}; it has {', '.join(drawn)}")
        return drawn[name].figure

    def report(self) -> Path:
        """Write the report, a page that needs no network, and return its path."""
        from evo.record.ledger import read
        from evo.report.rounds import write

        return write(self.folder, read(self.folder))

    @_masked
    def export(
        self,
        to: str | Path,
        individual: int | Literal["best"] = "best",
        *,
        adapter: bool = False,
        trusted: bool = False,
    ) -> Path:
        """Write an individual as a model folder, or its adapter alone, as `evo export` does.

        A checkpoint that the run did not keep is trained again, which is said first.
        """
        from evo.export.model import export

        run = self._search_folder()
        how = {"adapter": adapter, "trusted": trusted}
        return export(run, str(individual), Path(to), **how, tell=tell)

    def load_model(
        self, individual: int | Literal["best"] = "best", *, trusted: bool = False
    ) -> tuple[Any, Any]:
        """Model and tokenizer of an individual, of `transformers`; the model is on the CPU.

        An adapter is merged. A checkpoint that was not kept is trained again first.
        """
        from evo.prepare.task import head_of
        from fitness.data.tokenizer import load_tokenizer
        from fitness.models.loading import load as load_folder

        config = self.config
        with tempfile.TemporaryDirectory() as temporary:
            folder = self.export(Path(temporary) / "model", individual, trusted=trusted)
            model = load_folder(folder, config.model.dtype, head_of(config, folder))
            return model.eval(), load_tokenizer(folder)

    def _search_folder(self) -> Path:
        from evo.history.rounds import search_of

        return search_of(self.folder)

    def _searched(self) -> "Facts":
        from evo.record.ledger import read

        return read(self._search_folder())

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        """The verdict and the front, for a notebook."""
        from html import escape

        from evo import history
        from evo.history import rounds
        from evo.record.ledger import read

        facts = read(self.folder)
        found = (
            rounds.verdict(rounds.rounds(self.folder, facts))
            if rounds.has(facts)
            else history.verdict(facts)
        )
        lines = [f"<b>{escape(found.text)}</b>", *map(escape, found.notes)]
        page = "<br>".join([*lines, f"{escape(str(self.folder))}: {self.state}"])
        if rounds.has(facts) and not rounds.over(facts):
            return page
        columns = history.Columns.of(searched := self._searched()).measurements
        shown = ["individual", *(columns[name] for name in history.objectives(searched))]
        return page + str(self.front()[shown].to_html(index=False))


def tell(line: str) -> None:
    """Print a message to standard error, apart from a command's result."""
    say(f"evo: {line}", error=True)


def _watching(show: Show) -> "Watching":
    from evo.progress.live import Progress

    live = show == "table" or (show == "auto" and sys.stderr.isatty())
    return lambda config, folder: Progress(config, folder, "live" if live else "plain")
