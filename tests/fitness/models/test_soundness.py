"""Model folders of any content: loadable by the library, or refused in one line before a launch."""

import json
import logging
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers.utils import logging as library

from fitness.data.tokenizer import fingerprint_of_tokenizer
from fitness.errors import InputError
from fitness.models import folders, head_checks, soundness
from fitness.models.base import Base
from fitness.models.heads import Head
from fitness.quiet import quieten
from tests.fitness.models.architectures import saved
from tests.fitness.quickstart import MODEL


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVOMIX_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kinds")


def copy(tmp_path: Path, **config: Any) -> Path:
    """The quickstart's model with another configuration; None leaves a key out."""
    folder = Path(shutil.copytree(MODEL, tmp_path / "base"))
    told = {**json.loads((folder / "config.json").read_text()), **config}
    kept = {key: value for key, value in told.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))
    return folder


def checked(folder: Path) -> soundness.Soundness:
    """Check a model folder like a dry run does."""
    located = folders.locate(str(folder))
    head_checks.check(located, "causal")
    return soundness.check(located, Head())


ODD: dict[str, Any] = {
    "no type": {"model_type": None},
    "a type that nobody knows": {"model_type": "own"},
    "a type that is no text": {"model_type": [1]},
    "of its own code": {"model_type": "own", "auto_map": {"AutoConfig": "own.C"}},
    "no vocabulary": {"vocab_size": 0},
    "a negative vocabulary": {"vocab_size": -5},
    "another vocabulary": {"vocab_size": 999},
    "2^40 wide": {"hidden_size": 2**40},
    "2^40 layers": {"num_hidden_layers": 2**40},
    "a million layers": {"num_hidden_layers": 10**6},
    "no layers": {"num_hidden_layers": 0},
    "a layer more": {"num_hidden_layers": 4},
    "no heads": {"num_attention_heads": 0},
    "heads that do not divide": {"num_attention_heads": 7, "num_key_value_heads": 7},
    "a width that is text": {"hidden_size": "wide"},
    "a width of null": {"hidden_size": []},
    "an activation that nobody knows": {"hidden_act": "none such"},
    "another architecture": {"model_type": "gpt2"},
    "an encoder and a decoder": {"model_type": "t5"},
    "an encoder and a decoder by its key": {"is_encoder_decoder": True},
    "an encoder": {"architectures": ["BertForMaskedLM"], "model_type": "bert"},
    "no text at all": {"model_type": "vit"},
    "quantised": {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    "2^40 labels": {"num_labels": 2**40},
    "odd rope": {"rope_parameters": {"rope_type": "none such"}},
    "odd dtype": {"dtype": "float3"},
    "an inner configuration": {"text_config": {"vocab_size": 0}},
}


@pytest.mark.parametrize("what", ODD)
def test_an_odd_configuration_is_refused_in_one_line(what: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as told:
        checked(copy(tmp_path, **ODD[what]))
    assert "\n" not in str(told.value)
    assert "base" in str(told.value)


@pytest.mark.parametrize(
    "content", ["{}", "[]", "null", "", "{", '"llama"', '{"a": ' * 2000, "\xff"]
)
def test_a_configuration_that_is_none_is_refused(content: str, tmp_path: Path) -> None:
    folder = copy(tmp_path)
    (folder / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=r"config\.json"):
        checked(folder)


def test_architectures_that_are_no_list_of_names_do_not_matter(tmp_path: Path) -> None:
    assert checked(copy(tmp_path, architectures="LlamaForCausalLM")).packs
    shutil.rmtree(tmp_path / "base")
    assert checked(copy(tmp_path, architectures=[1, None])).packs


def test_a_tokenizer_beyond_the_embeddings_is_refused(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = copy(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<own>", "<more>"])
    tokenizer.save_pretrained(folder)
    told = r"tokens up to number 1025, '<more>', and the model embeddings for 1024 only"
    with pytest.raises(InputError, match=told):
        checked(folder)


@pytest.mark.parametrize("content", [b"{}", b"null", b"", b"\xff", b'{"model": {}}'])
def test_a_tokenizer_that_is_none_is_refused(content: bytes, tmp_path: Path) -> None:
    folder = copy(tmp_path)
    (folder / "tokenizer.json").write_bytes(content)
    with pytest.raises(InputError, match="no usable tokenizer"):
        checked(folder)


@pytest.mark.parametrize("beside", [(), ("config.json", "tokenizer.json", "model.safetensors")])
def test_a_folder_with_an_adapter_alone_is_told_to_be_merged(
    beside: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "Qwen/Qwen3-0.6B"}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    for name in beside:
        shutil.copy(MODEL / name, tmp_path)
    with pytest.raises(InputError, match=r"an adapter of Qwen/Qwen3-0\.6B.*merge it into its base"):
        folders.locate(str(tmp_path))


def test_a_second_copy_of_the_weights_does_not_count(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    before = folders.fingerprint(folder), folders.parameters(folder)
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    assert (folders.fingerprint(folder), folders.parameters(folder)) == before
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"'consolidated\.safetensors' is none that transformers"):
        folders.locate(str(folder))


def test_what_is_fetched_of_a_model_is_what_the_library_reads() -> None:
    from huggingface_hub.utils import filter_repo_objects

    there = ["model-00001-of-00002.safetensors", "model.safetensors.index.json", "tokenizer.json"]
    beside = ["consolidated.safetensors", "model.fp16.safetensors", "README.md", "original/a.pth"]
    wanted = list(filter_repo_objects([*there, *beside], allow_patterns=[*folders.MODEL_FILES]))
    assert wanted == there


def test_shards_are_those_that_the_index_names(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    whole = copy(tmp_path)
    model, folder = AutoModelForCausalLM.from_pretrained(whole), tmp_path / "shards"
    model.save_pretrained(folder, max_shard_size="500KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MODEL / name, folder)
    assert len(folders.weight_files(folder)) > 1
    assert folders.parameters(folder) == folders.parameters(whole)
    assert checked(folder) == checked(whole)
    folders.weight_files(folder)[0].unlink()
    with pytest.raises(InputError, match="which is not there; copy the whole model folder"):
        folders.locate(str(folder))


def test_a_readme_beside_a_base_changes_no_fingerprint(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    before = fingerprint_of_tokenizer(folder)
    for name in ("README.md", "LICENSE", "USE_POLICY.txt", "plot.png", "consolidated.safetensors"):
        (folder / name).write_text("told to people")
    assert fingerprint_of_tokenizer(folder) == before
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert fingerprint_of_tokenizer(folder) != before


@pytest.mark.parametrize(
    ("kind", "packs", "share", "left"),
    [
        ("mixtral", True, 0.14, "experts.gate_up_proj"),
        ("glm4_moe", True, 0.37, "shared_experts.gate_proj"),
        ("mamba", False, 0.64, "mixer.dt_proj"),
        ("opt", False, 1.0, ""),
        ("rwkv", False, 0.98, "feed_forward.time_mix_key"),
    ],
)
def test_what_an_adapter_reaches_and_whether_records_are_packed_is_told_as_a_base_does(
    kind: str, packs: bool, share: float, left: str, kinds: Path
) -> None:
    folder = saved(kind, kinds)
    found = checked(folder)
    assert found == checked(folder)  # from the cache
    assert found.packs == packs == Base(folder).probe.packs
    assert found.pads == (kind != "rwkv")
    assert found.share("all") == pytest.approx(share, abs=0.005)
    assert not left or any(role.endswith(left) for role in found.without)
    if kind == "mamba":
        with pytest.raises(InputError, match="is 'out_proj'; it has 'in_proj', 'x_proj'"):
            found.share("out_proj")


QUIET = """
import sys
from pathlib import Path
from fitness.models import soundness
from fitness.models.heads import CAUSAL
from fitness.models.base import Base
from transformers.utils import logging
for folder in map(Path, sys.argv[1:]):
    soundness.check(folder, CAUSAL)
    Base(folder)
logging.get_logger("transformers").error("an error")
"""


@pytest.mark.slow
def test_of_the_library_errors_alone_are_told(kinds: Path) -> None:
    """Run in a process of its own: some warnings are shown only once a process."""
    folders = [str(saved(kind, kinds)) for kind in ("mamba", "jamba")]
    settings = {**os.environ, "EVOMIX_CACHE": str(kinds / "quiet-cache")}
    settings.pop("TRANSFORMERS_VERBOSITY", None)

    done = subprocess.run(
        [sys.executable, "-c", QUIET, *folders],
        capture_output=True,
        text=True,
        env=settings,
        cwd=Path(__file__).parents[3],
        check=True,
    )

    assert done.stderr.strip().splitlines() == ["[transformers] an error"]
    assert done.stdout == ""


@pytest.mark.parametrize("level", [logging.INFO, logging.CRITICAL])
def test_a_level_that_somebody_chose_for_the_library_stays(level: int) -> None:
    before = library.get_verbosity()
    try:
        library.set_verbosity(level)
        quieten()
        assert library.get_verbosity() == level
    finally:
        library.set_verbosity(before)


def test_a_model_that_sees_what_comes_is_refused(kinds: Path) -> None:
    folder = saved("xlnet", kinds)
    for refused in (lambda: checked(folder), lambda: Base(folder)):
        with pytest.raises(InputError, match="sees what comes after a token"):
            refused()


TYPES: list[object] = [None, "", "\x1b[2J", [], {}, [[]], True]
CHANGES: tuple[Callable[[random.Random, dict[str, Any], str], Any], ...] = (
    lambda rng, told, key: told.pop(key),
    lambda rng, told, key: told.update({key: rng.choice([0, -1, 2**40, 1e300, 7])}),
    lambda rng, told, key: told.update({key: rng.choice(TYPES)}),
    lambda rng, told, key: told.update({key: [told[key]]}),
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_no_configuration_ends_in_a_traceback_or_passes_and_does_not_load(tmp_path: Path) -> None:
    rng, passed = random.Random(12), 0
    own = json.loads((MODEL / "config.json").read_text())
    folder = copy(tmp_path)
    for _ in range(300):
        told = dict(own)
        for _ in range(rng.choice((1, 1, 2))):
            rng.choice(CHANGES)(rng, told, rng.choice(sorted(told)))
        (folder / "config.json").write_text(json.dumps(told))
        try:
            checked(folder)
        except InputError:
            continue
        Base(folder)
        passed += 1
    assert passed > 20
