"""A small causal language model and its tokenizer, trained from nothing on given texts.

Byte-level BPE (Sennrich et al. 2016) under a Llama-shaped decoder (Touvron et al. 2023). Meant for
models of about a million parameters on one thread: the embedded default's base model is made here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from fitness.models.exported import save_tokenizer

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
PADDING = "<|padding|>"


@dataclass(frozen=True)
class Pretraining:
    """Shape and schedule; the defaults give 0.43M parameters in three minutes of one thread."""

    vocabulary: int = 1024
    hidden: int = 96
    intermediate: int = 256
    layers: int = 3
    heads: int = 4
    positions: int = 512
    steps: int = 1_500
    batch_size: int = 16
    sequence_length: int = 128
    learning_rate: float = 4e-3
    warmup_share: float = 0.05
    final_share: float = 0.05  # of the learning rate, at the end of the cosine
    weight_decay: float = 0.1
    clip_norm: float = 1.0


def pretrain(
    texts: Sequence[str], folder: Path, *, seed: int, plan: Pretraining | None = None
) -> float:
    """Train tokenizer and model on `texts` and save both; returns the last 50 steps' mean loss.

    `folder` then loads offline with AutoTokenizer and AutoModelForCausalLM. One thread, for bits
    that do not depend on the machine's number of cores; the global torch RNG is put back.
    """
    import numpy as np
    import torch
    from transformers import LlamaForCausalLM

    plan = plan or Pretraining()
    tokenizer = train_tokenizer(texts, vocabulary=plan.vocabulary)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = LlamaForCausalLM(_shape(plan, tokenizer))
            losses = _train(model, _batches(texts, tokenizer, plan, seed), plan)
    finally:
        torch.set_num_threads(threads)
    model.eval()
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    (folder / "model.safetensors").chmod(0o644)  # the library writes it for its owner alone
    return float(np.mean(losses[-50:]))


def _shape(plan: Pretraining, tokenizer: "PreTrainedTokenizerFast") -> "LlamaConfig":
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=plan.vocabulary,
        hidden_size=plan.hidden,
        intermediate_size=plan.intermediate,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.heads,
        num_key_value_heads=plan.heads,
        max_position_embeddings=plan.positions,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _batches(
    texts: Sequence[str], tokenizer: "PreTrainedTokenizerFast", plan: Pretraining, seed: int
) -> "Iterator[Tensor]":
    """Token ids without end, (batch_size, sequence_length); each epoch in an order of its own."""
    import numpy as np
    import torch

    rng = np.random.default_rng(seed)
    encoded = [
        np.array([tokenizer.eos_token_id, *ids]) for ids in tokenizer(list(texts))["input_ids"]
    ]
    size = plan.batch_size * plan.sequence_length
    stream = np.empty(0, dtype=np.int64)
    while True:
        if len(stream) < size:
            order = rng.permutation(len(encoded))
            stream = np.concatenate([stream, *(encoded[i] for i in order)])
        batch, stream = stream[:size], stream[size:]
        yield torch.from_numpy(batch.reshape(plan.batch_size, plan.sequence_length))


def _train(
    model: "LlamaForCausalLM", batches: "Iterator[Tensor]", plan: Pretraining
) -> list[float]:
    """AdamW under a cosine schedule; the loss of every step, in nats per token."""
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=plan.learning_rate,
        betas=(0.9, 0.95),
        weight_decay=plan.weight_decay,
        fused=True,
    )
    scheduler = get_scheduler(
        "cosine_with_min_lr",
        optimizer,
        num_warmup_steps=round(plan.warmup_share * plan.steps),
        num_training_steps=plan.steps,
        scheduler_specific_kwargs={"min_lr_rate": plan.final_share},
    )
    losses = []
    model.train()
    for inputs in islice(batches, plan.steps):
        loss = model(input_ids=inputs, labels=inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), plan.clip_norm)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def train_tokenizer(texts: Sequence[str], *, vocabulary: int) -> "PreTrainedTokenizerFast":
    """Byte-level BPE whose end-of-text token also begins a text; no text is out of vocabulary."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT, PADDING],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=PADDING,
        clean_up_tokenization_spaces=False,
    )
