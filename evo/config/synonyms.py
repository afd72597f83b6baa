"""Synonyms from other tools and papers for names in a spec: for the "did you mean" of errors.

Each word maps to the names it may stand for; the first that is valid in its place is suggested.
"""

from collections.abc import Collection

SYNONYMS = {
    # kinds of sources, methods
    **dict.fromkeys(("dpo", "ipo", "orpo", "cpo", "simpo", "pairs", "pair"), ("preference",)),
    "kto": ("rating", "preference"),
    **dict.fromkeys(("grpo", "ppo", "rloo", "rlhf", "rl", "rlvr"), ("reinforce", "prompt")),
    **dict.fromkeys(("sft", "finetune", "fine-tune"), ("supervised", "completion")),
    **dict.fromkeys(
        ("chat", "chats", "messages", "conversation", "instruction", "instruct", "sharegpt"),
        ("completion",),
    ),
    **dict.fromkeys(("pretrain", "pretraining", "plain", "corpus", "document"), ("text",)),
    **dict.fromkeys(("class", "classification", "classify"), ("label",)),
    **dict.fromkeys(("ner", "tagging", "token-classification"), ("token_classification", "tags")),
    **dict.fromkeys(("bio", "iob", "entities", "tag"), ("tags",)),
    **dict.fromkeys(("generated", "synthetic", "pool"), ("sample",)),
    # strategies
    "tpe": ("optuna:tpe",),
    "gp": ("optuna:gp", "surrogate"),
    **dict.fromkeys(("bayesian", "bo", "bayes"), ("surrogate",)),
    **dict.fromkeys(("cma", "cma-es"), ("cmaes",)),
    **dict.fromkeys(("genetic", "ga", "evolution", "nsga", "nsga-ii", "nsgaii"), ("nsga2",)),
    "nsga-iii": ("nsga3",),
    **dict.fromkeys(("regmix", "linear"), ("regression",)),
    **dict.fromkeys(("grid", "sobol", "qmc"), ("optuna:qmc", "random")),
    # keys of a recipe
    "qlora": ("lora",),
    **dict.fromkeys(("lr", "learning-rate"), ("learning_rate",)),
    **dict.fromkeys(("r", "rank"), ("lora_rank",)),
    "alpha": ("lora_alpha",),
    "target_modules": ("lora_targets",),
    **dict.fromkeys(("seq_len", "max_length", "max_seq_length"), ("sequence_length",)),
    "wd": ("weight_decay",),
    **dict.fromkeys(("warmup", "warmup_ratio", "warmup_steps"), ("warmup_share",)),
    **dict.fromkeys(("scheduler", "lr_scheduler", "lr_scheduler_type"), ("decay",)),
    **dict.fromkeys(("mask_history", "train_on", "turns"), ("learn",)),
    **dict.fromkeys(("optim", "optimiser"), ("optimizer",)),
    **dict.fromkeys(("adam", "adamw_torch", "adamw_torch_fused"), ("adamw",)),
    **dict.fromkeys(("max_grad_norm", "grad_clip", "gradient_clipping"), ("clip_norm",)),
    "beta": ("preference_beta",),
    "bf16": ("bfloat16",),
    **dict.fromkeys(("fp32", "float", "full"), ("float32",)),
    # keys of other sections
    **dict.fromkeys(("average", "avg", "weights", "sum"), ("mean",)),
    **dict.fromkeys(("maximum", "worst"), ("max",)),
    **dict.fromkeys(("minimum", "best"), ("min",)),
    **dict.fromkeys(("trials", "n_trials", "evals", "max_evals"), ("evaluations",)),
    **dict.fromkeys(("num_gpus", "gpu"), ("gpus",)),
    **dict.fromkeys(("num_cpus", "cpu", "threads"), ("cpus",)),
}


def synonym_of(word: str, known: Collection[str]) -> str | None:
    """The known name that a word from another tool or paper stands for, or None."""
    return next((name for name in SYNONYMS.get(word.casefold(), ()) if name in known), None)
