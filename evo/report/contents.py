"""Contents of the report in words and tables, for the page and for the terminal."""

import json
import shlex
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from evo import config as configuration
from evo import history
from evo.config import as_yaml
from evo.config.genomes import learned_shares
from evo.history.comparison import BASE, COLD, WINNER, number_of, plus_minus, signed
from evo.history.tables import FULL
from evo.record.facts import Genome, details, launch_of
from evo.record.facts import samples as recorded
from evo.report.figures.genes import mixture_columns
from evo.report.figures.style import View
from evo.significance import chance
from fitness.checks.table import alternatives
from fitness.recipe import Recipe, idle

SAMPLES = 6
MESSAGES = 8


PLACED = ("comparison", "cost")  # charts that belong to another section


def contents(view: View, run: str = "RUN") -> dict[str, Any]:
    """Words and tables of the page; `run` is the run's folder, for commands to copy."""
    facts = view.facts
    status = history.status(facts)
    plain, launch = configuration.recorded_in(facts), launch_of(facts)
    return {
        "name": history.spec(facts).name or "run",
        "verdict": history.verdict(facts),
        "status": status,
        "tiles": _tiles(status),
        "comparison": comparison_table(facts),
        "recipe": recipe(view),
        "commands": _commands(view, run),
        "individuals": individuals(view),
        "who": leader_of(view),
        "leader": view.leader_is,
        "samples": samples(view),
        "failures": _failures(view),
        "usage": history.usage(facts),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(launch["time"])),
        "versions": launch.get("versions") or {},
        "spec": json.dumps(plain, indent=2, ensure_ascii=False),
        "placed": PLACED,
    }


def leader_of(view: View) -> str:
    """Winner, or best so far, with its first objective if that is a mean over several seeds."""
    known = view.scores[view.scores["individual"] == view.leader]
    text = f"individual {view.leader}"
    if len(known) and known["seeds"].iloc[0] > 1:
        name = next(iter(view.objectives))
        mean, error = (
            known[c].iloc[0] for c in (view.columns.measurements[name], f"errors.{name}")
        )
        text += f"; {name} {plus_minus(mean, error)} on the selection split, "
        text += f"{known['seeds'].iloc[0]} seeds"
    return f"{view.leader_is} ({text})"


def comparison_table(facts: history.Facts) -> dict[str, Any] | None:
    """The closing comparison as a table: contenders by measurements, with margins as text.

    `items` has the number of held-out items by measurement, `34 documents`.
    """
    closing = history.comparison(facts)
    if closing.empty:
        return None
    wanted = [*history.objectives(facts), *closing["measurement"]]
    names = [n for n in dict.fromkeys(wanted) if n in set(closing["measurement"])]
    rows = []
    for contender in dict.fromkeys(closing["contender"]):
        own = closing[closing["contender"] == contender].set_index("measurement")
        cells = {
            name: {
                "value": plus_minus(row["mean"], row["total_error"]),
                "margin": margin(row["margin"], row["p"]),
                "tone": row["clear"],
            }
            for name, row in own.iterrows()
        }
        seeds, failed = int(own["n"].max()), int(own["failed"].max())
        row = {"contender": contender, "seeds": seeds, "failed": failed, "cells": cells}
        rows.append({**row, "tokens": number_of(own["tokens"].iloc[0])})
    first = closing.drop_duplicates("measurement").set_index("measurement")
    items = {
        name: f"{row['items']:,} {row['unit']}s" if row["items"] else ""
        for name, row in first.iterrows()
    }
    trained = closing[closing["contender"] != BASE].set_index("contender")["tokens"]
    with_tokens = COLD in trained.index or trained.nunique() > 1  # else all train on equally many
    told = {"base": BASE, "winner": WINNER, "with_tokens": with_tokens, "items": items}
    return {"measurements": names, "rows": rows, **told}


def margin(value: float, p: float) -> str:
    """Margin of the winner and its p value: `+0.105 (p < .001)`."""
    return signed(value) + (f" ({chance(p)})" if chance(p) else "")


def recipe(view: View) -> dict[str, Any]:
    """The leader's mixture and other genes, and the fields fixed by the spec, as text by name.

    The mixture is of the sources that its method learns from.
    """
    genome = _genome(view)
    mixtures = {name: value for name, value in genome.items() if isinstance(value, dict)}
    spec = history.spec(view.facts)
    shares = learned_shares(spec, genome) or max(mixtures.values(), key=len, default={})
    epochs: dict[str, float] = next(
        (
            details(f)["epochs"]
            for f in view.facts
            if f["fact"] == "evaluation"
            and (f["individual"], f["fidelity"]) == (view.leader, FULL)
            and details(f).get("epochs")
        ),
        {},
    )
    fixed = spec.recipe
    merging = {"start": "merge"} if spec.parts else {}
    task = {"task": spec.model.task}
    kinds = {source.kind for source in spec.sources.values()}
    source = {"source": "sample" if "sample" in kinds else "text"}
    unused = idle({**fixed, **genome, **merging, **task, **source})
    return {
        "mixture": [
            (name, share, epochs.get(name))
            for name, share in sorted(shares.items(), key=lambda pair: -pair[1])
        ],
        "genes": {n: _plain(v) for n, v in genome.items() if n not in mixtures},
        "fixed": {
            n: _plain(v)
            for n, v in fixed.items()
            if n not in genome.keys() | unused and v is not None
        },
    }


def _commands(view: View, run: str) -> list[tuple[str, str]]:
    """Texts to copy for next steps: the recipe for another spec, and commands."""
    genome = _genome(view)
    if not genome:
        return []
    fixed = history.spec(view.facts).recipe
    defaults = Recipe().model_dump(mode="json")
    changed = {n: v for n, v in fixed.items() if n not in defaults or v != defaults[n]}
    whole = {**changed, **genome}
    place = shlex.quote(run)
    one = "" if history.winner(view.facts) is not None else f" --individual {view.leader}"
    return [
        (f"The recipe of the {view.leader_is}, as YAML", as_yaml({"recipe": whole}).rstrip()),
        ("The model, as a folder", f"evo export {place}{one} --to MODEL_FOLDER"),
        ("Every evaluation, as CSV", f"evo history {place} --csv evaluations.csv"),
    ]


def _genome(view: View) -> Genome:
    """Genome of the leader; empty before there is one."""
    return next(
        (f["genome"] for f in view.facts if f["fact"] == "individual" and f["id"] == view.leader),
        {},
    )


def individuals(view: View) -> dict[str, Any] | None:
    """Table of individuals, including failed ones; each cell is (text, sort key).

    Numbers are means over the seeds that succeeded, on the selection split.
    """
    rows = view.shown(view.search)
    if rows.empty:
        return None
    best = history.alike(view.facts, view.leader) if view.leader is not None else frozenset()
    scores = view.scores.set_index("individual", drop=False)
    mixed = mixture_columns(view)
    genes = [column for column in view.columns.genes.values() if column not in mixed]
    limited = bool(history.constraints(view.facts))
    front = set(view.front["individual"])
    table = []
    for id, tries in rows.groupby("individual", sort=True):
        scored = id in scores.index
        row = (scores.loc[[id]] if scored else tries).iloc[-1]
        marks = [
            *[view.leader_is] * (id == view.leader),
            *[str(row["name"])] * bool(row["name"]),
            *["front"] * (id in front),
            *["like the best"] * (id in best),
        ]
        cells: list[tuple[str, Any]] = [(str(id), id)]
        cells.append((", ".join(marks) or str(row["status"]).replace("_", " "), ""))
        for name in view.objectives:
            mean, error = row[view.columns.measurements[name]], row.get(f"errors.{name}", np.nan)
            cells.append((plus_minus(mean, error), _key(mean)))
        if limited:
            met = "met" if row["violation"] == 0 else "violated"
            cells.append((met, row["violation"]) if scored else ("-", ""))
        seeds = int(row["seeds"]) if scored else 0
        cells += [(str(seeds), seeds), (str(row["generation"]), row["generation"])]
        cells += [("-" if pd.isna(row[g]) else _plain(row[g]), _key(row[g])) for g in genes]
        cells += [(str(row["operator"]), ""), (str(row["parents"]) or "-", "")]
        if mixed:
            shares = sorted(((float(row[c]), n) for c, n in mixed.items()), reverse=True)
            cells.append((", ".join(f"{n} {v:.0%}" for v, n in shares if v >= 0.005), ""))
        table.append({"cells": cells, "winner": id == view.leader, "failed": not scored})
    limits = ["constraints"] if limited else []
    head = ["individual", "what", *view.objectives, *limits, "seeds", "generation"]
    head += [*genes, "bred by", "parents", *(["mixture"] if mixed else [])]
    told = {"texts": {"what", "mixture", "bred by", "parents"}, "left_out": view.left_out()}
    return {"head": head, "rows": table, "alike": len(best), **told}


def _key(value: Any) -> Any:
    """Sort key of a cell: its value, or an empty text if unknown."""
    return "" if pd.isna(value) else value


def samples(view: View) -> list[dict[str, str]]:
    """Samples of leader and untouched base for the same prompts, on the last split evaluated."""
    found: dict[str, dict[tuple[str, str], dict[str, str]]] = {}
    for fact in view.facts:
        if fact["fact"] != "evaluation" or fact["fidelity"] > FULL:
            continue
        sets = recorded(fact)
        if not sets:
            continue
        model = BASE if fact["fidelity"] == 0 else fact["individual"]
        if model not in (BASE, view.leader):
            continue
        written = {(name, s["prompt"]): s for name, many in sets.items() for s in many}
        if fact["split"] == "selection" or str(model) + " test" not in found:
            found[f"{model} {fact['split']}"] = written
    for split in ("test", "selection"):
        own = found.get(f"{view.leader} {split}", {})
        base = found.get(f"{BASE} {split}", {})
        if own:
            return [
                {
                    "set": name,
                    "split": split,
                    "prompt": prompt,
                    "reference": " | ".join(alternatives(s.get("reference", ""))),
                    "output": s.get("output", ""),
                    "base": base.get((name, prompt), {}).get("output", ""),
                }
                for (name, prompt), s in list(own.items())[:SAMPLES]
            ]
    return []


def _tiles(status: dict[str, Any]) -> list[tuple[str, str]]:
    """Key figures at the head of the page, as (label, value)."""
    busy = status["busy_share"]
    failed = sum(status["failures"].values())
    return [
        ("state", status["state"]),
        ("evaluations", f"{status['done']} of {status['total'] or '?'}"),
        ("on the front", str(status["front"])),
        ("failed", str(failed)),
        ("running time", duration(status["elapsed_seconds"])),
        ("workers busy", "-" if busy is None else f"{busy:.0%} of {status['workers']}"),
    ]


def _failures(view: View) -> dict[str, Any]:
    """Statuses with counts and seconds, and the last messages of those that failed."""
    rows = history.table(view.facts)
    groups = [
        {
            "status": str(status).replace("_", " "),
            "count": len(group),
            "seconds": f"{group['duration'].sum():,.1f}",
            "mean": f"{group['duration'].mean():.1f}",
        }
        for status, group in sorted(
            rows.groupby("status"), key=lambda pair: (pair[0] != "ok", pair[0])
        )
    ]
    failed = rows[rows["status"] != "ok"].tail(MESSAGES)
    messages = [
        (_named(r), str(r["status"]).replace("_", " "), str(r["message"] or "")[:300])
        for _, r in failed.iterrows()
    ]
    lost = [f for f in view.facts if f["fact"] == "lost"]
    messages += [
        (_named(f), "lost, retried", str(f.get("message", ""))[:300]) for f in lost[-MESSAGES:]
    ]
    return {"groups": groups, "messages": messages, "lost": len(lost)}


def _named(one: Mapping[str, Any] | pd.Series) -> str:
    """Name in a table, `untouched base` or `individual 3`: both may have the number 0."""
    return f"untouched {BASE}" if one.get("fidelity") == 0 else f"individual {one['individual']}"


def duration(seconds: float) -> str:
    """A duration in words: `5 min 12 s`."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return (
        f"{hours} h {minutes} min"
        if hours
        else f"{minutes} min {left} s"
        if minutes
        else f"{left} s"
    )


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
