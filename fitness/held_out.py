"""Scores a model on held-out data: loss by domain, and what it writes for prompts."""

import math
from typing import TYPE_CHECKING, Any

from fitness.generation import generate
from fitness.metrics import score
from fitness.mixing import windows
from fitness.sources import TokenFile

if TYPE_CHECKING:
    from fitness.evaluate import EvaluationSpec, Task

BATCH_TOKENS = 4096
SAMPLES = 4


def measure(
    model: Any, tokenizer: Any, task: "Task", spec: "EvaluationSpec"
) -> tuple[dict[str, float], dict[str, list[dict[str, str]]]]:
    """Every measurement of the spec's split, and a few samples of what the model wrote."""
    measurements: dict[str, float] = {}
    for domain, splits in task.domains.items():
        loss = held_out_loss(model, splits[spec.split], task.held_out_length)
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

    total = count = 0.0
    with torch.inference_mode():
        for inputs, labels in windows(file.open(), length, max(1, BATCH_TOKENS // length)):
            ids = torch.from_numpy(inputs).to(model.device)
            targets = torch.from_numpy(labels).to(model.device)
            logits = model(input_ids=ids).logits[:, :-1].float()
            wanted = targets[:, 1:]
            total += torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), wanted.flatten(), ignore_index=-100, reduction="sum"
            ).item()
            count += int((wanted >= 0).sum())
    return total / max(1.0, count)
