"""One individual's training beside a bare loop and TRL: `make bench NAME=training`, 10 minutes.

The same model, token batches, steps and precision in three ways: the fine-tune of a worker, a loop
that has nothing but what training takes, and TRL's SFTTrainer, given the tokens ready made. Each
measurement is a process of its own with one thread, in turns, so that whatever else the machine
does falls on all alike; a few steps go before it. Ratios are of processor time, which other work
on the machine lengthens less, and of wall time. Set-up is what each individual costs besides its
steps: for us lending the base, for TRL building a trainer, which loads the model. Peak memory is
the largest resident set of the process. `pip install trl` first; `--model FOLDER` adds a larger
model to the quickstart's.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tests.evo.driving import ROOT, environment

KINDS = ("evomix", "bare", "trl")
WARM_STEPS = 2
Moment = tuple[float, float]  # seconds, of the clock and of the processor
Trained = tuple[Moment, Moment, Any]  # when training began and ended, and the model


@dataclass(frozen=True)
class Case:
    """Settings: the model, the method and the amount of data."""

    name: str
    model: str  # a folder
    dtype: str
    steps: int
    recipe: dict[str, Any]
    checkpointing: bool = False


def cases(larger: Path | None) -> list[Case]:
    from tests.fitness.quickstart import MODEL

    small = {"batch_size": 16, "sequence_length": 96, "warmup_share": 0}
    lora = {"adapter": "lora", "lora_rank": 8, "lora_alpha": 16.0}
    found = [
        Case("quickstart, all weights", str(MODEL), "float32", 80, small),
        Case("quickstart, LoRA", str(MODEL), "float32", 80, {**small, **lora}),
    ]
    if larger is not None:
        mixed = {**small, "batch_size": 8, "sequence_length": 64, "precision": "bfloat16"}
        mixed["learning_rate"] = 1e-4
        found += [
            Case(f"{larger.name}, all weights", str(larger), "float32", 8, mixed),
            Case(f"{larger.name}, LoRA", str(larger), "bfloat16", 8, {**mixed, **lora}),
        ]
    return found


class Individual:
    """One case in a process of its own: its recipe, its data, and three ways to train on them."""

    def __init__(self, case: Case) -> None:
        from tests.fitness.quickstart import corpus_path, small_recipe, token_file, tokens_of

        self.case = case
        self.recipe = small_recipe(**case.recipe)
        self.folder = Path(case.model)
        with tempfile.TemporaryDirectory() as cache:
            if case.model == str(small_model()):
                files = {
                    name: token_file(corpus_path(f"sources/{name}"), Path(cache))
                    for name in self.recipe.mixture
                }
                self.tokens = {name: tokens_of(file) for name, file in files.items()}
            else:
                self.tokens = dict.fromkeys(self.recipe.mixture, self._text())

    def _text(self) -> Any:
        import numpy as np
        from transformers import AutoTokenizer

        from tests.fitness.quickstart import CORPUS

        text = (CORPUS / "sources" / "jargon.jsonl").read_text(encoding="utf-8")
        tokenizer = AutoTokenizer.from_pretrained(self.folder)
        return np.array(tokenizer(text)["input_ids"], dtype=np.int64)

    def batches(self) -> Iterator[Any]:
        from fitness.mixture.decks import Windows
        from fitness.mixture.mixing import Mixing

        recipe = self.recipe
        length = recipe.sequence_length
        mixing = Mixing(
            recipe.mixture,
            {name: Windows(tokens, length) for name, tokens in self.tokens.items()},
            budget_tokens=self.case.steps * recipe.batch_size * recipe.sequence_length,
            sequence_length=recipe.sequence_length,
            seed=0,
        )
        return mixing.batches(recipe.batch_size)

    def measure(self, kind: str) -> dict[str, Any]:
        """Seconds of set-up and of training, the loss afterwards, and the peak in MiB."""
        import torch

        torch.set_num_threads(1)
        torch.manual_seed(0)
        way = getattr(self, f"_{kind}")()
        with way(WARM_STEPS):
            pass
        started = now()
        with way(self.case.steps) as (begun, ended, model):
            loss = self._loss(model)
        peak = next(
            int(line.split()[1])
            for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith("VmHWM")
        )
        return {
            "setup_seconds": begun[0] - started[0],
            "setup_processor": begun[1] - started[1],
            "train_seconds": ended[0] - begun[0],
            "train_processor": ended[1] - begun[1],
            "loss_after": loss,
            "peak_mib": peak / 1024,
        }

    def _loss(self, model: Any) -> float:
        """On the first batch."""
        import torch

        inputs, labels = map(torch.from_numpy, next(self.batches())[:2])
        with torch.no_grad():
            return float(model.eval()(input_ids=inputs, labels=labels).loss)

    def _evomix(self) -> Any:
        from fitness.models.base import Base
        from fitness.training.supervised import finetune

        base = Base(self.folder, self.case.dtype)

        @contextmanager
        def way(steps: int) -> Iterator[Trained]:
            with base.prepared(self.recipe, seed=0) as model:
                begun = now()
                batches = islice(self.batches(), steps)
                finetune(model, self.recipe, batches, steps=steps, seed=0)
                yield begun, now(), model

        return way

    def _bare(self) -> Any:
        from transformers import AutoModelForCausalLM

        batches = list(self.batches())

        @contextmanager
        def way(steps: int) -> Iterator[Trained]:
            model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=self.case.dtype)
            if self.recipe.adapter != "none":
                from peft import get_peft_model

                model = get_peft_model(model, self._lora())
            begun = now()
            bare_loop(model, batches[:steps], self.recipe)
            yield begun, now(), model

        return way

    def _trl(self) -> Any:
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        rows = [row.tolist() for batch in self.batches() for row in batch.input_ids]
        recipe = self.recipe

        @contextmanager
        def way(steps: int) -> Iterator[Trained]:
            with tempfile.TemporaryDirectory() as output:
                settings = SFTConfig(
                    output_dir=output,
                    max_steps=steps,
                    per_device_train_batch_size=recipe.batch_size,
                    max_length=recipe.sequence_length,
                    learning_rate=recipe.learning_rate,
                    lr_scheduler_type=recipe.decay,
                    warmup_steps=recipe.warmup_share,
                    weight_decay=recipe.weight_decay,
                    adam_beta2=recipe.beta2,
                    max_grad_norm=recipe.clip_norm,
                    bf16=recipe.precision == "bfloat16",
                    gradient_checkpointing=self.case.checkpointing,
                    train_sampling_strategy="sequential",
                    model_init_kwargs={"dtype": self.case.dtype},
                    use_cpu=True,
                    save_strategy="no",
                    report_to="none",
                    disable_tqdm=True,
                )
                trainer = SFTTrainer(
                    model=str(self.folder),
                    args=settings,
                    train_dataset=Dataset.from_dict({"input_ids": rows}),
                    peft_config=self._lora() if recipe.adapter != "none" else None,
                )
                begun = now()
                trainer.train()
                yield begun, now(), trainer.model

        return way

    def _lora(self) -> Any:
        from peft import LoraConfig

        return LoraConfig(
            r=self.recipe.lora_rank,
            lora_alpha=self.recipe.lora_alpha,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )


def small_model() -> Path:
    from tests.fitness.quickstart import MODEL

    return MODEL


def now() -> Moment:
    return time.perf_counter(), time.process_time()


def bare_loop(model: Any, batches: list[Any], recipe: Any) -> None:
    """Nothing but what training takes."""
    import torch

    model.train()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    matrices, vectors = ([w for w in trained if (w.ndim > 1) == big] for big in (True, False))
    groups: list[dict[str, Any]] = [
        {"params": matrices},
        {"params": vectors, "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(
        groups,
        lr=recipe.learning_rate,
        betas=(0.9, recipe.beta2),
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(adam, len(batches))
    mixed = recipe.precision == "bfloat16"
    for inputs, labels, *_ in batches:
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            loss = model(
                input_ids=torch.from_numpy(inputs),
                labels=torch.from_numpy(labels),
                use_cache=False,
            ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, recipe.clip_norm)
        adam.step()
        adam.zero_grad()
        rates.step()


def measured(case: Case, kind: str) -> dict[str, Any]:
    line = [sys.executable, "-m", "tests.benchmarks.training", "--child", kind]
    done = subprocess.run(
        [*line, json.dumps(asdict(case))],
        cwd=ROOT,
        env=environment(OMP_NUM_THREADS=1, HF_HUB_OFFLINE=1),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{case.name}, {kind}: {done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compared(case: Case, repetitions: int) -> dict[str, Any]:
    """Prints a line a way; ratios are medians over turns that ran one after the other."""
    turns = [{kind: measured(case, kind) for kind in KINDS} for _ in range(repetitions)]

    def median(kind: str, figure: str) -> float:
        return statistics.median(turn[kind][figure] for turn in turns)

    def ratio(kind: str, *figures: str) -> float:
        """Speed of evomix relative to `kind`."""
        return statistics.median(
            sum(turn[kind][name] for name in figures)
            / sum(turn["evomix"][name] for name in figures)
            for turn in turns
        )

    def ratios(kind: str) -> dict[str, float]:
        return {
            "training": ratio(kind, "train_processor"),
            "training, wall": ratio(kind, "train_seconds"),
            "with set-up": ratio(kind, "setup_processor", "train_processor"),
            "with set-up, wall": ratio(kind, "setup_seconds", "train_seconds"),
            "peak memory": median("evomix", "peak_mib") / median(kind, "peak_mib"),
        }

    tokens = case.steps * case.recipe["batch_size"] * case.recipe["sequence_length"]
    print(f"\n{case.name}: {case.steps} steps, {repetitions} turns, medians of processor time")
    print(f"{'':8} {'tokens/s':>9} {'set-up s':>9} {'train s':>9} {'loss':>9} {'peak MiB':>9}")
    for kind in KINDS:
        columns = ("setup_processor", "train_processor", "loss_after", "peak_mib")
        shown = " ".join(f"{median(kind, name):9.3f}" for name in columns)
        print(f"{kind:8} {tokens / median(kind, 'train_processor'):9.0f} {shown}")
    found = {kind: ratios(kind) for kind in ("bare", "trl")}
    for kind, figures in found.items():
        told = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
        print(f"times the speed of {kind}: {told}", flush=True)
    return {"case": case.name, "peak_mib": {k: median(k, "peak_mib") for k in KINDS}, **found}


def main() -> None:
    options = _options()
    if options.child:
        kind, case = options.child
        figures = Individual(Case(**json.loads(case))).measure(kind)
        print(json.dumps(figures))
        return
    found = [compared(case, options.turns) for case in cases(options.model)]
    print("BENCH " + json.dumps({"name": "training", "turns": options.turns, "cases": found}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=training", description=__doc__)
    parser.add_argument("--turns", type=int, default=5, help="measurements of each (default 5)")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="a larger model beside it")
    parser.add_argument("--child", nargs=2, metavar=("KIND", "CASE"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    main()
