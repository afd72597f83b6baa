import json
import os
import re
from html import unescape
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from ruamel.yaml import YAML

from evo import history
from evo.report import page, summary, write
from evo.report.figures import DRAWN, View, charts
from evo.report.figures.labels import spread
from evo.report.figures.style import Chart, figure, window
from tests.evo.synthetic_ledger import BASE, ledger

RARE = {"inheritance", "simulation", "rewards", "classes", "confusion"}  # not in these runs
ALL = {one.__name__ for one in DRAWN} - RARE
HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>{{ 7*7 }} <b>bold</b>"


class Tags(HTMLParser):
    """Collects tags with their attributes, and the text of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def tags(text):
    parser = Tags()
    parser.feed(text)
    return parser.tags


def figures(text):
    """The figures a page holds, by the id of their element."""
    found = re.findall(r'<script type="application/json" id="(\w+)-figure">(.*?)</script>', text)
    return {name: json.loads(figure) for name, figure in found}


def shown(facts, width=80):
    console = Console(width=width, record=True, no_color=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        console.print(summary(facts))
        return console.export_text()


def custom(objectives=("score",)):
    """A run of someone's own evaluator: no mixture, no details, unknown measurements."""
    facts = ledger(objectives=("target/loss",), constraints=())
    facts[0]["config"]["objectives"] = dict.fromkeys(objectives, "maximize")
    for fact in facts:
        if fact["fact"] == "individual":
            fact["genome"] = {"rate": fact["genome"]["learning_rate"], "flag": fact["id"] % 2 == 0}
        elif fact["fact"] == "evaluation":
            values = list(fact["measurements"].values())
            fact["measurements"] = {"score": values[0], "odd": values[1]} if values else {}
            fact["details"] = {}
            fact["cost"] = {"train_seconds": 1.0}
    return facts


def all_failed():
    return [
        {**f, "status": "error", "measurements": {}, "cost": {}, "details": {}, "message": "boom"}
        if f["fact"] == "evaluation" and f["fidelity"] > 0
        else f
        for f in ledger()
        if f["fact"] not in ("winner",) and f.get("split") != "test"
    ]


CASES = {
    "finished": ledger,
    "header": lambda: ledger()[:1],
    "only the base": lambda: ledger()[:2],
    "one evaluation": lambda: ledger()[:4],
    "unfinished": lambda: ledger()[:50],
    "no comparison of the winner yet": lambda: ledger()[:86],
    "all failed": all_failed,
    "relative to the base": lambda: ledger(constraints=("general/loss <= 1.1 * base",)),
    "no base to be relative to": lambda: ledger(constraints=("other/loss <= 1.1 * base",)),
    "nothing feasible": lambda: ledger(constraints=("general/loss <= 1",)),
    "never measured": lambda: ledger(constraints=("elsewhere/loss <= 1",)),
    "one objective": lambda: ledger(objectives=("target/loss",)),
    "three objectives": lambda: ledger(objectives=("target/loss", "general/loss", "jargon/chrf")),
    "one seed": lambda: ledger(seeds=1),
    "no seeds": lambda: ledger(seeds=0),
    "many sources": lambda: ledger(extra_sources=tuple(f"extra_{i}" for i in range(20))),
    "custom evaluator": custom,
}


@pytest.mark.parametrize("case", CASES)
def test_a_page_and_a_summary_come_out_of_every_state_of_a_run(case, tmp_path):
    facts = CASES[case]()
    write(facts, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert history.verdict(facts).text.partition(":")[0].split(" ± ")[0] in text
    assert {name for name, _ in tags(text)} >= {"h1", "section"}
    assert shown(facts).strip()


def test_a_finished_run_gets_every_figure_and_each_axis_a_title():
    drawn = figures(page(ledger()))
    assert set(drawn) == ALL
    for name in ALL - {"parallel"}:
        layout = drawn[name]["layout"]
        axes = [axis for key, axis in layout.items() if key.startswith("xaxis")]
        assert any(axis.get("title", {}).get("text") for axis in axes), name
    assert "loss<br>(nats)" in json.dumps(drawn["progress"]["layout"])
    assert "loss (nats)" in json.dumps(drawn["front"]["layout"])


def test_every_figure_that_is_computed_is_shown_and_in_the_contents(monkeypatch):
    def novel(view):
        return Chart("Something new", "Of a figure that no template names.", figure(200))

    monkeypatch.setattr("evo.report.figures.DRAWN", (*DRAWN, novel))
    text = page(ledger())
    assert "novel" in figures(text)
    assert '<a href="#of-novel">Something new</a>' in text
    linked = {a["href"][1:] for t, a in tags(text) if t == "a"}
    assert linked == {a["id"] for t, a in tags(text) if t == "section"}


def with_replicates(facts, individual):
    """The individual evaluated again under two other seeds."""
    (first,) = (
        f
        for f in facts
        if f["fact"] == "evaluation" and f["individual"] == individual and f["fidelity"] == 1
        if f["split"] == "selection"
    )
    again = [{**first, "seed": seed} for seed in (1000, 2000)]
    place = next(n for n, f in enumerate(facts) if f["fact"] == "winner")
    return [*facts[:place], *again, *facts[place:]]


def test_a_winner_under_three_seeds_is_one_star_and_one_row():
    facts = with_replicates(ledger(), history.winner(ledger()))
    drawn = charts(View.of(facts))["progress"].figure
    stars = [t for t in drawn.data if t.marker.symbol == "star" and t.yaxis == "y"]
    others = [t for t in drawn.data if t.name == "winner, other seeds" and t.yaxis == "y"]
    assert [len(t.x) for t in stars] == [1]
    assert [len(t.x) for t in others] == [2]
    body = page(facts).split('id="individuals"')[1].split("</table>")[0]
    assert body.count('<tr class="winner">') == 1
    assert body.count("<tr") == 1 + 40  # the head, and a row for each individual


def test_learning_curves_are_smoothed_and_have_held_out_points():
    facts = ledger()
    for fact in facts:
        if fact["fact"] == "evaluation" and fact["fidelity"] and fact["split"] == "selection":
            curve = fact["details"].get("learning_curve", ())
            zigzag = [[tokens, loss + (-1) ** n] for n, (tokens, loss) in enumerate(curve)]
            fact["details"] = {**fact["details"], "learning_curve": zigzag}
    view = View.of(facts)
    drawn = {trace.name: trace for trace in charts(view)["learning"].figure.data}
    line = np.asarray(drawn[view.leader_name()].y)
    assert np.abs(np.diff(line[2:-2])).max() < 0.5  # a single batch jumps by 2
    held_out = drawn["held out, winner"]
    assert list(held_out.x) == [0, 122880]
    assert view.leader is not None
    known = view.scores.set_index("individual").loc[view.leader, "target/loss"]
    assert held_out.y[1] == known
    assert held_out.y[0] == BASE["target/loss"]


@pytest.mark.parametrize(
    ("count", "told"),
    [(2, "No individual has been evaluated yet. The untouched base: target/loss 4.830."), (40, "")],
)
def test_a_stopped_run_says_so_and_what_it_has(count, told):
    facts = ledger()[:count]
    facts.append({"fact": "stopped", "time": facts[-1].get("finished", 1.0)})
    text = shown(facts, width=200)
    assert told in text
    assert "The run was stopped; `evo resume` continues it." in text
    assert "othing has been evaluated" not in page(facts)


def test_a_run_whose_individuals_have_only_paused_at_rungs_breaks_no_constraint():
    facts: list[Any] = [
        {**f, "fidelity": f["fidelity"] / 2} if "fidelity" in f else f for f in ledger()[:40]
    ]
    assert "paused at a rung, and none is complete yet" in history.verdict(facts).text


def test_what_to_take_along_is_the_recipe_as_yaml_and_commands(tmp_path):
    facts = ledger()
    run = tmp_path / "my run"
    run.mkdir()
    write(facts, run / "report.html")
    text = unescape((run / "report.html").read_text())
    blocks = re.findall(r'<pre id="copy-\d">(.*?)</pre>', text, re.DOTALL)
    genome = next(f["genome"] for f in facts if f.get("id") == history.winner(facts))
    recipe = YAML(typ="safe").load(blocks[0])["recipe"]
    assert recipe == genome  # what the spec sets beside it are the defaults
    assert blocks[1:] == [
        f"evo export '{run}' --to MODEL_FOLDER",
        f"evo history '{run}' --csv evaluations.csv",
    ]


def test_the_page_fetches_nothing_and_runs_no_script_but_its_own():
    found = tags(page(ledger()))
    assert not [a for _, a in found if "src" in a]
    assert all(a["href"].startswith("#of-") for _, a in found if "href" in a)
    policy = next(a["content"] for t, a in found if t == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy
    nonce = re.search(r"'nonce-(\w+)'", policy)
    assert nonce is not None
    scripts = [a for t, a in found if t == "script" and a.get("type") != "application/json"]
    assert len(scripts) == 2
    assert all(a["nonce"] == nonce[1] for a in scripts)


def test_hostile_names_and_texts_stay_text():
    facts = json.loads(
        json.dumps(ledger()).replace("jargon", "HOSTILE").replace("uniform", "HOSTILE2")
    )
    facts = json.loads(json.dumps(facts).replace("HOSTILE", json.dumps(HOSTILE)[1:-1]))
    for fact in facts:
        if fact["fact"] in ("evaluation", "lost"):
            fact["message"] = fact["worker"] = HOSTILE
        if fact["fact"] == "individual" and fact["id"] > 2:
            fact["operator"] = HOSTILE
        for sample in (fact.get("details") or {}).get("samples", ()):
            sample.update(prompt=HOSTILE, output=HOSTILE, reference=HOSTILE)
    facts[0]["config"]["name"] = HOSTILE
    facts[0]["versions"] = {HOSTILE: HOSTILE}
    clean, text = page(ledger()), page(facts)
    assert {name for name, _ in tags(text)} == {name for name, _ in tags(clean)}
    assert not [a for _, a in tags(text) if any(key.startswith("on") for key in a)]
    assert len(re.findall("<script", text)) == len(re.findall("<script", clean))
    assert "49 <b>" not in text
    labels = json.dumps(figures(text))
    assert "&lt;img" in labels
    assert "<img" not in labels


def test_a_failed_write_leaves_the_former_page(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("former")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(ledger(), path)
    assert path.read_text() == "former"


def test_the_same_facts_give_the_same_page():
    assert page(ledger()) == page(ledger())


def test_a_search_that_lost_says_so_at_the_head_of_page_and_summary():
    facts = ledger(skill=0.0)
    assert '<div class="verdict bad">\n<p>The search did not beat uniform' in page(facts)
    assert shown(facts).startswith("The search did not beat uniform")


@pytest.mark.parametrize("case", CASES)
def test_the_summary_fits_80_columns_and_needs_no_colour(case):
    text = shown(CASES[case]())
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "\x1b" not in text


def test_the_summary_holds_comparison_winner_failures_and_time():
    text = shown(ledger(objectives=("target/loss", "general/loss", "jargon/chrf")))
    for wanted in ("winner", "base", "uniform", "proportional", "only jargon", "±", "(p < .001)"):
        assert wanted in text
    assert "jargon 30%" in text or "jargon" in text
    assert "1 diverged" in text
    assert " min " in text
    rows = [line for line in text.splitlines() if line.startswith(("winner ", "only jargon "))]
    assert len(rows) >= 2  # no cell wraps


def test_samples_of_the_winner_stand_beside_those_of_the_base():
    text = page(ledger())
    assert ">Samples<" in text
    assert "the court of the state" in text
    assert "&lt;b&gt;1.&lt;/b&gt;" in text


def test_samples_may_be_grouped_by_prompt_set():
    facts = ledger()
    for fact in facts:
        if (fact.get("details") or {}).get("samples"):
            fact["details"]["samples"] = {"glosses": fact["details"]["samples"]}
    assert "<small>glosses</small>" in page(facts)


def test_a_thousand_evaluations_draw_in_seconds_and_stay_small():
    facts = ledger(evaluations=1000, population=50, workers=16)
    view = View.of(facts)
    drawn = charts(view)
    assert set(drawn) == ALL
    assert sum(len(chart.figure.to_json()) for chart in drawn.values()) < 4_000_000


def test_a_baseline_keeps_its_colour_in_every_figure():
    view = View.of(ledger())
    colour = view.colour("proportional")
    drawn = charts(view)
    for name in ("comparison", "progress", "front", "learning"):
        assert colour in drawn[name].figure.to_json()


@given(st.lists(st.floats(0, 400), min_size=1, max_size=12))
def test_labels_are_pushed_apart_and_keep_their_order(wanted):
    placed = spread(wanted, gap=16)
    order = np.argsort(wanted, kind="stable")
    assert (np.diff(np.asarray(placed)[order]) >= 16 - 1e-6).all()
    if len(wanted) == 1:
        assert placed == wanted


@given(st.lists(st.floats(-1e6, 1e6), max_size=30), st.lists(st.floats(-1e3, 1e3), max_size=5))
def test_an_axis_shows_what_must_be_seen_and_counts_what_it_leaves_out(values, always):
    low, high, outside = window(values, always)
    assert low < high
    assert all(low <= value <= high for value in always)
    assert outside == sum(not low <= value <= high for value in values)


def test_a_long_run_draws_what_matters_and_says_what_it_leaves_out(monkeypatch):
    facts = ledger(evaluations=300, population=50)
    whole = View.of(facts)
    monkeypatch.setattr("evo.report.figures.style.DRAWN", 80)
    view = View.of(list(facts))
    assert view.leader in view.drawn
    assert {0, 1, 2} <= view.drawn  # the baselines
    assert 40 <= len(view.drawn) < 120
    drawn = charts(view)
    assert set(drawn) == ALL
    for name in ("progress", "front", "parallel", "lineage"):
        assert f"{len(view.drawn)} of 300 individuals" in drawn[name].caption
        assert len(drawn[name].figure.to_json()) < 0.7 * len(charts(whole)[name].figure.to_json())


def test_a_line_of_steps_keeps_every_turn():
    facts = ledger(evaluations=100, population=10)
    figure = charts(View.of(facts))["progress"].figure
    line = next(trace for trace in figure.data if trace.name == "best so far")
    best = history.best_so_far(facts, "target/loss").to_numpy()
    drawn = dict(zip(line.x, line.y, strict=True))
    held = [drawn[max(x for x in drawn if x <= i)] for i in range(1, len(best) + 1)]
    np.testing.assert_array_equal(held, best)
    assert max(drawn) == len(best)
