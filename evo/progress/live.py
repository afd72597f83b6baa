"""Shows a search while it runs: a live table, plain lines, or JSON lines."""

import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from evo.cluster.activity import Doing, counted, described
from evo.cluster.gauges import Gauges
from evo.config import SearchConfig
from evo.printable import say
from evo.progress import now
from evo.progress.tally import BASE, Tally
from evo.record.elapsed import NAME
from evo.record.facts import Evaluated, Fact, Line, Lines, Simulated, details, samples, typed
from evo.record.ledger import FILE

Mode = Literal["live", "plain", "json"]
WRITE_SECONDS = 2.0  # between two updates of now.json
QUIET_SECONDS = 60.0  # without a plain line, after which one says what runs
REFRESHES = 4  # of the live table, per second


class Progress:
    """Display of a search: takes every fact as it is written, and each phase of the driver."""

    def __init__(self, config: SearchConfig, run: Path, mode: Mode) -> None:
        self.config = config
        self.run = run
        self.tally = Tally(config)
        self.begun = time.time()
        self.earlier = 0.0  # seconds of running time, of the launches and resumes before
        self.phase = ""
        self.stopping = ""
        self._stop_requests = 0
        self._mode = mode
        self._output_open = True
        self._workers: Callable[[], Sequence[Doing]] = tuple
        self._gauges: Gauges | None = None
        self._ready: float | None = None  # when the first worker was
        self._written = self._said = self.begun
        self._phase_since = self.begun
        self._live: Any = None

    def __enter__(self) -> Self:
        if self._mode == "live":
            from rich.live import Live

            from evo.progress.table import live_table
            from evo.screen import Screen

            self._live = Live(
                get_renderable=lambda: live_table(self),
                console=Screen(stderr=True),
                refresh_per_second=REFRESHES,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._workers, self.stopping = tuple, ""  # not in the last refresh of the table
        if self._live is not None:
            self._live.stop()
        now.remove(self.run)

    def enter(self, phase: str) -> None:
        """Start a phase of the driver, which lasts until the next one."""
        if phase == self.phase:
            return
        self.phase, self._phase_since = phase, time.time()
        self._say(f"{phase} ({NAME} {clock(self.running_time())})")
        self._write()

    def note(self, text: str) -> None:
        """Print a note for the user, before anything trains."""
        with suppress(OSError):  # standard error is closed
            say(f"evo: note: {text}", error=True)

    def follow(self, workers: Callable[[], Sequence[Doing]], gauges: Gauges | None = None) -> None:
        """Show workers from now on; the given function returns the state of each."""
        self._workers, self._gauges = workers, gauges
        self.look()

    def recall(self, lines: Lines) -> None:
        """Take in the facts of earlier launches and resumes, without showing them."""
        for fact in typed(lines):
            self.tally.take(fact)
        self.tally.worked = 0.0

    def __call__(self, line: Line) -> None:
        """Take in a new line of the ledger and show it."""
        [fact] = typed([line])
        self.tally.take(fact)
        if self._mode == "json":
            print(json.dumps(line), flush=True)
        elif text := self._line(fact):
            self._say(text)

    def look(self) -> None:
        """Update phase and display from the state of the workers; called regularly."""
        workers = self.workers
        if self._ready is None and any(doing.ready for doing in workers):
            self._ready = time.time()
        if workers:
            self.enter(_phase(workers, self.tally))
        if self.stopping:
            self.stopping = self._stopping(self.finishing())
        if time.time() > self._said + QUIET_SECONDS:
            self._say(f"{self._done()} {self.now_running()}")
        if time.time() > self._written + WRITE_SECONDS:
            self._write()

    def interrupted(self, times: int, running: int) -> None:
        """Acknowledge a request to stop at once, from within a signal handler."""
        self._stop_requests = times
        self.stopping = self._stopping(running)
        self._written = 0.0  # so that now.json is updated at the next look
        if self._mode != "live":  # the table shows it; a handler must not print, only write
            with suppress(OSError):
                os.write(2, f"evo: {self.stopping}\n".encode())

    def _stopping(self, running: int) -> str:
        """Message on the evaluations that a requested stop waits for."""
        if self._stop_requests > 1 or not running:
            return "stopping now"
        evaluations = "1 evaluation" if running == 1 else f"{running} evaluations"
        return f"finishing {evaluations}; Ctrl-C again to stop now"

    def finishing(self) -> int:
        """Running evaluations that a stop waits for; 0 if the stop was requested twice."""
        return 0 if self._stop_requests > 1 else sum(len(doing.specs) for doing in self.workers)

    @property
    def workers(self) -> Sequence[Doing]:
        """Current state of each worker."""
        return self._workers()

    def running_time(self) -> float:
        """Running time of this search in seconds, see `evo.record.elapsed`."""
        return self.earlier + time.time() - self.begun

    def busy_share(self) -> float | None:
        """Share of the workers' time, since the first was ready, in which they evaluated."""
        workers = self.workers
        placed = sum(bool(one.worker) for one in workers)  # the others wait for room
        if self._ready is None or not placed:
            return None
        elapsed = max(1e-9, time.time() - self._ready)
        return min(1.0, self._busy_seconds(workers) / (elapsed * placed))

    def seconds_left(self) -> float | None:
        """Expected seconds to the end, what runs and the closing comparison included."""
        workers = self.workers
        placed = sum(bool(one.worker) for one in workers)
        if self._ready is None or not placed or self.stopping:
            return None
        elapsed = max(1e-9, time.time() - self._ready)
        lanes = self._busy_seconds(workers) / elapsed
        return self.tally.seconds_left(time.time(), workers, placed, lanes)

    def now_running(self) -> str:
        """`searching, running time 1:30, about 4:00 left; individual 5, 0:48`."""
        parts = [f"{self.phase}, {NAME} {clock(self.running_time())}"]
        if (left := self.seconds_left()) is not None:
            parts[0] += f", about {clock(left)} left"
        workers = self.workers
        busy = [one for one in workers if one.phase != "idle"]
        shown = [f"{described(one)}, {clock(time.time() - one.since)}" for one in busy[:4]]
        return "; ".join([*parts, *shown, *([counted(workers)] if len(busy) > 4 else [])])

    def _busy_seconds(self, workers: Sequence[Doing]) -> float:
        running = sum(time.time() - one.since for one in workers if one.phase == "evaluating")
        return self.tally.worked + running

    def _write(self) -> None:
        """Update now.json for `evo status`, once the run folder has a ledger."""
        self._written = time.time()
        if self._gauges is not None:
            self._show(self._gauges)
        if (self.run / FILE).exists():
            now.write(
                self.run,
                now.Now(
                    time=self._written,
                    phase=self.phase,
                    begun=self.begun,
                    busy_share=self.busy_share(),
                    seconds_left=self.seconds_left(),
                    workers=now.workers_now(self.workers),
                    stopping=bool(self.stopping),
                    finishing=self.finishing() if self.stopping else 0,
                ),
            )

    def _show(self, gauges: Gauges) -> None:
        """Set the gauges of the cluster to the present state."""
        tally, workers = self.tally, self.workers
        best = tally.best
        means = tally.means(best.id) if best is not None and best.violation == 0 else {}
        gauges.show(
            {
                "evo_workers": len(workers),
                "evo_workers_busy": sum(one.phase == "evaluating" for one in workers),
                "evo_evaluations_finished": tally.spent,
                "evo_evaluations_failed": tally.failures.total(),
            },
            {name: means[name] for name in self.config.objectives if name in means},
        )

    def _say(self, line: str) -> None:
        self._said = time.time()
        if self._mode == "plain" and self._output_open:
            try:
                say(line, error=True)
            except OSError:  # standard error is closed, which is no reason to end a search
                self._output_open = False

    def _done(self) -> str:
        return f"[{self.tally.spent:g}/{self.config.budget.evaluations}]"

    def _line(self, fact: Fact) -> str:
        done = self._done()
        if fact["fact"] == "evaluation":
            return f"{done} {self._evaluation(fact)}{self._standing(fact)}"
        if fact["fact"] == "simulation":
            return f"{done} {self._simulation(fact)}"
        if fact["fact"] == "lost":
            base = fact.get("fidelity") == 0
            subject = f"untouched {BASE}" if base else f"individual {fact['individual']}"
            return f"{done} {subject}: worker lost, tried again"
        if fact["fact"] == "winner":
            return f"{done} winner: individual {fact['individual']}; comparing on the test split"
        if fact["fact"] == "round":
            name = next(iter(self.config.objectives))
            counts = fact.get("pool")
            pool = f"; {counts['pool']} samples in the pool" if counts is not None else ""
            who = f"individual {fact['individual']}" if fact["round"] else f"untouched {BASE}"
            return (
                f"round {fact['round']}: {who}, {name} "
                f"{fact['measurements'][name]:.4f} on the selection split{pool}"
            )
        if fact["fact"] == "search":
            return f"{done} launched: {self.run}"
        return f"{done} resumed: {self.run}" if fact["fact"] == "resumed" else ""

    def _standing(self, fact: Evaluated) -> str:
        """`; best so far: individual 4, target/loss 3.9512; about 1:20 left`, in the search."""
        best, left = self.tally.best, self.seconds_left()
        parts = []
        if fact["split"] == "selection" and fact["fidelity"] and best and best.violation == 0:
            name = next(iter(self.config.objectives))
            value = self.tally.means(best.id)[name]
            parts.append(f"best so far: individual {best.id}, {name} {value:.4f}")
        if left is not None and fact["split"] != "samples":
            parts.append(f"about {clock(left)} left")
        return "".join(f"; {part}" for part in parts)

    def _simulation(self, fact: Simulated) -> str:
        subject = f"simulated {len(fact['mixtures'])} mixtures"
        name, direction = next(iter(self.config.objectives.items()))
        found = [scores[name] for scores in fact["scores"] if name in scores]
        best = (min if direction == "minimize" else max)(found, default=0.0)
        told = f"best {name} {best:.4f}" if found else fact["status"]
        return f"{subject}: {told}  {fact['finished'] - fact['started']:.1f} s"

    def _evaluation(self, fact: Evaluated) -> str:
        known = self.tally.names | self.tally.experts
        name = known.get(fact["individual"], "")
        subject = f"individual {fact['individual']}" + (f" ({name})" if name else "")
        if fact["fidelity"] == 0:
            subject = f"untouched {BASE}"
        values = "  ".join(
            f"{objective} {fact['measurements'][objective]:.4f}"
            for objective in self.config.objectives
            if objective in fact["measurements"]
        )
        server = details(fact).get("server", "")
        by = f" ({server})" if server else ""
        ended = f"{by}  {fact['finished'] - fact['started']:.1f} s"
        if fact["split"] == "samples":
            return f"{subject} generated {sum(map(len, samples(fact).values()))} samples{ended}"
        where = f" test seed {fact['seed']}" if fact["split"] == "test" else ""
        if fact["split"] == "selection" and fact["seed"] != self.config.seed:
            where = f" again under seed {fact['seed']}"
        where += " from scratch" if fact["fidelity"] > 1 else ""
        return f"{subject}{where}: {values or fact['status']}{ended}"


def _phase(workers: Sequence[Doing], tally: Tally) -> str:
    """Phase of a search, from the state of all workers."""
    count = "1 worker" if len(workers) == 1 else f"{len(workers)} workers"
    if not any(doing.ready for doing in workers) and not tally.worked:
        loading = any(doing.phase != "starting" for doing in workers)
        return f"loading the model and the data on {count}" if loading else f"starting {count}"
    if any(spec.split == "samples" for doing in workers for spec in doing.specs):
        return "generating samples"
    if tally.winner is not None:
        return "comparing on the test split"
    if BASE not in tally.baselines:
        return "evaluating the untouched base and the first individuals"
    return "searching"


def clock(seconds: float) -> str:
    """Format a duration as `1:05` or `2:00:10`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
