"""Drafts to judge: samples that a run's models generated, from its ledger."""

from collections.abc import Iterable, Sequence

from evo import history
from evo.history.tables import FULL
from evo.record.facts import Answer, Evaluated, Facts, details
from fitness.errors import InputError
from fitness.feedback.items import Draft
from fitness.suggest import listed

Answers = dict[tuple[str, str], list[Draft]]  # by prompt set and prompt


def individuals(facts: Facts, named: Sequence[str]) -> list[int]:
    """Individuals given by number, `best` or `front`; each once, in the order given."""
    individuals = {fact["id"] for fact in facts if fact["fact"] == "individual"}
    chosen: list[int] = []
    for name in named:
        if name == "front":
            chosen += [int(id) for id in history.front(facts)["individual"]]
        elif name == "best":
            best = history.best(facts)
            chosen += [] if best is None else [best]
        elif name.isdecimal() and int(name) in individuals:
            chosen.append(int(name))
        else:
            raise InputError(
                f"there is no individual {name!r} in this run, which has {len(individuals)}, from "
                "number 0 on; name numbers, `best` or `front`"
            )
    return list(dict.fromkeys(chosen))


def answers(facts: Facts, chosen: Iterable[int]) -> Answers:
    """Answers of the chosen individuals on the selection split, by prompt; never of the test split.

    Those under the first seed, if an individual was evaluated under several.
    """
    written: dict[int, Evaluated] = {}
    for fact in facts:
        if (
            fact["fact"] == "evaluation"
            and (fact["split"], fact["fidelity"], fact["status"]) == ("selection", FULL, "ok")
            and _samples(fact)
        ):
            written.setdefault(fact["individual"], fact)
    found: Answers = {}
    for individual in chosen:
        if (own := written.get(individual)) is None:
            continue
        for origin, samples in _samples(own).items():
            for sample in samples:
                draft = Draft(sample["output"], individual, own["seed"])
                found.setdefault((origin, sample["prompt"]), []).append(draft)
    if not found:
        raise InputError(
            f"individuals {listed(map(str, chosen))} of this run have no samples: the ledger "
            "has answers to a spec's `prompts` on the selection split only; give your own texts "
            "with --items FILE"
        )
    return found


def _samples(fact: Evaluated) -> dict[str, list[Answer]]:
    samples = details(fact).get("samples")
    return samples if isinstance(samples, dict) else {}
