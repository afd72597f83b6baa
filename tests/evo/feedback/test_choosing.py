"""The choice of items to judge, of many drafts or a pool: random, or the most informative ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evo.cli import main
from evo.feedback.pool import POOL, pool_items
from evo.feedback.session import collect, feedback_of
from fitness.data.samples import Sample, read_samples, to_lines
from fitness.errors import InputError
from fitness.feedback.items import Item, read_items
from fitness.feedback.store import Store
from fitness.reward.choice import chosen
from fitness.reward.model import LEAST
from fitness.samples.contamination import CONTAMINATED
from fitness.samples.separation import Separation, read_separation, write_separation
from tests.evo.feedback.sitting import opened, run_with_samples
from tests.fitness.feedback.people import rated, singles, texts


def pool_of(folder: Path, count: int = 60) -> Path:
    """Three samples after each prompt, with a score."""
    samples = [
        Sample(f"ask {n // 3}:", text, individual=4, seed=7, scores={"realness": n / count})
        for n, text in enumerate(texts(100 + count)[100:])
    ]
    path = folder / "pool.jsonl"
    path.write_text("".join(to_lines(samples)))
    return path


def judged_run(folder: Path, count: int = 60) -> Path:
    run = run_with_samples(folder / "run")
    with Store(feedback_of(run)) as store:
        store.take_in("before", singles(count), rated(singles(count)))
    return run


def added(run: Path, **options: Any) -> list[Item]:
    """The items that a call adds."""
    before = read_items(feedback_of(run))
    settings: dict[str, Any] = {"named": ["front"], "pairs": 3, "seed": 0, **options}
    new, _ = collect(run, **settings)
    found = [item for id, item in read_items(feedback_of(run)).items() if id not in before]
    assert len(found) == new
    return found


def test_the_samples_of_a_pool_are_judged_alone_and_in_pairs(tmp_path: Path) -> None:
    run = run_with_samples(tmp_path / "run")
    items = added(run, pool=pool_of(tmp_path), pairs=2)
    assert sum(not one.pair for one in items) == 60
    assert sum(one.pair for one in items) == 2 * 20
    assert {one.origin for one in items} == {POOL}
    assert {(draft.individual, draft.seed) for one in items for draft in one.drafts} == {(4, 7)}
    assert added(run, pool=pool_of(tmp_path), pairs=2) == [], "and nothing twice"


def test_active_choice_shows_what_the_judgements_so_far_leave_open(tmp_path: Path) -> None:
    run, pool = judged_run(tmp_path), pool_of(tmp_path)
    first = added(run, pool=pool, choose="active", count=10)
    rng = np.random.default_rng(0)
    items, scores = pool_items(pool, pairs=3, rng=rng)
    said = rated(singles(60))
    known = {item.id: item for item in singles(60)}
    wanted = chosen(items, 10, items=known, judgements=said, rng=rng, scores=scores)
    assert first == wanted
    second = added(run, pool=pool, choose="active", count=10)
    assert len(second) == 10
    assert not set(first) & set(second)


def test_random_choice_takes_as_many_as_are_asked_for_of_drafts_too(tmp_path: Path) -> None:
    run = run_with_samples(tmp_path / "run")
    assert len(added(run, named=["0", "3"], choose="random", count=4)) == 4
    assert len(added(run, named=["0", "3"], choose="random", count=40)) == 6 + 3 - 4
    assert added(run, named=["0", "3"], choose="random", count=40) == []


def test_with_too_few_judgements_a_choice_is_random_and_says_so(tmp_path: Path) -> None:
    run = judged_run(tmp_path, LEAST - 1)
    with pytest.warns(UserWarning, match="not enough judgements yet.*chosen at random"):
        assert len(added(run, pool=pool_of(tmp_path), choose="active", count=5)) == 5


def test_a_pool_is_scored_again_by_what_people_said_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, pool, to = run_with_samples(tmp_path / "run"), pool_of(tmp_path), tmp_path / "b.jsonl"
    again = ("pool", str(pool), "--judged-in", str(run), "--to", str(to))
    assert main(again) == 2
    assert "not enough judgements yet" in capsys.readouterr().err
    items = [one for one in added(run, pool=pool) if not one.pair][:LEAST]
    with Store(feedback_of(run)) as store:
        store.take_in("told", [], rated(items))
    assert main([*again, "--keep", "rating=0.01"]) == 0
    values = [one.value for one in rated(items)]
    texts_rated = [item.prompt + item.drafts[0].text for item in items]
    told = dict(zip(texts_rated, values, strict=True))
    samples = list(read_samples(to))
    assert all({"realness", "reward"} <= one.scores.keys() for one in samples)
    found = {one.text: one.scores["rating"] for one in samples if "rating" in one.scores}
    assert found == told
    best = sum(value == 5 for value in told.values())
    assert f"{60 - LEAST + best} of 60 samples are kept" in capsys.readouterr().out
    assert main(again) == 2
    assert "b.jsonl exists" in capsys.readouterr().err
    assert main(again[:4]) == 2
    assert "name a new file with --to" in capsys.readouterr().err


def test_how_well_the_discriminator_tells_is_shown_with_a_pool_and_stays_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, pool, to = run_with_samples(tmp_path / "run"), pool_of(tmp_path), tmp_path / "b.jsonl"
    assert main(["pool", str(pool)]) == 0
    assert "AUC of its discriminator was not measured" in " ".join(capsys.readouterr().out.split())
    write_separation(pool, Separation(0.5, 0.4, 0.6, 30, 40))
    items = [one for one in added(run, pool=pool) if not one.pair]
    with Store(feedback_of(run)) as store:
        store.take_in("told", [], rated(items))
    assert main(["pool", str(pool), "--judged-in", str(run), "--to", str(to)]) == 0
    assert read_separation(to) == read_separation(pool)
    told = " ".join(capsys.readouterr().out.split())
    assert "0.50 (0.40 to 0.60), of 30 samples and 40 stretches of real text unusable:" in told
    write_separation(to, Separation(0.8, 0.7, 0.9, 30, 40))
    assert main(["pool", str(to)]) == 0
    assert "unusable" not in capsys.readouterr().out


def test_blank_infilled_and_contaminated_samples_are_not_shown(tmp_path: Path) -> None:
    run, path = run_with_samples(tmp_path / "run"), tmp_path / "pool.jsonl"
    samples = [Sample("a", " ", 1, 0), Sample("a", " b", 1, 0, suffix=" c")]
    samples.append(Sample("a", " held out", 1, 0, scores={"contamination": CONTAMINATED}))
    path.write_text("".join(to_lines(samples)))
    with pytest.raises(InputError, match=r"pool\.jsonl: holds no samples that could be judged"):
        added(run, pool=path)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--count", "5"), "--count: says how many to choose; add --choose"),
        (("--pool", "nowhere.jsonl"), "nowhere.jsonl"),
    ],
)
def test_what_cannot_be_chosen_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], told: str
) -> None:
    run = run_with_samples(tmp_path / "run")
    assert main(["feedback", str(run), *options]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_serves_what_it_chose(tmp_path: Path) -> None:
    run, pool = judged_run(tmp_path), pool_of(tmp_path)
    options = ("--pool", pool, "--choose", "active", "--count", "7")
    with opened(run, *options):
        pass
    assert len(read_items(feedback_of(run))) == 60 + 7
