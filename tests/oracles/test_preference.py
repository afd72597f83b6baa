"""The preference losses against those of TRL on the same records."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from fitness.mixing import stacked
from fitness.models import Base
from fitness.training.supervised import token_logps
from tests.fitness.preferences import LENGTH, case, draws, own_loss, shaken
from tests.fitness.quickstart import MODEL
from tests.fitness.records import PAIRS, rated


@contextmanager
def trl_trainer(
    kind: str, records: list[dict[str, Any]], folder: Path, **settings: Any
) -> Iterator[Any]:
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    trainer, config = {
        "dpo": (trl.DPOTrainer, trl.DPOConfig),
        "kto": (trl.KTOTrainer, trl.KTOConfig),
    }[kind]
    arguments = config(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=len(records),
        report_to="none",
        use_cpu=True,
        bf16=False,
        max_length=LENGTH,
        activation_checkpointing=False,
        **settings,
    )
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    tokenizer.pad_token = tokenizer.eos_token
    yield trainer(
        model=AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32),
        ref_model=AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32),
        args=arguments,
        train_dataset=Dataset.from_list(records),
        processing_class=tokenizer,
    )


def trl_loss(trainer: Any) -> float:
    shaken(trainer.model)
    trainer.model.eval()
    columns = trainer.data_collator(list(trainer.train_dataset))
    with torch.no_grad():
        return float(trainer.compute_loss(trainer.model, columns))


TRLS_OWN = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.mark.slow
@TRLS_OWN
@pytest.mark.parametrize("loss", ["sigmoid", "hinge", "ipo"])
def test_the_losses_of_pairs_are_trls(base: Base, tmp_path: Path, loss: Any) -> None:
    settings = {"loss_type": [loss, "sft"], "loss_weights": [1.0, 0.3], "beta": 0.2}
    with trl_trainer("dpo", PAIRS[:6], tmp_path, **settings) as trainer:
        wanted = trl_loss(trainer)
    pairs = draws(PAIRS, "preference", tmp_path, 6)
    own = own_loss(base, pairs, preference_loss=loss, preference_beta=0.2, preference_sft=0.3)
    assert own == pytest.approx(wanted, abs=1e-5)


@pytest.mark.slow
@TRLS_OWN
def test_the_loss_of_ratings_is_trls(base: Base, tmp_path: Path) -> None:
    records = rated(PAIRS)[:8]
    with trl_trainer("kto", records, tmp_path, beta=0.2) as trainer:
        wanted = trl_loss(trainer)
    own = own_loss(
        base, draws(records, "rating", tmp_path, 8), preference_beta=0.2, preference_sft=0
    )
    assert own == pytest.approx(wanted, abs=1e-5)


@pytest.mark.slow
@TRLS_OWN
@pytest.mark.parametrize("loss", ["sigmoid", "ipo"])
def test_empty_answers_are_learned_as_trl_does_by_their_end(
    base: Base, tmp_path: Path, loss: Any
) -> None:
    records = case("empty_pairs.jsonl")
    settings = {"loss_type": [loss], "beta": 0.2}
    with trl_trainer("dpo", records, tmp_path, **settings) as trainer:
        wanted = trl_loss(trainer)
    pairs = draws(records, "preference", tmp_path, len(records))
    own = own_loss(base, pairs, preference_loss=loss, preference_beta=0.2, preference_sft=0)
    assert own == pytest.approx(wanted, abs=1e-5)


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
