"""Reading the data of a search before anything trains: sources, and what is held out."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evo.config import SearchConfig, bounds, possible
from evo.config.genomes import learners
from evo.prepare import cleaning, pools
from fitness.benchmarks.documents import read_benchmark
from fitness.benchmarks.settings import HeldOutTask
from fitness.cleaning.files import Cleaned
from fitness.data.kinds import Kind
from fitness.data.prompts import Prompts, read_prompts
from fitness.data.records import Records
from fitness.data.sources import TokenFile, tokenise
from fitness.data.tokenizer import load_tokenizer
from fitness.errors import Faults, InputError
from fitness.evaluation import Split
from fitness.files import cache_folder
from fitness.methods import LEARN, use_of
from fitness.mixture.decks import RecordDeck
from fitness.models import folders
from fitness.models.heads import Head

MISSING: Mapping[Kind, str] = {  # what a source needs so that something can be learned from it
    "prompt": "reference",
    "rating": "completion that is rated good",
    "sample": "completion",
}
FAULTY = 20  # sources and sets with errors, after which no others are read


@dataclass(frozen=True)
class Data:
    """Tokenised sources and held-out texts, prompts, and tasks of benchmarks, by name."""

    sources: Mapping[str, TokenFile]
    domains: Mapping[str, Mapping[Split, TokenFile]]
    prompts: Mapping[str, Mapping[Split, Prompts]]
    cleaned: Mapping[str, Cleaned] = field(default_factory=dict)
    benchmarks: Mapping[str, Mapping[str, HeldOutTask]] = field(default_factory=dict)


def read_data(config: SearchConfig, folder: Path, head: Head, longest: int) -> Data:
    """Tokenise what is not in the cache, and check it; InputError with all errors.

    `folder` is that of the model, `longest` the longest sequence that is trained on.
    """
    faults = Faults(shown=FAULTY, most=FAULTY)
    domains = _domains(config, folder, head, faults)
    prompts = _prompts(config, folder, faults)
    benchmarks = _benchmarks(config, folder, faults)
    unclean: Mapping[str, Collection[str]] | None = {}
    made: Mapping[str, Cleaned] | None = {}
    if not faults:  # all evaluation texts can be read
        unclean = made = None
        asked = [one for splits in prompts.values() for one in splits.values()]
        with faults.noted():
            unclean = pools.left_out_of(config, asked)
        with faults.noted():
            made = cleaning.cleaned_sources(config, asked)
    sources = {} if made is None else _sources(config, folder, head, unclean, made, faults)
    for name, file in sources.items():
        with faults.noted():
            _check_source(config, name, file, longest)
    faults.check()
    return Data(sources, domains, prompts, made or {}, benchmarks)


def _domains(
    config: SearchConfig, folder: Path, head: Head, faults: Faults
) -> dict[str, dict[Split, TokenFile]]:
    """Held-out texts by domain and split; none under a user's own evaluator."""
    domains: dict[str, dict[Split, TokenFile]] = {}
    for name, domain in (config.domains if config.form.reads_recipe else {}).items():
        domains[name] = {}
        for split, (source, half) in domain.splits().items():
            subject = f"domains.{name}.{split}"
            with faults.noted():
                domains[name][split] = tokenise(
                    subject,
                    source,
                    Path.cwd(),
                    folder,
                    cache_folder(),
                    half=half,
                    labels=head.labels,
                )
    return domains


def _prompts(config: SearchConfig, folder: Path, faults: Faults) -> dict[str, dict[Split, Prompts]]:
    """Prompts by set and split; none under a user's own evaluator, which measures itself."""
    prompts: dict[str, dict[Split, Prompts]] = {}
    for name, prompt_set in (config.prompts if config.form.reads_recipe else {}).items():
        prompts[name] = {}
        for split, path in prompt_set.files().items():
            subject = f"prompts.{name}.{split}"
            with faults.noted():
                prompts[name][split] = read_prompts(subject, path, prompt_set, folder)
    return prompts


def _benchmarks(
    config: SearchConfig, folder: Path, faults: Faults
) -> dict[str, dict[str, HeldOutTask]]:
    """Tasks of benchmarks by benchmark and name."""
    benchmarks: dict[str, dict[str, HeldOutTask]] = {}
    for name, benchmark in config.benchmarks.items():
        with faults.noted():
            try:
                tokenizer, context = load_tokenizer(folder), folders.context(folder)
                benchmarks[name] = read_benchmark(benchmark, tokenizer, context)
            except InputError as error:
                raise InputError(f"benchmarks.{name}: {error}") from error
    return benchmarks


def _sources(
    config: SearchConfig,
    folder: Path,
    head: Head,
    unclean: Mapping[str, Collection[str]] | None,
    made: Mapping[str, Cleaned],
    faults: Faults,
) -> dict[str, TokenFile]:
    """Sources by name, as cleaned if they are, without samples whose ids are in `unclean`.

    `unclean` is None if it could not be computed; pools of samples are not read then.
    """
    sources: dict[str, TokenFile] = {}
    for name, source in config.sources.items():
        if unclean is None and source.kind == "sample":
            continue  # the error of one of them is noted already
        with faults.noted():
            sources[name] = tokenise(
                f"sources.{name}",
                made[name].source if name in made else source,
                Path.cwd(),
                folder,
                cache_folder(),
                labels=head.labels,
                without=(unclean or {}).get(name, ()),
            )
    return sources


def _check_source(config: SearchConfig, name: str, file: TokenFile, longest: int) -> None:
    """Raises InputError for a source that holds too little, or not what the recipes need."""
    if file.kind == "text" and file.tokens < longest:
        raise InputError(
            f"sources.{name}: {file.tokens} tokens are fewer than one sequence of {longest}; "
            "add text, or lower sequence_length"
        )
    if file.kind in ("prompt", "rating", "sample"):
        _check_answers(config, name, file)
    if file.kind in ("preference", "rating") and config.form.reads_recipe:
        _check_divergence(config, name, file)
    if file.kind == "sample":
        pools.check_scores(config, name, file)


def _check_answers(config: SearchConfig, name: str, file: TokenFile) -> None:
    """Raise InputError if a method learns from a source's records and none can be learned."""
    content = file.open()
    learning = [one for one in learners(config, name) if use_of(file.kind, one) == LEARN]
    if not (learning and isinstance(content, Records)):
        return
    if not len(RecordDeck(content, "learn", 2).rows):
        missing = MISSING[file.kind]
        raise InputError(
            f"sources.{name}: {learning[0]} learns from its records, and none of its "
            f"{file.documents} has a {missing}; add some, choose another method, or set the "
            "source's `methods`"
        )


def _check_divergence(config: SearchConfig, name: str, file: TokenFile) -> None:
    """Raise InputError if KTO has no mismatched answers to estimate the divergence from.

    KTO estimates how far the model has moved from the base on prompts paired with the answers of
    other records, so that not all answers may be the same.
    """
    if "preference" not in learners(config, name):
        return
    if file.kind == "preference" and "kto" not in possible(config, "preference_loss"):
        return
    content = file.open()
    length = int(bounds(config, "sequence_length")[0])
    if isinstance(content, Records) and content.alike(length):
        raise InputError(
            f"sources.{name}: all its {file.documents:,} records have one and the same answer (of "
            f"{length} tokens at most), and KTO, which learns from them, estimates the divergence "
            "from the base on answers of other records; add records with other answers, or choose "
            "another method"
        )
