"""Scores a model on held-out data: loss by domain, and what it writes for prompts."""

import math
from typing import Any

from fitness.evaluation import EvaluationSpec, Task
from fitness.generation import generate
from fitness.metrics import score
from fitness.mixing import NO_LABEL, windows
from fitness.sources import TokenFile
from fitness.training.supervised import Diverged

BATCH_TOKENS = 4096
BATCH_LOGITS = 2**26  # 256 MiB in float32: what bounds a batch where the vocabulary is large
SAMPLES = 4


def measure(
    model: Any, tokenizer: Any, task: Task, spec: EvaluationSpec
) -> tuple[dict[str, float], dict[str, list[dict[str, str]]]]:
    """Every measurement of the spec's split, and a few samples of what the model wrote.

    Raises Diverged for a loss that is no number: such a model cannot be sampled from.
    """
    measurements: dict[str, float] = {}
    for domain, splits in task.domains.items():
        loss = held_out_loss(model, splits[spec.split], task.held_out_length)
        if not math.isfinite(loss):
            raise Diverged(f"{domain}/loss is {loss}")
        measurements[f"{domain}/loss"] = loss
        measurements[f"{domain}/perplexity"] = math.exp(loss) if loss < 700 else math.inf
    samples: dict[str, list[dict[str, str]]] = {}
    for name, settings in task.prompt_sets.items():
        asked = task.prompts[name][spec.split]
        outputs = generate(
            model,
            tokenizer,
            asked.prompts,
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            seed=spec.seed,
        )
        for metric, value in score(settings.metrics, asked, outputs).items():
            measurements[f"{name}/{metric}"] = value
        triples = zip(asked.prompts, asked.references, outputs, strict=True)
        samples[name] = [
            {"prompt": prompt, "reference": reference, "output": output}
            for prompt, reference, output in list(triples)[:SAMPLES]
        ]
    return measurements, samples


def held_out_loss(model: Any, file: TokenFile, length: int) -> float:
    """Mean cross-entropy over a token file cut in windows of `length`, nats per token."""
    import torch

    vocabulary = model.config.get_text_config().vocab_size
    rows = max(1, min(BATCH_TOKENS, BATCH_LOGITS // vocabulary) // length)
    total = count = 0.0
    with torch.inference_mode():
        for inputs, labels in windows(file.open(), length, rows):
            ids = torch.from_numpy(inputs).to(model.device)
            wanted = torch.from_numpy(labels).to(model.device)[:, 1:]
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
            total += torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), wanted.flatten(), ignore_index=NO_LABEL, reduction="sum"
            ).item()
            count += int((labels[:, 1:] != NO_LABEL).sum())
    return total / max(1.0, count)
