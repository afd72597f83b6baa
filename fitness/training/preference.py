"""Preference losses: DPO, hinge and IPO on comparisons; KTO on single ratings.

To add a loss of pairs: PAIR_LOSSES, and its name in `Recipe.preference_loss`; of data in another
shape: `fitness.methods`.
"""

from collections.abc import Sequence as Listed
from typing import TYPE_CHECKING

import numpy as np

from fitness.inference.log_probabilities import token_logps
from fitness.mixture.decks import NO_LABEL, Draw, Sequence
from fitness.mixture.mixing import stacked
from fitness.recipe import Recipe
from fitness.training.reference import Reference

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from fitness.training.objective import Learning

HINGE_MARGIN = 1.0  # as in SLiC-HF; a gain of beta times the log-ratios scales it away


def loss(model: "PreTrainedModel", draws: Listed[Draw], learning: "Learning") -> "Tensor":
    """Mean loss of comparisons or of ratings; the loss of the uses `compare` and `rate`."""
    return preference_loss(model, draws, learning.recipe, learning.reference)


def preference_loss(
    model: "PreTrainedModel", draws: Listed[Draw], recipe: Recipe, reference: Reference
) -> "Tensor":
    """Mean loss of comparisons under the recipe's loss, or of ratings under KTO's."""
    if len(draws[0].sequences) == 2 and recipe.preference_loss != "kto":
        return compare(model, draws, recipe, reference)
    if len(draws[0].sequences) == 2:
        draws = [_half(draw, side) for side in (0, 1) for draw in draws]
    return kto(model, draws, recipe, reference)


def _half(draw: Draw, side: int) -> Draw:
    """One side of a comparison as a rated draw."""
    own, other = draw.sequences[side], draw.sequences[1 - side]
    return draw._replace(
        use="rate",
        number=2 * draw.number + side,
        sequences=(own,),
        label=int(side == 0),
        elsewhere=_answer(other),
    )


def dpo(gains: "Tensor", tokens: "Tensor", beta: float) -> "Tensor":
    """DPO: Rafailov et al. 2023, eq. 7."""
    from torch.nn.functional import logsigmoid

    return -logsigmoid(beta * (gains[0] - gains[1]))


def hinge(gains: "Tensor", tokens: "Tensor", beta: float) -> "Tensor":
    """Margin ranking of SLiC (Zhao et al. 2023) on DPO's ratio."""
    return (HINGE_MARGIN - beta * (gains[0] - gains[1])).relu()


def ipo(gains: "Tensor", tokens: "Tensor", beta: float) -> "Tensor":
    """IPO: Azar et al. 2024, eq. 17, per token as its authors have it."""
    return (gains[0] / tokens[0] - gains[1] / tokens[1] - 1 / (2 * beta)) ** 2


# Called with what chosen and rejected answers gained over the reference in log-probability, their
# tokens, both (2, draws), and beta; returns (draws,). To add one, name it in `Recipe` as well.
PAIR_LOSSES = {"sigmoid": dpo, "hinge": hinge, "ipo": ipo}


def compare(
    model: "PreTrainedModel", draws: Listed[Draw], recipe: Recipe, reference: Reference
) -> "Tensor":
    """Mean loss of (chosen, rejected) draws, plus weighted cross-entropy on the chosen answers."""
    import torch

    sides = [[draw.sequences[side] for draw in draws] for side in (0, 1)]
    logps = token_logps(model, stacked([*sides[0], *sides[1]]))
    chosen, rejected = logps.sum(1).chunk(2)
    wanted, unwanted = reference.of(draws, recipe)
    gained, lost = chosen - wanted, rejected - unwanted
    beta = recipe.preference_beta
    counts = [[max(1, _labels(one)) for one in side] for side in sides]
    tokens = torch.tensor(counts, device=logps.device)
    losses = PAIR_LOSSES[recipe.preference_loss](torch.stack([gained, lost]), tokens, beta)
    learned = sum(_labels(one) for one in sides[0])
    return losses.mean() - recipe.preference_sft * chosen.sum() / learned


def kto(
    model: "PreTrainedModel", draws: Listed[Draw], recipe: Recipe, reference: Reference
) -> "Tensor":
    """Mean loss of rated draws, plus weighted cross-entropy on the good ones.

    Ethayarajh et al. 2024, eq. 7; as in theirs, the divergence from the reference is estimated from
    each prompt with the answer to the one before. Where that answer is the prompt's own, as for a
    record alone in its batch, another record's is used: with its own answer, gain and divergence
    would be equal, and the loss 0.5 whatever the model does.
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


def _answered(question: Sequence, answer: np.ndarray, length: int) -> Sequence:
    """The prompt of one sequence with the answer of another, of at most `length` tokens.

    A prompt that is too long loses its beginning, as in any record: if the answer were truncated
    instead, its rest might equal the beginning of the prompt's own answer.
    """
    prompt = question.tokens[question.labels == NO_LABEL]
    prompt = prompt[-max(length - len(answer), 1) :]
    tokens = np.concatenate([prompt, answer])[:length]
    labels = tokens.copy()
    labels[: len(prompt)] = NO_LABEL
    return Sequence(tokens, labels)
