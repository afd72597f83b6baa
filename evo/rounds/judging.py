"""Judgements of a round's samples: by people on their page, by a model, or by a function."""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evo.config.rounds import JUDGED, PEOPLE, Rounds
from evo.feedback.pool import sample_items, scored_by_people
from fitness.data.samples import Sample
from fitness.errors import InputError
from fitness.facts import as_lines
from fitness.feedback import items as shown
from fitness.feedback.conversion import records
from fitness.feedback.items import Item, add_items, read_items, to_fact
from fitness.feedback.judgements import JUDGE, by_judge, checked, judge_named
from fitness.feedback.store import FOLDER, Store, check_criterion, read_standing
from fitness.files import write_whole
from fitness.inference.connection import KEY_VARIABLE, Refused
from fitness.judges.answers import Asked
from fitness.judges.pairs import verdict
from fitness.judges.speakers import speaker_of
from fitness.plugins import load_function
from fitness.reward.choice import chosen
from fitness.secrets import quoted


def judge(
    rounds: Rounds, run: Path, own: Path, number: int, samples: Sequence[Sample], *, seed: int
) -> tuple[int, dict[str, Any]]:
    """Collect judgements of a round: the number still missing, and counts of the data made.

    `run` is the folder of all rounds, which share its feedback, and `own` the round's. If none is
    missing, all judgements so far are written to the round's folder as training data, by source.
    """
    folder = run / FOLDER
    if wanted := needed(rounds, number):
        if not (own / shown.FILE).exists():
            rng = np.random.default_rng([seed, number])
            chosen = _chosen(rounds, samples, wanted, folder, rng)
            write_whole(own / shown.FILE, as_lines(map(to_fact, chosen)))
        items = read_items(own)
        add_items(folder, items.values())
        if rounds.annotator != PEOPLE and not _judged_by_another(rounds, folder, items):
            items = {}  # do not wait for a judge that cannot be reached
        said = {(one.item, one.annotator) for one in read_standing(folder).judgements()}
        judged = Counter(item for item, _ in said)
        if missing := sum(max(0, rounds.raters - judged[item]) for item in items):
            return missing, {}
    judgements = read_standing(folder).judgements()
    known = read_items(folder)
    found = {name: records(known, judgements, kind) for name, kind in JUDGED.items()}
    if not any(record["label"] for record in found["ratings"]):
        del found["ratings"]  # KTO and supervised training need one that is rated good
    for name, lines in found.items():
        if lines:
            write_whole(own / f"{name}.jsonl", as_lines(lines))
    counts = {name: len(lines) for name, lines in found.items() if lines}
    return 0, {"judged": counts, "judgements": len(judgements)}


def score(run: Path, samples: Sequence[Sample], *, seed: int) -> list[Sample]:
    """The samples with scores from people's judgements so far, if those are enough for any."""
    folder = run / FOLDER
    judgements = read_standing(folder).judgements()
    return scored_by_people(samples, read_items(folder), judgements, seed=seed)


def needed(rounds: Rounds, number: int) -> int:
    """Judgements to collect after a round: half as many after each further one, at least one."""
    return max(1, rounds.judgements // 2 ** max(0, number - 1)) if rounds.judgements else 0


def _chosen(
    rounds: Rounds, samples: Sequence[Sample], count: int, folder: Path, rng: np.random.Generator
) -> list[Item]:
    """Items of a round to judge: the most informative of its samples, see `fitness.reward.choice`.

    Only pairs of drafts for the same prompt where a model judges, which is all that it can; only
    single drafts where ratings are required or given by criteria, since pairs have none.
    """
    pairs, single = by_judge(rounds.annotator), rounds.needs_ratings or bool(rounds.criteria)
    known, judgements = read_items(folder), read_standing(folder).judgements()
    candidates, scores = sample_items(samples, pairs=1, rng=rng)
    fit = [one for one in candidates if (one.pair or not pairs) and not (one.pair and single)]
    new = [one for one in fit if one.id not in known]
    return chosen(new, count, items=known, judgements=judgements, rng=rng, scores=scores)


def _judged_by_another(rounds: Rounds, folder: Path, items: Mapping[str, Item]) -> bool:
    """Let a function or a model judge all items; False if the model's server cannot be reached."""
    annotator = rounds.annotator
    if not by_judge(annotator):
        _ask(annotator, rounds.criteria, folder, items)
        return True
    speaker = speaker_of(annotator.removeprefix(JUDGE), key_variable=KEY_VARIABLE)
    name = judge_named(speaker.name)
    try:
        with Asked(folder, "verdicts") as asked, Store(folder) as store:
            for item in items.values():
                try:
                    said = checked(item, name, "preference", verdict(speaker, item, asked))
                except Refused:
                    said = checked(item, name, "skip", None)
                store.take_in(name, [], [said])
    except InputError as error:
        if rounds.unreachable == "stop":
            raise
        warnings.warn(f"{error}; continuing with the judgements so far", stacklevel=2)
        return False
    return True


def _ask(
    annotator: str, criteria: Mapping[str, str], folder: Path, items: Mapping[str, Item]
) -> None:
    """Ask a function for the missing judgements, storing each before the next call."""
    function = load_function(annotator, "annotator")
    judged = {judgement.item for judgement in read_standing(folder).judgements()}
    with Store(folder) as store:
        for item in items.values():
            if item.id in judged:
                continue
            said: Any = function(item.prompt, [draft.text for draft in item.drafts])
            if not isinstance(said, Mapping):
                raise InputError(
                    f"annotator {annotator!r}: gave {quoted(said, 60)}; it must give "
                    '{kind: value}, such as {"rating": 4}, or {"skip": None}'
                )
            for kind in said:
                check_criterion(str(kind), criteria)
            found = [checked(item, annotator, str(kind), value) for kind, value in said.items()]
            store.take_in(annotator, [], found)
