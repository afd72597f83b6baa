"""The leave-one-out policy gradient against TRL's, the rewards, and what training on them does."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fitness.errors import InputError
from fitness.inference.sampling import generate
from fitness.mixture.decks import Draw
from fitness.mixture.mixing import Batch
from fitness.models.base import Base
from fitness.recipe import Recipe
from fitness.training.objective import objective
from fitness.training.reference import Reference
from fitness.training.reinforce import policy_loss, reinforced
from fitness.training.rewards import Group, check_reward, rewards
from fitness.training.supervised import finetune
from tests.fitness.preferences import EMPTY
from tests.fitness.records import PAIRS, deck

PROMPTS = [{"prompt": pair["prompt"], "reference": pair["chosen"]} for pair in PAIRS]


def draws(folder: Path, count: int) -> list[Draw]:
    found = deck(PROMPTS, "prompt", folder, method="reinforce", sequence_length=48)
    return [found.draw("own", number, 48) for number in range(count)]


def test_the_gradient_is_trls() -> None:
    """The loss of RLOOTrainer._compute_loss, for the model's own answers and no clipping."""
    torch.manual_seed(0)
    logps = torch.randn(12, requires_grad=True)
    reward = torch.randn(3, 4)
    baseline = (reward.sum(1, keepdim=True) - reward) / 3
    ratio = torch.exp(logps - logps.detach())
    wanted = -(ratio * (reward - baseline).flatten()).mean()
    (expected,) = torch.autograd.grad(wanted, logps)
    loss = policy_loss(logps, reward)
    (gradient,) = torch.autograd.grad(loss, logps)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-7)
    assert loss.item() == pytest.approx(-reward.mean().item(), abs=1e-6)


def group(*tokens: list[int], **changes: Any) -> Group:
    values: dict[str, Any] = {
        "prompt": "p",
        "reference": "x y",
        "outputs": ["out"] * len(tokens),
        "tokens": tokens,
        "longest": 10,
        "fluency": [-1.0] * len(tokens),
        "plain": [-3.0] * len(tokens),
    }
    return Group(**{**values, **changes})


@pytest.mark.parametrize(
    ("name", "asked", "wanted"),
    [
        ("fluency", group([1], [2], fluency=[-2.0, -0.5]), [-2.0, -0.5]),
        ("relevance", group([1], [2], fluency=[-2.0, -0.5]), [1.0, 2.5]),
        ("diversity", group([1, 2, 3], [1, 2, 4], [5, 6]), [0.5, 0.5, 1.0]),
        ("exact_match", group([1], [2], outputs=[" X  y", "x"]), [1.0, 0.0]),
        ("length", group([1] * 5, []), [-0.5, 0.0]),
        ("repetition", group([1, 2, 3, 4, 5], [7] * 7, []), [0.0, -0.75, 0.0]),
    ],
)
def test_each_reward(name: str, asked: Group, wanted: list[float]) -> None:
    assert rewards(asked, {name: 2.0}, clip=9) == pytest.approx([2 * value for value in wanted])


def test_rewards_are_summed_by_weight_and_clipped() -> None:
    asked = group([1], [2], fluency=[-2.0, -0.5])
    both = {"fluency": 1.0, "relevance": 0.5, "length": 0.0}
    assert rewards(asked, both, clip=9) == pytest.approx([-1.5, 0.75])
    assert rewards(asked, both, clip=1) == pytest.approx([-1.0, 0.75])


def test_an_own_reward_is_a_function_of_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_rewards.py").write_text(
        "def size(prompts, references, outputs): return [len(o) for o in outputs]\n"
        "def few(prompts, references, outputs): return [1.0]\n"
        "def bad(prompts, references, outputs): return [None] * len(outputs)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    asked = group([1], [2], outputs=["a", "abc"])
    assert rewards(asked, {"own_rewards:size": 2.0}, clip=9) == [2.0, 6.0]
    with pytest.raises(InputError, match="gave 1 numbers for 2 answers"):
        rewards(asked, {"own_rewards:few": 1.0}, clip=9)
    with pytest.raises(InputError, match="gave None; it must give finite numbers"):
        rewards(asked, {"own_rewards:bad": 1.0}, clip=9)


def test_an_unknown_reward_is_answered_with_a_near_one() -> None:
    with pytest.raises(InputError, match=r"'fluancy': unknown.*did you mean 'fluency'"):
        check_reward("fluancy")


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_the_answers_follow_from_the_seed_and_the_dropout_stream_goes_on(
    base: Base, tmp_path: Path, adapter: Any
) -> None:
    asked = draws(tmp_path, 2)
    recipe = Recipe(method="reinforce", adapter=adapter, reinforce_new_tokens=6)

    def loss(seed: int) -> float:
        torch.manual_seed(5)
        with base.prepared(recipe, seed=0) as model, torch.no_grad():
            model.train()
            value = reinforced(model, asked, recipe, Reference(base), base.tokenizer, seed=seed)
            assert model.training
        state.append(torch.get_rng_state())
        return float(value)

    state: list[torch.Tensor] = []
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert loss(1) == loss(1) != loss(2)
    assert all(torch.equal(one, state[0]) for one in state)
    assert torch.equal(state[0], before)


@pytest.mark.slow
def test_training_raises_the_reward_of_held_out_prompts_without_losing_fluency(
    base: Base, tmp_path: Path
) -> None:
    """Rewarded is how short an answer is, which the base does not care about."""
    recipe = Recipe(
        method="reinforce",
        rewards={"length": 5.0},
        learning_rate=3e-4,
        decay="constant",
        warmup_share=0,
        reinforce_group=6,
        reinforce_new_tokens=16,
        reinforce_kl=0.02,
    )
    loss_of = objective(recipe, Reference(base), base.tokenizer, seed=0)
    batch = Batch(*EMPTY, 1, tuple(draws(tmp_path, 4)))
    held_out = [pair["prompt"] for pair in PAIRS[6:]] * 10

    def answers(model: Any) -> tuple[float, float]:
        told = generate(model, base.tokenizer, held_out, max_new_tokens=16, temperature=1.0, seed=3)
        tokens = [base.tokenizer(text)["input_ids"] for text in told]
        with base.untouched() as frozen, torch.no_grad():
            losses = [
                float(frozen(input_ids=torch.tensor([ids]), labels=torch.tensor([ids])).loss)
                for ids in tokens
                if len(ids) > 1
            ]
        return sum(map(len, tokens)) / len(tokens), sum(losses) / len(losses)

    with base.prepared(recipe, seed=0) as model:
        length, surprise = answers(model)
        finetune(model, recipe, [batch] * 8, steps=8, seed=0, loss_of=loss_of)
        shorter, still = answers(model)
    assert shorter < 0.7 * length
    assert still < surprise + 0.5
