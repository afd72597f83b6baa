"""State of a run's feedback: the judgements in force, and the items handed out to annotators.

Facts are only ever applied in the order in which they were written, so that a server that was
killed has the same state when it restarts. Undo is a fact too: it reverts the annotator's last
step.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from fitness.errors import InputError
from fitness.facts import Fact
from fitness.feedback.judgements import CLOSING, Judgement, Kind


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the judging of a run.

    Labels to choose from, the share of items judged twice, criteria to rate by, each with its
    guideline, and the number of people who judge each item.
    """

    labels: tuple[str, ...] = ()
    repeat: float = 0.0
    seed: int = 0
    criteria: Mapping[str, str] = field(default_factory=dict)
    raters: int = 1

    def to_fact(self) -> Fact:
        return {"fact": "settings", **asdict(self), "labels": list(self.labels)}


class Step(NamedTuple):
    """A step that undo reverts: a replaced judgement, or moving to the next item.

    `skipped` is the skip that a judgement of a skipped item took back.
    """

    item: str
    kind: Kind | None = None
    before: Judgement | None = None
    skipped: Judgement | None = None


@dataclass
class Standing:
    """The state that the facts so far have led to."""

    settings: Settings = Settings()
    said: dict[tuple[str, str], dict[Kind, Judgement]] = field(default_factory=dict)
    holders: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    in_hand: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    steps: dict[str, list[Step]] = field(default_factory=lambda: defaultdict(list))

    def of(self, item: str, annotator: str) -> dict[Kind, Judgement]:
        """An annotator's judgements of an item, by their kinds."""
        return self.said.get((item, annotator), {})

    def judgements(self) -> list[Judgement]:
        """All judgements in force, in the order in which items were first judged.

        Skipped items have none but the skip.
        """
        return [
            judgement
            for kinds in self.said.values()
            for judgement in ([kinds["skip"]] if "skip" in kinds else kinds.values())
        ]

    def apply(self, fact: Fact) -> None:
        """Update the state by one fact. Raises InputError or KeyError if it cannot follow."""
        match fact["fact"]:
            case "settings":
                labels, repeat, seed = (fact[name] for name in ("labels", "repeat", "seed"))
                # of a run before there were criteria
                criteria, raters = fact.get("criteria", {}), fact.get("raters", 1)
                self.settings = Settings(tuple(labels), repeat, seed, criteria, raters)
            case "handed":
                self.holders[fact["item"]].append(fact["annotator"])
                self.in_hand[fact["annotator"]].append(fact["item"])
            case "judgement":
                self._say(judgement_of(fact), undoable=True)
            case "next":
                self._put_down(fact["annotator"], fact["item"])
                self.steps[fact["annotator"]].append(Step(fact["item"]))
            case "reopened":
                self._put_down(fact["annotator"], fact["item"])
                self.in_hand[fact["annotator"]].insert(0, fact["item"])
            case "undo":
                self._undo(fact["annotator"])
            case "released":
                self._release(fact["annotator"])
            case "imported":
                for one in fact["judgements"]:
                    self._say(judgement_of(one), undoable=False)
            case other:
                raise InputError(f"there is no fact {other!r}")

    def _say(self, judgement: Judgement, *, undoable: bool) -> None:
        item, annotator, kind = judgement.item, judgement.annotator, judgement.kind
        kinds = self.said.setdefault((item, annotator), {})
        before = kinds.get(kind)
        skipped = kinds.pop("skip", None) if kind != "skip" else None
        if undoable:
            self.steps[annotator].append(Step(item, kind, before, skipped))
        elif annotator not in self.holders[item]:
            self.holders[item].append(annotator)
        kinds[kind] = judgement
        if kind in CLOSING:
            self._put_down(annotator, item)

    def _put_down(self, annotator: str, item: str) -> None:
        if item in self.in_hand[annotator]:
            self.in_hand[annotator].remove(item)

    def _undo(self, annotator: str) -> None:
        step = self.steps[annotator].pop()
        if step.kind is not None:
            kinds = self.said[step.item, annotator]
            del kinds[step.kind]
            if step.before is not None:
                kinds[step.kind] = step.before
            if step.skipped is not None:
                kinds["skip"] = step.skipped
            if not kinds:
                del self.said[step.item, annotator]
        self._put_down(annotator, step.item)
        self.in_hand[annotator].insert(0, step.item)

    def _release(self, annotator: str) -> None:
        for item in self.in_hand.pop(annotator, []):
            if not self.of(item, annotator):
                self.holders[item].remove(annotator)
        self.steps.pop(annotator, None)


def judgement_of(fact: Fact) -> Judgement:
    return Judgement(fact["item"], fact["annotator"], fact["kind"], fact["value"])
