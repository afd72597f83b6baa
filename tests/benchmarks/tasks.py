"""Tasks of the benchmarks: tables of finished runs, and held-out ones to guard against tuning.

`PUBLIC` are the tasks that claims are made on. `HELD_OUT` are for checking afterwards, never for
choosing a setting: a public table of another kind, and those of `tests.benchmarks.synthetic`.
`AGGREGATED` have objectives that are means of several losses.
"""

import csv
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evo.replay import Table, read_table
from tests.benchmarks.synthetic import MANY, SURFACES

DOMAINS = "domains"  # the made-up surface of many rows
PILE = "pile_1m_train.csv"
PILE_LOSSES = (
    *("arxiv", "freelaw", "pubmed_central", "wikipedia_en", "dm_mathematics", "github"),
    *("stackexchange", "gutenberg_pg_19", "pile_cc", "ubuntu_irc", "hackernews"),
    *("pubmed_abstracts", "uspto_backgrounds", "mean13"),
)
# Rank correlations of -.15, -.18 and .00 over the rows: fronts with two real ends.
PILE_PAIRS = (("github", "pile_cc"), ("arxiv", "pile_cc"), ("wikipedia_en", "pubmed_central"))
DEBERTA = {
    "float": {"learning_rate": {"log": True}, "cls_drop_out": {}},
    "int": ["num_train_epochs", "train_batch_size", "warmup_steps"],
    "objectives": {"final_acc_matched": "maximize"},
}
# 43 kinds of adapter in 63 runs. The number of parameters stands for the ranks and sizes that only
# some kinds have.
PEFT = {
    "choice": ["peft_type"],
    "float": {"lr": {"log": True}, "trainable_params": {"log": True}},
}


@dataclass(frozen=True)
class Task:
    """`table` is a file in the folder of tables, or the name of a synthetic surface."""

    name: str
    table: str
    roles: dict[str, Any]
    budgets: tuple[int, ...] = (25, 50, 100)

    @property
    def objectives(self) -> int:
        return len(self.roles["objectives"])

    def read(self, tables: Path) -> Table:
        with tempfile.TemporaryDirectory() as folder:
            roles = Path(folder) / f"{self.name}.yaml"
            roles.write_text(json.dumps(self.roles))
            surface = {**SURFACES, DOMAINS: MANY}.get(self.table)
            if surface is None:
                return read_table(tables / self.table, roles)
            path = Path(folder) / f"{self.table}.csv"
            rows = surface.rows()
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
            return read_table(path, roles)


def _pile(*names: str) -> Task:
    objectives = {f"loss_{name}": "minimize" for name in names}
    roles = {"simplex": {"mixture": "w_*"}, "objectives": objectives}
    return Task("+".join(names), PILE, roles)


def _means(name: str, table: str, mixture: str, means: Mapping[str, Sequence[str]]) -> Task:
    roles = {
        "simplex": {"mixture": mixture},
        "aggregates": {one: {"mean": list(columns)} for one, columns in means.items()},
        "objectives": dict.fromkeys(means, "minimize"),
    }
    return Task(name, table, roles, budgets=(15, 25, 50))


PUBLIC = (
    *(_pile(name) for name in PILE_LOSSES),
    *(_pile(*names) for names in PILE_PAIRS),
    Task("deberta", "deberta-base.csv", DEBERTA),
)
SHORT = ("pile_cc", "github+pile_cc", "deberta")
HELD_OUT = (
    Task("peft", "peft_metamath.csv", {**PEFT, "objectives": {"test_acc": "maximize"}}),
    Task(
        "peft+memory",
        "peft_metamath.csv",
        {**PEFT, "objectives": {"test_acc": "maximize", "mem_max": "minimize"}},
    ),
    *(Task(name, name, surface.roles) for name, surface in SURFACES.items()),
)
# Objectives that are means of losses. The last is of a made-up surface with so many rows that one
# lies near each proposal; of 512 rows, one that is near the middle answers many.
TEXTS = ("pile_cc", "wikipedia_en", "stackexchange", "hackernews", "ubuntu_irc", "gutenberg_pg_19")
PAPERS = ("arxiv", "pubmed_central", "pubmed_abstracts", "freelaw", "uspto_backgrounds")
AGGREGATED = (
    _means("mean of 13", PILE, "w_*", {"all": [f"loss_{name}" for name in PILE_LOSSES[:-1]]}),
    _means(
        "means of 6 and 5",
        PILE,
        "w_*",
        {
            "texts": [f"loss_{name}" for name in TEXTS],
            "papers": [f"loss_{name}" for name in PAPERS],
        },
    ),
    _means(
        "means of 2 and 2",
        PILE,
        "w_*",
        {"code": ["loss_github", "loss_stackexchange"], "law": ["loss_freelaw", "loss_pile_cc"]},
    ),
    _means("mean of 8", DOMAINS, "w_*", {"all": ["loss_*"]}),
    _means("means of 4 and 4", DOMAINS, "w_*", {"a": ["loss_[0-3]"], "b": ["loss_[4-7]"]}),
)
TASKS = {task.name: task for task in (*PUBLIC, *HELD_OUT, *AGGREGATED)}
