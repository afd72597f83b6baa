"""Reinforcement learning: sample answers to prompts, reinforce those above the other answers.

REINFORCE with a leave-one-out baseline (RLOO): Kool et al. 2019; Ahmadian et al. 2024, eq. 6, with
the divergence from the untouched base as a part of the reward. With the advantages of GRPO (Shao et
al. 2024), rewards are also divided by the standard deviation of their group.
"""

from collections.abc import Sequence as Listed
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fitness.data.tokens import opening_tokens
from fitness.inference.endings import ending_tokens
from fitness.inference.log_probabilities import token_logps
from fitness.inference.sampling import Answering, continued, numbers_of
from fitness.mixture.decks import NO_LABEL, Draw, Sequence
from fitness.mixture.mixing import stacked
from fitness.recipe import Recipe
from fitness.training.reference import Reference
from fitness.training.rewards import Group, rewards

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from fitness.training.objective import Learning


LEAST_SPREAD = 1e-4  # added to a group's standard deviation, as in TRL


class Rewarded(NamedTuple):
    """Means of a batch of answers, and how far their rewards go by their lengths."""

    reward: float
    length: float  # tokens
    correlation: float  # of the two within groups; 0 where either is the same for all


def loss(model: "PreTrainedModel", draws: Listed[Draw], learning: "Learning") -> "Tensor":
    """Policy-gradient loss of answers to prompts; the loss of the use `answer`."""
    return reinforced(
        model,
        draws,
        learning.recipe,
        learning.reference,
        learning.tokenizer,
        seed=learning.seed,
        told=learning.rewarded,
        answer=learning.answer,
    )


def reinforced(
    model: "PreTrainedModel",
    draws: Listed[Draw],
    recipe: Recipe,
    reference: Reference,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    seed: int,
    told: list[Rewarded] | None = None,
    answer: Answering = continued,
) -> "Tensor":
    """A loss whose gradient is the policy gradient; its value is minus the answers' mean reward.

    The rewards of the batch, before the divergence is taken from them, are added to `told`.
    `answer` samples the answers, by default with the model itself.
    """
    import torch

    size = recipe.reinforce_group
    prompts = [draw.sequences[0].tokens for draw in draws for _ in range(size)]
    answers = answer(
        model,
        [prompt.tolist() for prompt in prompts],
        numbers_of(seed, recipe.reinforce_new_tokens),
        ends=ending_tokens(model, tokenizer),
        max_new_tokens=recipe.reinforce_new_tokens,
        temperature=recipe.reinforce_temperature,
    )
    outputs = [answer.tokens for answer in answers]
    endings = [
        answer.tokens if answer.end is None else [*answer.tokens, answer.end] for answer in answers
    ]
    rows = stacked([_row(prompt, tokens) for prompt, tokens in zip(prompts, endings, strict=True)])
    counts = [max(1, len(tokens)) for tokens in endings]
    frozen = reference.now(rows)
    plain = frozen
    if recipe.rewards.get("relevance"):
        opening = np.array(opening_tokens(tokenizer) or [tokenizer.eos_token_id])
        plain = reference.now(stacked([_row(opening, tokens) for tokens in endings]))
    logps = token_logps(model, rows).sum(1)
    scored: list[float] = []
    for place, draw in enumerate(draws):
        these = slice(place * size, (place + 1) * size)
        group = Group(
            prompt=tokenizer.decode(draw.sequences[0].tokens, skip_special_tokens=True),
            reference=tokenizer.decode(draw.sequences[1].tokens, skip_special_tokens=True),
            outputs=[tokenizer.decode(t, skip_special_tokens=True) for t in outputs[these]],
            tokens=outputs[these],
            longest=recipe.reinforce_new_tokens,
            fluency=_mean(frozen[these].tolist(), counts[these]),
            plain=_mean(plain[these].tolist(), counts[these]),
        )
        scored += rewards(group, recipe.rewards)
    reward = torch.tensor(scored, device=logps.device)
    lengths = torch.tensor(counts, dtype=reward.dtype, device=reward.device)
    if told is not None:
        told.append(rewarded(reward.view(-1, size), lengths.view(-1, size)))
    if recipe.reinforce_length == "guarded":
        guarded = without_length(reward.view(-1, size), lengths.view(-1, size))
        reward = guarded.flatten()
    reward = reward - recipe.reinforce_kl * (logps.detach() - frozen)
    return policy_loss(logps, reward.view(-1, size), recipe.reinforce_advantage)


def rewarded(reward: "Tensor", lengths: "Tensor") -> Rewarded:
    """Figures of rewards and lengths, both (prompts, group)."""
    rise, run = (each - each.mean(1, keepdim=True) for each in (reward, lengths))
    spread = float((rise.square().sum() * run.square().sum()).sqrt())
    correlation = float((rise * run).sum()) / spread if spread else 0.0
    return Rewarded(float(reward.mean()), float(lengths.mean()), correlation)


def without_length(reward: "Tensor", lengths: "Tensor") -> "Tensor":
    """Rewards less what they gain by length: b (l - mean l), b their regression within groups.

    Both are (prompts, group); means of groups stay as they are.
    """
    rise, run = (each - each.mean(1, keepdim=True) for each in (reward, lengths))
    slope = (rise * run).sum() / run.square().sum().clamp(min=1e-9)
    return reward - slope * run


def policy_loss(logps: "Tensor", reward: "Tensor", kind: str = "rloo") -> "Tensor":
    """Policy gradient loss of log-probabilities (prompts * group,), rewards (prompts, group)."""
    size = reward.shape[1]
    advantage = reward - reward.mean(1, keepdim=True)
    if kind == "grpo":
        advantage = advantage / (reward.std(1, keepdim=True) + LEAST_SPREAD)
    else:  # r - mean of the others = (r - mean of all) * size / (size - 1)
        advantage = advantage * (size / (size - 1))
    return -((logps - logps.detach()) * advantage.flatten()).mean() - reward.mean()


def _row(prompt: np.ndarray, answer: Listed[int]) -> Sequence:
    tokens = np.concatenate([prompt, np.array(answer, dtype=np.int64)])
    labels = tokens.copy()
    labels[: len(prompt)] = NO_LABEL
    return Sequence(tokens, labels)


def _mean(sums: Listed[float], counts: Listed[int]) -> list[float]:
    return [total / count for total, count in zip(sums, counts, strict=True)]
