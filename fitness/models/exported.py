"""Configuration and tokenizer of an exported model: the base's own files, with the changes.

transformers rewrites configuration and tokenizer whenever it saves them, in the format of its own
version: version 5 moves `rope_theta` into `rope_parameters`, where version 4 does not look, and
names tokenizer classes that version 4 does not have. So files are copied wherever possible.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONFIG, GENERATION, TOKENIZER = "config.json", "generation_config.json", "tokenizer_config.json"
TOKENIZER_FILES = (  # what the tokenizers of transformers 4 and 5 read
    *("tokenizer.json", TOKENIZER, "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "bpe.codes", "dict.txt", "tekken.json"),
    *("normalizer.json", "*.model", "*.tiktoken", "vocab.bpe", "encoder.json", "entity_vocab.json"),
    *("chat_template.json", "*.jinja"),
)
TEMPLATES = "additional_chat_templates"
REMOTE_CODE = "auto_map"  # names files with code, which are not copied
# Version 4's names of the rotary settings of version 5, for architectures with unusual names. The
# conversion from the old names is `convert_rope_params_to_dict` of each configuration.
THETA, LOCAL_THETA, PARTIAL = "rope_theta", "rope_local_base_freq", "partial_rotary_factor"
OLD_NAMES: Mapping[str, Mapping[str, str]] = {
    "gpt_neox": {THETA: "rotary_emb_base", PARTIAL: "rotary_pct"},
    "gpt_neox_japanese": {THETA: "rotary_emb_base", PARTIAL: "rotary_pct"},
    "modernbert": {THETA: "global_rope_theta", LOCAL_THETA: "local_rope_theta"},
    "modernbert-decoder": {THETA: "global_rope_theta", LOCAL_THETA: "local_rope_theta"},
}


def write_settings(base: Path, to: Path) -> None:
    """Replace the configuration saved with the weights in `to` by the base's.

    Settings that the fine-tune changed (precision, head, labels) stay as saved, and so does the
    whole configuration where the architecture is not the base's. Generation settings are the
    base's, or removed.
    """
    _write(to / CONFIG, merged_config(base, to))
    (to / GENERATION).unlink(missing_ok=True)
    if (base / GENERATION).is_file():
        shutil.copyfile(base / GENERATION, to / GENERATION)


def merged_config(base: Path, saved: Path) -> dict[str, Any]:
    """The base's config.json, updated by the changes in the one saved with the weights."""
    content, own = _read(saved / CONFIG), _read(base / CONFIG)
    kind = content.get("model_type")
    if own.get("model_type") != kind:  # the language model of a larger one
        own = own.get("text_config") or {}
    if own.get("model_type") == kind:
        content = _updated(own, _as_read(own), _as_read(content))
        if "torch_dtype" in content and "dtype" in content:
            content["torch_dtype"] = content["dtype"]
    content = without_code(content)
    with_old = {**old_names(content), **content}
    wanted, found = _as_read(content), _as_read(with_old)
    same = all(found.get(name) == value for name, value in wanted.items())
    return with_old if same else content


def old_names(content: Mapping[str, Any]) -> dict[str, Any]:
    """The rotary settings of a config.json by the names under which transformers 4 reads them."""
    rope = content.get("rope_parameters") or {}
    if not isinstance(rope, Mapping):
        return {}
    names = OLD_NAMES.get(str(content.get("model_type")), {})
    nested = {name: one for name, one in rope.items() if isinstance(one, Mapping)}
    whole = nested.get("full_attention", {}) if nested else rope
    found = {
        names.get(key, key): whole[key] for key in (THETA, PARTIAL) if whole.get(key) is not None
    }
    local = nested.get("sliding_attention", {}).get(THETA)
    if local is not None:
        found[names.get(LOCAL_THETA, LOCAL_THETA)] = local
    scaling = {key: value for key, value in whole.items() if key not in (THETA, PARTIAL)}
    if scaling.get("rope_type", "default") != "default":
        found["rope_scaling"] = scaling
    return found


def copy_tokenizer(base: Path, to: Path) -> None:
    """The base's own tokenizer files and chat templates, byte by byte."""
    for pattern in TOKENIZER_FILES:
        for path in sorted(base.glob(pattern)):
            if path.is_file():
                shutil.copyfile(path, to / path.name)
    for path in sorted((base / TEMPLATES).glob("*.jinja")):
        (to / TEMPLATES).mkdir(exist_ok=True)
        shutil.copyfile(path, to / TEMPLATES / path.name)
    settings = to / TOKENIZER
    if settings.is_file() and REMOTE_CODE in (fields := _read(settings)):
        _write(settings, without_code(fields))


def add_padding(to: Path, token: str) -> None:
    """Set the padding token of the tokenizer in a folder, to a token in its vocabulary."""
    for name, needed in ((TOKENIZER, True), ("special_tokens_map.json", False)):
        path = to / name
        if needed or path.is_file():
            _write(path, {**(_read(path) if path.is_file() else {}), "pad_token": token})


def save_tokenizer(tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Save a tokenizer that has no files of its own yet so that transformers 4 reads it too."""
    tokenizer.save_pretrained(folder)
    fields = _read(folder / TOKENIZER)
    for key in ("backend", "is_local", "local_files_only"):
        fields.pop(key, None)
    if fields.get("tokenizer_class") == "TokenizersBackend":
        fields["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(extra := fields.pop("extra_special_tokens", None), list):
        fields["additional_special_tokens"] = extra
    elif extra is not None:
        fields["extra_special_tokens"] = extra
    _write(folder / TOKENIZER, fields)


def without_code(content: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without the keys that name files with code, at any depth."""
    return {
        name: without_code(value) if isinstance(value, Mapping) else value
        for name, value in content.items()
        if name != REMOTE_CODE
    }


def _as_read(content: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json as transformers reads it, with its defaults filled in."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(**json.loads(json.dumps(without_code(content))))
    found: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return found


def _updated(
    own: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, Any]:
    """`own`, updated by the values that differ between `before` and `after`."""
    found = dict(own)
    for name, value in after.items():
        was = before.get(name)
        if value == was or name == "transformers_version":
            continue
        if isinstance(value, Mapping) and isinstance(was, Mapping) and name.endswith("_config"):
            found[name] = _updated(own.get(name) or {}, was, value)
        else:
            found[name] = value
    return found


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
