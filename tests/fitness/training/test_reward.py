"""Reward models: the loss on pairs, what training does, their scores, and their uses."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fitness.checks.own import own_check
from fitness.data.prompts import Prompts
from fitness.data.samples import Sample
from fitness.errors import InputError
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluation import Evaluation, EvaluationSpec, Status, Task
from fitness.metrics import score
from fitness.metrics.comparisons import calibration, comparison_scores
from fitness.models import weights
from fitness.models.base import Base
from fitness.models.heads import Head
from fitness.reward.neural import HEAD, rewards
from fitness.samples.scoring import Given, scored
from fitness.training.classification import comparison_loss, margins
from fitness.training.reinforce import rewarded, without_length
from fitness.training.rewards import Group
from fitness.training.rewards import rewards as summed
from tests.fitness.quickstart import MODEL, small_recipe
from tests.fitness.records import PAIRS, deck, record_file

LENGTH, BATCH, STEPS = 48, 4, 40


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """Repetition of a word is rejected; the same pairs are held out, which it is to fit."""
    folder = tmp_path_factory.mktemp("pairs")
    file = record_file(PAIRS, "comparison", folder)
    return Task(
        "builtin",
        model=MODEL,
        head=HEAD,
        sources={"pairs": file},
        domains={"held": {"selection": file, "test": file}},
        budget_tokens=STEPS * BATCH * LENGTH,
        held_out_length=LENGTH,
        artifacts=folder / "artifacts",
    )


@pytest.fixture(scope="module")
def trained(task: Task) -> Evaluation:
    return evaluated(task)


@pytest.fixture(scope="module")
def folder(task: Task, trained: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained model, as `evo export` writes it."""
    assert task.artifacts is not None
    to = tmp_path_factory.mktemp("exported") / "model"
    weights.assemble(MODEL, weights.folder_of(task.artifacts, 0), to, head=HEAD)
    return to


def evaluated(task: Task, **changes: Any) -> Evaluation:
    values = {"mixture": {"pairs": 1.0}, "batch_size": BATCH, "sequence_length": LENGTH}
    recipe = small_recipe(**{"learning_rate": 2e-3, **values, **changes})
    done = Evaluator(task).evaluate(EvaluationSpec(0, recipe.model_dump(mode="json"), 0))
    assert done.status is Status.OK, done.message
    return done


def test_the_loss_is_that_of_bradley_and_terry(tmp_path: Path) -> None:
    base = Base(MODEL, head=HEAD)
    pairs = deck(PAIRS, "comparison", tmp_path, sequence_length=LENGTH)
    draws = [pairs.draw("own", number, LENGTH) for number in range(4)]
    with base.prepared(small_recipe(), seed=0) as model:
        model.eval()
        texts = [draw.sequences[side].tokens for side in (0, 1) for draw in draws]
        with torch.no_grad():
            alone = [model(input_ids=torch.tensor(one)[None]).logits[0, 0] for one in texts]
            found = margins(model, draws)
            value = comparison_loss(model, draws)
    wanted = torch.stack(alone[:4]) - torch.stack(alone[4:])
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    expected = -torch.nn.functional.logsigmoid(wanted).mean()
    assert float(value) == pytest.approx(float(expected), abs=1e-6)


def test_a_reward_model_learns_which_answer_is_preferred(task: Task, trained: Evaluation) -> None:
    untouched = Evaluator(task).evaluate(EvaluationSpec(0, {}, 0, 0.0)).measurements
    assert untouched["held/loss"] == pytest.approx(np.log(2), abs=0.2)
    assert trained.measurements["held/accuracy"] == 1
    assert trained.measurements["held/loss"] < 0.1
    assert trained.details["items"]["held/accuracy"]["count"] == len(PAIRS)
    lora = evaluated(task, adapter="lora", lora_rank=8, learning_rate=1e-2)
    assert lora.measurements["held/loss"] < 0.2


def test_scores_of_margins() -> None:
    sure = np.array([9.0, 9.0, 9.0, -9.0])
    assert comparison_scores(sure)["accuracy"] == 0.75
    assert calibration(sure) == pytest.approx(1 / (1 + np.exp(-9)) - 0.75)
    logit = np.log(3)  # three of four, and says so
    assert calibration(np.array([logit, logit, logit, -logit])) == pytest.approx(0)
    assert comparison_scores(np.zeros(3)) == {
        "loss": pytest.approx(np.log(2)),
        "accuracy": 0.5,
        "calibration": pytest.approx(0),
    }


def test_a_trained_model_is_a_metric_a_filter_and_a_reward(folder: Path) -> None:
    name = f"reward:{folder}"
    prompts, outputs = ["bug: n."] * 2, [PAIRS[0]["chosen"], PAIRS[0]["rejected"]]
    good, bad = rewards(str(folder), prompts, ["", ""], outputs)
    assert good > bad + 1
    (mean,) = score([name], Prompts(prompts, ["", ""]), outputs).values()
    assert mean.value == pytest.approx((good + bad) / 2)
    samples = [Sample("bug: n.", text, 0, 0) for text in outputs]
    found = scored(samples, [name], Given())
    assert [one.scores["reward_model"] for one in found] == pytest.approx([good, bad], abs=1e-4)
    group = Group("bug: n.", "", outputs, [[1], [2]], 4, [0.0] * 2, [0.0] * 2)
    assert summed(group, {name: 0.5}) == pytest.approx([good / 2, bad / 2], abs=1e-3)


def test_the_reward_of_an_answer_is_that_of_its_pair_in_training(folder: Path, tmp_path: Path):
    pairs = deck(PAIRS, "comparison", tmp_path, sequence_length=LENGTH)
    base = Base(folder, head=Head("reward"))
    draws = [pairs.draw("own", number, LENGTH) for number in range(len(PAIRS))]
    base.model.eval()
    with torch.no_grad():
        wanted = margins(base.model, draws).tolist()
    prompts = [pair["prompt"] for pair in PAIRS]
    sides = [
        rewards(str(folder), prompts, [""] * len(PAIRS), [pair[side] for pair in PAIRS])
        for side in ("chosen", "rejected")
    ]
    found = np.array(sides[0]) - np.array(sides[1])
    assert found == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize(
    ("folder", "message"), [(str(MODEL), "LlamaForCausalLM in .* is no reward model"),
                            ("nowhere", "reward 'reward:nowhere'")]
)  # fmt: skip
def test_a_folder_without_a_reward_model_is_refused(folder: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        own_check(f"reward:{folder}", "reward")


def test_the_guard_takes_what_length_gains_within_groups() -> None:
    lengths = torch.tensor([[1.0, 2.0, 3.0], [4.0, 4.0, 10.0]])
    noise = torch.tensor([[0.0, 3.0, 0.0], [1.0, -1.0, 0.0]])  # not by length
    reward = 0.5 * lengths + noise + torch.tensor([[10.0], [-5.0]])
    guarded = without_length(reward, lengths)
    torch.testing.assert_close(guarded.mean(1), reward.mean(1))
    assert rewarded(reward, lengths).correlation > 0.5
    assert rewarded(guarded, lengths).correlation == pytest.approx(0, abs=1e-6)
    flat = torch.full((1, 3), 7.0)
    torch.testing.assert_close(without_length(noise[:1], flat), noise[:1])
    assert rewarded(noise[:1], flat).correlation == 0


def test_rewards_and_lengths_are_recorded(tmp_path: Path) -> None:
    asked = [{"prompt": pair["prompt"], "reference": pair["chosen"]} for pair in PAIRS]
    file = record_file(asked, "prompt", tmp_path)
    task = Task(
        "builtin",
        model=MODEL,
        sources={"asked": file},
        domains={},
        budget_tokens=3 * 2 * 4 * LENGTH,
        held_out_length=LENGTH,
    )
    recipe = small_recipe(
        mixture={"asked": 1.0}, method="reinforce", batch_size=2, sequence_length=LENGTH,
        reinforce_new_tokens=6, rewards={"length": -1.0}, reinforce_length="guarded",
    )  # fmt: skip
    spec = EvaluationSpec(0, recipe.model_dump(mode="json"), 0)
    done = Evaluator(replace(task)).evaluate(spec)
    assert done.status is Status.OK, done.message
    curve = done.details["rewarded"]
    assert len(curve) == 3
    for reward, length, correlation in curve:
        assert 0 < reward <= 1
        assert 1 <= length <= 7
        assert -1 <= correlation <= 1.0001
