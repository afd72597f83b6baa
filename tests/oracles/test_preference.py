"""The preference losses, and the policy gradient, against those of TRL on the same records."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fitness.inference.log_probabilities import token_logps
from fitness.inference.sampling import Continuation
from fitness.mixture.decks import NO_LABEL, Draw
from fitness.mixture.mixing import stacked
from fitness.models.base import Base
from fitness.models.heads import Head
from fitness.recipe import Recipe
from fitness.training.classification import comparison_loss
from fitness.training.reference import Reference
from fitness.training.reinforce import reinforced
from tests.fitness.preferences import LENGTH, case, draws, own_loss, shaken
from tests.fitness.quickstart import MODEL
from tests.fitness.records import PAIRS, deck, rated

TRLS_OWN = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
PROMPTS = [pair["prompt"] for pair in PAIRS[:3]]
GROUP = 4
NAMES = ("chosen", "rejected")
LONGEST = 16


def trl_trainer(kind: str, records: list[dict[str, Any]], folder: Path, **settings: Any) -> Any:
    """A trainer of TRL's on the CPU, whose model is not what its reference is."""
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    trainer, config = {
        "dpo": (trl.DPOTrainer, trl.DPOConfig),
        "kto": (trl.KTOTrainer, trl.KTOConfig),
        "rloo": (trl.RLOOTrainer, trl.RLOOConfig),
        "grpo": (trl.GRPOTrainer, trl.GRPOConfig),
    }[kind]
    arguments = config(
        output_dir=str(folder / "trl"),
        report_to="none",
        use_cpu=True,
        bf16=False,
        **{"per_device_train_batch_size": len(records), **settings},
    )
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    tokenizer.pad_token = tokenizer.eos_token
    reference = {"ref_model": AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)}
    made = trainer(
        model=AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32),
        args=arguments,
        train_dataset=Dataset.from_list(records),
        processing_class=tokenizer,
        **(reference if kind in ("dpo", "kto") else {"reward_funcs": shortness}),
    )
    shaken(made.model)
    made.model.eval()
    return made


def trl_loss(trainer: Any, examples: list[dict[str, Any]] | None = None) -> float:
    """Loss of the trainer on all records of its data set, or on examples of tokens."""
    columns = trainer.data_collator(examples or list(trainer.train_dataset))
    with torch.no_grad():
        return float(trainer.compute_loss(trainer.model, columns))


def parts(draw: Draw, side: int = 0) -> tuple[list[int], list[int]]:
    """The tokens of a side's prompt and of its answer."""
    one = draw.sequences[side]
    asked = one.labels == NO_LABEL
    return one.tokens[asked].tolist(), one.tokens[~asked].tolist()


@pytest.mark.slow
@TRLS_OWN
@pytest.mark.parametrize("records", [PAIRS[:6], case("empty_pairs.jsonl")], ids=["whole", "empty"])
def test_the_losses_of_pairs_are_trls(
    base: Base, tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    pairs = draws(records, "preference", tmp_path, len(records))
    settings = {"loss_weights": [1.0, 0.3], "loss_type": ["sigmoid", "sft"], "beta": 0.2}
    trainer = trl_trainer("dpo", records, tmp_path, max_length=LENGTH, **settings)
    for loss in ("sigmoid", "hinge", "ipo"):
        trainer.loss_types = [loss, "sft"]
        changes: Any = {"preference_loss": loss, "preference_beta": 0.2, "preference_sft": 0.3}
        assert own_loss(base, pairs, **changes) == pytest.approx(trl_loss(trainer), abs=1e-5), loss


@pytest.mark.slow
@TRLS_OWN
def test_the_losses_of_cut_pairs_are_trls_on_the_same_tokens(base: Base, tmp_path: Path) -> None:
    """TRL itself cuts either answer by its own length, so that their prompts may differ."""
    records = case("long_prompts.jsonl")[:6]
    pairs = draws(records, "preference", tmp_path, len(records))
    examples = []
    for pair in pairs:
        (prompt, chosen), (other, rejected) = parts(pair), parts(pair, 1)
        assert prompt == other
        assert max(len(chosen), len(rejected)) + len(prompt) == LENGTH
        examples.append({"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected})
    trainer = trl_trainer("dpo", PAIRS[:2], tmp_path, max_length=LENGTH, beta=0.2)
    for loss in ("sigmoid", "hinge", "ipo"):
        trainer.loss_types, trainer.loss_weights = [loss], [1.0]
        changes: Any = {"preference_loss": loss, "preference_beta": 0.2, "preference_sft": 0}
        wanted = trl_loss(trainer, examples)
        assert own_loss(base, pairs, **changes) == pytest.approx(wanted, abs=1e-5), loss


@pytest.mark.slow
@TRLS_OWN
@pytest.mark.parametrize("name", ["whole", "empty", "rated"])
def test_the_loss_of_ratings_is_trls(base: Base, tmp_path: Path, name: str) -> None:
    """But where neighbours have the same answer, which TRL takes for another one."""
    empty = [one for one in rated(case("empty_pairs.jsonl")) if not one["completion"]]
    full = rated(PAIRS)[:3]
    records = {
        "whole": rated(PAIRS)[:8],
        "empty": [full[0], empty[0], full[1], empty[1], full[2]],
        "rated": case("rated.jsonl"),
    }[name]
    trainer = trl_trainer("kto", records, tmp_path, max_length=LENGTH, beta=0.2)
    found = draws(records, "rating", tmp_path, len(records))
    own = own_loss(base, found, preference_beta=0.2, preference_sft=0)
    assert own == pytest.approx(trl_loss(trainer), abs=1e-5)


def test_an_empty_answer_is_the_end_of_the_text_and_has_its_probability(
    base: Base, tmp_path: Path
) -> None:
    (pair, *_) = draws(case("empty_pairs.jsonl"), "preference", tmp_path, 1)
    chosen, rejected = pair.sequences
    end = base.tokenizer.eos_token_id
    prompt = base.tokenizer("The hacker said")["input_ids"]
    assert rejected.tokens.tolist() == [*prompt, end]
    assert chosen.tokens[-1] == end
    with torch.no_grad():
        logits = base.model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
        own = token_logps(base.model, stacked([rejected])).sum()
    assert float(own) == pytest.approx(float(logits[end]), abs=1e-5)


def shortness(completion_ids: list[list[int]], **columns: Any) -> list[float]:
    """The reward `length` for answers that end with their last token."""
    return [-(len(tokens) - 1) / 16 for tokens in completion_ids]


@pytest.mark.slow
@TRLS_OWN
@pytest.mark.parametrize("kind", ["rloo", "grpo"])
def test_the_policy_gradient_is_trls(
    kind: Any, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss on the same answers, one of them empty; RLOO has the divergence in the reward.

    GRPO's is that of Dr. GRPO, which divides by the longest answer, with GRPO's advantages.
    """
    divergence = 0.1 if kind == "rloo" else 0.0
    settings = {} if kind == "rloo" else {"loss_type": "dr_grpo", "scale_rewards": "group"}
    end = base.tokenizer.eos_token_id
    rng = torch.Generator().manual_seed(0)
    answers = [
        torch.randint(5, 200, (size,), generator=rng).tolist()
        for size in (3, 7, 0, 5, 1, 9, 4, 2, 6, 8, 2, 12)
    ]
    trainer = trl_trainer(
        kind,
        [{"prompt": prompt} for prompt in PROMPTS],
        tmp_path,
        per_device_train_batch_size=len(answers),
        num_generations=GROUP,
        beta=divergence,
        max_completion_length=LONGEST,
        **settings,
    )
    ended = [[*tokens, end] for tokens in answers]
    turn = ended if kind == "rloo" else (ended, None)
    monkeypatch.setattr(trainer, "_generate_single_turn", lambda *arguments: turn)
    asked = [{"prompt": prompt} for prompt in PROMPTS for _ in range(GROUP)]
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1  # which `train` would set
    trainer._compute_loss(trainer.model, trainer._generate_and_score_completions(asked)).backward()
    wanted = {name: w.grad for name, w in trainer.model.named_parameters() if w.grad is not None}

    def answered(*_: Any, **__: Any) -> list[Continuation]:
        return [Continuation(one, end) for one in answers]

    recipe = Recipe(
        method="reinforce",
        rewards={"length": 1.0},
        reinforce_group=GROUP,
        reinforce_kl=divergence,
        reinforce_new_tokens=LONGEST,
        reinforce_advantage=kind,
    )
    records = [{"prompt": prompt} for prompt in PROMPTS]
    found = deck(records, "prompt", tmp_path, method="reinforce", sequence_length=48)
    prompts = [found.draw("own", number, 48) for number in range(len(PROMPTS))]
    with base.prepared(recipe, seed=0) as model:
        shaken(model)
        known = recipe, Reference(base), base.tokenizer
        reinforced(model, prompts, *known, seed=0, answer=answered).backward()
        own = {name: w.grad.clone() for name, w in model.named_parameters() if w.grad is not None}
    assert own.keys() == wanted.keys()
    largest = max(float(gradient.abs().max()) for gradient in wanted.values())
    scale = LONGEST if kind == "grpo" else 1
    for name, gradient in own.items():
        torch.testing.assert_close(
            gradient, scale * wanted[name], rtol=0, atol=1e-5 * scale * largest, msg=name
        )


@pytest.mark.slow
@TRLS_OWN
def test_the_loss_of_a_reward_model_is_trls(tmp_path: Path) -> None:
    """TRL's RewardTrainer on the same pairs, tokens and head, which predicts from the last one."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    base = Base(MODEL, head=Head("reward"))
    pairs = deck(PAIRS[:6], "comparison", tmp_path, sequence_length=LENGTH)
    drawn = [pairs.draw("own", number, LENGTH) for number in range(6)]
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    tokenizer.pad_token = tokenizer.eos_token
    trainer = RewardTrainer(
        model=base.model,
        args=RewardConfig(
            output_dir=str(tmp_path / "trl"), report_to="none", use_cpu=True, bf16=False
        ),
        train_dataset=Dataset.from_list(PAIRS[:6]),
        processing_class=tokenizer,
    )
    base.model.eval()
    examples = [
        {
            f"{name}_ids": one.tokens.tolist()
            for name, one in zip(NAMES, draw.sequences, strict=True)
        }
        for draw in drawn
    ]
    kept = [sorted(one.values()) for one in trainer.train_dataset.select_columns(list(examples[0]))]
    assert kept == [sorted(one.values()) for one in examples], "the tokens are the same"
    with torch.no_grad():
        wanted = float(trainer.compute_loss(base.model, trainer.data_collator(examples)))
        assert float(comparison_loss(base.model, drawn)) == pytest.approx(wanted, abs=1e-5)
