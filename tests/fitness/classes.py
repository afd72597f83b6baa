"""Texts with classes, and a small encoder: passages of the embedded default's sources by source."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from fitness.data.documents import Source, documents
from fitness.data.sources import TokenFile, tokenise
from fitness.evaluation import Task
from fitness.models.heads import Head
from tests.fitness.quickstart import CORPUS, MODEL

NAMES = ("austen", "devil", "factbook", "python")
HEAD = Head("classification", NAMES)
SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
LENGTH = 32


@cache
def passages(name: str) -> list[str]:
    """The beginnings of a source's documents."""
    source = Source(path=f"sources/{name}.jsonl", limit=120)
    return [" ".join(text.split()[:30]) for text in documents(source, CORPUS)]


def write_labelled(path: Path, *, first: int, last: int, names: Mapping[str, str] = {}) -> Path:
    """So many passages of each source as {text, label}; `names` calls a class otherwise."""
    lines = [
        json.dumps({"text": text, "label": names.get(name, name)}) + "\n"
        for place in range(first, last)
        for name in NAMES
        if (text := passages(name)[place])
    ]
    path.write_text("".join(lines))
    return path


def labelled(
    folder: Path, model: Path, *, first: int, last: int, labels: tuple[str, ...] = NAMES
) -> TokenFile:
    path = write_labelled(folder / f"{first}-{last}.jsonl", first=first, last=last)
    source = Source(path=str(path), kind="label")
    return tokenise("sources.passages", source, folder, model, folder, labels=labels)


def encoder(folder: Path, texts: Sequence[str] = (), vocabulary: int = 800, **config: Any) -> Path:
    """A BERT of two layers, untrained, with a tokenizer of these texts; returns its folder."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    words = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    words.normalizer = normalizers.BertNormalizer()
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = list(SPECIAL.values())
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary, special_tokens=special, show_progress=False
    )
    read = texts or [text for name in NAMES for text in passages(name)]
    words.train_from_iterator(read, trainer)
    ends = [(token, words.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    named = {f"{name}_token": token for name, token in SPECIAL.items()}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **named)
    values: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 96,
        "max_position_embeddings": 128,
        "pad_token_id": tokenizer.pad_token_id,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = BertForMaskedLM(BertConfig(**{**values, **config}))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def classifying(folder: Path, model: Path = MODEL, **changes: Any) -> Task:
    """Classification of passages by source: 80 of each to learn from, 40 others held out."""
    held_out = labelled(folder, model, first=80, last=120)
    values: dict[str, Any] = {
        "model": model,
        "head": HEAD,
        "sources": {"passages": labelled(folder, model, first=0, last=80)},
        "domains": {"held": {"selection": held_out, "test": held_out}},
        "budget_tokens": 80 * 8 * LENGTH,
        "held_out_length": LENGTH,
    }
    return Task("builtin", **{**values, **changes})
