"""Data sets of the Hugging Face Hub, streamed: `hub:owner/name[/config][@split]`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fitness.errors import InputError
from fitness.suggest import brief

PREFIX = "hub:"
PATIENCE_SECONDS = 10.0  # timeout of the first request; later ones use the library's own retries

_PATTERN = re.compile(r"hub:([\w.-]+/[\w.-]+)(?:/([^/@]+))?(?:@(.+))?")


@dataclass(frozen=True)
class HubId:
    """One split of one configuration of a data set."""

    repository: str
    config: str | None
    split: str

    def __str__(self) -> str:
        config = f"/{self.config}" if self.config else ""
        return f"{PREFIX}{self.repository}{config}@{self.split}"


def parse(path: str, split: str) -> HubId:
    """Parse a Hub path; a split named in the path takes precedence over `split`."""
    match = _PATTERN.fullmatch(path)
    if match is None:
        raise InputError(
            f"{brief(path)}: not a data set of the Hub; write hub:owner/name, with /config and "
            "@split behind it where needed, as in hub:Salesforce/wikitext/wikitext-2-raw-v1@train"
        )
    return HubId(match[1], match[2], match[3] or split)


def revision(dataset: HubId) -> str:
    """The commit that the Hub serves now. InputError if it does not answer in PATIENCE_SECONDS."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError, RepositoryNotFoundError

    try:
        info = HfApi().dataset_info(dataset.repository, timeout=PATIENCE_SECONDS)
    except RepositoryNotFoundError as error:
        raise InputError(
            f"{dataset}: the Hub has no public data set {dataset.repository!r}; check the name, "
            "or log in with `hf auth login` if it is private"
        ) from error
    except (HTTPError, OSError, ValueError) as error:
        raise InputError(
            f"{dataset}: the Hugging Face Hub cannot be reached ({error}); {_go_local(dataset)}"
        ) from error
    return str(info.sha)


def records(dataset: HubId, commit: str) -> Iterator[dict[str, Any]]:
    """Stream the rows as they were at a commit; nothing is stored on disk."""
    from datasets import load_dataset
    from huggingface_hub.errors import HTTPError

    try:
        yield from load_dataset(
            dataset.repository,
            dataset.config,
            split=dataset.split,
            revision=commit,
            streaming=True,
        )
    except (HTTPError, OSError, ValueError) as error:
        raise InputError(f"{dataset}: cannot be read ({error}); {_go_local(dataset)}") from error


def _go_local(dataset: HubId) -> str:
    return (
        f"where there is a network run `hf download --repo-type dataset {dataset.repository} "
        "--local-dir FOLDER`, then name FOLDER as the path"
    )
