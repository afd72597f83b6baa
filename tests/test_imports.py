"""The import rule of the house: who may import whom, and what `evo --help` must never wait for."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("evo", "population", "fitness")
HOMES = {  # where each heavy library may be imported, as beginnings of a file's path
    "ray": tuple(f"evo/cluster/{name}.py" for name in ("queue", "worker", "connection", "gauges")),
    "deap": ("population/",),
    "fsspec": ("fitness/remote/",),
    "optuna": ("population/strategies/optuna.py", "evo/history/"),
    "sklearn": (
        "population/",
        "fitness/metrics/",
        "fitness/samples/discriminator.py",
        "fitness/reward/comparisons.py",
        "fitness/reward/traits.py",
    ),
    "lm_eval": ("fitness/benchmarks/",),
    "torch": ("fitness/",),
    "transformers": ("fitness/",),
    "trl": ("fitness/evaluate/trl.py",),
}
FORBIDDEN = {"population": {"fitness", "evo"}, "fitness": {"population", "evo"}}
HEAVY = ("ray", "torch", "transformers", "optuna", "deap", "sklearn", "pandas", "numpy")


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[str]:
    """Top-level names of all that is imported, wherever it stands, by statement or by call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0] if not node.level else "."
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func
            name = called.id if isinstance(called, ast.Name) else called
            if name in ("import_module", "__import__"):
                yield str(node.args[0].value).split(".")[0]


def breaches(path: str, source: str) -> list[str]:
    """The imports of a file that break the rule."""
    found = set(imported(ast.parse(source)))
    wrong = found & (FORBIDDEN.get(path.split("/")[0], set()) | {"."})
    wrong |= {name for name in found & HOMES.keys() if not path.startswith(HOMES[name])}
    return sorted(wrong)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_what_it_may(path: Path) -> None:
    assert breaches(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "source", "wrong"),
    [
        ("fitness/a.py", "def f():\n    from evo.config import load", ["evo"]),
        ("population/a.py", "import fitness.errors as e, numpy", ["fitness"]),
        ("fitness/a.py", "from population import space", ["population"]),
        ("evo/run.py", "if True:\n    import ray.util", ["ray"]),
        ("evo/cluster/queue.py", "import ray", []),
        (
            "evo/export/model.py",
            "from importlib import import_module\nimport_module('torch.nn')",
            ["torch"],
        ),
        ("evo/export/model.py", "__import__('transformers')", ["transformers"]),
        ("fitness/deep/er.py", "import torch, deap.tools", ["deap"]),
        ("population/strategies/tpe.py", "import optuna", ["optuna"]),
        ("evo/history/importance.py", "import optuna", []),
        ("evo/run.py", "from . import cluster", ["."]),
        ("evo/run.py", "from fitness import evaluate\nfrom population import space", []),
    ],
)
def test_the_check_finds_a_breach(path: str, source: str, wrong: list[str]) -> None:
    assert breaches(path, source) == wrong


def test_the_command_loads_nothing_heavy_until_it_is_needed() -> None:
    code = "import sys, evo.cli; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    assert set(HEAVY) & set(done.stdout.split()) == set()


def test_a_worker_with_an_evaluator_of_ones_own_never_loads_torch() -> None:
    code = (
        "import sys, evo.cluster\n"
        "from fitness.evaluate.evaluator import Evaluator\n"
        "from fitness.evaluation import Task\n"
        "Evaluator(Task('tests.evo.toy:score'))\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert loaded & {"torch", "transformers", "datasets", "optuna", "pandas", "plotly"} == set()
