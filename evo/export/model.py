"""An individual as a model folder that `transformers` loads, with its recipe and a model card."""

import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import ValidationError

from evo import config as configuration
from evo.config import Constraint, SearchConfig
from evo.config.checks import importing_from
from evo.config.genomes import tokens_of
from evo.export.effort import effort_of
from evo.export.merged import merged_section
from evo.history import best
from evo.history.tables import FULL, constraints
from evo.places import check_room_for
from evo.planning.lineages import Lineage, recorded
from evo.prepare.task import head_of, prepare
from evo.record import trust
from evo.record.facts import Details, Evaluated, Facts, Search, details, launch_of
from evo.record.ledger import read
from evo.starter import QUICKSTART_FOLDER
from fitness.errors import InputError
from fitness.evaluate.evaluator import by_several
from fitness.evaluation import EvaluationSpec, Status, Task
from fitness.files import appearing
from fitness.merging.lineage import unmeasured
from fitness.models import folders, weights
from fitness.models.gguf import is_gguf
from fitness.recipe import Recipe

CACHED = re.compile(r"/models--([\w.-]+?)--([\w.-]+)/snapshots/")  # of the Hub, on this machine

CARD = """---
{front}---
# {name}: individual {individual}

Found by an evomix search over {evaluations} {tried}.
Its recipe is in `recipe.yaml`; fields that are not in it have evomix's defaults.

## Data
| source | share of the tokens | epochs |
|---|---|---|
{data}

{lineage}## Measurements
Means over the seeds measured; the search saw the selection split only.

| measurement | selection | test |
|---|---|---|
{measurements}
{constraints}"""


def export(
    run: Path,
    individual: str,
    to: Path,
    *,
    adapter: bool = False,
    trusted: bool = False,
    compare: bool = True,
    tell: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write the model, its tokenizer, recipe.yaml and a model card to the new folder `to`.

    `individual` is a number or "best"; with `adapter`, only its adapter is written, in PEFT's
    format. A checkpoint that the run did not keep is trained again, which gives the same weights on
    the same machine; `tell` is called first with the time and disk that this will take. Code that
    the run names and that was not launched on this machine is refused unless it is `trusted`.
    Unless told not to `compare`, the card of a model merged from a quantised base says how the
    merged weights score.
    """
    facts = read(run)
    to = new_folder(to)
    config, number, recipe = chosen(run, facts, individual, trusted=trusted)
    evaluations = [f for f in facts if f["fact"] == "evaluation" and f["fidelity"] == FULL]
    measured = [f for f in evaluations if f["individual"] == number and f["status"] == "ok"]
    if not measured:
        raise InputError(f"{run}: individual {number} has no finished evaluation to export")
    if adapter and recipe["adapter"] == "none":
        raise InputError(
            f"{run}: individual {number} trained all weights and has no adapter; leave --adapter "
            "out, or choose one whose recipe has an adapter"
        )
    base = folders.locate(config.model.base)
    head = head_of(config, base)
    check_same(run, launch_of(facts), {"model": folders.fingerprint(base)})
    kept = weights.folder_of(run / "artifacts", number)
    lineage = Lineage() if kept.is_dir() else recorded(config, facts, number)
    spec = EvaluationSpec(
        number,
        recipe,
        config.seed,
        parents=lineage.parents,
        seen=lineage.seen,
        ancestors=lineage.ancestors,
    )
    effort = effort_of(run, facts, config, spec, base, to, adapter=adapter)
    effort.check()
    with tempfile.TemporaryDirectory() as retrained:
        if not kept.is_dir():
            tell(effort.message(number))
            kept = _trained_again(run, facts, config, spec, Path(retrained))
        with appearing(to) as partial:
            if adapter:
                hub = hub_id(config.model.base)
                weights.assemble_adapter(kept, partial, base=hub or str(base))
            else:
                stored = {"dtype": config.model.dtype, "quantisation": config.model.quantisation}
                weights.assemble(base, kept, partial, head=head, **stored)
            write_recipe(config, recipe, partial / "recipe.yaml")
            card = _card(config, number, measured, evaluations, constraints(facts), adapter=adapter)
            if compare and not adapter and config.model.quantisation != "none":
                card += merged_section(config, measured, partial)
            (partial / "README.md").write_text(card, encoding="utf-8")
    return to


def new_folder(to: Path) -> Path:
    """Absolute path of a folder to create. Raises InputError if it is not empty or not writable."""
    to = to.resolve()
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InputError(f"{to} exists and is not an empty folder; name a new one")
    check_room_for(to)
    return to


def chosen(
    run: Path, facts: Facts, individual: str, *, trusted: bool
) -> tuple[SearchConfig, int, dict[str, Any]]:
    """A run's config, and the number and recipe of an individual by its number or "best".

    Raises InputError for code that the run names, unless it was launched here or is `trusted`.
    """
    config = configuration.of(facts)
    if not config.form.reads_recipe:
        named = config.evaluator if isinstance(config.evaluator, str) else "command"
        raise InputError(f"{run}: its evaluator {named} trains models of its own")
    code = trust.code_of_run(run, facts, configuration.to_plain(config))
    trust.check(run, code, config.import_from, trust=trusted)
    number = _number(run, facts, individual)
    return config, number, recipe_of(run, facts, config, number)


def recipe_of(run: Path, facts: Facts, config: SearchConfig, number: int) -> dict[str, Any]:
    """The recipe of an individual. Raises InputError for one that this version refuses."""
    chosen = next(f for f in facts if f["fact"] == "individual" and f["id"] == number)
    try:
        return configuration.decode(config, chosen["genome"])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{run}: the recipe of individual {number} is invalid: {key}: {first['msg']}; restore "
            "the ledger from a copy"
        ) from None


def _number(run: Path, facts: Facts, individual: str) -> int:
    if individual == "best":
        number = best(facts)
        if number is None:
            raise InputError(f"{run}: no individual has finished yet; see `evo status {run}`")
        return number
    known = sorted(fact["id"] for fact in facts if fact["fact"] == "individual")
    if not individual.isdecimal() or int(individual) not in known:
        span = f"it has 0 to {known[-1]}" if known else "it has none yet"
        raise InputError(f"{run} has no individual {individual!r}; {span}, or say `best`")
    return int(individual)


def check_same(run: Path, search: Search, now: Mapping[str, Any]) -> None:
    """Raise InputError if fingerprints differ from those recorded at the launch of the run."""
    then = search["fingerprints"]
    changed = [name for name in now if name in then and now[name] != then[name]]
    if changed:
        raise InputError(
            f"{run}: not the same {' and '.join(changed)} as at the launch; restore what it was "
            "launched with, since its weights would come out different"
        )


def write_recipe(config: SearchConfig, recipe: Mapping[str, Any], path: Path) -> None:
    """Write a recipe as YAML: the fields that were searched or differ from their defaults."""
    defaults = Recipe().model_dump(mode="json")
    fields = {
        name: value
        for name, value in recipe.items()
        if name in config.genome or name not in defaults or value != defaults[name]
    }
    configuration.write_yaml(fields, path)


def _trained_again(
    run: Path, facts: Facts, config: SearchConfig, spec: EvaluationSpec, room: Path
) -> Path:
    """Train an individual again, from its ancestors' checkpoints that exist; returns its folder."""
    prepared = prepare(config)
    check_same(run, launch_of(facts), prepared.fingerprints)
    for ancestor in spec.ancestors:
        there = weights.folder_of(run / "artifacts", ancestor.individual)
        if there.is_dir():
            weights.copy_kept(there, weights.folder_of(room, ancestor.individual))
    with importing_from(Path(config.import_from)):
        return _train_again(replace(prepared.task, artifacts=room), spec)


def _train_again(task: Task, spec: EvaluationSpec) -> Path:
    """Train an individual without measuring it, so that no metric function is imported."""
    evaluation, *_ = by_several(unmeasured(task), [spec])
    if evaluation.status is not Status.OK or task.artifacts is None:
        raise InputError(f"individual {spec.individual} could not be trained: {evaluation.message}")
    folder = weights.folder_of(task.artifacts, spec.individual)
    if not folder.is_dir():
        raise InputError(
            f"individual {spec.individual}: no room for its weights in {task.artifacts}; free "
            "some, or set TMPDIR to a folder with more"
        )
    return folder


def hub_id(base: str) -> str | None:
    """Hub id of a base model that is named by it or lies in the Hub's cache; else None."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    if (cached := CACHED.search(base)) is not None:
        return f"{cached[1]}/{cached[2]}"
    if not base or is_gguf(base) or Path(os.path.expanduser(base)).exists():
        return None
    try:
        validate_repo_id(base)
    except HFValidationError:
        return None
    return base


def _front(base: str, *, adapter: bool) -> str:
    """Metadata of a model card; without base_model if that is not on the Hub, which rejects it."""
    hub = hub_id(base)
    named = f"base_model: {json.dumps(hub)}\n" if hub else ""
    return f"{named}library_name: {'peft' if adapter else 'transformers'}\ntags: [evomix]\n"


def _card(
    config: SearchConfig,
    number: int,
    measured: Sequence[Evaluated],
    evaluations: Sequence[Evaluated],
    limits: Sequence[Constraint],
    *,
    adapter: bool,
) -> str:
    """Model card; `measured` are the individual's own evaluations among all the run's."""
    origin = details(measured[0]).get("same_as", number)  # an equal genome, really trained
    data = next(
        details(fact)
        for fact in evaluations
        if fact["individual"] == origin and "shares" in details(fact)
    )
    base = config.model.base
    own = Path(base) == QUICKSTART_FOLDER / "model"
    name = "evomix's quickstart model" if own else json.dumps(hub_id(base) or Path(base).name)
    return CARD.format(
        front=_front(base, adapter=adapter),
        name=config.name,
        individual=number,
        evaluations=sum(
            fact["split"] == "selection" and "same_as" not in details(fact) for fact in evaluations
        ),
        tried=f"merges of parts, each a fine-tune of {name}"
        if config.parts
        else f"fine-tunes of {name}, {tokens_of(config)} tokens each",
        lineage=_lineage(data),
        data="\n".join(
            f"| {source} | {share:.3f} | {data['epochs'].get(source, 0):.2f} |"
            for source, share in data["shares"].items()
        ),
        measurements="\n".join(
            f"| {name} | {_mean(measured, name, 'selection')} | {_mean(measured, name, 'test')} |"
            for name in measured[0]["measurements"]
        ),
        constraints="".join(f"\n{_constraint(limit, measured)}\n" for limit in limits),
    )


def _constraint(limit: Constraint, measured: Sequence[Evaluated]) -> str:
    """Sentence on a constraint of the search: met or not met by the individual."""
    values = [fact["measurements"] for fact in measured if fact["split"] == "selection"]
    mean = {limit.name: fmean(one[limit.name] for one in values)} if values else {}
    met = "" if not mean else ": met" if not limit.excess(mean) else ": not met"
    return f"Constraint of the search, on the selection split: `{limit}`{met}."


def _lineage(data: Details) -> str:
    """Sentence on the parents it started from and its lineage's tokens; empty from scratch."""
    if not data.get("inherited_from"):
        return ""
    total = data["cumulative_tokens"]
    named = " and ".join(map(str, data["inherited_from"]))
    by_source = ", ".join(f"{source} {count:,}" for source, count in total.items() if count)
    return (
        f"It started from the weights of individual {named}; its lineage was trained on "
        f"{sum(total.values()):,} tokens in all ({by_source}).\n\n"
    )


def _mean(evaluations: Sequence[Evaluated], name: str, split: str) -> str:
    values = [
        fact["measurements"][name]
        for fact in evaluations
        if fact["split"] == split and name in fact["measurements"]
    ]
    return f"{sum(values) / len(values):.4f} (n={len(values)})" if values else "-"
