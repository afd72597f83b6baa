"""Classes of short texts, beside TF-IDF and logistic regression: `NAME=classify`.

2,649 glosses of WordNet to learn 26 categories from, 128 to select by and 128 held out, as in
`runs/checked_rounds.yaml`. Contenders: logistic regression on TF-IDF of words, its penalty chosen
on the selection split; a search over the learning rate of a classification head on the quickstart's
model; the same on an encoder of 1.4 million weights, which `task: masked` has pretrained on the
quickstart's sources and these glosses first; or on `--model FOLDER`, with LoRA.
Test accuracy over the seeds of training; `items` is its binomial error. `--keep FOLDER` goes on.
"""

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from evo.history.comparison import WINNER, comparison
from evo.record.ledger import read
from tests.benchmarks.launches import finished
from tests.evo.driving import evo
from tests.fitness.classes import encoder
from tests.fitness.quickstart import CORPUS, MODEL

SPLITS = ("train", "selection", "test")
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0)
VOCABULARY = 4096
SHAPE = {"hidden_size": 128, "num_hidden_layers": 4, "intermediate_size": 512}
LENGTH = 64
MEASURED = "held/accuracy"
Record = dict[str, str]


def labelled(split: str) -> list[Record]:
    """Glosses "word: gloss" with their category."""
    lines = (CORPUS / f"prompts/categories.{split}.jsonl").read_text().splitlines()
    found = map(json.loads, lines)
    return [{"text": o["prompt"].rsplit("\n", 1)[0], "label": o["reference"]} for o in found]


def written(folder: Path, name: str, records: list[Record]) -> str:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return str(path)


def logistic() -> dict[str, float]:
    """TF-IDF of words and logistic regression, its penalty chosen by the selection split."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from threadpoolctl import threadpool_limits

    train, selection, test = (
        [[one[key] for one in labelled(split)] for key in ("text", "label")] for split in SPLITS
    )
    best = (-1.0, -1.0)
    for penalty in PENALTIES:
        words = TfidfVectorizer(sublinear_tf=True)
        model = make_pipeline(words, LogisticRegression(C=penalty, max_iter=1000))
        with threadpool_limits(1):  # more wait for each other, many times as long
            model.fit(*train)
        best = max(best, (float(model.score(*selection)), float(model.score(*test))))
    return {"selection": best[0], "test": best[1], "error": 0.0, "items": len(test[0])}


def pretrained(folder: Path, options: argparse.Namespace) -> Path:
    """An encoder that `task: masked` has pretrained on the sources and the glosses."""
    glosses = [{"text": one["text"]} for one in labelled("train")]
    sources = {path.stem: str(path) for path in sorted((CORPUS / "sources").glob("*.jsonl"))}
    sources["glosses"] = written(folder, "glosses", glosses)
    held = {
        split: {"path": written(folder, f"glosses-{split}", labelled(split))}
        for split in SPLITS[1:]
    }
    texts = [
        json.loads(line)["text"]
        for path in sources.values()
        for line in Path(path).read_text().splitlines()
    ]
    untrained = encoder(folder / "untrained", texts=texts, vocabulary=VOCABULARY, **SHAPE)
    spec = {
        "name": "pretrained",
        "model": {"base": str(untrained), "task": "masked"},
        "sources": {name: {"path": path} for name, path in sources.items()},
        "domains": {"glosses": held},
        "recipe": {"sequence_length": LENGTH, "batch_size": 32, "warmup_share": 0.1},
        "genome": {
            "mixture": {"type": "simplex", "floor": {"glosses": 0.2}},
            "learning_rate": {"type": "float", "low": 1e-3, "high": 4e-3, "log": True},
        },
        "objectives": {"glosses/loss": "minimize"},
        "baselines": ["uniform"],
        "search": {"population": 4, "simulate": "off", "replicates": 1},
        "budget": {"evaluations": 4, "tokens": options.pretraining},
        "resources": {"timeout": 7200},
        "comparison": {"seeds": 0},
    }
    return exported(launched(folder, "pretrained", spec), folder / "encoder")


def classified(
    folder: Path, name: str, base: Path, options: argparse.Namespace
) -> dict[str, float]:
    """The search for a classifier on a base, and what its winner has."""
    paths = {split: written(folder, split, labelled(split)) for split in SPLITS}
    held = {split: {"path": paths[split], "kind": "label"} for split in SPLITS[1:]}
    large = base == options.model
    rates = (1e-4, 1e-3) if large else (5e-4, 8e-3)
    adapter = {"adapter": "lora", "lora_rank": 16} if large else {}
    labels = sorted({one["label"] for one in labelled("train")})
    spec = {
        "name": name,
        "model": {"base": str(base), "task": "classification", "labels": labels},
        "sources": {"glosses": {"path": paths["train"], "kind": "label"}},
        "domains": {"held": held},
        "recipe": {"sequence_length": LENGTH, "batch_size": 32, "decay": "linear", **adapter},
        "genome": {
            "mixture": {"type": "simplex"},
            "learning_rate": dict(zip(("low", "high"), rates, strict=True))
            | {"type": "float", "log": True},
        },
        "objectives": {MEASURED: "maximize"},
        "baselines": [],
        "search": {
            "population": options.evaluations,
            "replicates": 1,
            "simulate": "off",
            "parallel": 2,
        },
        "budget": {
            "evaluations": options.evaluations,
            "tokens": 10**7,
            "epochs": {"glosses": options.epochs},
        },
        "resources": {"timeout": 7200},
        "comparison": {"seeds": options.seeds},
    }
    facts = read(launched(folder, name, spec))
    rows: list[dict[str, Any]] = comparison(facts).to_dict("records")  # type: ignore[assignment]
    row = next(o for o in rows if (o["contender"], o["measurement"]) == (WINNER, MEASURED))
    searched = [one for one in facts if one["fact"] == "evaluation" and one["status"] == "ok"]
    return {
        "selection": max(
            one["measurements"][MEASURED] for one in searched if one["split"] == "selection"
        ),
        "test": float(row["mean"]),
        "error": float(row["standard_error"]),
        "items": int(row["items"]),
    }


def launched(folder: Path, name: str, spec: dict[str, Any]) -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(spec, sort_keys=False))
    began = time.monotonic()
    run = finished(folder / name, file)
    print(f"{name}, {time.monotonic() - began:.0f} s", flush=True)
    return run


def exported(run: Path, to: Path) -> Path:
    if not to.exists():
        done = evo("export", run, "--to", to)
        if done.returncode:
            raise SystemExit(done.stderr)
    return to


def main() -> None:
    options = _options()
    found = {"TF-IDF": logistic()}
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if options.model:
            found[options.model.name] = classified(folder, "given", options.model, options)
        else:
            found["quickstart"] = classified(folder, "quickstart", MODEL, options)
            found["encoder"] = classified(folder, "small", pretrained(folder, options), options)
    print(f"{'':12}{'selection':>12}{'test':>16}{'items':>9}")
    for name, one in found.items():
        binomial = math.sqrt(one["test"] * (1 - one["test"]) / one["items"])
        test = f"{one['test']:.3f} ± {one['error']:.3f}"
        print(f"{name:12}{one['selection']:>12.3f}{test:>16}{f'± {binomial:.3f}':>9}")
    print("BENCH " + json.dumps({"name": "classify", "seeds": options.seeds, "figures": found}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=classify", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="of training (default 3)")
    parser.add_argument("--evaluations", type=int, default=4, help="of a search (default 4)")
    parser.add_argument("--epochs", type=float, default=6, help="over the glosses (default 6)")
    parser.add_argument(
        "--pretraining", type=int, default=3_000_000, help="tokens (default 3 million)"
    )
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="this base alone, with LoRA")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the runs, or go on")
    return parser.parse_args()


if __name__ == "__main__":
    main()
