"""Results of rounds, one after the other, and the effect of generated data on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from evo import history
from evo.config.genomes import learned_shares
from evo.config.rounds import GENERATED, JUDGED, POOL
from evo.history.comparison import BASE, WINNER, Tone, Verdict, plus_minus, result
from evo.planning.controls import NOTHING_GENERATED, UNFILTERED
from evo.record.elapsed import running_time, sessions, with_present
from evo.record.facts import Facts, Pool
from evo.record.facts import Round as RoundFact
from evo.record.ledger import FILE, read
from evo.record.state import state
from evo.significance import chance, difference
from fitness.errors import InputError
from fitness.samples.separation import Separation

HUMAN = tuple(JUDGED)
POOL_FILE = "pool.jsonl"  # in the folder of a round: all that was written until then


def over(facts: Facts) -> list[RoundFact]:
    """Result of each finished round, oldest first; the last fact of a round counts."""
    return list({fact["round"]: fact for fact in facts if fact["fact"] == "round"}.values())


def rank(fact: RoundFact) -> tuple[float, float]:
    """Sort key of a round's winner on the selection split: violation, loss; lower is better."""
    return fact["violation"], fact["loss"]


def folder_of(run: Path, number: int) -> Path:
    """A round's own run folder."""
    return run / f"round-{number}"


@dataclass(frozen=True)
class Round:
    """A round, from its own ledger; `fact` is its result in the run's ledger, or None before.

    The winner of round 0, which has no search, is the untouched base.
    """

    number: int
    folder: Path
    facts: Facts
    fact: RoundFact | None

    @property
    def outcome(self) -> RoundFact:
        """Result of a round that is over."""
        assert self.fact is not None
        return self.fact

    @property
    def shares(self) -> dict[str, float]:
        """Shares of the winner's mixture: `real`, `generated`, and from `people`'s feedback.

        All 0 in round 0, in which nothing is trained.
        """
        if not self.number:
            return {"real": 0.0, "generated": 0.0, "people": 0.0}
        shares = learned_shares(history.spec(self.facts), self.outcome.get("genome") or {})
        people = sum(shares.get(name, 0.0) for name in HUMAN)
        generated = sum(shares.get(name, 0.0) for name in GENERATED)
        return {"real": 1 - generated - people, "generated": generated, "people": people}

    @property
    def winner(self) -> str:
        """Its winner among the contenders of its closing comparison."""
        return WINNER if self.number else BASE

    def tested(self, contender: str, measurement: str) -> pd.Series | None:
        """The row of the closing comparison, or None; the winner of round 0 is the base."""
        contender = self.winner if contender == WINNER else contender
        rows = history.comparison(self.facts)
        found = rows[(rows["contender"] == contender) & (rows["measurement"] == measurement)]
        found = found[found["n"] > 0]
        return None if found.empty else found.iloc[0]

    def selected(self, measurement: str) -> tuple[float, float]:
        """The winner's mean on the selection split, and its standard error."""
        if not self.number:
            return self.outcome["measurements"][measurement], float("nan")
        rows = history.scores(self.facts)
        row = rows[rows["individual"] == self.outcome["individual"]].iloc[0]
        column = history.Columns.of(self.facts).measurements[measurement]
        return float(row[column]), float(row.get(f"errors.{measurement}", float("nan")))


def rounds(run: Path, facts: Facts) -> list[Round]:
    """Every round that was started, oldest first."""
    ended = {fact["round"]: fact for fact in over(facts)}
    found = []
    for number in range(max(ended, default=0) + 2):
        folder = folder_of(run, number)
        if (folder / FILE).is_file():
            found.append(Round(number, folder, read(folder), ended.get(number)))
    return found


def table(found: Sequence[Round]) -> pd.DataFrame:
    """Every evaluation of every round, with the round first."""
    frames = [history.table(one.facts).assign(round=one.number) for one in found]
    whole = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({"round": []})
    return whole[["round", *(name for name in whole if name != "round")]]


def rows(run: Path, facts: Facts) -> pd.DataFrame:
    """Every evaluation of a run, of rounds or of one search, a row each."""
    return table(rounds(run, facts)) if has(facts) else history.table(facts).copy()


def has(facts: Facts) -> bool:
    """True for the facts of a run with rounds, False for those of one search."""
    return history.spec(facts).rounds is not None


def search_of(run: Path) -> Path:
    """Folder of the search to take a model from: of a run with rounds, the best finished round."""
    facts = read(run)
    if not has(facts):
        return run
    ended = [one for one in rounds(run, facts) if one.fact]
    if not ended:
        raise InputError(f"{run}: no round is over yet; name one of its own, such as {run}/round-1")
    return best(ended).folder


def status(
    run: Path,
    facts: Facts,
    *,
    alive: bool,
    now: float | None = None,
    begun: float | None = None,
) -> dict[str, Any]:
    """Status of the rounds, finished and running, as JSON values; round 0 is not one to count."""
    found = rounds(run, facts)
    ended = [one for one in found if one.fact]
    last, planned = facts[-1], history.spec(facts).rounds
    return {
        "name": history.spec(facts).name or None,
        "state": state(facts, alive=alive),
        "why": last.get("why"),
        "waits_for_judgements": last["judgements"] if last["fact"] == "waiting" else 0,
        "elapsed_seconds": _elapsed(facts, found, now if alive else None),
        "rounds_over": sum(one.number > 0 for one in ended),
        "rounds_at_most": planned.limit if planned else None,
        "best_round": best(ended).number if ended else None,
        "best": {name: best(ended).selected(name)[0] for name in history.objectives(facts)}
        if ended
        else None,
        "round_under_way": {
            "round": found[-1].number,
            **history.status(found[-1].facts, alive=alive, now=now, begun=begun),
        }
        if found and not found[-1].fact
        else None,
    }


def _elapsed(facts: Facts, found: Sequence[Round], now: float | None) -> float:
    """The running time (see `evo.record.elapsed`) of the run and of its rounds, in seconds."""
    own = with_present(sessions(facts), now)
    return running_time([*own, *(period for one in found for period in sessions(one.facts))])


def best(ended: Sequence[Round]) -> Round:
    """Round with the best winner on the selection split; the earliest of equal ones."""
    return min(ended, key=lambda one: rank(one.outcome))


def verdict(found: Sequence[Round]) -> Verdict:
    """Verdict on the rounds: improvement on the test split, and the effect of generated data.

    `evo.significance` decides what is clear; all rounds are tested on the same held-out items.
    """
    ended = [one for one in found if one.fact]
    if not ended:
        return Verdict("open", "No round is over yet.")
    name = next(iter(history.objectives(ended[0].facts)))
    top, first = best(ended), ended[0]
    value, before = top.tested(WINNER, name), first.tested(WINNER, name)
    notes = [note for one in ended for note in _warnings(one, name)]
    if value is None or before is None:
        return Verdict("open", f"Round {top.number} has no value on the test split.", tuple(notes))
    told = f"{name} {plus_minus(value['mean'], value['total_error'])} on the test split"
    if len(ended) == 1:
        who = "its winner reached" if first.number else "the untouched base has"
        return Verdict("open", f"One round is over; {who} {told}.", tuple(notes))
    if top.number == first.number:
        than = "the first one, whose winner reached" if first.number else "the untouched base:"
        text = (
            f"No later round found a better model than {than} {told}: generated data did not help "
            "here."
        )
        return Verdict("bad", text, tuple(notes))
    share = top.shares["generated"]
    now, then = (result(one.facts, one.winner, name) for one in (top, first))
    gain = difference(now, then, history.sign(first.facts, name))
    other = "that of round 1" if first.number else "the untouched base"
    how = f"{abs(gain.margin):.4f} {'better' if gain.margin > 0 else 'worse'} than"
    than = (
        f"{how if gain.margin else 'exactly as good as'} {other} "
        f"({plus_minus(before['mean'], before['total_error'])}; "
        f"{chance(gain.p) or 'one seed, so no standard error'})"
    )
    text = f"The winner of round {top.number} reached {told}, {than}."
    if not share:
        text += " But it did not train on generated data: their share of its mixture is 0."
    tone: Tone = "mixed" if gain.margin > 0 else "bad"
    if gain.clear == "better" and share:
        tone = "good"
    return Verdict(tone, text, (*_controlled(top, name), *notes))


def _controlled(one: Round, name: str) -> list[str]:
    """Notes on the controls of a round's winner: its recipe on other data."""
    notes = []
    for control, data in ((NOTHING_GENERATED, "nothing generated"), (UNFILTERED, "no filter")):
        row = one.tested(control, name)
        if row is None:
            continue
        clear = "not clearly " if row["clear"] == "unclear" else "clearly "
        how = "better" if row["margin"] > 0 else "worse"
        value = plus_minus(row["mean"], row["total_error"])
        surely = chance(row["p"]) or "one seed, so no standard error"
        notes.append(
            f"The same recipe with {data}, on as many tokens, has {value}: with it the winner is "
            f"{clear}{how} ({abs(row['margin']):.4f}, {surely})."
        )
    return notes


def _warnings(one: Round, name: str) -> list[str]:
    """Warnings of a round: collapsed samples, or overfitting of the selection split."""
    notes = []
    pool: Pool = one.outcome.get("pool") or {}
    if pool.get("collapsed"):
        ratio = pool["diversity"]["distinct_ratio"]
        notes.append(
            f"Round {one.number}: its samples have {ratio:.0%} of the distinct pairs of words "
            "of real text; they were left out of the pool."
        )
    notes += unusable(one)
    row = one.tested(NOTHING_GENERATED, name) if one.number else None
    rivals = history.scores(one.facts)
    column = f"mixture.{POOL}"
    if row is None or column not in rivals or not row["margin"] <= 0:
        return notes
    loss = f"losses.{name}"
    without = rivals[(rivals[column] == 0) & (rivals["violation"] == 0)][loss].min()
    ahead = without - one.outcome["loss"]
    if ahead > 0:
        notes.append(
            f"Warning, round {one.number}: with generated data the winner is {ahead:.4f} better on "
            "the selection split than the best without, but on the test split "
            f"{-row['margin']:.4f} worse than its own recipe without them: they overfit the data "
            "that they were selected on."
        )
    return notes


def unusable(one: Round) -> list[str]:
    """Note on a round whose samples the discriminator cannot tell from real text; else none."""
    apart = Separation.of((one.outcome.get("pool") or {}).get("discriminator"))
    if apart is None or apart.usable:
        return []
    return [
        f"Round {one.number}: the discriminator cannot tell its samples from real text (AUC "
        f"{apart}), so realness says nothing; the next round has no threshold of it."
    ]
