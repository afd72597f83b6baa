"""What a model is fine-tuned for: its task, the model class that follows, and a head for it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fitness.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ModelTask = Literal["causal", "classification", "masked"]

CLASSES: dict[ModelTask, str] = {
    "causal": "AutoModelForCausalLM",
    "classification": "AutoModelForSequenceClassification",
    "masked": "AutoModelForMaskedLM",
}
HEAD_SEED = 0  # of a new head's weights: the same ones in every worker and every search


@dataclass(frozen=True, slots=True)
class Purpose:
    """The task, and under classification the labels in the order of the model's outputs."""

    task: ModelTask = "causal"
    labels: tuple[str, ...] = ()


CAUSAL = Purpose()


def model_class(purpose: Purpose, folder: Path) -> Any:
    """The class of `transformers` for the task, if it has one for the architecture in the folder.

    Raises InputError for an architecture without one.
    """
    import transformers

    found = getattr(transformers, CLASSES[purpose.task])
    config = configuration(purpose, folder)
    if type(config) not in found._model_mapping:
        raise InputError(
            f"model.base {str(folder)!r}: transformers has no model of type {config.model_type!r} "
            f"for model.task {purpose.task}; choose another base or task"
        )
    return found


def configuration(purpose: Purpose, folder: Path) -> Any:
    """The model's configuration, with the labels that it is to tell apart."""
    from transformers import AutoConfig

    found = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if purpose.task == "classification":
        found.id2label = dict(enumerate(purpose.labels))
        found.label2id = {label: number for number, label in enumerate(purpose.labels)}
        found.problem_type = "single_label_classification"
        if found.pad_token_id is None:  # by which a decoder finds the last token of a row
            end = found.eos_token_id
            found.pad_token_id = (end[0] if isinstance(end, list) else end) or 0
    return found


def load(purpose: Purpose, folder: Path, dtype: str) -> Any:
    """The model for the task, in evaluation mode. Raises InputError where weights are missing.

    Only what stands above the base, the head and a pooling layer, may be new: its weights are drawn
    under a fixed seed. The global random state is left as it was.
    """
    import torch
    from transformers.utils import logging

    found = model_class(purpose, folder)
    classifying = purpose.task == "classification"
    told = logging.get_verbosity()
    logging.set_verbosity_error()  # a report of weights that are new or of another head
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(HEAD_SEED)
        model, loading = found.from_pretrained(
            folder,
            config=configuration(purpose, folder),
            dtype=getattr(torch, dtype),
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=classifying,  # a head for other labels
        )
    logging.set_verbosity(told)
    new = {*loading["missing_keys"], *(name for name, *_ in loading["mismatched_keys"])}
    missing = sorted(name for name in new if not (classifying and _above(model, name)))
    if missing:  # the library would draw them at random
        raise InputError(
            f"model.base {str(folder)!r}: {len(missing)} weights of the architecture in "
            f"config.json are not in it, such as {missing[0]}; save the whole model there"
        )
    return model


def heads(model: Any) -> list[str]:
    """Names of the modules above the base that a classification trains: the head, the pooling."""
    top = [name for name, _ in model.named_children() if name != model.base_model_prefix]
    pooling = [name for name, _ in model.named_modules() if name.rpartition(".")[2] == "pooler"]
    weighted = (name for name in (*top, *pooling) if any(True for _ in _weights(model, name)))
    return list(weighted)


def _weights(model: Any, module: str) -> Any:
    return model.get_submodule(module).parameters()


def _above(model: Any, weight: str) -> bool:
    return any(weight.startswith(f"{head}.") for head in heads(model))


def ending_token(tokenizer: "PreTrainedTokenizerBase") -> int:
    """What ends a document: the end-of-sequence token, or the separator that encoders have.

    Raises InputError where there is neither.
    """
    end = tokenizer.eos_token_id
    end = tokenizer.sep_token_id if end is None else end
    if end is None:
        raise InputError(
            f"{tokenizer.name_or_path}: the tokenizer has no end-of-sequence token, which "
            "separates documents, nor a separator; set `eos_token` in its tokenizer_config.json"
        )
    return int(end)
