"""Scores of a model on held-out data: losses of domains, answers to prompts, and benchmarks."""

import math
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from fitness.benchmarks.scoring import score_benchmark
from fitness.buckets.together import Answers
from fitness.data.records import Records
from fitness.data.sources import TokenFile
from fitness.data.tokens import separator
from fitness.errors import InputError
from fitness.evaluate.items import class_items, comparison_items, items, tag_items, text_items
from fitness.evaluate.labelled import classified, compared, draws_of, tagged
from fitness.evaluation import EvaluationSpec, Task
from fitness.inference.log_probabilities import sequences_at_once, token_logps
from fitness.inference.sampling import generate, generate_each
from fitness.metrics import score
from fitness.metrics.classes import class_scores, confusion
from fitness.metrics.comparisons import comparison_scores
from fitness.metrics.spans import tag_scores
from fitness.mixture.decks import NO_LABEL, RecordDeck
from fitness.mixture.mixing import Rows, separate, stacked, together, windows
from fitness.training.masked import Masking
from fitness.training.supervised import Diverged

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SAMPLES = 4
CONFUSED = 40  # most classes whose confusion is recorded

Measured = tuple[dict[str, float], dict[str, Any]]  # measurements by name; details


def measure(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    task: Task,
    spec: EvaluationSpec,
    answers: Answers | None = None,
    *,
    packs: bool = True,
) -> Measured:
    """Measure the spec's split: measurements by name, and the evaluation's details.

    The details are a few `samples` of the model's answers, by prompt set, the scores by held-out
    item, `items` by measurement, and of classifiers the matrix of `confusion` by domain. `answers`
    are given if a bucket has generated them.
    Without `packs`, records have a row each, as `Base.packs` says.
    Raises Diverged for a loss that is not finite: such a model cannot be sampled from.
    """
    split = spec.split
    assert split == "selection" or split == "test"
    measurements: dict[str, float] = {}
    by_item: dict[str, dict[str, Any]] = {}
    confusions: dict[str, list[list[int]]] = {}
    masking = Masking.of(tokenizer) if task.head.task == "masked" else None
    end = separator(tokenizer)
    for domain, splits in task.domains.items():
        file = splits[split]
        scores, each, counts = _scores(model, file, task.held_out_length, end, masking, packs)
        if counts is not None and len(counts) <= CONFUSED:
            confusions[domain] = counts.tolist()
        if not math.isfinite(scores["loss"]):
            raise Diverged(f"{domain}/loss is {scores['loss']}")
        measurements |= {f"{domain}/{name}": value for name, value in scores.items()}
        by_item |= {f"{domain}/{name}": value for name, value in each.items()}
    samples: dict[str, list[dict[str, Any]]] = {}
    for name, settings in task.prompt_sets.items():
        prompts = task.prompts[name][split]
        if answers is not None:
            outputs = answers[name]
        else:
            sampling = settings.sampling
            outputs = generate(model, tokenizer, prompts.prompts, **sampling, seed=spec.seed)
        for metric, found in score(settings.metrics, prompts, outputs).items():
            measurements[f"{name}/{metric}"] = found.value
            if found.each is not None:
                by_item[f"{name}/{metric}"] = items("prompt", found.each)
        triples = zip(prompts.prompts, prompts.references, outputs, strict=True)
        samples[name] = [
            {"prompt": prompt, "reference": reference, "output": output}
            for prompt, reference, output in list(triples)[:SAMPLES]
        ]
    for name, benchmark in task.benchmarks.items():
        known = task.benchmark_tasks[name]
        of_tasks = score_benchmark(model, tokenizer, benchmark, known, split, seed=spec.seed)
        for measured, one in of_tasks.items():
            measurements[f"{name}/{measured}"] = one.value
            if one.sums is not None:
                by_item[f"{name}/{_of_items(measured)}"] = items("document", one.sums, one.weights)
    details: dict[str, Any] = {"samples": samples, "items": by_item}
    return measurements, {**details, **({"confusion": confusions} if confusions else {})}


def _of_items(name: str) -> str:
    """The measurement that has the items of another: of a perplexity, its loss."""
    of_task, _, metric = name.rpartition("/")
    return f"{of_task}/loss" if metric == "perplexity" else name


def answers_each(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    task: Task,
    specs: Sequence[EvaluationSpec],
) -> list[Answers]:
    """Answers of each member of a bucket to the prompts, by set; all specs have one split."""
    split = specs[0].split
    assert split == "selection" or split == "test"
    found: list[dict[str, list[str]]] = [{} for _ in specs]
    for name, settings in task.prompt_sets.items():
        prompts = task.prompts[name][split].prompts
        seeds = [spec.seed for spec in specs]
        each = generate_each(model, tokenizer, prompts, **settings.sampling, seeds=seeds)
        for own, outputs in zip(found, each, strict=True):
            own[name] = outputs
    return list(found)


def _scores(
    model: "PreTrainedModel",
    file: TokenFile,
    length: int,
    end: int,
    masking: Masking | None,
    packs: bool,
) -> tuple[dict[str, float], dict[str, dict[str, Any]], np.ndarray | None]:
    """Measurements of a domain that `metrics.HELD_OUT` lists for its kind, the same by item.

    And the confusion matrix of a classifier, else None.
    """
    if file.kind == "label":
        wanted, logits = classified(model, file, length)
        each = class_items(wanted, logits)
        return class_scores(wanted, logits), each, confusion(wanted, logits)
    if file.kind == "tags":
        sentences = tagged(model, file, length)
        return tag_scores(sentences), tag_items(sentences), None
    if file.kind == "comparison":
        margins = compared(model, file, length)
        return comparison_scores(margins), comparison_items(margins), None
    loss, each = _loss_and_items(model, file, length, end, masking, packs)
    scores = {"loss": loss, "perplexity": math.exp(loss) if loss < 700 else math.inf}
    by_item = {"loss": each}
    if file.kind == "preference" and math.isfinite(loss):
        right = chosen_likelier(model, file, length)
        scores["accuracy"] = sum(right) / len(right)
        by_item["accuracy"] = items("record", right)
    return scores, by_item, None


def held_out_loss(
    model: "PreTrainedModel",
    file: TokenFile,
    length: int,
    masking: Masking | None = None,
    packs: bool = True,
) -> float:
    """Mean cross-entropy of held-out data in nats per token; a text is cut in windows of `length`.

    For records, over the answers to prompts: for a preference, the chosen answer. For texts with
    classes, nats per text; with tags, nats per word. With `masking`, over the masked tokens, always
    the same ones.
    """
    if file.kind == "label":
        return class_scores(*classified(model, file, length))["loss"]
    if file.kind == "tags":
        return tag_scores(tagged(model, file, length))["loss"]
    if file.kind == "comparison":
        return comparison_scores(compared(model, file, length))["loss"]
    return _loss_and_items(model, file, length, -1, masking, packs)[0]


def _loss_and_items(
    model: "PreTrainedModel",
    file: TokenFile,
    length: int,
    end: int,
    masking: Masking | None,
    packs: bool,
) -> tuple[float, dict[str, Any]]:
    """The mean loss of a text or of records, and its sums by document or record.

    Without masking, the windows of a text predict each of its tokens but the first, in order.
    """
    import torch

    total, count, read = 0.0, 0, 0
    found: list[tuple[int, np.ndarray]] = []  # number of row or record; loss per label, or NaN
    with torch.inference_mode():
        for rows, numbers in _rows(model, file, length, packs):
            there = rows.labels[:, 1:] != NO_LABEL
            if masking is None:
                each = -token_logps(model, rows)
                total, count = total + each.sum().item(), count + int(there.sum())
            else:
                summed, masked, each = masking.each(model, masking.held_out(rows, first=read))
                total, count = total + summed.item(), count + masked
            values = each.double().cpu().numpy()
            apart = _apart(values, there, rows.position_ids)
            found += zip(numbers or range(len(found), len(found) + len(apart)), apart, strict=True)
            read += len(rows.input_ids)
    if masking is not None and not count:
        raise InputError(f"{file.name}: its {file.tokens} tokens are too few to mask one; add text")
    content, losses = file.open(), [each for _, each in sorted(found, key=itemgetter(0))]
    if isinstance(content, Records):
        learned = [one for one in losses if len(one)]
        sums, weights = [one.sum() for one in learned], [len(one) for one in learned]
        by_item = items("record", sums, weights)
    else:
        by_item = text_items(np.concatenate(losses), np.asarray(content), end, length)
    return total / max(1, count), by_item


def _apart(values: np.ndarray, there: np.ndarray, positions: np.ndarray | None) -> list[np.ndarray]:
    """The values of each row, (b, n), that are `there`; of each record where a row packs several.

    `positions`, (b, n + 1), start at 0 in each record.
    """
    if positions is None:
        return [row[known] for row, known in zip(values, there, strict=True)]
    begins = [np.flatnonzero(row[1:] == 0) for row in positions]
    return [
        part[known]
        for row, own, places in zip(values, there, begins, strict=True)
        for part, known in zip(np.split(row, places), np.split(own, places), strict=True)
    ]


def chosen_likelier(model: "PreTrainedModel", file: TokenFile, length: int) -> list[bool]:
    """Comparison for each preference: True if the chosen answer is more likely under the model."""
    import torch

    right: list[bool] = []
    with torch.inference_mode():
        for draws in draws_of(file, "compare", length, sequences_at_once(model, length) // 2):
            rows = stacked([draw.sequences[side] for side in (0, 1) for draw in draws])
            chosen, rejected = token_logps(model, rows).sum(1).chunk(2)
            right += (chosen > rejected).tolist()
    return right


def _rows(
    model: "PreTrainedModel", file: TokenFile, length: int, packs: bool
) -> Iterator[tuple[Rows, list[int]]]:
    """Held-out rows, and the numbers of their records where these are out of order."""
    size = sequences_at_once(model, length)
    content = file.open()
    if not isinstance(content, Records):
        yield from ((rows, []) for rows in windows(content, length, size))
        return
    deck = RecordDeck(content, "learn", length)
    read = 0
    for first in range(0, deck.draws, size):
        numbers = range(first, min(first + size, deck.draws))
        packed = [deck.draw("", number, length).sequences[0] for number in numbers]
        if packs:
            yield stacked(packed), []
            continue
        apart = list(enumerate((p for one in packed for p in separate(one)), read))
        read += len(apart)
        apart.sort(key=lambda one: -len(one[1].tokens))
        parts = [part for _, part in apart]
        for these in together([len(part.tokens) for part in parts], size * length):
            yield stacked(parts[these]), [number for number, _ in apart[these]]
