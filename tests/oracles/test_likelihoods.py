"""Held-out losses, accuracies of pairs and likelihoods of samples against a model's own logits."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fitness.data.sources import TokenFile
from fitness.evaluate.held_out import chosen_likelier, held_out_loss
from fitness.inference.likelihood import likelihoods
from fitness.models.base import Base
from tests.fitness.evaluate.test_held_out import file as file
from tests.fitness.preferences import case
from tests.fitness.records import record_file
from tests.fitness.samples.pools import good, sample


@pytest.mark.parametrize("length", [2, 7, 48, 500])
def test_the_loss_is_the_mean_over_every_token_but_the_first(
    base: Base, file: TokenFile, length: int
) -> None:
    tokens = torch.tensor(file.open()[:200].astype(int))
    short = replace(file, tokens=200)
    total = 0.0
    with torch.no_grad():
        for place in range(1, len(tokens)):  # what a window of this length shows of the text before
            start = (place - 1) // (length - 1) * (length - 1)
            logits = base.model(input_ids=tokens[None, start:place]).logits[0, -1].double()
            total -= logits.log_softmax(-1)[tokens[place]].item()
    wanted = total / (len(tokens) - 1)
    assert held_out_loss(base.model, short, length) == pytest.approx(wanted, abs=1e-6)


def test_a_completion_is_scored_after_its_prompt_and_alone_as_in_a_pool(base: Base) -> None:
    import torch

    one = sample(" is a program that runs", "daemon: n.")
    tokens = [base.tokenizer(text)["input_ids"] for text in (one.prompt, one.completion)]
    ids = torch.tensor([tokens[0] + tokens[1]])
    with torch.no_grad():
        logps = base.model(ids).logits.log_softmax(-1)[0, :-1]
    each = logps.gather(1, ids[0, 1:, None])[:, 0]
    [alone] = likelihoods(base, [one])
    assert alone == pytest.approx(float(each[len(tokens[0]) - 1 :].mean()), abs=1e-5)
    assert likelihoods(base, [*good(5), one])[5] == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("name", ["empty_pairs.jsonl", "long_prompts.jsonl"])
def test_a_pair_is_right_where_its_chosen_answer_has_the_likelier_tokens(
    base: Base, tmp_path: Path, name: str
) -> None:
    """Empty answers are their end, and both answers follow what is left of the prompt."""
    length, end = 96, base.tokenizer.eos_token_id
    records = case(name)[:8]
    right = 0
    for record in records:
        prompt, *whole = (
            base.tokenizer(text)["input_ids"]
            for text in (
                record["prompt"],
                *(record["prompt"] + record[side] for side in ("chosen", "rejected")),
            )
        )
        answers = [[*tokens[len(prompt) :], end] for tokens in whole]
        kept = prompt[-(length - max(map(len, answers))) :]
        sums = []
        for answer in answers:
            ids = torch.tensor([kept + answer])
            with torch.no_grad():
                logps = base.model(ids).logits.log_softmax(-1)[0, :-1]
            each = logps.gather(1, ids[0, 1:, None])[:, 0]
            sums.append(float(each[-len(answer) :].sum()))
        right += sums[0] > sums[1]
    found = chosen_likelier(base.model, record_file(records, "preference", tmp_path), length)
    assert sum(found) / len(found) == right / len(records)
