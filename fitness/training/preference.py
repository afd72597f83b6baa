"""Learning from comparisons: DPO, its hinge, IPO; from single ratings: KTO.

The reference is the untouched base. What it makes of a record is worked out once for a worker's
life, from the record alone, so that it does not depend on what else was drawn.
"""

from collections.abc import Sequence as Listed
from typing import Any

import numpy as np

from fitness.inference.log_probabilities import token_logps
from fitness.mixture.decks import NO_LABEL, Draw, Sequence
from fitness.mixture.mixing import Rows, stacked
from fitness.models.base import Base
from fitness.recipe import Recipe

Key = tuple[str, str, int, int, str]  # use, source, number, longest sequence, precision


class Reference:
    """What the untouched base makes of records, as sums of log-probabilities in nats."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._known: dict[Key, list[float]] = {}

    def of(self, draws: Listed[Draw], recipe: Recipe) -> Any:
        """(sequences of a draw, draws), while the base is lent to a fine-tune of the recipe."""
        import torch

        keys = [self._key(draw, recipe) for draw in draws]
        absent = [place for place, key in enumerate(keys) if key not in self._known]
        if absent:
            with self._base.untouched() as model, torch.no_grad():
                for place in absent:
                    rows = stacked(list(draws[place].sequences))
                    self._known[keys[place]] = token_logps(model, rows).sum(1).tolist()
        known = [self._known[key] for key in keys]
        return torch.tensor(known, device=self._base.device).T

    def now(self, rows: Rows) -> Any:
        """(b,) of rows that will not come again."""
        import torch

        with self._base.untouched() as model, torch.no_grad():
            return token_logps(model, rows).sum(1)

    def _key(self, draw: Draw, recipe: Recipe) -> Key:
        return (draw.use, draw.source, draw.number, recipe.sequence_length, recipe.precision)


def preference_loss(model: Any, draws: Listed[Draw], recipe: Recipe, reference: Reference) -> Any:
    """Mean loss of comparisons, by the recipe's loss, or of ratings, by KTO's."""
    if draws[0].use == "compare" and recipe.preference_loss != "kto":
        return compare(model, draws, recipe, reference)
    if draws[0].use == "compare":
        draws = [_half(draw, side) for side in (0, 1) for draw in draws]
    return kto(model, draws, recipe, reference)


def _half(draw: Draw, side: int) -> Draw:
    """A side of a comparison as if it had been rated alone."""
    own, other = draw.sequences[side], draw.sequences[1 - side]
    return draw._replace(
        use="rate",
        number=2 * draw.number + side,
        sequences=(own,),
        label=int(side == 0),
        elsewhere=_answer(other),
    )


def compare(model: Any, draws: Listed[Draw], recipe: Recipe, reference: Reference) -> Any:
    """The mean loss of (chosen, rejected) draws, and cross-entropy on the chosen beside it.

    Sigmoid: Rafailov et al. 2023, eq. 7. Hinge: Zhao et al. 2023 (SLiC) on the same ratio, with the
    recipe's margin. IPO: Azar et al. 2024, eq. 17, per token as its authors have it.
    """
    import torch
    from torch.nn.functional import logsigmoid

    sides = [[draw.sequences[side] for draw in draws] for side in (0, 1)]
    logps = token_logps(model, stacked([*sides[0], *sides[1]]))
    chosen, rejected = logps.sum(1).chunk(2)
    wanted, unwanted = reference.of(draws, recipe)
    gained, lost = chosen - wanted, rejected - unwanted
    beta = recipe.preference_beta
    if recipe.preference_loss == "hinge":
        losses = torch.relu(recipe.preference_margin - beta * (gained - lost))
    elif recipe.preference_loss == "ipo":
        counts = [[max(1, _labels(one)) for one in side] for side in sides]
        first, second = torch.tensor(counts, device=logps.device)
        losses = (gained / first - lost / second - 1 / (2 * beta)) ** 2
    else:
        losses = -logsigmoid(beta * (gained - lost))
    learned = sum(_labels(one) for one in sides[0])
    return losses.mean() - recipe.preference_sft * chosen.sum() / learned


def kto(model: Any, draws: Listed[Draw], recipe: Recipe, reference: Reference) -> Any:
    """Mean loss of rated draws, and cross-entropy on the good ones beside it.

    Ethayarajh et al. 2024, eq. 7; the divergence from the reference is told from each prompt with
    the answer to the one before, as theirs is. Where that answer is the prompt's own, as it is of a
    record that is alone in its batch, another record's is taken: by its own answer, the gain would
    be the divergence, and the loss of what gained .5 whatever the model does.
    """
    import torch

    beta = recipe.preference_beta
    sequences = [draw.sequences[0] for draw in draws]
    answers = [_answer(one) for one in sequences]
    before = [answers[-1], *answers[:-1]]
    others = [
        draw.elsewhere if draw.elsewhere is not None and np.array_equal(own, other) else other
        for draw, own, other in zip(draws, answers, before, strict=True)
    ]
    mismatched = stacked(
        [
            _answered(one, other, recipe.sequence_length)
            for one, other in zip(sequences, others, strict=True)
        ]
    )
    with torch.no_grad():
        drift = (token_logps(model, mismatched).sum(1) - reference.now(mismatched)).mean()
    logps = token_logps(model, stacked(sequences)).sum(1)
    gained = logps - reference.of(draws, recipe)[0]
    good = torch.tensor([bool(draw.label) for draw in draws], device=logps.device)
    signs = torch.where(good, 1.0, -1.0)
    losses = 1 - torch.sigmoid(beta * signs * (gained - drift.clamp(min=0)))
    learned = sum(_labels(draw.sequences[0]) for draw in draws if draw.label)
    return losses.mean() - recipe.preference_sft * logps[good].sum() / max(1, learned)


def _labels(sequence: Sequence) -> int:
    return int((sequence.labels != NO_LABEL).sum())


def _answer(sequence: Sequence) -> np.ndarray:
    """The tokens that are learned, (tokens,)."""
    return sequence.tokens[sequence.labels != NO_LABEL]


def _answered(asked: Sequence, answer: np.ndarray, length: int) -> Sequence:
    """The prompt of one with the answer of another, of at most `length` tokens.

    A prompt that is too long for it loses its beginning, as in any record: what would be left of
    the answer might be what the prompt's own begins with.
    """
    prompt = asked.tokens[asked.labels == NO_LABEL]
    prompt = prompt[-max(length - len(answer), 1) :]
    tokens = np.concatenate([prompt, answer])[:length]
    labels = tokens.copy()
    labels[: len(prompt)] = NO_LABEL
    return Sequence(tokens, labels)
