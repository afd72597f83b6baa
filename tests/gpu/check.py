"""Does a GPU do what a CPU does? A table with a row for each check, and `BENCH {json}` at its end.

    python -m tests.gpu.check            # exit code 1 where a check fails

It runs on a CPU too, smaller: then the CPU is held against itself. See README.md beside this file.
"""

import gc
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from fitness.buckets.together import shared
from fitness.errors import InputError
from fitness.evaluate.evaluator import Evaluator
from fitness.evaluate.memory import predicted
from fitness.evaluation import Evaluation, EvaluationSpec, Status, Task
from fitness.models import weights
from fitness.models.quantisation import Quantisation, check_installed
from tests.fitness.allocations import measured
from tests.fitness.quickstart import small_recipe
from tests.gpu import speed, work

CUDA = torch.cuda.is_available()
HAS_8_BITS = find_spec("bitsandbytes") is not None
SECONDS = 300.0 if CUDA else math.inf  # for all of it; what would begin later fails by that
LOSSES = "--losses"  # of the tasks in a folder as JSON, for the process that compares them
AGREE = {"float32": 1e-4, "bfloat16": 2e-2}  # relative: sums in another order; 8 bits of mantissa
ROUNDED = 1e-2  # relative, of a loss in bfloat16 to the same in float32
TOGETHER = 1e-4  # nats, of a member of a bucket to its solo run: sums in another order
QUANTISED = 3e-2  # relative, of a loss beside weights in 4 bits; its own model is that coarse
PREDICTED = 0.2  # relative, of a peak of memory
INDIVIDUALS = 20
ANSWERED = (1, 32, 256) if CUDA else (1, 4)  # prompts at once
MEMBERS: tuple[dict[str, Any], ...] = (
    {},
    {"lora_rank": 4, "learning_rate": 3e-3, "dropout": 0.1},
    {"lora_rank": 16, "decay": "linear", "mixture": {"jargon": 0.2, "wordnet": 0.8}},
)
REPEATED: dict[str, dict[str, Any]] = {
    "lora": {**work.LORA, "dropout": 0.3},
    "all weights": {"dropout": 0.3},
    "dpo": work.PAIRED,
    "reinforce": work.REINFORCED,
    "bfloat16": {**work.ROUNDED, "dropout": 0.3},
    "muon": {"optimizer": "muon", "dropout": 0.3},
    "adafactor": {"optimizer": "adafactor", "dropout": 0.3},
    **({"8 bits": {"optimizer": "adamw_8bit", "dropout": 0.3}} if HAS_8_BITS else {}),
}
KINDS = [*work.CAUSAL, *work.HEADS] if CUDA else ["all weights", "dpo", "masked"]
AGAIN = list(REPEATED) if CUDA else ["lora"]
BOTH = "CPU and GPU" if CUDA else "two processes"
WIDTHS = (31, 60, 20, 6, 7)


@dataclass(frozen=True)
class Row:
    """A check: what was measured, what it must be, whether it is (None: nothing to be judged)."""

    name: str
    measured: str
    bound: str = ""
    holds: bool | None = None
    figures: dict[str, Any] = field(default_factory=dict)


def main(arguments: list[str]) -> int:
    """Print the table, a row as soon as it is known; 1 where a check fails."""
    if arguments[:1] == [LOSSES]:
        print(json.dumps(work.losses(Path(arguments[1]), set(arguments[2:]))))
        return 0
    begun = time.perf_counter()
    _print(("check", "measured", "must be", "", "seconds"))
    rows: list[Row] = []
    for check in CHECKS:
        started = time.perf_counter()
        try:
            found = list(check()) if started - begun < SECONDS else [_left_out(check)]
        except Exception as error:  # a check that breaks has failed; the others go on
            why = f"{type(error).__name__}: {error}".strip()
            found = [Row(check.__name__, why[-300:].replace("\n", " "), "no error", False)]
        seconds = time.perf_counter() - started
        for row in found:
            verdict = {True: "ok", False: "FAILED", None: "-"}[row.holds]
            _print((row.name, row.measured, row.bound, verdict, f"{seconds:.1f}"))
            seconds = 0.0
        rows += found
    failed = [row.name for row in rows if row.holds is False]
    told = {
        "ok": not failed,
        "failed": failed,
        "checks": {row.name: row.holds for row in rows},
        **{name: value for row in rows for name, value in row.figures.items()},
        "seconds": round(time.perf_counter() - begun, 1),
    }
    print(f"BENCH {json.dumps(told)}", flush=True)
    return 1 if failed else 0


def machine() -> Iterator[Row]:
    """Versions and hardware of this machine."""
    import peft
    import transformers

    name = torch.cuda.get_device_name() if CUDA else platform.processor() or platform.machine()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    versions |= {"peft": peft.__version__, "python": platform.python_version()}
    device = {"device": name, "cuda": CUDA, "cuda_version": torch.version.cuda}
    yield Row("machine", name, figures={**device, **versions})
    yield Row("versions", " ".join(f"{name} {one}" for name, one in versions.items()))


def agreement() -> Iterator[Row]:
    """All losses on this device beside those of a process that sees no GPU."""
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryDirectory() as folder:
        work.prepare(Path(folder))
        line = [sys.executable, "-m", "tests.gpu.check", LOSSES, folder, *KINDS]
        with subprocess.Popen(line, env=hidden, stdout=subprocess.PIPE, text=True) as other:
            try:
                own = work.losses(Path(folder), set(KINDS))
                printed, _ = other.communicate()
            finally:
                other.kill()
    if other.returncode:
        raise RuntimeError(f"the process without a GPU ended with {other.returncode}")
    theirs = json.loads(printed.splitlines()[-1])
    for precision, bound in AGREE.items():
        yield compared(f"{BOTH}, {precision}", own[precision], theirs[precision], bound)


def compared(name: str, own: dict[str, float], theirs: dict[str, float], bound: float) -> Row:
    """The largest relative difference of losses by name."""
    apart = {
        loss: abs(value - theirs[loss]) / max(1e-6, abs(theirs[loss]))
        for loss, value in own.items()
    }
    worst = max(apart, key=lambda loss: apart[loss] if math.isfinite(apart[loss]) else math.inf)
    alike = own.keys() == theirs.keys() and all(one <= bound for one in apart.values())
    told = f"{apart[worst]:.1e} at most, in {worst}; {len(own)} losses"
    return Row(name, told, f"{bound:g} of the loss", alike, {f"{name}: apart": apart[worst]})


def rounding() -> Iterator[Row]:
    """Training in bfloat16 learns what training in float32 does."""
    with tempfile.TemporaryDirectory() as folder:
        task = work.causal(Path(folder), prompt_sets={}, prompts={})
        plain = work.run(Evaluator(task), **work.LORA).measurements["target/loss"]
        for dtype in ("float32", "bfloat16"):
            worker = Evaluator(replace(task, dtype=dtype))
            rounded = work.run(worker, **work.ROUNDED).measurements["target/loss"]
            apart = abs(rounded - plain) / plain
            figures = {f"bfloat16 on a {dtype} base: apart": apart}
            told = f"{rounded:.4f} for {plain:.4f} nats"
            bound = f"{ROUNDED:g} of the loss"
            yield Row(f"bfloat16 on a {dtype} base", told, bound, apart <= ROUNDED, figures)


def repetition() -> Iterator[Row]:
    """A fine-tune under the same seed on another worker, and one that paused twice, to the bit."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        task = work.causal(folder, artifacts=folder / "artifacts")
        for kind in AGAIN:
            recipe = REPEATED[kind]
            first, second = Evaluator(task), Evaluator(task)
            results = [
                _result(work.run(first, 1, **recipe)),
                _result(work.run(second, 2, **recipe)),
            ]
            work.run(second, 3, fidelity=1 / 3, keep_state=True, **recipe)
            work.run(first, 3, fidelity=2 / 3, continue_from=1 / 3, keep_state=True, **recipe)
            results.append(_result(work.run(second, 3, continue_from=2 / 3, **recipe)))
            kept = [_weights(folder / "artifacts", number) for number in (1, 2, 3)]
            for name, place in (("repeated", 1), ("paused and resumed", 2)):
                equal = results[0] == results[place] and _equal(kept[0], kept[place])
                told = "weights, curve and losses are equal" if equal else "they differ"
                yield Row(f"{name}: {kind}", told, "equal to the bit", equal)


def _result(evaluation: Evaluation) -> tuple[Any, ...]:
    details = {name: one for name, one in evaluation.details.items() if name != "continued_from"}
    return dict(evaluation.measurements), details


def _weights(artifacts: Path, individual: int) -> dict[str, torch.Tensor]:
    (file,) = weights.folder_of(artifacts, individual).glob("*.safetensors")
    return load_file(file)


def _equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def bucket() -> Iterator[Row]:
    """Adapters that are trained on one forward pass, beside each trained alone."""
    with tempfile.TemporaryDirectory() as folder:
        worker = Evaluator(work.causal(Path(folder)))
        recipes = [small_recipe(**{**work.LORA, **one}) for one in MEMBERS]
        specs = [
            EvaluationSpec(number, recipe.model_dump(mode="json"), seed=number)
            for number, recipe in enumerate(recipes)
        ]
        together = worker.evaluate_bucket(specs)
        alone = [worker.evaluate(spec) for spec in specs]
    for one in (*together, *alone):
        if one.status is not Status.OK:
            raise RuntimeError(one.message)
    if len({shared(spec) for spec in specs} | {None}) != 2:
        raise RuntimeError("the members do not fit one another")
    apart, same = 0.0, 0
    for one, other in zip(together, alone, strict=True):
        curves = [[loss for _, loss in each.details["learning_curve"]] for each in (one, other)]
        losses = [
            [*c, e.measurements["target/loss"]] for c, e in zip(curves, (one, other), strict=True)
        ]
        apart = max(apart, *(abs(a - b) for a, b in zip(*losses, strict=True)))
        same += one.details["samples"] == other.details["samples"]
    told = f"{apart:.1e} nats at most, same samples in {same} of {len(specs)}"
    figures = {"bucket: apart": apart}
    yield Row(f"bucket of {len(specs)}", told, f"{TOGETHER:g} nats", apart <= TOGETHER, figures)


def memory() -> Iterator[Row]:
    """Memory after individuals of every kind, beside that before them."""
    with tempfile.TemporaryDirectory() as folder:
        worker = Evaluator(work.causal(Path(folder)))
        kinds = [work.CAUSAL[name] for name in KINDS if name in work.CAUSAL]
        kinds += [work.LORA, work.REINFORCED, {"learning_rate": 10.0, "clip_norm": 0.0}]
        plain = [small_recipe(**recipe).model_dump(mode="json") for recipe in kinds]

        def evaluate(number: int) -> Evaluation:
            return worker.evaluate(EvaluationSpec(number, plain[number % len(plain)], seed=0))

        for number in range(len(plain)):  # what a worker keeps for life is there after these
            evaluate(number)
        before = held()
        ended = [str(evaluate(number).status) for number in range(INDIVIDUALS)]
        after = held()
    told = f"{(after - before) / 1024:+.1f} KiB of {before / 2**20:.1f} MiB; " + ", ".join(
        f"{ended.count(one)} {one}" for one in sorted(set(ended))
    )
    right = after == before and Status.ERROR not in ended
    figures = {"memory: grown bytes": after - before, "memory: bytes": before}
    yield Row(f"memory after {INDIVIDUALS} individuals", told, "no change", right, figures)


def held() -> int:
    """Bytes that tensors hold: of the GPU, or, without one, of all tensors that Python knows."""
    gc.collect()
    if CUDA:
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what merely looks like a tensor when asked
        tensors = [one for one in gc.get_objects() if isinstance(one, torch.Tensor)]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def shortage() -> Iterator[Row]:
    """Memory that does not suffice is a status, and harms nobody who comes after."""
    if not CUDA:
        yield Row("out of memory", "left out: needs a GPU")
        return
    with tempfile.TemporaryDirectory() as folder:
        worker = Evaluator(work.causal(Path(folder)))
        before = work.run(worker).measurements
        torch.cuda.empty_cache()
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(torch.cuda.memory_reserved() / whole)
        recipe = small_recipe(batch_size=96).model_dump(mode="json")
        try:
            ended = worker.evaluate(EvaluationSpec(0, recipe, seed=0, fidelity=9.0)).status
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        equal = work.run(worker).measurements == before
    told = f"{ended}, and the next one {'equals' if equal else 'differs from'} the one before"
    right = ended is Status.OUT_OF_MEMORY and equal
    yield Row("out of memory", told, "a status, then equal", right)


def quantised() -> Iterator[Row]:
    """An adapter beside a base in 4 and in 8 bits: the loss beside that of a plain base, twice."""
    with tempfile.TemporaryDirectory() as folder:
        task = work.causal(Path(folder), prompt_sets={}, prompts={})
        plain = work.run(Evaluator(task), **work.LORA).measurements["target/loss"]
        kinds: tuple[Quantisation, ...] = ("nf4", "int8")
        for kind in kinds:
            try:
                check_installed("model.quantisation", kind)
            except InputError:
                yield Row(f"base in {kind}", "left out: not installed")
                continue
            worker = Evaluator(replace(task, quantisation=kind))
            first, again = (work.run(worker, **work.LORA).measurements for _ in range(2))
            apart = abs(first["target/loss"] - plain) / plain
            told = f"{first['target/loss']:.4f} for {plain:.4f} nats"
            told += ", the same again" if again == first else ", another loss again"
            right = apart <= QUANTISED and again == first
            bound = f"{QUANTISED:g} of the loss"
            yield Row(f"base in {kind}", told, bound, right, {f"{kind}: apart": apart})


def prediction() -> Iterator[Row]:
    """The peak memory that is predicted on shapes alone, beside that of the allocator."""
    with tempfile.TemporaryDirectory() as folder:
        shape = speed.BILLION if CUDA else speed.TINY
        speed.base_of(Path(folder), shape)
        recipe = speed.recipe_of(shape)
        plain = Task("builtin", Path(folder), "bfloat16", held_out_length=shape.length)
        for name, task in (
            ("LoRA", plain),
            ("LoRA, checkpointing", replace(plain, checkpointing=True)),
            ("LoRA, one row at a time", replace(plain, micro_batch=1)),
        ):
            guess, peak = predicted(task, recipe).peak, measured(task, recipe)
            told = f"{guess / 1e6:,.1f} MB for {peak / 1e6:,.1f} MB"
            figures = {f"memory of {name}: predicted share": round(guess / peak, 3)}
            right = abs(guess / peak - 1) <= PREDICTED
            yield Row(f"memory of {name}", told, f"{PREDICTED:.0%}", right, figures)


def parts() -> Iterator[Row]:
    """Logits of a large vocabulary in parts, beside all at once: loss, time and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        found = speed.in_parts(Path(folder), speed.BILLION if CUDA else speed.TINY)
    memory = "" if found.memory is None else f", {found.memory:.2f} of the memory"
    told = f"{found.apart:.1e} apart, {found.seconds:.2f} of the time{memory}"
    figures = {f"parts: {name}": value for name, value in asdict(found).items()}
    bound = AGREE["bfloat16"]
    yield Row("logits in parts", told, f"{bound:g} of the loss", found.apart <= bound, figures)


def tokens() -> Iterator[Row]:
    """Tokens a second of LoRA on a large base, beside a bare loop over the same batches."""
    with tempfile.TemporaryDirectory() as folder:
        shape = speed.BILLION if CUDA else speed.TINY
        ours, bare, size = speed.compared(Path(folder), shape)
    figures = {
        "speed: tokens a second": round(ours),
        "speed: of the bare loop": round(bare),
        "speed: share": round(ours / bare, 3),
        "speed: weights": size,
    }
    told = f"{ours:,.0f} tokens/s, bare loop {bare:,.0f}: {ours / bare:.0%}"
    yield Row(f"LoRA on {size / 1e6:,.1f} million weights", told, figures=figures)


def answers() -> Iterator[Row]:
    """Tokens a second of sampled answers, by how many prompts are answered at once."""
    with tempfile.TemporaryDirectory() as folder:
        shape = speed.BILLION if CUDA else speed.TINY
        found = {rows: speed.answering(Path(folder), shape, rows) for rows in ANSWERED}
    told = ", ".join(f"{rate:,.0f}/s of {rows}" for rows, rate in found.items())
    figures = {f"answers: tokens a second of {rows}": round(rate) for rows, rate in found.items()}
    yield Row("tokens of answers", told, figures=figures)


def compilation() -> Iterator[Row]:
    """A step with compiled layers beside one without; on a CPU the compilation takes minutes."""
    if not CUDA:
        yield Row("compiled layers", "left out: no GPU")
        return
    with tempfile.TemporaryDirectory() as folder:
        share, seconds = speed.compiled(Path(folder), speed.BILLION)
    figures = {"compiled: share of a step": round(share, 3), "compiled: seconds": round(seconds, 1)}
    told = f"{share:.2f} of a step, after {seconds:.0f} s"
    yield Row("compiled layers", told, figures=figures)


CHECKS = (
    *(machine, agreement, rounding, repetition, bucket, memory, shortage),
    *(quantised, prediction, parts, tokens, answers, compilation),
)


def _left_out(check: Callable[[], Iterator[Row]]) -> Row:
    return Row(check.__name__, f"left out: {SECONDS:.0f} s are over", "in time", False)


def _print(cells: tuple[str, ...]) -> None:
    told = [cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)]
    print("  ".join(told).rstrip(), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
