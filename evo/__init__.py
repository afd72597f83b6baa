"""evomix evolves how a language model is fine-tuned: data mixture, hyperparameters, method.

    import evo

    run = evo.launch(evo.load("search.yaml", ["budget.evaluations=12"]), "runs/mine")
    run.comparison()  # the test split
    model, tokenizer = run.load_model()

The other modules may change without notice.
"""

from evo.api import Run, Scored, launch, load, open_run, resume
from fitness.errors import InputError

__all__ = ["InputError", "Run", "Scored", "launch", "load", "open_run", "resume"]
