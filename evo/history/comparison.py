"""The closing comparison on the test split, and the conclusions that its errors allow."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from evo.history.tables import (
    BASE,
    FULL,
    UNTOUCHED,
    Columns,
    Facts,
    baselines,
    constraints,
    objectives,
    once,
    scores,
    search_rows,
    sign,
    table,
    winner,
)
from evo.record.facts import Details, details
from evo.record.state import state
from evo.significance import CLEAR, FEW, Difference, Result, Sample, chance, difference

WINNER = "winner"
COLD = "its recipe from scratch"  # on as many tokens as the winner's whole lineage
Tone = Literal["good", "mixed", "bad", "open"]
COLUMNS = [
    *("contender", "individual", "measurement", "n", "failed", "items", "unit", "mean"),
    *("standard_error", "total_error", "tokens"),
    *("margin", "margin_se", "p", "low", "high", "clear", "paired"),
]
BESIDE = ("The warm start paid off", "Only ", "Error of the seeds alone")  # notes without doubt


@dataclass(frozen=True)
class Verdict:
    """Conclusion of a run in words. `good` only if every baseline is clearly beaten."""

    tone: Tone
    text: str
    notes: tuple[str, ...] = ()


@once
def contenders(facts: Facts) -> dict[str, pd.DataFrame]:
    """Rows of `table` on the test split, by contender: winner, base, then the baselines.

    Then the controls of a winner trained on samples: its recipe without any, and with all of them.
    Last the winner's recipe from scratch, if the winner started from its parents' weights.
    """
    rows = table(facts).query("split == 'test'")
    won = winner(facts)
    trained = rows[rows["fidelity"] == FULL]
    groups = {WINNER: trained[trained["individual"] == won]} if won is not None else {}
    groups[BASE] = rows[rows["fidelity"] == UNTOUCHED]
    groups |= {n: trained[trained["individual"] == i] for n, i in baselines(facts).items()}
    groups |= {
        f["name"]: trained[trained["individual"] == f["id"]]
        for f in facts
        if f["fact"] == "control" and f["individual"] == won
    }
    groups[COLD] = rows[rows["fidelity"] > FULL]
    return {name: group for name, group in groups.items() if not group.empty}


@once
def result(facts: Facts, contender: str, measurement: str) -> Result:
    """Measurements of a contender on the test split, by seed and by held-out item."""
    group = contenders(facts).get(contender)
    column = Columns.of(facts).measurements.get(measurement)
    if group is None or column is None:
        return Result(())
    fine = group[(group["status"] == "ok") & group[column].notna()]
    recorded = _details(facts)
    keys = zip(fine["individual"], fine["seed"], fine["fidelity"], strict=True)
    samples = [Sample.of(recorded[key], measurement) for key in keys]
    untouched = bool((group["fidelity"] == UNTOUCHED).all())
    return Result(tuple(fine[column].tolist()), Sample.mean(samples), untouched)


@once
def _details(facts: Facts) -> dict[tuple[int, int, float], Details]:
    """Details of the evaluations on the test split, by individual, seed and fidelity."""
    return {
        (f["individual"], f["seed"], f["fidelity"]): details(f)
        for f in facts
        if f["fact"] == "evaluation" and f["split"] == "test"
    }


@once
def comparison(facts: Facts) -> pd.DataFrame:
    """Test-split results, a row per contender (see `contenders`) and measurement.

    Columns: contender, individual, measurement, n (seeds that succeeded), failed, items (held-out
    documents, records or prompts; 0 where no score by item is recorded), unit (of these), mean,
    standard_error (over the seeds), total_error (with the noise of the held-out items, where
    recorded), tokens (trained on, with all it began with), and of how much better the winner is:
    margin, in the measurement's unit, margin_se, the same in standard errors, and p, low, high and
    clear, as in `significance.Difference`. NaN where it cannot be known. The untouched base is not
    trained, so that a single measurement of it carries no error from seeds.
    """
    rows: list[dict[str, Any]] = []
    groups = contenders(facts)
    for name, column in Columns.of(facts).measurements.items():
        if not any(group[column].notna().any() for group in groups.values()):
            continue
        orientation = sign(facts, name) or np.nan
        top = result(facts, WINNER, name)
        for contender, group in groups.items():
            own = contender == WINNER or baselines(facts).get(contender, -1) == winner(facts)
            measured = result(facts, contender, name)
            lead = difference(top, measured, np.nan if own else orientation)
            rows.append(
                {
                    "contender": contender,
                    "individual": int(group["individual"].iloc[0]),
                    "measurement": name,
                    "n": len(measured.values),
                    "failed": int((group["status"] != "ok").sum()),
                    "items": 0 if measured.sample is None else measured.sample.count,
                    "unit": "" if measured.sample is None else measured.sample.unit,
                    "mean": measured.mean,
                    "standard_error": measured.seed_error,
                    "total_error": measured.error,
                    "tokens": group["cumulative_tokens"].mean(),
                    **_lead(lead),
                }
            )
    return pd.DataFrame(rows, columns=list(rows[0]) if rows else COLUMNS)


def _lead(lead: Difference) -> dict[str, object]:
    """Columns of the table for a difference."""
    errors = lead.margin / lead.error if lead.error else np.inf * lead.margin
    columns = {"margin": lead.margin, "margin_se": errors, "p": lead.p}
    columns |= {"low": lead.low, "high": lead.high}
    return {**columns, "clear": lead.clear, "paired": lead.paired}


@once
def verdict(facts: Facts) -> Verdict:
    """Verdict on the search: whether it beat its baselines on the first objective.

    Every baseline has to be beaten by itself at the 5 % level, which keeps the chance of a false
    claim over all of them below that level too (Berger 1982: an intersection-union test). One that
    violates a constraint that the winner meets could not be taken instead: it is told, no rival.
    """
    closing = comparison(facts)
    primary = next(iter(objectives(facts)), "")
    rows = closing[closing["measurement"] == primary].set_index("contender")
    if WINNER not in rows.index or rows.loc[WINNER, "n"] == 0:
        return _unfinished(facts, primary)
    top: pd.Series = rows.loc[[WINNER]].iloc[0]
    outside = _outside(facts, closing)
    rivals = rows.drop([name for name in (WINNER, COLD, *outside) if name in rows.index])
    notes = [*_broken(facts, closing), *_failed(rivals, top), *_cold(rows), *_rests(facts, closing)]
    aside = [
        f"{name} has {primary} {_value(rows.loc[[name]].iloc[0])}, but violates {limits}."
        for name, limits in outside.items()
        if name in rows.index
    ]
    doubtless = not [note for note in notes if not note.startswith(BESIDE)]
    notes = [*aside, *notes]
    named = f"individual {top['individual']}"
    value = f"{primary} {_value(top)}"
    twins = [name for name, id in baselines(facts).items() if id == winner(facts)]
    if twins:
        text = (
            f"The search found no better recipe than its baseline {twins[0]}, which is the best on "
            f"the selection split: {value} on the test split"
        )
        base = rivals.loc[[BASE]].iloc[0] if BASE in rivals.index else None
        gained = base is not None and base["clear"] == "better"
        if base is not None:
            how = "clearly better" if gained else "not clearly better"
            text += f", {how} than the untouched base ({_value(base)})"
        return Verdict("mixed" if gained else "bad", f"{text}.", tuple(notes))
    known = rivals[rivals["margin"].notna()].sort_values("margin")
    ahead = known[known["margin"] > 0]
    behind = known[known["margin"] <= 0]
    unclear = ahead[ahead["clear"] != "better"]
    if known.empty:
        text = f"The winner, {named}, reached {value} on the test split; no baseline was measured."
        return Verdict("open", text, tuple(notes))
    if len(behind):
        text = (
            f"The search did not beat {listed(behind.index)}: the winner, {named}, reached {value} "
            f"on the test split, {behind.index[0]} {_value(behind.iloc[0])}."
        )
        if len(unclear):
            text += f" Nor is it clearly ahead of {listed(unclear.index)}."
        return Verdict("bad", text, tuple(notes))
    if len(unclear):
        doubtful = unclear.sort_values("p", na_position="last").iloc[-1]
        much = _surely(doubtful) or "one seed, so no standard error"
        text = (
            f"The winner, {named}, is ahead of {listed(unclear.index)}, but not clearly ({much}): "
            f"{value} on the test split, against {_value(doubtful)}."
        )
        return Verdict("mixed", text, tuple(notes))
    nearest = known.iloc[0]
    how = _surely(nearest)
    rivalry = "every baseline within the constraints" if aside else "every baseline"
    text = (
        f"The winner, {named}, beats {rivalry} on the test split: {value}; the nearest, "
        f"{known.index[0]}, has {_value(nearest)}, "
        + ("and no seed differs from another." if np.isinf(nearest["margin_se"]) else f"{how}.")
    )
    tone: Tone = "good" if doubtless else "mixed"
    return Verdict(tone, text, (*notes, *_price(facts, closing)))


def _value(row: pd.Series) -> str:
    """Mean and total error (seeds and held-out items), `4.441 ± 0.006`."""
    return plus_minus(row["mean"], row["total_error"])


def _surely(row: pd.Series) -> str:
    """Confidence interval: `a difference of 0.02 to 0.08 with 95 % confidence, p = .004`."""
    surely = chance(row["p"])
    if not surely:
        return ""
    low, high = sorted((row["low"], row["high"]))
    return f"a difference of {number(low)} to {number(high)} with 95 % confidence, {surely}"


def _rests(facts: Facts, closing: pd.DataFrame) -> list[str]:
    """Notes on results with few held-out items, or without scores by item for their noise."""
    names = [*objectives(facts), *(c.name for c in constraints(facts))]
    rows = closing[closing["contender"] == WINNER].set_index("measurement")
    rows = rows.loc[[name for name in dict.fromkeys(names) if name in rows.index]]
    few = rows[(rows["items"] > 0) & (rows["items"] < FEW)]
    notes = []
    if len(few):
        held = [f"{row['items']} {row['unit']}s for {name}" for name, row in few.iterrows()]
        notes.append(
            f"Only {listed(held)} on the test split: below {FEW}, another sample may give another "
            "result, and errors are themselves uncertain; hold out more."
        )
    blind = rows.index[rows["items"] == 0]
    if len(blind):
        notes.append(
            f"Error of the seeds alone for {listed(blind)}: no scores by held-out item are "
            "recorded, so the error due to the choice of items is unknown."
        )
    return notes


def _unfinished(facts: Facts, primary: str) -> Verdict:
    """Verdict on a run without a closing comparison: state, and best individual so far."""
    rows = search_rows(facts)
    measured = Columns.of(facts).measurements[primary]
    base = table(facts).query("name == @BASE and split == 'selection' and status == 'ok'")
    known = [f" The untouched base: {primary} {number(value)}." for value in base[measured]]
    untouched = "".join(known[:1])
    stopped = (
        " The run was stopped; `evo resume` continues it." if state(facts) == "stopped" else ""
    )
    if rows.empty:
        return Verdict("open", f"No individual has been evaluated yet.{untouched}{stopped}")
    if not (rows["status"] == "ok").any():
        counts = rows["status"].value_counts()
        how = ", ".join(f"{count} {status}".replace("_", " ") for status, count in counts.items())
        return Verdict("bad", f"No evaluation succeeded ({how}).{stopped}")
    if scores(facts).empty:
        text = f"{len(rows)} evaluations have paused at a rung, and none is complete yet."
        return Verdict("open", f"{text}{untouched}{stopped}")
    feasible = scores(facts).query("violation == 0")
    if feasible.empty:
        limits = " and ".join(str(c) for c in constraints(facts))
        return Verdict("bad", f"No individual meets the constraint {limits} so far.{stopped}")
    leader = feasible.sort_values([f"losses.{primary}", "individual"]).iloc[0]
    against = f" (the untouched base: {number(base[measured].iloc[0])})" if len(base) else ""
    if state(facts) == "finished" and not contenders(facts):
        text = f"The winner is individual {leader['individual']} with {primary} "
        text += f"{number(leader[measured])} on the selection split{against}; comparison.seeds is "
        return Verdict("open", f"{text}0, so that it was compared with nothing on the test split.")
    text = (
        f"Not compared yet. Best so far is individual {leader['individual']} with {primary} "
        f"{number(leader[measured])} on the selection split{against}; a value picked as the best "
        f"of many flatters, only the closing comparison on the test split counts.{stopped}"
    )
    return Verdict("open", text)


@once
def alike(facts: Facts, leader: int) -> frozenset[int]:
    """Individuals that cannot be distinguished from a leader on the held-out selection items.

    By the first objective: those within two standard errors of the paired difference over the
    items, the noise that the search's own choice of contenders counts with
    (`evo.search.replicates`).
    Empty where no scores by item are recorded.
    """
    first = next(iter(objectives(facts)), "")
    samples: dict[int, list[Sample | None]] = {}
    for f in facts:
        if f["fact"] != "evaluation" or f["status"] != "ok" or f["split"] != "selection":
            continue
        if f["fidelity"] == FULL:
            sample = Sample.of(details(f), first)
            samples.setdefault(f["individual"], []).append(sample)
    own = Sample.mean(samples.get(leader, []))
    losses = scores(facts).set_index("individual")[f"losses.{first}"]
    if own is None or leader not in losses:
        return frozenset()
    found = set()
    for individual, seen in samples.items():
        other = Sample.mean(seen)
        gap = losses.get(individual, np.nan) - losses[leader]
        if individual != leader and own.fits(other) and abs(gap) <= CLEAR * own.error(other):
            found.add(individual)
    return frozenset(found)


def _broken(facts: Facts, closing: pd.DataFrame) -> list[str]:
    """Notes on constraints that the winner violates, on either split."""
    notes = []
    chosen = scores(facts).query("individual == @won", local_dict={"won": winner(facts)})
    tested = closing[closing["contender"] == WINNER].set_index("measurement")["mean"]
    for pair in zip(constraints(facts, "selection"), constraints(facts, "test"), strict=True):
        selected = chosen[Columns.of(facts).measurements[pair[0].name]]
        values = (selected, tested[tested.index == pair[1].name])
        for split, constraint, found in zip(("selection", "test"), pair, values, strict=True):
            broken = [v for v in found.dropna() if constraint.excess({constraint.name: v}) > 0]
            if broken and not math.isnan(constraint.limit):
                notes.append(
                    f"On the {split} split the winner violates {constraint}: {number(broken[0])}."
                )
    return notes


def _outside(facts: Facts, closing: pd.DataFrame) -> dict[str, str]:
    """Baselines by the constraints that they violate on the test split and the winner meets."""
    outside: dict[str, list[str]] = {}
    for constraint in constraints(facts, "test"):
        rows = closing[closing["measurement"] == constraint.name].set_index("contender")["mean"]
        values = rows.dropna().to_dict()
        if WINNER not in values or constraint.excess({constraint.name: values[WINNER]}) > 0:
            continue
        for name in baselines(facts):
            if name in values and constraint.excess({constraint.name: values[name]}) > 0:
                told = f"{constraint} ({number(values[name])})"
                outside.setdefault(name, []).append(told)
    return {name: " and ".join(limits) for name, limits in outside.items()}


def _price(facts: Facts, closing: pd.DataFrame) -> list[str]:
    """Notes on other objectives in which the winner is clearly worse."""
    notes = []
    for name in list(objectives(facts))[1:]:
        rows = closing[closing["measurement"] == name].set_index("contender")
        worse = rows.index[rows["clear"] == "worse"]
        if len(worse):
            top: pd.Series = rows.loc[[WINNER]].iloc[0]
            value = _value(top)
            notes.append(f"Clearly worse on {name} ({value}) than {listed(worse)}: a trade-off.")
    return notes


def _cold(rows: pd.DataFrame) -> list[str]:
    """Note on the gain of the warm start: winner and its recipe from scratch, on equal tokens."""
    if COLD not in rows.index:
        return []
    cold: pd.Series = rows.loc[[COLD]].iloc[0]
    told = (
        f"{_value(cold)} from scratch on "
        f"{number_of(cold['tokens'])} tokens, no fewer than its whole lineage took"
    )
    if cold["margin"] != cold["margin"]:
        return ["No comparison with the winner's recipe from scratch: every seed of it failed."]
    if cold["clear"] == "unclear":
        return [f"The warm start did not clearly pay off: its recipe reached {told}."]
    by = f"{number(abs(cold['margin']))} {{}} ({chance(cold['p'])})"
    if cold["clear"] == "worse":
        return [f"The warm start was a loss: its recipe reached {told}, {by.format('better')}."]
    return [f"{BESIDE[0]}: its recipe reached {told}, {by.format('worse')}."]


def number_of(tokens: float) -> str:
    """A count with separators, `1,234,567`; - if unknown."""
    return "-" if tokens != tokens else f"{tokens:,.0f}"


def _failed(rivals: pd.DataFrame, top: pd.Series) -> list[str]:
    notes = []
    if top["failed"]:
        notes.append(f"{top['failed']} of {top['n'] + top['failed']} seeds of the winner failed.")
    absent = list(
        rivals.index[rivals["margin"].isna() & (rivals["individual"] != top["individual"])]
    )
    if absent:
        notes.append(f"No comparison with {listed(absent)}: every seed of it failed.")
    return notes


def number(value: float) -> str:
    """A number with three decimals, or three digits if tiny or large; - if unknown."""
    if value != value:
        return "-"
    return f"{value:.3f}" if 0.01 <= abs(value) < 1000 else f"{value:.3g}"


def signed(value: float) -> str:
    """A number with its sign, `+0.105`; empty if unknown."""
    if value != value:
        return ""
    return f"{'' if value == 0 else '+' if value > 0 else '-'}{number(abs(value))}"


def plus_minus(mean: float, error: float) -> str:
    """A mean and its error, `4.441 ± 0.006`; without an error that is only rounding."""
    if not error > 1e-9 * abs(mean):
        return number(mean)
    exponent = int(np.floor(np.log10(error)))
    decimals = min(8, max(0, (error < 2 * 10.0**exponent) - exponent))
    return f"{mean:.{decimals}f} ± {error:.{decimals}f}"


def listed(names: Any) -> str:
    """Names in a sentence: `a, b and c`."""
    *most, last = [str(name) for name in names]
    return f"{', '.join(most)} and {last}" if most else last
