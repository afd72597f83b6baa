import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fitness.data.prompts import Prompts, PromptSet, read_prompts
from fitness.errors import InputError
from fitness.inference import sampling
from fitness.inference.sampling import encoded_prompts, generate
from fitness.samples.write import Generation
from tests.fitness.conftest import byte_tokenizer
from tests.fitness.quickstart import MODEL

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

CONTEXT = 64
PROMPTS = ["the", "a quick brown fox", "Grüße", "", "the chairman of the assignment " * 2, "x"]


@pytest.fixture(scope="module")
def tokenizer() -> "PreTrainedTokenizerFast":
    return byte_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer: "PreTrainedTokenizerFast") -> "LlamaForCausalLM":
    """Random weights, large enough that the likeliest token stands out from rounding errors."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.3,
        attention_dropout=0.5,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(config)


@pytest.fixture
def answer(
    model: "LlamaForCausalLM", tokenizer: "PreTrainedTokenizerFast"
) -> Callable[..., list[str]]:
    def _answer(prompts: list[str] = PROMPTS, **settings: Any) -> list[str]:
        return generate(
            model,
            tokenizer,
            prompts,
            **{"max_new_tokens": 12, "seed": 0} | settings,
        )

    return _answer


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_do_not_depend_on_what_is_answered_at_once(
    rows: int,
    temperature: float,
    answer: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = answer(temperature=temperature)
    assert len(set(expected)) > 3
    monkeypatch.setattr(sampling, "ROWS", rows)
    assert answer(temperature=temperature) == expected
    assert answer(PROMPTS[::-1])[::-1] == answer()


def test_where_memory_runs_short_half_as_many_are_answered_at_once(
    answer: Callable[..., list[str]],
    model: "LlamaForCausalLM",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected, rows = answer(temperature=1.0), []
    whole = model.generate

    def short_of_memory(padded: Any, **settings: Any) -> Any:
        rows.append(len(padded))
        if len(padded) > 2:
            raise MemoryError
        return whole(padded, **settings)

    monkeypatch.setattr(model, "generate", short_of_memory)
    assert answer(temperature=1.0) == expected
    assert rows == [6, 3, 1, 1, 1, 1, 1, 1]
    monkeypatch.setattr(model, "generate", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        answer()


def test_a_gpu_answers_as_many_at_once_as_an_eighth_of_its_memory_holds(
    model: "LlamaForCausalLM", monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    cached = 2 * 2 * 2 * 8 * 64 * 4  # layers, keys and values, heads, width, tokens, bytes
    each = cached + 2 * model.config.vocab_size * 4
    assert sampling.row_bytes(model, 64) == each
    assert sampling.rows_at_once(model, 64) == sampling.ROWS

    class Parameter:
        device = torch.device("cuda")

        def element_size(self) -> int:
            return 4

    monkeypatch.setattr(model, "parameters", lambda: iter([Parameter()]))
    for memory, members, wanted in (
        (8 * each * 100, 1, 64),
        (8 * each * 100, 3, 32),
        (8 * each * 1000, 1, sampling.GPU_ROWS),
        (each, 1, 1),
    ):
        offered = SimpleNamespace(total_memory=memory)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _, it=offered: it)
        assert sampling.rows_at_once(model, 64, members) == wanted


def test_sampled_answers_follow_from_the_seed(answer: Callable[..., list[str]]) -> None:
    first = answer(temperature=1.0, seed=1)

    assert first == answer(temperature=1.0, seed=1)
    assert first != answer(temperature=1.0, seed=2)
    assert first != answer()


def test_sampling_among_almost_no_tokens_is_greedy(answer: Callable[..., list[str]]) -> None:
    assert answer(temperature=1.0, top_p=1e-6) == answer(temperature=1e-4) == answer()


def test_no_global_random_state_is_read_or_left_changed(answer: Callable[..., list[str]]) -> None:
    import torch

    def states() -> list[object]:
        return [torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())]  # noqa: NPY002

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        before = states()
        first = answer(temperature=1.0)
        assert states() == before
        torch.manual_seed(4)
        assert answer(temperature=1.0) == first


def test_every_module_keeps_its_mode(
    answer: Callable[..., list[str]], model: "LlamaForCausalLM"
) -> None:
    model.eval()
    expected = answer()
    model.train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]

    assert answer() == expected, "dropout was on"
    assert [module.training for module in model.modules()] == modes
    model.eval()


def test_a_models_own_settings_for_generation_have_no_say(
    answer: Callable[..., list[str]],
    model: "LlamaForCausalLM",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from transformers import GenerationConfig

    greedy, sampled = answer(), answer(temperature=1.0)
    own = GenerationConfig(
        do_sample=True,
        temperature=0.3,
        top_p=0.5,
        top_k=2,
        repetition_penalty=3.0,
        no_repeat_ngram_size=2,
        num_beams=2,
        min_new_tokens=12,
        suppress_tokens=[5, 6],
    )
    monkeypatch.setattr(model, "generation_config", own)

    assert answer() == greedy
    assert answer(temperature=1.0) == sampled


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks for it
def test_a_model_with_an_adapter_answers_by_itself_too(
    answer: Callable[..., list[str]],
    model: "LlamaForCausalLM",
    tokenizer: "PreTrainedTokenizerFast",
) -> None:
    from peft import LoraConfig, get_peft_model

    expected = answer()
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    try:
        assert generate(adapted, tokenizer, PROMPTS, max_new_tokens=12, seed=0) == expected
    finally:
        adapted.unload()


def test_a_prompt_too_long_for_the_context_loses_its_beginning(
    answer: Callable[..., list[str]], tokenizer: "PreTrainedTokenizerFast"
) -> None:
    text = "the quick brown fox, and a lazy dog " * 20
    kept = tokenizer.decode(tokenizer(text)["input_ids"][-(CONTEXT - 12) :])

    assert answer([text, "the"]) == answer([kept, "the"])


def test_answers_that_leave_no_room_for_a_prompt_are_refused(
    answer: Callable[..., list[str]],
) -> None:
    with pytest.raises(
        InputError, match=r"max_new_tokens is 64, .* context of 64 tokens; lower it"
    ):
        answer(max_new_tokens=CONTEXT)


def test_an_answer_ends_at_the_end_token(
    answer: Callable[..., list[str]],
    model: "LlamaForCausalLM",
    tokenizer: "PreTrainedTokenizerFast",
) -> None:
    ids = tokenizer(answer(["the"])[0])["input_ids"]
    place = next(n for n, token in enumerate(ids) if n > 3 and token not in ids[:n])
    ending = byte_tokenizer(eos_token=tokenizer.convert_ids_to_tokens(ids[place]))

    ended = generate(model, ending, ["the"], max_new_tokens=12, seed=0)

    assert ended == [tokenizer.decode(ids[:place])]


def test_no_prompts_have_no_answers(answer: Callable[..., list[str]]) -> None:
    assert answer([]) == []


def settings_for(path: Path, **settings: Any) -> PromptSet:
    return PromptSet(selection=str(path), test="test.jsonl", **settings)


def test_prompts_are_read_with_their_references(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"prompt": f"p{n}", "reference": f"r{n}", "note": 1} for n in range(5)]
    path.write_text("\n".join(map(json.dumps, rows)))

    found = read_prompts("prompts.a", str(path), settings_for(path, limit=2), MODEL)

    assert found == Prompts(["p0", "p1"], ["r0", "r1"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"prompt": "a"}', r"^prompts.a: .*a\.jsonl:1: no column 'reference', it has 'prompt'"),
        ('{"prompt": "a", "reference": 1}', r"a\.jsonl:1: 'reference' is 1, a int"),
        ('\n{"prompt"', r"a\.jsonl:2: is not JSON"),
        ("", "holds no prompts"),
    ],
)
def test_bad_prompts_are_named_by_file_and_line(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content)

    with pytest.raises(InputError, match=message):
        read_prompts("prompts.a", str(path), settings_for(path), MODEL)


def test_prompts_that_are_not_there_are_answered_with_a_neighbour(tmp_path: Path) -> None:
    (tmp_path / "jargon.jsonl").touch()
    path = tmp_path / "jargn.jsonl"

    with pytest.raises(InputError, match=r"did you mean 'jargon\.jsonl'"):
        read_prompts("prompts.a", str(path), settings_for(path), MODEL)
    with pytest.raises(InputError, match="is a folder"):
        read_prompts("prompts.a", str(tmp_path), settings_for(path), MODEL)


@pytest.mark.parametrize("opened", [True, False])
def test_a_chat_is_asked_as_the_template_has_it_and_opened_once(
    opened: bool, tmp_path: Path, model: "LlamaForCausalLM"
) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer(bos_token="<s>")
    if opened:
        number = tokenizer.bos_token_id
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", number)]
        )
    tokenizer.chat_template = (
        "<s>{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "a.jsonl"
    chat = [{"role": "user", "content": "hello"}]
    path.write_text(json.dumps({"prompt": chat, "reference": "hi"}))

    found = read_prompts("prompts.a", str(path), settings_for(path), tmp_path)

    (encoded,) = encoded_prompts(model, tokenizer, found.prompts, 4)
    assert tokenizer.decode(encoded) == "<s>user: hello\nassistant:"
    path.write_text(json.dumps({"prompt": [{"role": "user"}], "reference": "hi"}))
    with pytest.raises(InputError, match=r"a\.jsonl:1: 'prompt' must hold messages like"):
        read_prompts("prompts.a", str(path), settings_for(path), tmp_path)
    path.write_text(json.dumps({"prompt": chat, "reference": "hi"}))
    with pytest.raises(InputError, match=r"a\.jsonl:1: .*no chat template"):
        read_prompts("prompts.a", str(path), settings_for(path), MODEL)


def test_beams_and_a_temperature_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="set temperature to 0, or num_beams to 1"):
        PromptSet(selection="a", test="b", num_beams=2, temperature=0.5)
    with pytest.raises(ValueError, match="set temperature to 0, or num_beams to 1"):
        Generation(num_beams=2)
    assert Generation(num_beams=2, temperature=0).num_beams == 2
