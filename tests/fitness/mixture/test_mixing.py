import tracemalloc
from collections import Counter
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitness.errors import InputError
from fitness.mixture.decks import NO_LABEL, Windows, window_starts
from fitness.mixture.mixing import Batch, Mixing, realised, schedule, windows
from fitness.mixture.permutation import SORTED, keys_of, permute

SEQUENCE = 8


def mixed(
    shares: dict[str, float], tokens: dict[str, np.ndarray], budget: int, seed: int
) -> Mixing:
    decks = {name: Windows(array, SEQUENCE) for name, array in tokens.items()}
    return Mixing(shares, decks, budget_tokens=budget, sequence_length=SEQUENCE, seed=seed)


def plain(batch: Batch) -> tuple[Any, ...]:
    return batch.input_ids.tolist(), batch.labels.tolist(), batch.tokens, batch.position_ids


@st.composite
def shares_of(draw: st.DrawFn, least: int = 1) -> dict[str, float]:
    """Shares that sum to 1, some of them tiny or zero."""
    weights = draw(
        st.lists(
            st.one_of(st.just(0.0), st.floats(1e-9, 1e-3), st.floats(0.01, 1)),
            min_size=least,
            max_size=9,
        ).filter(lambda weights: sum(weights) > 0)
    )
    total = sum(weights)
    return {f"s{place}": weight / total for place, weight in enumerate(weights)}


@settings(max_examples=200)
@given(shares=shares_of(), budget=st.integers(2, 4000), length=st.integers(2, 40))
def test_every_prefix_meets_every_share_within_one_sequence(
    shares: dict[str, float], budget: int, length: int
) -> None:
    whole = sum(Fraction(share) for share in shares.values())
    drawn_from = sum(share > 0 for share in shares.values())
    bound = 1 - Fraction(1, 2 * drawn_from - 2) if drawn_from > 1 else 0
    drawn: Counter[str] = Counter()
    for source, tokens in schedule(shares, budget, length):
        assert shares[source] > 0
        drawn[source] += tokens
        for name, share in shares.items():
            owed = Fraction(share) / whole * drawn.total()
            assert abs(drawn[name] - owed) <= bound * length
    assert drawn.total() == budget


@given(shares=shares_of(), budget=st.integers(2, 3000), length=st.integers(2, 40))
def test_only_the_last_sequence_is_short_and_only_by_what_the_budget_lacks(
    shares: dict[str, float], budget: int, length: int
) -> None:
    lengths = [tokens for _, tokens in schedule(shares, budget, length)]

    assert lengths == [length] * (budget // length) + [budget % length] * (budget % length > 0)


@given(shares=shares_of(), budget=st.integers(2, 2000), more=st.integers(0, 2000))
def test_a_smaller_budget_is_a_prefix_of_a_larger_one(
    shares: dict[str, float], budget: int, more: int
) -> None:
    small = [source for source, _ in schedule(shares, budget, SEQUENCE)]
    large = [source for source, _ in schedule(shares, budget + more, SEQUENCE)]

    assert large[: len(small)] == small


def test_shares_far_too_small_to_be_drawn_do_not_disturb_the_others() -> None:
    drawn = Counter(s for s, _ in schedule({"a": 1.0, "b": 5e-324, "c": 1e-300}, 8000, SEQUENCE))

    assert drawn["a"] >= 998
    assert drawn["b"] + drawn["c"] <= 2


@given(
    shares=shares_of(),
    sizes=st.lists(st.integers(SEQUENCE, 400), min_size=9, max_size=9),
    budget=st.integers(2, 5000),
    seed=st.integers(0, 2**70),
    data=st.data(),
)
def test_what_was_drawn_is_reported_and_is_what_the_batches_hold(
    shares: dict[str, float], sizes: list[int], budget: int, seed: int, data: st.DataObject
) -> None:
    tokens = {
        name: np.full(size, n) for n, (name, size) in enumerate(zip(shares, sizes, strict=False))
    }
    mixing = mixed(shares, tokens, budget, seed)
    batch_size = data.draw(st.integers(1, 7))

    batches = list(mixing.batches(batch_size))

    seen: Counter[int] = Counter()
    for inputs, labels, *_ in batches:
        assert inputs.shape == labels.shape
        assert inputs.dtype == labels.dtype == np.int64
        assert (inputs[labels != NO_LABEL] == labels[labels != NO_LABEL]).all()
        assert (labels[:, 1:] != NO_LABEL).any(), "a batch without anything to predict"
        seen.update(labels[labels != NO_LABEL].tolist())
    drawn = {name: seen[n] for n, name in enumerate(shares)}
    assert len(batches) == mixing.steps(batch_size)
    assert mixing.drawn.tokens == drawn
    assert mixing.drawn.shares == {name: count / budget for name, count in drawn.items()}
    assert mixing.drawn.epochs == {name: drawn[name] / len(tokens[name]) for name in shares}
    assert sum(drawn.values()) == budget


@given(
    shares=shares_of(),
    budget=st.integers(2, 2000),
    batch_size=st.integers(1, 7),
    skip=st.integers(0, 300),
)
def test_a_stream_can_begin_at_any_batch(
    shares: dict[str, float], budget: int, batch_size: int, skip: int
) -> None:
    tokens = {name: np.arange(300) + 1000 * n for n, name in enumerate(shares)}
    mixing = mixed(shares, tokens, budget, 0)

    later = list(mixing.batches(batch_size, skip=skip))

    whole = list(mixing.batches(batch_size))[skip:]
    assert [plain(batch) for batch in later] == [plain(batch) for batch in whole]


@given(
    length=st.integers(2, 30),
    extra=st.integers(0, 3000),
    seed=st.integers(0, 1000),
)
def test_each_epoch_visits_each_window_once_before_any_comes_again(
    length: int, extra: int, seed: int
) -> None:
    available = length + extra
    starts = window_starts(available, length, seed, "source")
    for _ in range(3):
        first = next(starts)
        offset = first % length
        count = (available - offset) // length
        epoch = [first, *islice(starts, count - 1)]
        assert sorted(epoch) == [offset + length * place for place in range(count)]


def test_no_tail_of_a_source_is_left_out_for_good() -> None:
    length, available = 10, 47
    starts = islice(window_starts(available, length, 0, "source"), 400)

    covered = {token for start in starts for token in range(start, start + length)}

    assert covered == set(range(available))


def test_epochs_come_in_different_orders() -> None:
    n = 50
    starts = window_starts(n * 2, 2, 0, "source")
    offsets_and_orders = set()
    for _ in range(4):
        first = next(starts)
        count = (2 * n - first % 2) // 2
        offsets_and_orders.add((first, *islice(starts, count - 1)))

    assert len(offsets_and_orders) == 4


@pytest.mark.parametrize("n", [1, 2, 3, 7, SORTED, SORTED + 1, 5_041, 100_003])
def test_a_permutation_computed_in_any_blocks_is_one_permutation(n: int) -> None:
    keys = keys_of("a name")
    whole = permute(np.arange(n, dtype=np.uint64), n, keys)
    tail = permute(np.arange(n // 2, n, dtype=np.uint64), n, keys)

    assert sorted(whole.tolist()) == list(range(n))
    assert (whole[n // 2 :] == tail).all()


@pytest.mark.parametrize("n", [100, SORTED + 100])
def test_a_permutation_sends_a_place_anywhere_with_equal_odds(n: int) -> None:
    draws, cells = 4000, 20
    places = np.array([0, 1, n - 1], dtype=np.uint64)
    sent = np.array([permute(places, n, keys_of(f"{seed}")) for seed in range(draws)], dtype=int)
    for column in (*sent.T, (sent[:, 1] - sent[:, 0]) % n):
        found = np.bincount(column * cells // n, minlength=cells)
        chi_squared = ((found - draws / cells) ** 2 / (draws / cells)).sum()
        assert chi_squared < 50  # 19 degrees of freedom: p = 1e-4; the draws are fixed


def test_the_same_arguments_give_the_same_stream_whatever_order_the_sources_come_in() -> None:
    shares = {"a": 0.5, "b": 0.3, "c": 0.2}
    tokens = {name: np.arange(500) + 1000 * n for n, name in enumerate(shares)}

    def drawn(seed: int, *, backwards: bool = False) -> list[list[int]]:
        names = list(shares)[::-1] if backwards else list(shares)
        ordered = {name: shares[name] for name in names}
        mixing = mixed(ordered, {name: tokens[name] for name in names}, 3000, seed)
        return [draw.sequences[0].tokens.tolist() for draw, _ in mixing.draws()]

    assert drawn(1) == drawn(1) == drawn(1, backwards=True)
    assert drawn(1) != drawn(2)


@given(one=shares_of(least=2), seed=st.integers(0, 100))
def test_another_mixture_meets_a_sources_windows_in_the_same_order(
    one: dict[str, float], seed: int
) -> None:
    other = dict(zip(one, reversed(one.values()), strict=True))
    tokens = {name: np.arange(120) for name in one}

    def order(shares: dict[str, float]) -> dict[str, list[int]]:
        mixing = mixed(shares, tokens, 2000, seed)
        found: dict[str, list[int]] = {name: [] for name in shares}
        for draw, _ in mixing.draws():
            found[draw.source].append(int(draw.sequences[0].tokens[0]))
        return found

    first, second = order(one), order(other)
    for name in one:
        both = min(len(first[name]), len(second[name]))
        assert first[name][:both] == second[name][:both]


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        path = tmp_path / f"{count}.tokens"
        with path.open("wb") as file:
            file.truncate(2 * count)
        tokens = np.memmap(path, dtype="<u2", mode="r", shape=(count,))
        tracemalloc.start()
        deck = {"a": Windows(tokens, 96)}
        mixing = Mixing({"a": 1.0}, deck, budget_tokens=96 * 6000, sequence_length=96, seed=0)
        for _ in mixing.batches(16):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(10**6)
    assert peak(10**9) < peak(10**7) + 100_000 < 2_000_000


def test_a_source_that_does_not_fill_one_sequence_is_named() -> None:
    with pytest.raises(InputError, match=r"source 'a': its 5 tokens do not fill .* of 8"):
        mixed({"a": 1.0}, {"a": np.zeros(5)}, 99, 0)


def test_a_share_of_an_unknown_source_is_answered_with_a_near_one() -> None:
    with pytest.raises(InputError, match=r"no source 'jargn'.*did you mean 'jargon'"):
        realised({"jargn": 1.0}, {"jargon": 99, "wordnet": 99}, budget_tokens=9, sequence_length=3)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"a": 0.5, "b": 0.4}, "must sum to 1"),
        ({"a": 1.5, "b": -0.5}, "share of 'b' is -0.5"),
        ({"a": float("nan")}, "share of 'a' is nan"),
        ({}, "must sum to 1"),
    ],
)
def test_shares_that_are_no_mixture_are_refused(shares: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        schedule(shares, 100, 10)


@pytest.mark.parametrize(("budget", "length"), [(1, 8), (0, 8), (99, 1)])
def test_a_budget_or_length_with_nothing_to_predict_is_refused(budget: int, length: int) -> None:
    with pytest.raises(InputError, match="2 tokens or more"):
        schedule({"a": 1.0}, budget, length)


@given(count=st.integers(2, 300), length=st.integers(2, 40), batch=st.integers(1, 9))
def test_held_out_windows_predict_every_token_but_the_first_once(
    count: int, length: int, batch: int
) -> None:
    tokens = np.arange(count, dtype=np.uint16)
    predicted: list[int] = []
    for inputs, labels, _ in windows(tokens, length, batch):
        assert inputs.shape == labels.shape
        assert len(inputs) <= batch
        assert inputs.shape[1] <= length
        shifted = labels[:, 1:]
        assert (inputs[:, :-1][shifted != NO_LABEL] + 1 == shifted[shifted != NO_LABEL]).all()
        predicted += shifted[shifted != NO_LABEL].tolist()

    assert predicted == list(range(1, count))


def test_held_out_text_of_one_token_is_refused() -> None:
    with pytest.raises(InputError, match="two tokens or more"):
        next(windows(np.zeros(1), 8, 4))
