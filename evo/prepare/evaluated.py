"""The evaluation texts of a search, which nothing that is trained on may contain."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from evo.config import SearchConfig
from fitness.benchmarks.documents import texts_of
from fitness.data.prompts import Prompts, read_prompts
from fitness.models import folders
from fitness.samples.references import evaluated_texts


def evaluated(config: SearchConfig, prompts: Iterable[Prompts] | None = None) -> list[str]:
    """All evaluation texts of a search, of the selection and the test split.

    `prompts` are all of its prompt sets, where they are read already.
    """
    halves = (half for domain in config.domains.values() for half in domain.splits().values())
    asked = _asked(config) if prompts is None else prompts
    found = evaluated_texts(halves, asked, Path.cwd())
    found += [text for one in config.benchmarks.values() for text in texts_of(one)]
    return list(dict.fromkeys(found))


def _asked(config: SearchConfig) -> Iterator[Prompts]:
    folder = folders.locate(config.model.base)
    for name, prompt_set in config.prompts.items():
        for split, path in prompt_set.files().items():
            yield read_prompts(f"prompts.{name}.{split}", path, prompt_set, folder)
