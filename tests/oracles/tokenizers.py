"""Small tokenizers of the kinds that models have, each trained on a few sentences."""

from typing import TYPE_CHECKING

from tests.fitness.conftest import byte_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

TEXTS = [
    "Question: what is the capital of France? Answer: Paris, of course.",
    "the quick brown fox jumps over the lazy dog, and the dog  sleeps.\n\nIt is late.",
    "user Hello there assistant Hi, how can I help you today?",
]
TEMPLATE = (
    "{{ bos_token or '' }}{% for tool in tools or [] %}<{{ tool | tojson }}>\n{% endfor %}"
    "{% for message in messages %}[{{ message.role }}]\n{{ message.content }}"
    "{% for call in message.tool_calls or [] %}{{ call.function | tojson }}{% endfor %}"
    "{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]\n"
    "{% if enable_thinking is defined and not enable_thinking %}(no thought)\n{% endif %}"
    "{% endif %}"
)
OPENS_THINKING = TEMPLATE.replace("[assistant]\n{% if", "[assistant]\n<think>\n{% if")
KINDS = ("byte", "legacy", "metaspace", "gemma")


def tokenizer_of(kind: str) -> "PreTrainedTokenizerFast":
    """Byte-level BPE; Llama 2's in the way that marks words anew behind each special token, and in
    that which marks the first only; and Gemma's, which adds no mark."""
    if kind == "byte":
        return byte_tokenizer(chat_template=TEMPLATE)
    from tokenizers import AddedToken, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    bpe = _trained()
    if kind == "legacy":
        mark, spaces = normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")
        bpe.normalizer = normalizers.Sequence([mark, spaces])
        bpe.pre_tokenizer = None
    elif kind == "gemma":
        bpe.normalizer = normalizers.Replace(" ", "▁")
        bpe.pre_tokenizer = None
    else:
        bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    for name in ("<s>", "</s>"):
        bpe.add_special_tokens([AddedToken(name, normalized=False, special=True)])
    begin = bpe.token_to_id("<s>")
    bpe.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", begin)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        chat_template=TEMPLATE,
    )


def _trained() -> "Tokenizer":
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace()
    marks = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<unk>", "<s>", "</s>", *marks],
        initial_alphabet=["▁"],
        show_progress=False,
    )
    bpe.train_from_iterator(TEXTS, trainer)
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    bpe.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)])
    return bpe
