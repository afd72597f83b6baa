"""Scores a model on held-out data: loss by domain, and what it writes for prompts."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from fitness.decks import NO_LABEL, RecordDeck
from fitness.evaluation import EvaluationSpec, Task
from fitness.generation import generate
from fitness.metrics import score
from fitness.mixing import Rows, stacked, windows
from fitness.records import Records
from fitness.sources import TokenFile
from fitness.together import Answers
from fitness.training import classification
from fitness.training.masked import held_out_masked_loss
from fitness.training.supervised import Diverged, token_logps

BATCH_TOKENS = 4096
BATCH_LOGITS = 2**26  # 256 MiB in float32: what bounds a batch where the vocabulary is large
SAMPLES = 4


def measure(
    model: Any,
    tokenizer: Any,
    task: Task,
    spec: EvaluationSpec,
    answers: Answers | None = None,
) -> tuple[dict[str, float], dict[str, list[dict[str, str]]]]:
    """Every measurement of the spec's split, and a few samples of what the model wrote.

    `answers` are given where a bucket has written them already. Raises Diverged for a loss that is
    no number: such a model cannot be sampled from.
    """
    measurements: dict[str, float] = {}
    for domain, splits in task.domains.items():
        file = splits[spec.split]
        told = held_out(model, tokenizer, task, file)
        loss = told["loss"]
        if not math.isfinite(loss):
            raise Diverged(f"{domain}/loss is {loss}")
        if file.kind != "label":
            told["perplexity"] = math.exp(loss) if loss < 700 else math.inf
        if file.kind == "preference":
            told["accuracy"] = pair_accuracy(model, file, task.held_out_length)
        measurements |= {f"{domain}/{name}": value for name, value in told.items()}
    samples: dict[str, list[dict[str, str]]] = {}
    for name, settings in task.prompt_sets.items():
        asked = task.prompts[name][spec.split]
        if answers is not None:
            outputs = answers[name]
        else:
            outputs = generate(model, tokenizer, asked.prompts, **settings.sampling, seed=spec.seed)
        for metric, value in score(settings.metrics, asked, outputs).items():
            measurements[f"{name}/{metric}"] = value
        triples = zip(asked.prompts, asked.references, outputs, strict=True)
        samples[name] = [
            {"prompt": prompt, "reference": reference, "output": output}
            for prompt, reference, output in list(triples)[:SAMPLES]
        ]
    return measurements, samples


def answers_each(
    model: Any, tokenizer: Any, task: Task, specs: Sequence[EvaluationSpec]
) -> list[Answers]:
    """What each member of a bucket, whose specs have one split, answers to the prompts of a set."""
    from fitness.bucket_generation import generate_each

    found: list[dict[str, list[str]]] = [{} for _ in specs]
    for name, settings in task.prompt_sets.items():
        prompts = task.prompts[name][specs[0].split].prompts
        seeds = [spec.seed for spec in specs]
        each = generate_each(model, tokenizer, prompts, **settings.sampling, seeds=seeds)
        for own, outputs in zip(found, each, strict=True):
            own[name] = outputs
    return list(found)


def held_out(model: Any, tokenizer: Any, task: Task, file: TokenFile) -> dict[str, float]:
    """The loss of a held-out file under the task of the model, and what else comes with it."""
    length = task.held_out_length
    size = sequences_at_once(model, length)
    if task.purpose.task == "classification":
        return classification.scores(model, file, length, size)
    if task.purpose.task == "masked":
        return {"loss": held_out_masked_loss(model, tokenizer, file, length, size)}
    return {"loss": held_out_loss(model, file, length)}


def held_out_loss(model: Any, file: TokenFile, length: int) -> float:
    """Mean cross-entropy over a text cut in windows of `length`, nats per token.

    Of records, over what answers the prompts: of a preference, the chosen answer.
    """
    import torch

    total = count = 0.0
    with torch.inference_mode():
        for rows in _rows(model, file, length):
            summed = -token_logps(model, rows).sum().item()
            total += summed
            count += int((rows.labels[:, 1:] != NO_LABEL).sum())
    return total / max(1.0, count)


def pair_accuracy(model: Any, file: TokenFile, length: int) -> float:
    """The share of preferences whose chosen answer the model finds likelier than the rejected."""
    import torch

    content = file.open()
    if not isinstance(content, Records):
        raise TypeError(f"{file.name} holds no preferences")
    deck = RecordDeck(content, "compare", length)
    size = max(1, sequences_at_once(model, length) // 2)
    right = 0
    with torch.inference_mode():
        for first in range(0, deck.draws, size):
            numbers = range(first, min(first + size, deck.draws))
            pairs = [deck.draw("", number, length).sequences for number in numbers]
            rows = stacked([pair[side] for side in (0, 1) for pair in pairs])
            chosen, rejected = token_logps(model, rows).sum(1).chunk(2)
            right += int((chosen > rejected).sum())
    return right / deck.draws


def _rows(model: Any, file: TokenFile, length: int) -> Iterator[Rows]:
    size = sequences_at_once(model, length)
    content = file.open()
    if not isinstance(content, Records):
        yield from windows(content, length, size)
        return
    deck = RecordDeck(content, "learn", length)
    for first in range(0, deck.draws, size):
        numbers = range(first, min(first + size, deck.draws))
        yield stacked([deck.draw("", number, length).sequences[0] for number in numbers])


def sequences_at_once(model: Any, length: int) -> int:
    """Sequences at a time."""
    vocabulary = model.config.get_text_config().vocab_size
    return max(1, min(BATCH_TOKENS, BATCH_LOGITS // vocabulary) // length)
