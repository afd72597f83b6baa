"""The embedded default as it is shipped: its corpus, its model, its spec."""

import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from evo import config as configuration
from evo.prepare.task import Prepared, prepare
from evo.quickstart.build import SPLITS, TARGET
from evo.quickstart.texts import KINDS

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "evo" / "quickstart"
CORPUS = FOLDER / "corpus"
FILES = sorted(CORPUS.rglob("*.jsonl"))
SOURCES = {path.stem: path for path in sorted((CORPUS / "sources").rglob("*.jsonl"))}


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(configuration.load("quickstart"))


def documents(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def texts(path: Path) -> list[str]:
    return [" ".join(document.values()) for document in documents(path)]


def runs_of_words(text: str, length: int = 8) -> set[str]:
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[place : place + length]) for place in range(len(words) - length + 1)}


def test_it_is_small_enough_to_ship() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in files) <= 8_000_000
    assert sum(p.stat().st_size for p in files if p.parent.name == "model") <= 4_000_000


def test_there_are_twelve_sources_beside_little_text_of_the_target() -> None:
    assert len(SOURCES) == 12
    sizes = {
        name: sum(len(text.encode()) for text in texts(path)) for name, path in SOURCES.items()
    }
    assert sizes.pop(TARGET) == pytest.approx(20_000, rel=0.05)
    assert min(sizes.values()) > 20_000
    assert sum(sizes.values()) > 1_500_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CORPUS)))
def test_every_document_is_valid(path: Path) -> None:
    keys = {"prompt", "reference"} if path.parent.name == "prompts" else {"text"}
    content = path.read_text(encoding="utf-8")
    assert content.endswith("\n")
    found = documents(path)
    assert len(found) == content.count("\n") >= 10
    for document in found:
        assert set(document) == keys
        for value in document.values():
            assert isinstance(value, str)
            assert value.strip()
            assert "\ufffd" not in value
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", value), value
    assert Counter(texts(path)).most_common(1)[0][1] == 1


def by_split() -> dict[str, list[str]]:
    """All texts of what may be trained on, of `selection` and of `test`."""
    return {
        "train": [text for path in FILES if path.parent.name == "sources" for text in texts(path)],
        **{s: [text for path in CORPUS.rglob(f"*.{s}.*") for text in texts(path)] for s in SPLITS},
    }


@pytest.mark.parametrize(("one", "other"), [*combinations(("train", *SPLITS), 2)])
def test_no_two_splits_share_a_text_or_much_of_its_wording(one: str, other: str) -> None:
    splits = by_split()
    assert not set(splits[one]) & set(splits[other])
    known = {run for text in splits[one] for run in runs_of_words(text)}
    shares = []
    for text in splits[other]:
        runs = runs_of_words(text)
        shares.append(len(runs & known) / max(1, len(runs)))
        assert shares[-1] <= 0.5, text  # licences and profiles of countries have stock phrases
    assert sum(shares) / len(shares) <= 0.02


def test_every_source_has_its_origin_in_the_notice() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    named = {
        name for line in re.findall(r"corpus: (.+)", notice) for name in re.findall(r"\w+", line)
    }
    assert set(SOURCES) <= named | set(KINDS)
    assert "wordnet" in named
    tasks = {path.name.split(".")[0] for path in (CORPUS / "prompts").iterdir()}
    assert all(re.search(rf"(corpus|prompts): .*\b{task}\b", notice) for task in tasks)


def test_every_file_of_the_corpus_is_in_the_spec() -> None:
    config = configuration.load("quickstart")
    used = {Path(source.path) for source in config.sources.values()}
    for domain in config.domains.values():
        used |= {Path(source.path) for source, _ in domain.splits().values()}
    for prompt_set in config.prompts.values():
        used |= {Path(getattr(prompt_set, split)) for split in SPLITS}
    used |= {CORPUS / "prompts/categories.train.jsonl"}  # of runs/checked_rounds.yaml
    assert used == set(FILES)


def test_the_spec_loads_and_prepares(prepared: Prepared) -> None:
    config = configuration.load("quickstart")
    assert set(prepared.sizes) == set(SOURCES)
    assert config.budget.tokens > 5 * prepared.sizes[TARGET]  # alone, the target would repeat
    assert min(size for name, size in prepared.sizes.items() if name != TARGET) > 5_000
    assert prepared.task.model == FOLDER / "model"
    assert 0.4e6 < sum(prepared.sizes.values()) < 2e6


def test_the_model_loads_offline_and_knows_the_general_domain(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from fitness.evaluate.held_out import held_out_loss

    monkeypatch.setattr("socket.socket.connect", lambda *arguments: pytest.fail("a connection"))
    model = AutoModelForCausalLM.from_pretrained(FOLDER / "model", local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / "model", local_files_only=True)
    assert sum(weight.numel() for weight in model.parameters()) < 1_000_000
    domains = prepared.task.domains
    general, target = (
        held_out_loss(model, domains[name]["selection"], 96) for name in ("general", "target")
    )
    assert general < 3.7
    assert general + 0.4 < target < 5  # there is something to learn, and something to forget
    for text in ("foo\u00e9\n\tbar", "  two  spaces ", "\U0001f600"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
