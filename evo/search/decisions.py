"""Decisions of a search: the job of each slot, the winner, and what it is compared with.

A resumed search takes every decision again. Those that the ledger has are checked against it, the
others are recorded before anything is evaluated.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from evo.config import SearchConfig
from evo.planning import lineages
from evo.planning.controls import CONTROL, controls
from evo.planning.experts import first_fidelity
from evo.planning.schedule import Breed, Learn, Step
from evo.record.ledger import Fact, Ledger
from evo.search.jobs import Job, Key
from fitness.errors import InputError
from population.individual import ANCHOR, Individual


class Decisions:
    """Facts `individual` and `repeat` by slot, slots by the keys of their jobs; both grow."""

    def __init__(self, config: SearchConfig, ledger: Ledger) -> None:
        self._config = config
        self._ledger = ledger
        self._individuals: dict[int, Fact] = {}
        self._decisions: dict[int, Fact] = {}  # by slot
        self._slots: dict[Key, int] = {}
        self._controls = {fact["id"] for fact in ledger.facts if fact["fact"] == "control"}
        for fact in ledger.facts:
            if fact["fact"] == "individual":
                self._individuals[fact["id"]] = self._decisions[fact["id"]] = fact
                first = first_fidelity(config, lineages.from_fact(fact))
                self._slots[(fact["id"], config.seed, first, "selection")] = fact["id"]
            elif fact["fact"] == "repeat":
                self._decisions[fact["slot"]] = fact
                key = (fact["individual"], fact["seed"], fact["fidelity"], "selection")
                self._slots[key] = fact["slot"]

    def repeated(self, slot: int, *, otherwise: Callable[[], Job | None]) -> Job | None:
        """Recorded job of a slot that evaluates an individual again; None where one is bred.

        `otherwise` decides for a slot without a record only: after the budget was raised it could
        decide differently for slots that are recorded.
        """
        fact = self._decisions.get(slot)
        if fact is None:
            return otherwise()
        if fact["fact"] == "individual":
            return None
        return Job(self.individual(fact["individual"]), fact["seed"], fact["fidelity"])

    def decide(self, slot: int, job: Job, *, learned_from: int | None) -> None:
        """Record the job of a slot, or check it against the record of an earlier driver.

        `learned_from` is the last slot whose result the strategy has been given. Raises InputError
        if a bred individual differs from the recorded one.
        """
        self._slots[job.key] = slot
        individual, recorded = job.individual, self._decisions.get(slot)
        if recorded is None:
            self._decisions[slot] = self._ledger.append(
                **self._fact(slot, job), learned_from=learned_from
            )
            if individual.id == slot:
                self._individuals[slot] = self._decisions[slot]
        elif individual.id == slot and _differs(individual, recorded):
            raise InputError(
                f"{self._ledger.path}: individual {individual.id} differs from the one recorded, "
                "so this would not be the same search; resume with the versions that started it "
                "(they are in the first line of the ledger)"
            )

    def _fact(self, slot: int, job: Job) -> dict[str, Any]:
        """Ledger fact of a slot: an individual that is bred, or one that is evaluated again."""
        individual = job.individual
        if individual.id != slot:
            again = {"individual": individual.id, "seed": job.seed, "fidelity": job.fidelity}
            return {"fact": "repeat", "slot": slot, **again}
        return {
            "fact": "individual",
            "id": individual.id,
            "genome": individual.genome,
            "parents": list(individual.parents),
            "operator": individual.operator,
            "generation": slot // self._config.search.population,
        }

    def recorded(self, new: deque[Key]) -> Iterator[Step]:
        """Steps of an asynchronous search that earlier drivers recorded, to be taken again."""
        learned, finished = None, self.slots(new)
        for slot, fact in list(self._decisions.items()):
            while learned != fact["learned_from"]:
                learned = next(finished)
                yield Learn(learned)
            yield Breed(slot)

    def slots(self, new: deque[Key]) -> Iterator[int]:
        """Slots of the evaluations in a queue, which are taken from it, with those for no slot."""
        while new:
            if (slot := self._slots.get(new.popleft())) is not None:
                yield slot

    def individual(self, number: int) -> Individual:
        """An individual as it was bred."""
        return lineages.from_fact(self._individuals[number])

    def baselines(self) -> list[Individual]:
        """Individuals of the baselines: mixtures that one would use without a search."""
        bred = map(self.individual, self._individuals)
        return [individual for individual in bred if individual.operator.startswith(ANCHOR)]

    def name_winner(self, winner: Individual) -> None:
        """Record the winner on the selection split, before the test split is read."""
        recorded = [f["individual"] for f in self._ledger.facts if f["fact"] == "winner"]
        if recorded[-1:] != [winner.id]:
            values = {"individual": winner.id, "split": "selection", "seeds": winner.seeds}
            self._ledger.append("winner", **values, time=time.time())

    def controls(self, winner: Individual) -> list[Individual]:
        """Controls of the winner, on other data (`planning.controls`); recorded before the test."""
        individuals = list(controls(self._config, winner))
        for control in individuals:
            if control.id not in self._controls:
                self._controls.add(control.id)
                self._ledger.append(
                    "control",
                    id=control.id,
                    name=control.operator.removeprefix(CONTROL),
                    individual=winner.id,
                    genome=control.genome,
                )
        return individuals


def _differs(individual: Individual, recorded: Fact) -> bool:
    """Compare an individual with its record: genome, and parents, since it may start from them."""
    return bool(
        recorded["genome"] != individual.genome or tuple(recorded["parents"]) != individual.parents
    )
