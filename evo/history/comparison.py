"""The closing comparison on the test split, and what may honestly be said of it."""

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

WINNER = "winner"
COLD = "its recipe from scratch"  # on as many tokens as the winner's whole lineage
Tone = Literal["good", "mixed", "bad", "open"]
CLEARLY_BETTER = "What it inherited was worth it"
CLEAR = 2.0  # standard errors of the difference


@dataclass(frozen=True)
class Verdict:
    """What came out, in plain words. `good` only when every baseline is clearly beaten."""

    tone: Tone
    text: str
    notes: tuple[str, ...] = ()


@once
def comparison(facts: Facts) -> pd.DataFrame:
    """Test-split results, a row per contender (winner, base, then the baselines) and measurement.

    Then its recipe without what models wrote, and with all of it, where it learned from that.
    Last comes the winner's recipe from scratch, where the winner began with parents' weights.

    Columns: contender, individual, measurement, n (seeds that succeeded), failed, mean,
    standard_error, tokens (trained on, with all it began with), margin (by how much the winner is
    better, in the measurement's unit) and margin_se (the same in standard errors of the difference,
    sqrt(a^2 + b^2), Welch 1947). NaN where it cannot be known. The untouched base is not trained,
    so that a single measurement of it carries no error from seeds.
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
    found: list[dict[str, Any]] = []
    for name, column in Columns.of(facts).measurements.items():
        if rows[column].isna().all():
            continue
        orientation = sign(facts, name) or np.nan
        top = _mean_and_error(groups.get(WINNER, rows.iloc[:0]), column)
        for contender, group in groups.items():
            if group.empty:
                continue
            mean, error = _mean_and_error(group, column)
            own = contender == WINNER or baselines(facts).get(contender, -1) == won
            margin = np.nan if own else orientation * (mean - top[0]) + 0.0  # never -0
            spread = float(np.hypot(error, top[1]))
            found.append(
                {
                    "contender": contender,
                    "individual": int(group["individual"].iloc[0]),
                    "measurement": name,
                    "n": int(group.loc[group["status"] == "ok", column].notna().sum()),
                    "failed": int((group["status"] != "ok").sum()),
                    "mean": mean,
                    "standard_error": error,
                    "tokens": group["cumulative_tokens"].mean(),
                    "margin": margin,
                    "margin_se": np.divide(margin, spread) if spread else np.inf * margin,
                }
            )
    names = ["contender", "individual", "measurement", "n", "failed", "mean"]
    return pd.DataFrame(found, columns=[*names, "standard_error", "tokens", "margin", "margin_se"])


def _mean_and_error(group: pd.DataFrame, column: str) -> tuple[float, float]:
    """Mean over the seeds that succeeded and its standard error; NaN where there is none."""
    values = group.loc[group["status"] == "ok", column].dropna()
    if values.empty:
        return np.nan, np.nan
    if len(values) == 1:
        untouched = (group["fidelity"] == UNTOUCHED).all()
        return float(values.iloc[0]), 0.0 if untouched else np.nan
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)


@once
def verdict(facts: Facts) -> Verdict:
    """Whether the search beat its baselines on the first objective, said plainly."""
    closing = comparison(facts)
    primary = next(iter(objectives(facts)), "")
    rows = closing[closing["measurement"] == primary].set_index("contender")
    if WINNER not in rows.index or rows.loc[WINNER, "n"] == 0:
        return _unfinished(facts, primary)
    top: pd.Series = rows.loc[[WINNER]].iloc[0]
    rivals = rows.drop([name for name in (WINNER, COLD) if name in rows.index])
    notes = [*_broken(facts, closing), *_failed(rivals, top), *_cold(rows)]
    who = f"individual {top['individual']}"
    value = f"{primary} {plus_minus(top['mean'], top['standard_error'])}"
    twins = [name for name, id in baselines(facts).items() if id == winner(facts)]
    if twins:
        text = (
            f"The search found nothing better than what it started from: the best on the "
            f"selection split is the baseline {twins[0]} itself ({value} on the test split)."
        )
        return Verdict("bad", text, tuple(notes))
    known = rivals[rivals["margin"].notna()].sort_values("margin")
    ahead = known[known["margin"] > 0]
    behind = known[known["margin"] <= 0]
    unclear = ahead[~(ahead["margin_se"] > CLEAR)]
    if known.empty:
        text = f"The winner, {who}, reached {value} on the test split; no baseline was measured."
        return Verdict("open", text, tuple(notes))
    if len(behind):
        text = (
            f"The search did not beat {listed(behind.index)}: the winner, {who}, reached {value} "
            f"on the test split, {behind.index[0]} "
            f"{plus_minus(behind['mean'].iloc[0], behind['standard_error'].iloc[0])}."
        )
        if len(unclear):
            text += f" Nor is it clearly ahead of {listed(unclear.index)}."
        return Verdict("bad", text, tuple(notes))
    if len(unclear):
        by = unclear["margin_se"].min()
        much = f"only {by:.1f} standard errors" if by == by else "one seed, so no standard error"
        text = (
            f"The winner, {who}, is ahead of {listed(unclear.index)}, but not clearly ({much}): "
            f"{value} on the test split, against "
            f"{plus_minus(unclear['mean'].iloc[0], unclear['standard_error'].iloc[0])}."
        )
        return Verdict("mixed", text, tuple(notes))
    nearest = known.iloc[0]
    text = (
        f"The winner, {who}, beats every baseline on the test split: {value}; the nearest, "
        f"{known.index[0]}, has {plus_minus(nearest['mean'], nearest['standard_error'])}, "
        + (
            "and no seed differs from another."
            if np.isinf(nearest["margin_se"])
            else f"{nearest['margin_se']:.1f} standard errors of the difference away."
        )
    )
    doubtful = [note for note in notes if not note.startswith(CLEARLY_BETTER)]
    tone: Tone = "mixed" if doubtful else "good"
    return Verdict(tone, text, (*notes, *_price(facts, closing)))


def _unfinished(facts: Facts, primary: str) -> Verdict:
    """What can be said before there is a comparison on the test split."""
    rows = search_rows(facts)
    if rows.empty:
        return Verdict("open", "Nothing has been evaluated yet.")
    if not (rows["status"] == "ok").any():
        counts = rows["status"].value_counts()
        how = ", ".join(f"{count} {status}".replace("_", " ") for status, count in counts.items())
        return Verdict("bad", f"No evaluation succeeded ({how}).")
    feasible = scores(facts).query("violation == 0")
    if feasible.empty:
        limits = " and ".join(str(c) for c in constraints(facts))
        return Verdict("bad", f"No individual meets the constraint {limits} so far.")
    leader = feasible.sort_values([f"losses.{primary}", "individual"]).iloc[0]
    measured = Columns.of(facts).measurements[primary]
    base = table(facts).query("name == @BASE and split == 'selection' and status == 'ok'")
    against = f" (the untouched base: {number(base[measured].iloc[0])})" if len(base) else ""
    text = (
        f"Not compared yet. Best so far is individual {leader['individual']} with {primary} "
        f"{number(leader[measured])} on the selection split{against}; a value picked as the best "
        "of many flatters, only the closing comparison on the test split counts."
    )
    return Verdict("open", text)


def _broken(facts: Facts, closing: pd.DataFrame) -> list[str]:
    """The constraints that the winner breaks on either split."""
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
                    f"On the {split} split the winner breaks {constraint}: {number(broken[0])}."
                )
    return notes


def _price(facts: Facts, closing: pd.DataFrame) -> list[str]:
    """Where the winner is clearly worse in another objective."""
    notes = []
    for name in list(objectives(facts))[1:]:
        rows = closing[closing["measurement"] == name].set_index("contender")
        worse = rows.index[rows["margin_se"] < -CLEAR]
        if len(worse):
            top: pd.Series = rows.loc[[WINNER]].iloc[0]
            value = plus_minus(top["mean"], top["standard_error"])
            notes.append(f"It pays on {name} ({value}): clearly worse there than {listed(worse)}.")
    return notes


def _cold(rows: pd.DataFrame) -> list[str]:
    """What inheriting was worth: the winner against its own recipe from scratch, equal tokens."""
    if COLD not in rows.index:
        return []
    cold: pd.Series = rows.loc[[COLD]].iloc[0]
    told = (
        f"{plus_minus(cold['mean'], cold['standard_error'])} from scratch on "
        f"{number_of(cold['tokens'])} tokens, as many as its whole lineage took"
    )
    if cold["margin"] != cold["margin"]:
        return ["No comparison with the winner's recipe from scratch: every seed of it failed."]
    clearness = f"{abs(cold['margin_se']):.1f} standard errors of the difference"
    if abs(cold["margin_se"]) <= CLEAR or cold["margin_se"] != cold["margin_se"]:
        return [f"What it inherited is not clearly worth it: its recipe reached {told}."]
    if cold["margin"] < 0:
        return [f"What it inherited was a loss: its recipe reached {told}, {clearness} better."]
    return [f"{CLEARLY_BETTER}: its recipe reached {told}, {clearness} worse."]


def number_of(tokens: float) -> str:
    """`1,234,567`; - for what is not known."""
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
    """Three decimals where they say something, else three digits; - for what is not known."""
    if value != value:
        return "-"
    return f"{value:.3f}" if 0.01 <= abs(value) < 1000 else f"{value:.3g}"


def plus_minus(mean: float, error: float) -> str:
    """`4.441 ± 0.006`, `4.4413 ± 0.0012`; without the error where there is none but rounding."""
    if not error > 1e-9 * abs(mean):
        return number(mean)
    exponent = int(np.floor(np.log10(error)))
    decimals = min(8, max(0, (error < 2 * 10.0**exponent) - exponent))
    return f"{mean:.{decimals}f} ± {error:.{decimals}f}"


def listed(names: Any) -> str:
    """`a, b and c`."""
    *most, last = [str(name) for name in names]
    return f"{', '.join(most)} and {last}" if most else last
