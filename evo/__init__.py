"""evomix evolves how a language model is fine-tuned: data mixture, hyperparameters, method.

    import evo

    run = evo.launch(evo.load("search.yaml", ["budget.evaluations=12"]), "runs/mine")
    run.comparison()  # the test split
    model, tokenizer = run.load_model()

The other modules may change without notice.
"""

from typing import Any

from evo.api import Run, Scored, launch, load, open_run, resume
from fitness.errors import InputError

__all__ = [
    "ClusterError",
    "InputError",
    "Run",
    "Scored",
    "launch",
    "load",
    "open_run",
    "resume",
]


def __getattr__(name: str) -> Any:
    if name == "ClusterError":
        from evo.cluster.connection import ClusterError

        return ClusterError
    raise AttributeError(f"module 'evo' has no attribute {name!r}")
