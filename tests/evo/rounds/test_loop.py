"""Rounds: what each inherits, when they end, and that nothing ends or repeats them by accident."""

import json
import signal
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evo import config as configuration
from evo.cli import DONE, main
from evo.config import SearchConfig, space
from evo.config.rounds import Rounds
from evo.history.rounds import Round, unusable
from evo.planning.controls import NOTHING_GENERATED, UNFILTERED, controls
from evo.report.rounds import _pools
from evo.rounds import loop
from evo.rounds.judging import judge, needed
from evo.rounds.loop import _check_prompts, _ended, _next, _scores
from evo.rounds.pooling import pooled, read_pool
from evo.rounds.spec import Legacy, different, first_spec, spec_after
from fitness.data.samples import Sample
from fitness.errors import InputError
from fitness.models.base import Base
from fitness.samples.discriminator import stretched
from fitness.samples.separation import Separation, read_separation
from population.individual import Individual
from population.space import Simplex
from tests.evo.driving import LEDGER, evo, start, wait_until
from tests.evo.facts import read
from tests.evo.rounds import scenario as small
from tests.fitness.judges.talking import serving, talking
from tests.fitness.quickstart import CORPUS, MODEL
from tests.fitness.samples.pools import JARGON

HERE = "tests.evo.rounds.scenario"
PROMPTS = CORPUS / "prompts/categories.train.jsonl"
SCORES = frozenset({"realness", "contamination"})
JUDGED = f"  judgements: 8\n  annotator: {HERE}:annotator\n"
OWN_FILTER = f"  filters: [perplexity, realness, duplicate, '{HERE}:bright']\n"

AGGREGATE = 'aggregates: {quality: {mean: ["*/loss"]}}\n'
RELATIVE = 'aggregates: {quality: {mean: ["*/loss"], relative_to: base}}\n'


def load(tmp_path: Path, more: str = "", *overrides: str) -> SearchConfig:
    return configuration.load(small.spec(tmp_path, more), overrides)


def genome(**shares: float) -> dict[str, Any]:
    return {"mixture": shares, "keep_realness": 0.5}


def test_the_first_round_has_no_pool_and_nothing_to_cut(tmp_path: Path):
    first = first_spec(load(tmp_path))
    assert first.rounds is None
    assert list(first.genome) == ["mixture"]
    assert list(first.sources) == ["jargon", "devil"]


def test_a_later_round_mixes_the_pool_in_up_to_what_must_be_real(tmp_path: Path):
    config = load(tmp_path, "  real_share: 0.7\n")
    files = {"pool": tmp_path / "pool.jsonl", "corrections": tmp_path / "corrections.jsonl"}
    later = spec_after(config, Legacy(files, [genome(jargon=0.8, devil=0.2)], scores=SCORES))
    gene: Any = later.genome["mixture"]
    assert gene.over == ("jargon", "devil", "pool", "corrections")
    assert gene.bounds[1].tolist() == pytest.approx([1, 1, 0.3, 1])
    assert [later.sources[name].kind for name in gene.over] == [
        *("text", "text", "sample", "completion")
    ]
    known = [space(later).repair({"keep_realness": 1, **one}) for one in later.known]
    assert known[0]["mixture"] == {"jargon": 0.8, "devil": 0.2, "pool": 0.0, "corrections": 0.0}
    configuration.from_plain(configuration.to_plain(later))  # it can be recorded


def test_a_round_whose_samples_were_all_left_out_has_no_cuts(tmp_path: Path):
    files = {"corrections": tmp_path / "corrections.jsonl"}
    later = spec_after(load(tmp_path), Legacy(files, [genome(jargon=1.0)]))
    assert list(later.genome) == ["mixture"]
    assert len(later.known) == 1


def test_the_first_search_after_the_base_generated_begins_with_its_pool(tmp_path: Path):
    config = load(tmp_path, "  first: generate\n  real_share: 0.2\n  most_per_prompt: 3\n")
    assert [_next(config, []), _next(config, [fact(0, 4.0)])] == [0, 1]
    later = spec_after(config, Legacy({"pool": tmp_path / "pool.jsonl"}, [], scores=SCORES))
    assert later.baselines == ("uniform",)
    known = [space(later).repair({"keep_realness": 1, **one}) for one in later.known]
    assert known[0]["mixture"] == pytest.approx({"jargon": 0.1, "devil": 0.1, "pool": 0.8})
    assert later.sources["pool"].most_per_prompt == 3
    assert later.sources["whole_pool"].most_per_prompt is None, "for the control alone"
    gene: Any = later.genome["mixture"]
    assert gene.over == ("jargon", "devil", "pool")
    winner = Individual(2, {"mixture": {"jargon": 0.4, "devil": 0.0, "pool": 0.6}})
    _, unfiltered = controls(later, winner)
    assert unfiltered.operator == f"control:{UNFILTERED}"
    assert unfiltered.genome["mixture"] == {"jargon": 0.4, "devil": 0.0, "whole_pool": 0.6}
    bare = config.model_copy(update={"sources": {}, "genome": {"mixture": Simplex()}})
    alone = spec_after(bare, Legacy({"pool": tmp_path / "pool.jsonl"}, []))
    assert [one["mixture"] for one in alone.known] == [{"pool": 1.0}]


def test_genomes_that_differ_in_what_decides_nothing_are_one():
    a, b = genome(jargon=1.0, pool=0.0), {"mixture": {"jargon": 1.0}, "keep_realness": 0.9}
    c = genome(jargon=0.5, pool=0.5)
    assert different([a, b, c]) == [{"mixture": {"jargon": 1.0}}, c]


def fact(number: int, loss: float, **more: Any) -> Any:
    head = {"fact": "round", "round": number, "loss": loss, "violation": 0.0}
    pool = {"pool": {"pool": 5, "judged": {}}}
    return {**head, "measurements": {"target/loss": loss}, **pool, **more}


@pytest.mark.parametrize(
    ("more", "losses", "why"),
    [
        ("", [4.0], ""),
        ("", [4.0, 3.9], "the limit of 2 is reached"),
        ("", [4.0, 4.0], "no better model in the last 1"),
        ("  target: target/loss <= 3.95\n", [4.0], ""),
        ("  target: target/loss <= 3.95\n", [3.9], "the target is met: target/loss is 3.9"),
        ("  patience: 2\n", [4.0], ""),
    ],
)
def test_rounds_end_when_they_should(tmp_path: Path, more: str, losses: list[float], why: str):
    done = [fact(number, loss) for number, loss in enumerate(losses, 1)]
    ended = _ended(load(tmp_path, more), done)
    assert ended.startswith(why)
    assert bool(ended) == bool(why)


def test_rounds_end_where_there_is_nothing_to_learn(tmp_path: Path):
    nothing = {"pool": {"pool": 0, "judged": {}}}
    assert "none of the generated samples" in _ended(load(tmp_path), [fact(1, 4.0, **nothing)])
    judged = {"pool": {"pool": 0, "judged": {"corrections": 3}}}
    assert not _ended(load(tmp_path), [fact(1, 4.0, **judged)])
    assert not _ended(load(tmp_path), [fact(0, 4.0, **nothing)]), (
        "the sources may still be searched"
    )
    beaten = [fact(0, 3.0), fact(1, 4.0)]
    assert _ended(load(tmp_path), beaten).startswith("no better model in the last 1")


def test_fewer_judgements_are_asked_for_from_round_to_round():
    assert [needed(Rounds(judgements=60), n) for n in (1, 2, 3, 9)] == [60, 30, 15, 1]
    assert needed(Rounds(), 1) == 0


def test_a_winner_is_held_against_itself_on_other_diets(tmp_path: Path):
    files = {"pool": tmp_path / "pool.jsonl"}
    later = spec_after(load(tmp_path), Legacy(files, [genome(jargon=1.0)], scores=SCORES))
    winner = Individual(3, genome(jargon=0.6, devil=0.2, pool=0.2))
    bare, whole = controls(later, winner)
    assert [bare.operator, whole.operator] == [
        *(f"control:{NOTHING_GENERATED}", f"control:{UNFILTERED}")
    ]
    assert bare.genome["mixture"] == pytest.approx({"jargon": 0.75, "devil": 0.25})
    assert whole.genome["keep_realness"] == 1.0
    assert len({bare.id, whole.id, *range(100)}) == 102
    assert not list(controls(later, Individual(3, genome(jargon=1.0, pool=0.0))))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("  prompts: x.jsonl\n  begin: bst\n", "rounds.begin"),
        ("  filters: [realnes]\n", "did you mean 'realness'"),
        ("  filters: [realness, likelihood]\n", "rounds.second: missing"),
        ("  filters: [perplexity]\n", "genome.keep_realness: no filter gives this score"),
        ("  target: target/los <= 3\n", "did you mean target/loss"),
        ("  target: better\n", "rounds.target: needs"),
        ("  annotator: nobody:there\n", "rounds.annotator"),
        ("  real_share: 1\n", "rounds.real_share"),
        ("  target: qualty <= 3\n" + AGGREGATE, "did you mean quality"),
        ("  begin: best\n" + RELATIVE, "aggregates.quality.relative_to: the base differs between"),
        ("  limt: 3\n", "rounds.limt: unknown key; did you mean limit?"),
        ("  first: sample\n", "rounds.first"),
        ("  pairs: 2\n", "rounds.pairs: pairs are of samples that meet rounds.require"),
        ("  filters: [exact_match]\n", "exact_match needs prompts with references"),
        ("  require: {exact_match: 1}\n", "rounds.require: no filter gives the score exact_match"),
        ("  require: {realness: high}\n", "require.realness is 'high'; write the least score"),
        (f"  filters: [realness, numeric]\n  prompts: {PROMPTS}\n", "which numeric needs"),
    ],
)
def test_what_is_wrong_with_rounds_is_said_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: str, said: str
):
    assert main(["launch", str(small.spec(tmp_path, more)), "--run", str(tmp_path / "run")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_rounds_refuse_what_cannot_write(tmp_path: Path):
    with pytest.raises(configuration.ConfigError, match="did you mean jargon"):
        load(tmp_path, "", "rounds.like=[jargn]")
    with pytest.raises(configuration.ConfigError, match="rounds: cannot be combined"):
        load(tmp_path, "", "resources.processes=2")
    with pytest.raises(configuration.ConfigError, match="rename this one"):
        load(tmp_path, "", "sources.pool.path=x.jsonl")
    with pytest.raises(configuration.ConfigError, match=r"rounds\.prompts"):
        load(tmp_path, "", "rounds.writing.from_prompts=1")


def test_a_prompt_without_the_reference_that_a_check_needs_is_named(tmp_path: Path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "a", "reference": "b"}\n{"prompt": "c"}\n')
    checked = Rounds(filters=("exact_match", "length"))
    with pytest.raises(InputError, match="prompt 2 has no reference, which exact_match"):
        _check_prompts(prompts, checked, MODEL)
    _check_prompts(prompts, Rounds(), MODEL)


def test_an_aggregate_of_several_domains_notices_forgetting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(loop, "prepare", lambda _: None)
    with pytest.warns(UserWarning, match="forgetting is not noticed"):
        loop.check(load(tmp_path, "", "objectives={target/loss: minimize}"))
    loop.check(load(tmp_path, AGGREGATE, "objectives={quality: minimize}"))


def plain(run: Path) -> list[Any]:
    """The outcome of the rounds, without times."""
    facts = [fact for fact in read(run) if fact["fact"] == "round"]
    return [{name: value for name, value in fact.items() if name != "time"} for fact in facts]


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_rounds_killed_between_two_searches_end_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    spec = small.spec(tmp_path, JUDGED + OWN_FILTER + RELATIVE)
    runs = {}
    for name in ("whole", "killed"):
        runs[name] = tmp_path / name
    monkeypatch.setenv(small.LOG, str(tmp_path / "whole.log"))
    assert main(["launch", str(spec), "--run", str(runs["whole"])]) == DONE
    run, kill = runs["killed"], tmp_path / "kill"
    harm = {small.LOG: tmp_path / "killed.log", small.KILL: kill}

    driver = start("launch", spec, "--run", run, **harm)  # test_kills.py kills while it evolves
    wait_until(driver, run / "round-1", '"split":"samples"', 1)
    driver.kill()
    driver.communicate()
    for phase in ("filter", "annotator"):
        kill.write_text(phase)
        assert evo("resume", run, **harm).returncode == -signal.SIGKILL
    ended = evo("resume", run, **harm)
    assert ended.returncode == 0, ended.stderr

    assert plain(run) == plain(runs["whole"])
    assert len(plain(run)) == 2
    assert plain(run)[0]["pool"]["judged"]["corrections"]
    for file in ("pool.jsonl", "corrections.jsonl", "items.jsonl"):
        ours, theirs = (one / "round-1" / file for one in (run, runs["whole"]))
        assert ours.read_bytes() == theirs.read_bytes()
    asked = [(tmp_path / f"{name}.log").read_text().splitlines() for name in runs]
    asked = [[line for line in lines if line.startswith("annotator")] for lines in asked]
    assert asked[0] == asked[1]
    assert not [n for n in Counter(asked[1]).values() if n > 1]
    for number in (1, 2):
        lines = (run / f"round-{number}" / LEDGER).read_text().splitlines()
        facts = [one for one in map(json.loads, lines) if one["fact"] == "evaluation"]
        keys = [(f["individual"], f["seed"], f["fidelity"], f["split"]) for f in facts]
        assert len(keys) == len(set(keys))
    recalled = [one for one in facts if "recalled" in one["details"]]  # of the second round
    assert len([one for one in recalled if one["fidelity"]]) >= 2
    assert not any(one["cost"] for one in recalled)
    base = next(one["measurements"] for one in facts if not one["fidelity"])
    for one in (fact for fact in facts if fact["split"] == "selection"):  # recalled or not
        quotients = [one["measurements"][n] / base[n] for n in ("target/loss", "general/loss")]
        assert one["measurements"]["quality"] == pytest.approx(sum(quotients) / 2)
        assert one["details"]["items"]["quality"]["count"] == sum(
            one["details"]["items"][n]["count"] for n in ("target/loss", "general/loss")
        )
    assert all("quality" in one["measurements"] for one in plain(run))


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@pytest.mark.filterwarnings("ignore:.*longer than sequence_length")
def test_a_base_that_generates_first_learns_what_a_checker_keeps(tmp_path: Path):
    spec, runs = tmp_path / "search.yaml", [tmp_path / name for name in ("whole", "killed")]
    spec.write_text(small.CHECKED)
    assert main(["launch", str(spec), "--run", str(runs[0])]) == DONE
    driver = start("launch", spec, "--run", runs[1])
    wait_until(driver, runs[1] / "round-0", '"split":"samples"', 1)
    driver.kill()
    driver.communicate()
    assert main(["resume", str(runs[1])]) == DONE
    assert plain(runs[1]) == plain(runs[0])

    base, first, _ = plain(runs[0])
    assert [one["round"] for one in plain(runs[0])] == [0, 1, 2]
    assert 0 < base["pool"]["met"] < base["pool"]["written"] <= 200
    assert base["pool"]["pool"] <= base["pool"]["met"]
    pool = read_pool(runs[0] / "round-0" / "pool.jsonl")
    assert sum(one.scores["begun"] for one in pool) == base["pool"]["met"]
    search = configuration.of(read(runs[0] / "round-1"))
    assert search.sources.keys() == {"pool", "pairs", "whole_pool"}
    assert search.sources["pool"].require == {"begun": 1}
    assert 192 <= search.budget.tokens < 5760, "two passes over the pool are fewer"
    individuals = [one for one in read(runs[0] / "round-1") if one["fact"] == "individual"]
    assert individuals[0]["genome"]["mixture"] == {"pool": 1.0, "pairs": 0.0}
    page = (runs[0] / "report.html").read_text()
    assert "untouched base" in page
    assert first["pool"]["pool"] > base["pool"]["pool"], "later samples are added"


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_rounds_wait_for_people_and_go_on_with_what_they_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = tmp_path / "run"
    spec = small.spec(tmp_path, "  judgements: 2\n  begin: best\n")
    assert main(["launch", str(spec), "--run", str(run)]) == 130
    assert "2 judgements are missing: evo feedback" in capsys.readouterr().err
    assert main(["status", str(run), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["state"], status["waits_for_judgements"]) == ("waiting", 2)
    items = [
        json.loads(line) for line in (run / "round-1" / "items.jsonl").read_text().splitlines()
    ]
    said = tmp_path / "said.jsonl"
    rows = [
        {"prompt": one["prompt"], "chosen": "As I say.", "rejected": one["drafts"][0]["text"]}
        for one in items
    ]
    rows = [{**row, "item": one["id"]} for row, one in zip(rows, items, strict=True)]
    said.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["feedback", "import", str(run), str(said)]) == 0
    assert main(["resume", str(run)]) == 0
    second = configuration.of(read(run / "round-2"))
    assert second.sources.keys() == {"jargon", "devil", "pool", "corrections", "preferences"}
    assert second.model.base == str(run / "round-1" / "best")
    page = (run / "report.html").read_text()
    assert "Quality by round" in page
    assert "Quality by judgements" in page
    capsys.readouterr()
    assert main(["history", str(run)]) == 0
    rounds = {line.split(",")[0] for line in capsys.readouterr().out.splitlines()[1:]}
    assert rounds == {"1", "2"}
    assert main(["export", str(run), "--to", str(tmp_path / "model")]) == 0
    assert (tmp_path / "model" / "model.safetensors").is_file()


def samples(*completions: str, **scores: float) -> list[Sample]:
    return [Sample("to be", text, 1, n, scores=scores) for n, text in enumerate(completions)]


def test_the_pool_keeps_everything_but_what_collapsed(tmp_path: Path):
    to, real = tmp_path / "pool.jsonl", list(JARGON)
    earlier = samples(" or not to be")
    varied = [one[:200] for one in JARGON[:5]]
    found = pooled(Rounds(), samples(*varied), earlier, real, to)
    assert (found.written, found.collapsed, found.pool) == (5, False, 6)
    assert [one.completion for one in read_pool(to)] == [" or not to be", *varied]
    found = pooled(Rounds(), samples(*["again and again and again"] * 5), earlier, real, to)
    assert (found.written, found.collapsed, found.pool) == (5, True, 1)


def test_a_discriminator_that_cannot_tell_gives_the_next_round_no_threshold(tmp_path: Path):
    config, to = load(tmp_path), tmp_path / "pool.jsonl"
    rng = np.random.default_rng(0)
    texts = [text for one in JARGON[:40] for text in stretched([one], [60], rng)]
    loops = [" ".join(text.split()[:2] * 9) for text in texts]
    for number, (completions, kept) in enumerate([(texts[::4], False), (loops, True)], 1):
        found = pooled(Rounds(diversity=0), samples(*completions, realness=0.5), [], JARGON, to)
        outcome = fact(number, 3.0, pool={**asdict(found), "judged": {}, "judgements": 0})
        later = spec_after(
            config,
            Legacy({"pool": to}, [genome(jargon=1.0)], scores=_scores({"pool": to}, outcome)),
        )
        assert ("keep_realness" in later.genome) == kept, found.discriminator
        assert any("keep_realness" in one for one in later.known) == kept
        assert read_separation(to) == Separation.of(found.discriminator)
        run = Round(number, tmp_path, [], outcome)
        assert any("cannot tell its samples" in note for note in unusable(run)) != kept
        cell = _pools([run]).rows[0][-1]
        assert cell.endswith(", unusable") != kept
    old = fact(1, 3.0, pool={"pool": 4, "judged": {}})  # before it was measured
    assert "realness" in _scores({"pool": to}, old)


def test_contaminated_samples_stay_as_evidence_and_count_for_nothing(tmp_path: Path):
    dirty = samples(*(one[:200] for one in JARGON[:5]), contamination=1.0)
    found = pooled(Rounds(), dirty, [], list(JARGON), tmp_path / "pool.jsonl")
    assert (found.contaminated, found.pool) == (5, 0)
    assert len(read_pool(tmp_path / "pool.jsonl")) == 5


def judge_with(annotator: str, run: Path, unreachable: str) -> tuple[int, dict[str, Any]]:
    pairs = [Sample("to be", f" {word} not to be", 1, 0) for word in ("or", "and")]
    rounds = Rounds(judgements=1, annotator=annotator, unreachable=unreachable)
    own = run / "round-1"
    own.mkdir(parents=True, exist_ok=True)
    return judge(rounds, run, own, 1, pairs, seed=0)


@pytest.mark.filterwarnings("ignore:.*continuing with the judgements")
def test_a_model_behind_a_server_judges_and_one_that_is_gone_stops_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fitness.inference.connection.FIRST_PAUSE", 0)
    gone = "judge:http://127.0.0.1:9/v1#quick"
    with pytest.raises(InputError, match=r"127\.0\.0\.1:9"):
        judge_with(gone, tmp_path / "stops", "stop")
    assert judge_with(gone, tmp_path / "goes on", "continue") == (
        0,
        {"judged": {}, "judgements": 0},
    )
    with serving(Base(talking(tmp_path / "model"))) as served:
        left, found = judge_with(f"judge:{served.url}#quick", tmp_path / "judged", "stop")
        asked = len(served.asked)
        assert judge_with(f"judge:{served.url}#quick", tmp_path / "judged", "stop")[0] == 0
        assert (left, found["judgements"]) == (0, 1)
        assert len(served.asked) == asked > 0
