"""People's ratings as requirements: from what two people say to what a search trains on."""

import json
from functools import partial
from pathlib import Path

import pytest

from evo import config as configuration
from evo.cli import main
from evo.config import SearchConfig
from evo.feedback.criteria import ratings_of
from evo.prepare.task import prepare
from evo.record import run_folder
from evo.record.ledger import Ledger
from evo.rounds.judging import judge, score
from evo.rounds.pooling import pooled, write_samples
from evo.rounds.spec import Legacy, spec_after
from fitness.data.records import Records
from fitness.data.samples import Sample
from fitness.data.sources import TokenFile
from fitness.data.tokenizer import load_tokenizer
from fitness.errors import InputError
from fitness.feedback.items import Draft, Item, read_items
from fitness.feedback.standing import Settings
from fitness.feedback.store import FOLDER, Store
from tests.evo.feedback.sitting import run_with_samples
from tests.evo.rounds import scenario as small
from tests.fitness.quickstart import CORPUS, MODEL
from tests.fitness.samples.pools import JARGON

WANTED = "  judgements: 8\n  criteria: {coherence: Does it follow?}\n"
REQUIRED = "  require: {rating: 4, 'rating/coherence': '>= 3', raters: 2}\n"
SAID = {  # the overall ratings of Ada and Bob by number of the sample, then those by coherence
    0: ((5, 4), (5, 5)),
    1: ((3, 5), (3, 3)),
    2: ((5, 2), (5, 5)),  # 3.5 in the mean
    3: ((5, 5), (3, 2)),  # not coherent enough
    4: ((4, None), (4, None)),  # one rater
    5: ((None, None), (5, 5)),  # no overall rating
    6: ((None, None), (None, None)),
}
KEPT = {0, 1}


def samples(count: int) -> list[Sample]:
    """Two of each prompt, so that there are pairs as well."""
    lines = (CORPUS / "sources/jargon.jsonl").read_text().splitlines()[:count]
    texts = [" ".join(json.loads(line)["text"].split()[:8]) for line in lines]
    scores = {"realness": 0.5, "contamination": 0.0}
    return [
        Sample(f"prompt {n // 2}:", f" {text}", 1, n, scores=scores) for n, text in enumerate(texts)
    ]


def by_two(store: Store, pool: list[Sample]) -> None:
    """Judge all items as SAID has it; items that it leaves out are skipped."""
    numbers = {(one.prompt, one.completion): n for n, one in enumerate(pool)}
    for place, name in enumerate(("Ada", "Bob")):
        while (item := store.current(name)) is not None:
            said = SAID.get(numbers[item.prompt, item.texts[0]], SAID[6])
            for kind, values in zip(("rating", "rating/coherence"), said, strict=True):
                if values[place] is not None:
                    store.judge(item.id, name, kind, values[place])
            if store.standing.of(item.id, name):
                store.finish(item.id, name)
            else:
                store.judge(item.id, name, "skip", None)


def trained_on(file: TokenFile) -> set[str]:
    records = file.open()
    assert isinstance(records, Records)
    decode = load_tokenizer(MODEL).decode
    return {decode(records.answer(row)).strip() for row in range(file.rows)}


def loaded(tmp_path: Path, more: str = "", *overrides: str) -> SearchConfig:
    return configuration.load(small.spec(tmp_path, more), overrides)


def test_a_round_trains_on_what_two_people_rate_well_enough(tmp_path: Path) -> None:
    config, pool = loaded(tmp_path, WANTED + REQUIRED), samples(8)
    assert config.rounds is not None
    run, own = tmp_path / "run", tmp_path / "run" / "round-1"
    own.mkdir(parents=True)
    gather = partial(judge, config.rounds, run, own, 1, pool, seed=0)
    assert gather() == (16, {}), "eight samples, by two people each"
    items: list[Item] = list(read_items(own).values())
    assert not any(item.pair for item in items), "of which no rating would come"
    with Store(run / FOLDER) as store:
        store.set(Settings(criteria=config.rounds.criteria, raters=config.rounds.raters))
        by_two(store, pool)
        wrong = next(item for item in items if item.texts == [pool[7].completion])
        store.reopen(wrong.id, "Ada")
        store.judge(wrong.id, "Ada", "rating", 5)  # alone, so it stays out
    left, judged = gather()
    assert (left, judged["judged"]["ratings"]) == (0, 10)
    found = pooled(config.rounds, pool, [], JARGON, own / "pool.jsonl", partial(score, run, seed=0))
    assert (found.met, found.pool) == (len(KEPT), len(KEPT))

    legacy = Legacy({"pool": own / "pool.jsonl"}, [], scores=frozenset({"realness"}))
    sources = prepare(spec_after(config, legacy)).task.sources
    assert trained_on(sources["pool"]) == {pool[n].completion.strip() for n in KEPT}
    assert sources["whole_pool"].rows == 8


def test_a_pool_that_was_judged_elsewhere_is_a_source_of_what_people_like(tmp_path: Path) -> None:
    run, pool = run_with_samples(tmp_path / "searched"), samples(8)
    write_samples(tmp_path / "pool.jsonl", pool)
    items = [Item(one.prompt, (Draft(one.completion),)) for one in pool]
    with Store(run / FOLDER) as store:
        store.take_in("items", items, [])
        store.set(Settings(criteria={"coherence": "Does it follow?"}, raters=2))
        by_two(store, pool)
    judged = tmp_path / "judged.jsonl"
    asked = ["pool", str(tmp_path / "pool.jsonl"), "--judged-in", str(run), "--to", str(judged)]
    assert main(asked) == 0
    source = (
        f"sources.judged={{path: {judged}, kind: sample, require: {{rating: '>= 4', raters: 2}}}}"
    )
    file = prepare(loaded(tmp_path, "", "rounds=null", source)).task.sources["judged"]
    # without the criterion, and by the criterion that fewest rated
    assert trained_on(file) == {pool[n].completion.strip() for n in (0, 1, 3)}
    source = source.replace("rating: '>= 4', raters: 2", "rating: 5, raters: 3")
    with pytest.raises(InputError, match=r"none of its 8 samples meets .* rating: 5\.0, raters: 3"):
        prepare(loaded(tmp_path, "", "rounds=null", source))


def test_the_page_of_a_run_with_rounds_asks_what_its_spec_says(tmp_path: Path) -> None:
    config = loaded(tmp_path, WANTED + REQUIRED)
    run, file = tmp_path / "run", tmp_path / "criteria.yaml"
    with (
        run_folder.new(run),
        Ledger.create(run, {"config": configuration.to_plain(config), "time": 0}),
    ):
        pass
    assert ratings_of(run, None, None) == ({"coherence": "Does it follow?"}, 2)
    assert ratings_of(run, None, 3)[1] == 3
    file.write_text("grammar: Is it grammatical?")
    with pytest.raises(InputError, match=r"has rounds\.criteria; leave the option out"):
        ratings_of(run, file, None)
    with pytest.raises(InputError, match="requires 2 of each sample"):
        ratings_of(run, None, 1)


def test_a_function_rates_by_the_criteria_of_the_spec_alone(tmp_path: Path) -> None:
    pool = samples(4)
    for name, message in (("coherence", ""), ("coherense", "did you mean 'coherence'")):
        more = WANTED + f"  annotator: {__name__}:{name}\n"
        rounds = loaded(tmp_path, more).rounds
        assert rounds is not None
        run, own = tmp_path / name, tmp_path / name / "round-1"
        own.mkdir(parents=True)
        if message:
            with pytest.raises(InputError, match=message):
                judge(rounds, run, own, 1, pool, seed=0)
            continue
        assert judge(rounds, run, own, 1, pool, seed=0)[0] == 0
        scores = [one.scores for one in score(run, pool, seed=0)]
        assert [(one["rating/coherence"], one["raters"]) for one in scores] == [(3, 1)] * 4
        assert not any("rating" in one for one in scores)


def coherence(prompt: str, drafts: list[str]) -> dict[str, int]:
    return {"rating/coherence": 3}


def coherense(prompt: str, drafts: list[str]) -> dict[str, int]:
    return {"rating/coherense": 3}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("  require: {rating: 4}\n", "rounds.require: rating needs people's judgements"),
        ("  judgements: 4\n  require: {'rating/wit': 4}\n", "rounds.require: unknown criterion; "),
        ("  criteria: {wit: Is it?}\n", "rounds.criteria: nobody is asked to judge"),
        ("  judgements: 4\n  criteria: {wit: ' '}\n", "rounds.criteria.wit"),
        ("  judgements: 4\n  criteria: {'w/t': Is it?}\n", "rounds.criteria"),
        ("  judgements: 4\n  annotator: judge:x\n  require: {rating: 4}\n", "rates nothing"),
        ("  judgements: 4\n  annotator: judge:x\n  criteria: {wit: Is it?}\n", "rates nothing"),
        (
            "  judgements: 4\n  annotator: tests.evo.rounds.scenario:annotator\n"
            "  require: {raters: 2}\n",
            "raters must be 1 for the annotator",
        ),
        (
            "  judgements: 4\n  require: {rating: 6}\n",
            "ratings are from 1 to 5, so 6.0 is never met",
        ),
        ("  judgements: 4\n  require: {rating: '<= 0'}\n", "so <= 0 is never met"),
    ],
)
def test_ratings_that_cannot_be_are_told_before_anything_runs(
    tmp_path: Path, more: str, said: str
) -> None:
    with pytest.raises(InputError) as told:
        loaded(tmp_path, more)
    assert said in str(told.value)
