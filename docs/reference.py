"""The reference pages, as Markdown made from the code: parser, pydantic models, registries."""

import argparse
import inspect
import json
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import evo
from evo.cli import CALLS
from evo.cli.arguments import parser
from evo.config import json_schema
from evo.record import facts
from fitness.evaluators import PLACEHOLDERS
from fitness.filters import CONTAMINATION, DEFAULT_FILTERS, FILTERS
from fitness.methods import METHODS, use_of
from fitness.metrics import HELD_OUT, MEASUREMENTS, METRICS, OF_BENCHMARKS
from fitness.mixture.thresholds import score_of_field
from fitness.recipe import APPLIES, Recipe
from fitness.training.rewards import REWARDS
from population.strategies import BREEDING, PLANNED, STRATEGIES

Schema = Mapping[str, Any]
LIMITS = (
    ("minimum", ">= "),
    ("exclusiveMinimum", "> "),
    ("maximum", "<= "),
    ("exclusiveMaximum", "< "),
    ("minItems", "items >= "),
    ("maxItems", "items <= "),
)
NEEDS = {
    "base": "the base model",
    "second": "a second model (`rounds.second`)",
    "real": "real texts",
    "training": "all sources",
    "evaluated": "the texts and prompts of the domains",
    "judgements": "people's judgements",
    "samples": "",
    "references": "prompts with references",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    """Text that a cell shows as it is; what stands between backticks needs no escapes."""
    parts = " ".join(text.split()).split("`")
    for place in range(0, len(parts), 2):
        parts[place] = parts[place].replace("|", "\\|").replace("<", "&lt;").replace("{", "&#123;")
    return "`".join(parts)


def commands() -> str:
    """Every command with its usage, its arguments and its examples."""
    return "\n\n".join(_command(one) for one in _leaves(parser(CALLS)))


def _leaves(found: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of the commands that can be called, in the order of the help."""
    below = [one for one in found._actions if isinstance(one, argparse._SubParsersAction)]
    if not below:
        yield found
    for action in below:
        for sub in action.choices.values():
            yield from _leaves(sub)


def _command(found: argparse.ArgumentParser) -> str:
    found.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=88)
    usage = found.format_usage().removeprefix("usage: ").replace("\n       ", "\n").strip()
    rows = [
        [_option(one), "; ".join([(one.help or "") % vars(one), *_choices(one)])]
        for one in found._actions
        if one.dest != "help"
    ]
    text = found.description or ""
    examples = (found.epilog or "").removeprefix("examples:\n")
    parts = [
        f"## {found.prog}",
        f"{text[:1].upper()}{text[1:]}.",
        f"```text\n{usage}\n```",
        table(("argument", "meaning"), rows) if rows else "",
        "Examples:\n\n```text\n" + _dedented(examples) + "\n```",
    ]
    return "\n\n".join(part for part in parts if part)


def _dedented(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines())


def _option(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    return f"`{', '.join(action.option_strings)}{value}`"


def _choices(action: argparse.Action) -> list[str]:
    named = [str(one) for one in action.choices or ()]
    listed = [" or ".join(f"`{one}`" for one in named)] if named else []
    return [*listed, *(["required"] if action.required and action.option_strings else [])]


def spec() -> str:
    """Every key of a spec but the recipe's, section by section."""
    schema = json_schema()
    parts = [_keys(schema["properties"], schema, required=schema.get("required", ()))]
    for name, title in SECTIONS:
        part = schema["$defs"][name]
        text = part.get("description", "").strip()
        keys = _keys(part["properties"], schema, required=part.get("required", ()))
        parts += [f"## {title}", text, keys]
    return "\n\n".join(parts)


SECTIONS = (
    ("Model", "model"),
    ("Proxy", "model.proxies"),
    ("Source", "sources.NAME"),
    ("Halves", "domains.NAME in one file"),
    ("TwoFiles", "domains.NAME in two files"),
    ("PromptSet", "prompts.NAME"),
    ("Benchmark", "benchmarks.NAME"),
    ("Float", "genome.NAME of type float"),
    ("Int", "genome.NAME of type int"),
    ("Choice", "genome.NAME of type choice"),
    ("Simplex", "genome.mixture of type simplex"),
    ("Aggregate", "aggregates.NAME"),
    ("Search", "search"),
    ("Budget", "budget"),
    ("Resources", "resources"),
    ("Command", "evaluator as a command"),
    ("Trl", "evaluator with trl"),
    ("TrlSettings", "evaluator.trl"),
    ("Comparison", "comparison"),
    ("Rounds", "rounds"),
    ("Generation", "rounds.writing"),
)


def recipe() -> str:
    """Every field of a recipe, and what it takes to have an effect."""
    schema = Recipe.model_json_schema()
    rows = []
    for name, value in schema["properties"].items():
        applies = APPLIES[name]
        *key, meaning = _key(name, value, schema)
        if applies.where:
            field, values = applies.where
            named = {"source": "the kind of a source", "task": "`model.task`"}.get(
                field, f"`{field}`"
            )
            given = " or ".join(f"`{one}`" for one in values)
            meaning = f"{meaning} Has an effect where {named} is {given}."
        others = ["`trl`"] * applies.trl + ["`command` data"] * applies.draws
        if applies.bucket != "default":
            others += ["buckets, one value for all" if applies.bucket == "shared" else "buckets"]
        rows.append([*key, meaning, ", ".join(others)])
    return _narrow(table((*HEAD, "also honoured by"), rows))


HEAD = ("key", "type", "default", "range", "meaning")


def _slug(title: str) -> str:
    """The anchor of a heading, as mkdocs makes it."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower())


def _keys(properties: Schema, schema: Schema, *, required: Sequence[str]) -> str:
    rows = []
    for name, value in properties.items():
        key = _key(name, value, schema)
        kind = f"{key[1]}, required" if name in required else key[1]
        rows.append([key[0], kind, *key[2:]])
    return _narrow(table(HEAD, rows))


def _narrow(keys: str) -> str:
    """A table of keys whose rows become blocks on a narrow screen, see site.css."""
    return f'<div class="keys" markdown>\n\n{keys}\n\n</div>'


def _key(name: str, value: Schema, schema: Schema) -> list[str]:
    default = value.get("default")
    given = json.dumps(default, ensure_ascii=False) if "default" in value else ""
    shown = f"`{given}`" if given and given not in ("null", "{}", "[]", '""') else ""
    limits = dict.fromkeys(_limits(value))
    meaning = value.get("description") or _described(value, schema)
    return [f"`{name}`", _type(value), shown, ", ".join(limits), meaning]


def _described(value: Schema, schema: Schema) -> str:
    if "$ref" in value:
        return str(schema["$defs"][_last(value["$ref"])].get("description", ""))
    return GENES.get(value.get("title", ""), "")


GENES = {  # of the genes, which are dataclasses without descriptions of their fields
    "Low": "Lowest value.",
    "High": "Highest value, included.",
    "Log": "Search the logarithm.",
    "When": "The gene takes part only where other genes have these values.",
    "Type": "Kind of gene.",
    "Options": "The values to choose from.",
    "Over": "Sources or parts to mix. Left out, all.",
    "Floor": "Least share of each, or by name.",
    "Cap": "Largest share of each, or by name.",
}


def _last(reference: str) -> str:
    return reference.rsplit("/", 1)[-1]


def _type(value: Schema) -> str:
    if "$ref" in value:
        title = dict(SECTIONS).get(_last(value["$ref"]))
        return f"[{title}](#{_slug(title)})" if title else "any value"
    if "enum" in value:
        return " or ".join(f"`{one}`" for one in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    for either in ("anyOf", "oneOf"):
        if either in value:
            kinds = dict.fromkeys(_type(one) for one in value[either])
            return " or ".join(one for one in kinds if one != "null")
    kind = value.get("type", "any")
    if kind == "array":
        return f"list of {_type(value['items'])}" if value.get("items") else "list"
    if kind == "object":
        inner = value.get("additionalProperties") or next(
            iter(value.get("patternProperties", {}).values()), None
        )
        return f"mapping of {_type(inner)}" if isinstance(inner, Mapping) else "mapping"
    return {"integer": "whole number", "string": "text", "boolean": "`true` or `false`"}.get(
        str(kind), str(kind)
    )


def _limits(value: Schema) -> Iterator[str]:
    yield from (f"{sign}{value[name]}" for name, sign in LIMITS if name in value)
    inner = [*value.get("anyOf", ()), value.get("items"), value.get("additionalProperties")]
    for one in inner:
        if isinstance(one, Mapping):
            yield from _limits(one)


def measurements() -> str:
    """What can be measured, and of which kind of held-out data."""
    rows = [
        [
            f"`{one.name}`",
            one.unit,
            one.direction or "the spec says",
            "prompt sets"
            if one.name in METRICS
            else "benchmarks"
            if one in OF_BENCHMARKS
            else ", ".join(f"`{kind}`" for kind, names in HELD_OUT.items() if one.name in names),
            one.description,
        ]
        for one in MEASUREMENTS.values()
    ]
    return table(("name", "unit", "better", "measured of", "meaning"), rows)


def filters() -> str:
    """The filters: their scores, what each needs, and the thresholds of a recipe on them."""
    side = {"highest": "highest", "lowest": "lowest", "band": "between two quantiles"}
    rows = []
    for name, one in FILTERS.items():
        fields = [f"`{field}`" for field in Recipe.model_fields if score_of_field(field) == name]
        default = "yes" if name in DEFAULT_FILTERS else ""
        unit, kept = one.unit, side[one.keeps] if fields else "what `require` says"
        if name == CONTAMINATION:
            kept = "always: contaminated ones are not"
        needs, threshold = NEEDS[one.needs], " ".join(fields)
        rows.append([f"`{name}`", one.description, unit, kept, threshold, needs, default])
    head = (
        "filter",
        "score",
        "unit",
        "kept",
        "threshold",
        "needs besides the samples",
        "by default",
    )
    return table(head, rows)


def rewards() -> str:
    """The rewards, by the first line of their docstrings."""
    rows = [[f"`{name}`", (one.__doc__ or "").split("\n")[0]] for name, one in REWARDS.items()]
    return table(("reward", "value of an answer"), rows)


def strategies() -> str:
    """Every strategy with its source in the literature."""
    rows = [
        [
            f"`{name}`",
            _first(kind.__module__),
            "yes" if name in BREEDING else "",
            "no" if name in PLANNED else "yes",
        ]
        for name, kind in STRATEGIES.items()
    ]
    return table(("strategy", "method", "children can start from parents", "budget may grow"), rows)


def _first(module: str) -> str:
    text = __import__(module, fromlist=["x"]).__doc__ or ""
    return text.strip().split("\n\n")[0].split("\n")[0]


def uses() -> str:
    """What each method does with each kind of source."""
    kinds = ("text", "completion", "preference", "rating", "prompt", "sample")
    rows = [[f"`{kind}`", *(use_of(kind, method) for method in METHODS)] for kind in kinds]
    return table(("kind of source", *(f"`{method}`" for method in METHODS)), rows)


def placeholders() -> str:
    """The placeholders of a command."""
    rows = [[f"`{{{n}}}`", f"`EVOMIX_{n.upper()}`", text] for n, text in PLACEHOLDERS.items()]
    return table(("placeholder", "environment", "meaning"), rows)


def fact_kinds() -> str:
    """The kinds of facts in a ledger, each with its keys."""
    parts = []
    named: dict[Any, list[str]] = {}
    for name, kind in facts.KINDS.items():
        named.setdefault(kind, []).append(f"`{name}`")
    within = {kind: [f"`{kind.__name__.lower()}`"] for kind in (facts.Details, facts.Items)}
    for kind, names in (named | within).items():
        rows = [
            [f"`{key}`", "" if key in kind.__required_keys__ else "may be absent", _plain(hint)]
            for key, hint in typing.get_type_hints(kind).items()
        ]
        keys = table(("key", "", "type"), rows)
        parts.append(f"### {', '.join(names)}\n\n{kind.__doc__}\n\n{keys}")
    return "\n\n".join(parts)


PLAIN = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "`true` or `false`",
    Any: "any value",
    object: "any value",
    type(None): "null",
}


def _plain(hint: Any) -> str:
    """A type hint in words."""
    if hasattr(hint, "__required_keys__"):
        return f"{hint.__name__.lower()}, an object"
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin is None:
        return PLAIN.get(hint, str(hint))
    if origin in (typing.NotRequired, typing.Annotated):
        return _plain(arguments[0])
    if origin is typing.Literal:
        return " or ".join(f"`{one}`" for one in arguments)
    if origin is list:
        return f"list of {_plain(arguments[0])}"
    if origin is dict:
        return f"mapping of {_plain(arguments[1])}"
    kinds = dict.fromkeys(_plain(one) for one in arguments if one is not type(None))
    return " or ".join(kinds)


def python() -> str:
    """Every public name of the Python API with its signature and its docstring."""
    named = {f"evo.{name}": getattr(evo, name) for name in evo.__all__}
    ordered = sorted(named.items(), key=lambda item: inspect.isclass(item[1]))
    return "\n\n".join(text for name, what in ordered for text in _documented(name, what))


def _documented(name: str, what: Any) -> Iterator[str]:
    """A heading, the signature and the docstring; of a class also those of its public members."""
    kind = inspect.isclass(what)
    yield f"## {name}\n\n{_signed(name, what)}{inspect.getdoc(what)}"
    for member, value in vars(what).items() if kind else ():
        of = value.fget if isinstance(value, property) else value
        if not member.startswith("_") and inspect.isfunction(of) and of.__doc__:
            called = "" if isinstance(value, property) else _signed(member, of)
            yield f"### {name}.{member}\n\n{called}{inspect.getdoc(of)}"


def _signed(name: str, what: Any) -> str:
    """The signature as code; none of an exception."""
    if inspect.isclass(what) and issubclass(what, Exception):
        return ""
    signature = inspect.signature(what)
    parts = [one for one in signature.parameters.values() if one.name != "self"]
    shown = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(signature.replace(parameters=parts)))
    shown = re.sub(r"\b(collections\.abc|pathlib|typing|evo\.api)\.", "", shown)
    return f"```text\n{name}{shown}\n```\n\n"


PARTS: dict[str, Callable[[], str]] = {
    part.__name__: part
    for part in (
        commands,
        spec,
        recipe,
        measurements,
        filters,
        rewards,
        strategies,
        uses,
        placeholders,
        fact_kinds,
        python,
    )
}
