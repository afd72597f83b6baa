"""Examples of each command, shown at the end of its `--help`."""

EXAMPLES = {
    "": (
        "evo launch quickstart                        a first search, in a few minutes",
        "evo init mine                                a spec to edit: your data, your model",
        "evo launch mine/search.yaml --dry-run        checks it, trains nothing",
        "evo status runs/NAME --watch                 how far it is",
        "evo export runs/NAME --to model              the best model as a folder",
    ),
    "launch": (
        "evo launch quickstart",
        "evo launch search.yaml --dry-run",
        "evo launch search.yaml --run runs/first --set budget.evaluations=40",
        "evo launch search.yaml --from runs/first runs/second",
        "evo launch search.yaml --address auto --run runs/first --or-resume",
    ),
    "resume": (
        "evo resume runs/first",
        "evo resume runs/first --set budget.evaluations=200",
        "evo resume s3://bucket/runs/first            on another machine",
    ),
    "ls": ("evo ls", "evo ls runs elsewhere/runs --json"),
    "status": ("evo status runs/first", "evo status runs/first --watch"),
    "history": (
        "evo history runs/first",
        "evo history runs/first --csv table.csv",
        "evo history runs/first | head -3             CSV, as for any pipe",
        "evo history runs/first --optuna journal.log",
    ),
    "report": ("evo report runs/first --open",),
    "watch": ("evo watch runs/first --open",),
    "track": (
        "evo track runs/first --to tensorboard",
        "evo track runs/first --to mlflow --set uri=http://127.0.0.1:5000",
    ),
    "compare": ("evo compare runs/first runs/second --html curves.html",),
    "export": (
        "evo export runs/first --to model",
        "evo export runs/first --individual 12 --to model-12",
        "evo export runs/first --adapter --to adapter",
        "evo export runs/first --as trl --to for-trl",
    ),
    "generate": (
        "evo generate runs/first --to pool.jsonl --samples 500",
        "evo generate runs/first --to pool.jsonl --prompts prompts.jsonl --from-prompts 1",
    ),
    "pool": (
        "evo pool pool.jsonl",
        "evo pool pool.jsonl --keep realness=0.5",
        "evo pool pool.jsonl --judged-in runs/first --to judged.jsonl",
    ),
    "replay": ("evo replay runs.csv --roles roles.yaml --strategy nsga2 --budget 50 --seeds 10",),
    "feedback": (
        "evo feedback runs/first                      opens the page for people who judge",
        "evo feedback report runs/first",
    ),
    "feedback open": (
        "evo feedback runs/first",
        "evo feedback open runs/first --individuals best --choose active --count 30",
    ),
    "feedback report": ("evo feedback report runs/first",),
    "feedback export": ("evo feedback export runs/first --as preference pairs.jsonl",),
    "feedback import": ("evo feedback import runs/first judged.jsonl --annotator ada",),
    "feedback refine": ("evo feedback refine runs/first --with models/critic --to refined",),
    "feedback judge": ("evo feedback judge runs/first --with http://localhost:8000/v1#model",),
    "init": ("evo init mine",),
    "completion": (
        "evo completion bash > ~/.local/share/bash-completion/completions/evo",
        "evo completion fish > ~/.config/fish/completions/evo.fish",
    ),
    "schema": ("evo schema > search.schema.json",),
}


def epilog(name: str) -> str:
    """The examples of a command as the end of its help."""
    return "examples:\n" + "\n".join(f"  {line}" for line in EXAMPLES[name])
