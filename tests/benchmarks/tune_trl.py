"""The search that one would write otherwise, as the documentation of its libraries has it.

Ray Tune's `Tuner` with `OptunaSearch` over a function that interleaves the sources with
`interleave_datasets` and trains with TRL's `SFTTrainer`, text packed to rows of one length. It
reads the same spec as ours: model, sources, recipe, genome, budget. Scored by our held-out loss,
which is faster than TRL's own. `pip install 'ray[tune]'` first.
"""

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.evo.driving import ROOT, environment

DECAYS = {"constant": "constant_with_warmup"}
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PARTS = ("import", "data", "trainer", "train", "score", "processor")


def run(asked: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """A search in a process of its own; of each trial scores, seconds by part, begin and end."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.tune_trl", str(folder), json.dumps(asked)],
        cwd=ROOT,
        env=environment(
            OMP_NUM_THREADS=1, HF_DATASETS_CACHE=folder / "datasets", RAY_USAGE_STATS_ENABLED=0
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-4000:])
    trials: list[dict[str, Any]] = json.loads((folder / "result.json").read_text())
    return trials


def search(asked: Mapping[str, Any], folder: Path) -> None:
    """Every trial's report to result.json."""
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    from fitness.data.documents import Source
    from fitness.data.sources import tokenise

    files = {
        name: tokenise(
            name,
            Source(**splits["selection"]),
            ROOT,
            Path(asked["model"]["base"]),
            folder / "tokens",
        )
        for name, splits in asked["domains"].items()
    }
    ray.init(num_cpus=asked["resources"]["workers"], include_dashboard=False, logging_level="ERROR")
    (objective,) = asked["objectives"]
    trial = tune.with_parameters(train, asked=dict(asked), files=files)
    tuner = tune.Tuner(
        tune.with_resources(trial, {"cpu": 1}),
        param_space={
            name: value
            for gene, settings in asked["genome"].items()
            for name, value in _space(gene, settings, asked).items()
        },
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(metric=objective, mode="min", seed=asked["seed"]),
            num_samples=asked["budget"]["evaluations"],
            max_concurrent_trials=asked["resources"]["workers"],
        ),
        run_config=tune.RunConfig(storage_path=str(folder / "tune"), verbose=0),
    )
    results = tuner.fit()
    if results.errors:
        raise SystemExit(str(results.errors[0]))
    (folder / "result.json").write_text(
        json.dumps([{**one.metrics, "config": None} for one in results], default=str)
    )


def _space(gene: str, settings: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Tune's words for a gene of ours."""
    from ray import tune

    if settings["type"] == "simplex":
        return {f"share_{name}": tune.uniform(0.0, 1.0) for name in asked["sources"]}
    if settings["type"] == "choice":
        return {gene: tune.choice([DECAYS.get(one, one) for one in settings["options"]])}
    draw = tune.loguniform if settings.get("log") else tune.uniform
    return {gene: draw(settings["low"], settings["high"])}


def _files(path: Path) -> list[str]:
    return [str(one) for one in (sorted(path.glob("*.jsonl")) if path.is_dir() else [path])]


def train(config: dict[str, Any], *, asked: Mapping[str, Any], files: Mapping[str, Any]) -> None:
    """One trial: interleave, fine-tune, score; reports the seconds of each part."""
    begun, marks = time.time(), [time.perf_counter()]

    def mark() -> None:
        marks.append(time.perf_counter())

    from datasets import interleave_datasets, load_dataset
    from peft import LoraConfig
    from ray import tune
    from trl import SFTConfig, SFTTrainer

    from fitness.evaluate.held_out import held_out_loss

    mark()
    recipe, sources = {**asked["recipe"], **config}, asked["sources"]
    # As Optuna's FAQ has it: uniform draws become a Dirichlet draw of concentration one.
    raw = {name: -math.log(max(1e-12, config[f"share_{name}"])) for name in sources}
    mixture = interleave_datasets(
        [
            load_dataset("json", data_files=_files(Path(one["path"])), split="train")
            for one in sources.values()
        ],
        probabilities=[raw[name] / math.fsum(raw.values()) for name in sources],
        seed=0,
    )
    mark()
    adapter = None
    if recipe.get("adapter") == "lora":
        told = json.loads((Path(asked["model"]["base"]) / "config.json").read_text())
        depth = told["num_hidden_layers"]
        adapter = LoraConfig(
            r=recipe["lora_rank"],
            lora_alpha=recipe["lora_alpha"],
            target_modules=list(MODULES),
            layers_to_transform=list(range(depth - recipe["lora_layers"], depth)),
        )
    rounded = recipe.get("precision") == "bfloat16"
    length, batch = recipe["sequence_length"], recipe["batch_size"]
    with tempfile.TemporaryDirectory() as output:
        trainer = SFTTrainer(
            model=asked["model"]["base"],
            args=SFTConfig(
                output_dir=output,
                max_steps=asked["budget"]["tokens"] // (batch * length),
                per_device_train_batch_size=batch,
                max_length=length,
                packing=True,
                packing_strategy="wrapped",
                learning_rate=recipe["learning_rate"],
                warmup_steps=recipe["warmup_share"],
                lr_scheduler_type=recipe["decay"],
                weight_decay=recipe["weight_decay"],
                adam_beta2=0.98,
                bf16=rounded,
                model_init_kwargs={"dtype": "bfloat16" if rounded and adapter else "float32"},
                gradient_checkpointing=False,
                use_cpu=True,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=mixture,
            peft_config=adapter,
        )
        mark()
        trainer.train()
    mark()
    model = trainer.model.eval()
    scores = {f"{name}/loss": held_out_loss(model, file, length) for name, file in files.items()}
    mark()
    spent = {n: after - before for n, before, after in zip(PARTS, marks, marks[1:], strict=False)}
    processor = time.process_time()  # of the whole trial: Tune gives each a new process
    tune.report({**scores, **spent, "begun": begun, "ended": time.time(), "processor": processor})


if __name__ == "__main__":
    search(json.loads(sys.argv[2]), Path(sys.argv[1]))
