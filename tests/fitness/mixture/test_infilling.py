"""Fill-in-the-middle form: what documents become of it, and that nothing else changes."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fitness.data.tokenizer import load_tokenizer
from fitness.errors import InputError
from fitness.evaluate import materialise
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import EvaluationSpec, Status
from fitness.inference.log_probabilities import token_logps
from fitness.mixture.decks import NO_LABEL, Sequence, Windows, deck_of
from fitness.mixture.infilling import LEAST, MARKERS, OWN, Infilling, Sentinels
from fitness.mixture.mixing import Mixing, stacked
from fitness.recipe import Recipe
from fitness.training.supervised import finetune
from tests.fitness.conftest import byte_tokenizer
from tests.fitness.quickstart import LENGTH, MODEL, batches_of, small_recipe, token_file

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from fitness.evaluation import Task
    from fitness.models.base import Base

TOKENIZER = load_tokenizer(MODEL)
SENTINELS = Sentinels.of(TOKENIZER)
END = TOKENIZER.eos_token
# Markers of two tokens, documents that a token opens; 0 ends them.
OTHERS = Sentinels((1, 2), (3, 4), (5, 6), (7,), 0)


def text(tokens: np.ndarray) -> str:
    return TOKENIZER.decode(tokens, clean_up_tokenization_spaces=False)


def restored(document: str) -> tuple[str, str]:
    """A document in fill-in-the-middle form as it was, and the name of the form."""
    _, prefix, rest = document.partition(MARKERS[0])[0:3]
    prefix, _, rest = rest.partition(MARKERS[1])
    suffix, _, answer = rest.partition(MARKERS[2])
    return prefix + answer + suffix, "psm" if prefix else "spm"


def find(tokens: list[int], part: tuple[int, ...]) -> int:
    return next(n for n in range(len(tokens)) if tuple(tokens[n : n + len(part)]) == part)


def parts_of(tokens: list[int], form: Sentinels) -> list[list[int]]:
    """The parts of a converted document before each marker, and after the last."""
    found = []
    for marker in (form.opening + form.prefix, form.suffix, form.middle):
        place = find(tokens, marker)
        found.append(tokens[:place])
        tokens = tokens[place + len(marker) :]
    return [*found, tokens]


def test_documents_are_rearranged_and_none_of_them_meets_another_one(tmp_path: Path) -> None:
    content = np.asarray(token_file("sources/wordnet", tmp_path).open())
    turning = Infilling(SENTINELS, share=0.5, seed=3)
    forms = []
    for number in range(0, 96 * 40, 96):
        window = content[number : number + 96].astype(np.int64)
        turned = turning.converted(window, "wordnet", number)
        assert len(turned) == len(window)
        assert (turned == turning.converted(window, "wordnet", number)).all()
        whole = text(window).split(END)
        documents = text(turned).split(END)
        for before, now in zip(whole, documents, strict=False):
            if MARKERS[0] in now:
                was, form = restored(now)
                assert was
                assert before.startswith(was), "a window's last one may have lost its end"
                forms.append(form)
            else:
                assert before.startswith(now)
                forms.append("left")
    counts = {form: forms.count(form) for form in ("psm", "spm", "left")}
    assert 30 < counts["psm"] + counts["spm"] < len(forms) * 0.6
    assert min(counts["psm"], counts["spm"]) > 10


@given(
    documents=st.lists(st.lists(st.integers(10, 99), max_size=30), min_size=1, max_size=8),
    opened=st.booleans(),
    length=st.integers(2, 120),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_a_window_keeps_its_length_and_each_document_its_tokens(
    documents: list[list[int]], opened: bool, length: int, share: float, seed: int
) -> None:
    joined = [[*OTHERS.opening * opened, *one, OTHERS.end] for one in documents]
    window = np.array(list(chain(*joined))[:length], dtype=np.int64)
    turned = Infilling(OTHERS, share, seed).converted(window, "a", 5).tolist()
    assert len(turned) == len(window)
    kept = iter(np.split(window, np.flatnonzero(window == OTHERS.end) + 1))
    ends = np.flatnonzero(np.array(turned) == OTHERS.end) + 1
    for document in (one.tolist() for one in np.split(np.array(turned), ends)):
        if not document:
            continue
        original = next(kept).tolist()
        if 1 not in document:
            assert original[: len(document)] == document
            continue
        assert document[-1] == OTHERS.end
        before, prefix, suffix, middle = parts_of(document[:-1], OTHERS)
        inside = [token for token in original if token not in (*OTHERS.opening, OTHERS.end)]
        was = prefix + middle + suffix
        assert not before
        assert len(was) >= LEAST
        assert inside[: len(was)] == was


@given(st.lists(st.lists(st.integers(10, 99), max_size=20), min_size=3, max_size=3))
def test_either_form_holds_the_three_parts(parts: list[list[int]]) -> None:
    prefix, middle, suffix = (np.array(part, dtype=np.int64) for part in parts)
    psm, spm = (
        one.tolist()
        for one in (OTHERS.psm(prefix, middle, suffix), OTHERS.spm(prefix, middle, suffix))
    )
    assert parts_of(psm, OTHERS) == [[], parts[0], parts[2], [*parts[1], OTHERS.end]]
    assert parts_of(spm, OTHERS) == [[], [], parts[2], [*parts[0], *parts[1], OTHERS.end]]
    assert psm[: len(psm) - len(middle) - 1] == OTHERS.prompt(prefix, suffix).tolist()
    assert len(psm) == len(spm) == sum(map(len, parts)) + OTHERS.cost


def test_a_larger_share_turns_the_same_documents_and_more() -> None:
    window = np.array(([*range(10, 40), 0]) * 20, dtype=np.int64)

    def which(share: float) -> list[bool]:
        turned = Infilling(OTHERS, share, 0).converted(window, "a", 0)
        whole = np.split(turned, np.flatnonzero(turned == 0) + 1)[:-2]
        return [1 in one for one in whole]

    few, many = which(0.2), which(0.7)
    assert 0 < sum(few) < sum(many)
    assert all(later for earlier, later in zip(few, many, strict=False) if earlier)
    assert not any(which(0.0))


def test_isolated_documents_stay_apart_in_a_window_that_is_turned(tmp_path: Path) -> None:
    content = token_file("sources/wordnet", tmp_path).open()
    assert isinstance(content, np.ndarray)
    recipe = Recipe(isolate_documents=True, sequence_length=96, infill_share=1)
    turning = Infilling.of(recipe, TOKENIZER, seed=0)
    window = deck_of(content, recipe, TOKENIZER.eos_token_id, turning).draw("a", 0, 96).sequences[0]
    assert window.positions is not None
    begins = np.flatnonzero(window.positions == 0)
    ends = np.flatnonzero(window.tokens[:-1] == TOKENIZER.eos_token_id)
    assert begins.tolist() == [0, *(ends + 1)]
    unlearned = np.flatnonzero(window.tokens != window.labels)
    assert unlearned.tolist() == begins[1:].tolist(), "what the document before would predict"
    shorter = deck_of(content, recipe, 0, turning).draw("a", 0, 40).sequences[0]
    assert len(shorter.tokens) == 40


def test_a_share_of_nothing_leaves_the_windows_alone() -> None:
    assert Infilling.of(Recipe(), TOKENIZER, seed=0) is None
    tokens = np.arange(10, 500)
    assert Windows(tokens, 96) == deck_of(tokens, Recipe(), 0)


@pytest.mark.parametrize("names", OWN)
def test_a_tokenizers_own_tokens_are_taken(names: tuple[str, str, str]) -> None:
    tokenizer = byte_tokenizer()
    assert [len(one) for one in _parts(tokenizer)] == [5, 5, 5]
    tokenizer.add_special_tokens({"additional_special_tokens": list(names)})
    assert _parts(tokenizer) == [(tokenizer.convert_tokens_to_ids(name),) for name in names]


def test_a_tokenizer_that_cannot_write_the_markers_is_refused() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "[END]": 1, "a": 2}, unk_token="[UNK]"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", eos_token="[END]"
    )
    with pytest.raises(
        InputError, match=r"cannot encode <PRE> <SUF> <MID>.*leave infill_share out"
    ):
        Sentinels.of(tokenizer)


def _parts(tokenizer: "PreTrainedTokenizerFast") -> list[tuple[int, ...]]:
    found = Sentinels.of(tokenizer)
    return [found.prefix, found.suffix, found.middle]


def test_other_trainers_are_given_the_windows_as_they_are_learned(task: "Task") -> None:
    recipe = small_recipe(infill_share=0.7)
    windows = [one.tokens.tolist() for one in materialise.drawn(task, recipe.model_dump(), seed=5)]
    batches = batches_of(task, recipe, seed=5)
    assert windows == [row.tolist() for batch in batches for row in batch.input_ids]
    assert {len(window) for window in windows} == {LENGTH}
    plain = materialise.drawn(task, small_recipe().model_dump(), seed=5)
    changed = [now != one.tokens.tolist() for now, one in zip(windows, plain, strict=True)]
    assert 0 < sum(changed) < len(changed)


def test_however_it_is_computed_the_same_documents_are_turned(task: "Task", tmp_path: Path) -> None:
    def spec_of(individual: int, **asked: Any) -> EvaluationSpec:
        recipe = small_recipe(adapter="lora", infill_share=0.3 + individual / 2)
        return EvaluationSpec(individual, recipe.model_dump(mode="json"), **{"seed": 1, **asked})

    evaluator = Evaluator(task)
    alone = [evaluator.evaluate(spec_of(number)) for number in range(2)]
    assert alone[0].measurements != alone[1].measurements
    assert alone[0].measurements == evaluator.evaluate(spec_of(0)).measurements
    assert {one.cost["tokens"] for one in alone} == {task.budget_tokens}
    together = evaluator.evaluate_bucket([spec_of(number) for number in range(2)])
    parts = Evaluator(replace(task, micro_batch=2, artifacts=tmp_path))
    in_parts = [parts.evaluate(spec_of(number)) for number in range(2)]
    for one, other in zip(alone * 2, together + in_parts, strict=True):
        assert other.status is Status.OK, other.message
        assert one.measurements == pytest.approx(other.measurements, rel=1e-5)
    parts.evaluate(spec_of(1, fidelity=0.4, keep_state=True))
    went_on = parts.evaluate(spec_of(1, continue_from=0.4))
    assert went_on.details["continued_from"] > 0
    assert went_on.measurements == in_parts[1].measurements


@pytest.mark.slow
def test_a_model_that_was_taught_fills_in_better_on_as_many_tokens(
    base: "Base", tmp_path: Path
) -> None:
    content = np.asarray(token_file("sources/wordnet", tmp_path).open())
    learned, held_out = np.split(content.astype(np.int64), [-20_000])
    middles = stacked([*_asked(held_out)][:60])
    steps, losses = 30, []
    for share in (0.0, 0.5):
        recipe = Recipe(learning_rate=3e-3, infill_share=share)
        deck = deck_of(
            learned, recipe, base.tokenizer.eos_token_id, Infilling.of(recipe, base.tokenizer, 0)
        )
        tokens = steps * recipe.batch_size * recipe.sequence_length
        mixing = Mixing(
            {"a": 1.0},
            {"a": deck},
            budget_tokens=tokens,
            sequence_length=recipe.sequence_length,
            seed=0,
        )
        with base.prepared(recipe, seed=0) as model:
            report = finetune(model, recipe, mixing.batches(recipe.batch_size), steps=steps, seed=0)
            assert report.tokens == tokens
            with torch.no_grad():
                total = float(token_logps(model, middles).sum())
        losses.append(-total / int((middles.labels != NO_LABEL).sum()))
    assert losses[1] < losses[0] - 0.2, "nats per token of the middle"


def _asked(held_out: np.ndarray) -> Iterator[Sequence]:
    """The middle third of each document in PSM form; it alone, and its end, is to be predicted."""
    for document in np.split(held_out, np.flatnonzero(held_out == SENTINELS.end) + 1)[1:-1]:
        if 30 <= len(document) <= 80:
            prefix, middle, suffix = np.array_split(document[:-1], 3)
            tokens = SENTINELS.psm(prefix, middle, suffix)
            labels = tokens.copy()
            labels[: len(tokens) - len(middle) - 1] = NO_LABEL
            yield Sequence(tokens, labels)
