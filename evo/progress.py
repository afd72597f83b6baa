"""What a person or a program sees while a search runs: a live table, plain lines, or JSON lines."""

import json
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from evo.config import SearchConfig, feasible, losses
from evo.evaluations import continued_from
from evo.inheritance import from_fact, portion
from evo.ledger import Fact
from population.front import joined
from population.individual import ANCHOR

if TYPE_CHECKING:
    from rich.console import RenderableType

Mode = Literal["live", "plain", "json"]


class Progress:
    """Fed with every fact as it is written; shows it in one of three ways."""

    def __init__(self, config: SearchConfig, run: Path, mode: Mode) -> None:
        self._config = config
        self._run = run
        self._mode = mode
        self._names: dict[int, str] = {}
        self._spent = 0.0  # in full fine-tunes
        self._portions: dict[int, float] = {}  # of the budget, by individual
        self._front = np.empty((0, len(config.objectives)))  # losses, (members, objectives)
        self._failures: Counter[str] = Counter()
        self._baselines: dict[str, dict[str, float]] = {}
        self._lost = self._compared = 0
        self._begun = time.time()
        self._worked = 0.0
        self._measured = 0
        self._workers = 0
        self._live: Any = None

    def __enter__(self) -> Self:
        if self._mode == "live":
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                get_renderable=self._view, console=Console(stderr=True), refresh_per_second=1
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def recall(self, facts: Iterable[Fact]) -> None:
        """Take in what an earlier driver wrote, without showing it line by line."""
        for fact in facts:
            self._take(fact)
        self._worked = self._measured = 0

    def __call__(self, fact: Fact) -> None:
        """Take in a new fact and show it."""
        self._take(fact)
        if self._mode == "json":
            print(json.dumps(fact), flush=True)
        elif self._mode == "plain" and (line := self._line(fact)):
            print(line, file=sys.stderr, flush=True)

    def _take(self, fact: Fact) -> None:
        self._workers = fact.get("workers", self._workers)
        if fact["fact"] == "individual":
            self._portions[fact["id"]] = portion(self._config, from_fact(fact))
            if fact["operator"].startswith(ANCHOR):
                self._names[fact["id"]] = fact["operator"].removeprefix(ANCHOR)
        elif fact["fact"] == "lost":
            self._lost += 1
        elif fact["fact"] == "evaluation":
            self._evaluated(fact)

    def _evaluated(self, fact: Fact) -> None:
        self._worked += fact["finished"] - fact["started"]
        self._measured += 1
        if fact["split"] == "test":
            self._compared += 1
            return
        if fact["split"] == "samples":
            return
        ok = fact["status"] == "ok"
        if fact["fidelity"] == 0:
            self._baselines["base"] = fact["measurements"]
            return
        begun = continued_from(self._config, fact["seed"], fact["fidelity"], fact["split"])
        self._spent += (fact["fidelity"] - begun) * self._portions.get(fact["individual"], 1.0)
        if fact["fidelity"] < 1:  # paused at a rung: it does not compete with the others yet
            return
        if not ok:
            self._failures[fact["status"]] += 1
        elif (name := self._names.get(fact["individual"])) is not None:
            self._baselines[name] = fact["measurements"]
        base = self._baselines.get("base", {})
        if ok and feasible(self._config, fact["measurements"], base):
            point = np.array(losses(self._config, fact["measurements"]))
            self._front = joined(self._front, point)

    def _line(self, fact: Fact) -> str:
        done = f"[{self._spent:g}/{self._config.budget.evaluations}]"
        if fact["fact"] == "evaluation":
            name = self._names.get(fact["individual"], "")
            if fact["fidelity"] == 0:
                name = "untouched base"
            who = f"individual {fact['individual']}" + (f" ({name})" if name else "")
            values = "  ".join(
                f"{objective} {fact['measurements'][objective]:.4f}"
                for objective in self._config.objectives
                if objective in fact["measurements"]
            )
            seconds = fact["finished"] - fact["started"]
            if fact["split"] == "samples":
                count = len(fact["details"].get("samples", ()))
                return f"{done} {who} wrote {count} samples  {seconds:.1f} s"
            where = f" test seed {fact['seed']}" if fact["split"] == "test" else ""
            where += " from scratch" if fact["fidelity"] > 1 else ""
            return f"{done} {who}{where}: {values or fact['status']}  {seconds:.1f} s"
        if fact["fact"] == "lost":
            return f"{done} individual {fact['individual']}: worker lost, tried again"
        if fact["fact"] == "winner":
            return f"{done} named individual {fact['individual']}; comparing on the test split"
        if fact["fact"] == "round":
            name = next(iter(self._config.objectives))
            pool = f"; {fact['pool']['pool']} samples in the pool" if "pool" in fact else ""
            return (
                f"round {fact['round']}: individual {fact['individual']}, {name} "
                f"{fact['measurements'][name]:.4f} on the selection split{pool}"
            )
        return {
            "search": f"{done} launched: {self._run}",
            "resumed": f"{done} resumed: {self._run}",
        }.get(fact["fact"], "")

    def _seconds_left(self) -> float | None:
        """From the mean rate since this driver began; the comparison counts too."""
        if not self._measured:
            return None
        contenders = len(self._names) + 1
        total = self._config.budget.evaluations + self._config.comparison.seeds * contenders
        rate = self._measured / (time.time() - self._begun)
        return max(0, total - self._spent - self._compared) / rate

    def _view(self) -> "RenderableType":
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        elapsed = time.time() - self._begun
        table = Table("objective", box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("best so far", *self._baselines):
            table.add_column(name, justify="right")
        for index, (objective, direction) in enumerate(self._config.objectives.items()):
            sign = -1 if direction == "maximize" else 1
            known = [values.get(objective) for values in self._baselines.values()]
            lowest = self._front[:, index].min(initial=np.inf)
            cells = [sign * lowest if len(self._front) else None, *known]
            table.add_row(objective, *("-" if cell is None else f"{cell:.4f}" for cell in cells))
        done, total = self._spent, self._config.budget.evaluations
        head = f"{self._config.name}: {done:g} of {total} evaluations, front {len(self._front)}"
        head += f", failures {self._failures.total()}, lost and retried {self._lost}"
        left = self._seconds_left()
        share = self._worked / (elapsed * self._workers) if self._workers else 0.0
        foot = "comparing on the test split" if self._compared else "searching"
        foot += f", {_clock(elapsed)} gone"
        foot += f", about {_clock(left)} left" if left is not None else ""
        foot += f"; {self._workers} workers {min(1.0, share):.0%} busy" if self._workers else ""
        return Group(Text(head), table, Text(foot), Text(f"run: {self._run}"))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
