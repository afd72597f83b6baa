"""Evaluations of earlier rounds, reused: equal recipes on equal data are not trained again."""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evo.config import SearchConfig, decode
from evo.config import of as config_of
from evo.record.facts import Evaluated, details
from evo.record.ledger import read
from evo.rounds.spec import different
from evo.search.results import from_fact
from fitness.evaluation import Evaluation, EvaluationSpec
from fitness.files import appearing
from fitness.models import weights

Known = tuple[Path, Evaluated]  # the folder of its round, and the evaluation


class Recall:
    """Looks up evaluations of earlier rounds of the same base model.

    Only fine-tunes that use none of the sources that rounds add, whose contents differ in each
    round, and that start from scratch.
    """

    def __init__(self, config: SearchConfig, artifacts: Path, folders: Sequence[Path]) -> None:
        self._config = config
        self._artifacts = artifacts
        self._known: dict[str, Known] = {}
        for folder in folders:
            facts = read(folder)
            individuals = {f["id"]: f["genome"] for f in facts if f["fact"] == "individual"}
            spec = config_of(facts)
            for fact in facts:
                if fact["fact"] != "evaluation" or fact["individual"] not in individuals:
                    continue
                if not _measured(fact):
                    continue
                recipe = decode(spec, individuals[fact["individual"]])
                where = (fact["seed"], fact["fidelity"], fact["split"])
                if (key := self._key(recipe, *where)) is not None:
                    self._known.setdefault(key, (folder, fact))

    def __call__(self, spec: EvaluationSpec) -> Evaluation | None:
        """Evaluation of an equal spec in an earlier round, at no cost; None if there is none.

        Its checkpoint is copied to this round's artifacts, if it was kept.
        """
        if spec.parents or spec.writing is not None:
            return None
        key = self._key(spec.recipe, spec.seed, spec.fidelity, spec.split)
        if key is None or key not in self._known:
            return None
        folder, fact = self._known[key]
        kept = weights.folder_of(folder / "artifacts", fact["individual"])
        if spec.keep_weights and spec.split == "selection" and kept.is_dir():
            there = weights.folder_of(self._artifacts, spec.individual)
            with appearing(there) as partial:
                weights.copy_kept(kept, partial)
                shutil.rmtree(there, ignore_errors=True)
        now = time.time()
        known = replace(from_fact(dict(fact)), spec=spec, cost={}, started=now, finished=now)
        return replace(known, details={**known.details, "recalled": str(folder.name)})

    def _key(self, recipe: Mapping[str, Any], seed: int, fidelity: float, split: str) -> str | None:
        """Key that is equal for equal results; None for a recipe that uses a round's sources."""
        if fidelity == 0:
            return json.dumps([{}, seed, fidelity, split])
        (plain,) = different([recipe])
        if not plain["mixture"].keys() <= self._config.sources.keys():
            return None
        return json.dumps([plain, seed, fidelity, split], sort_keys=True)


def _measured(fact: Evaluated) -> bool:
    """True for a fine-tune from scratch that succeeded, and was not copied."""
    if fact["status"] != "ok" or fact["split"] == "samples":
        return False
    return not (details(fact).get("same_as") or details(fact).get("inherited_from"))
