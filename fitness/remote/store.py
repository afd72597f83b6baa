"""Stores of objects by URL: s3://, gs://, az://, hf:// and file://, through fsspec.

Endpoints and credentials come from the environment, as the clients of these stores read them
(AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, ...). A URL that holds any is
refused, since URLs are recorded.
"""

import importlib.util
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fitness.errors import InputError
from fitness.files import appearing
from fitness.secrets import without_secrets
from fitness.suggest import brief, did_you_mean, listed

if TYPE_CHECKING:
    from fsspec.spec import AbstractFileSystem

PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}  # each in the extra of this name
READABLE = (*PACKAGES, "hf", "file")
WRITABLE = (*PACKAGES, "file")
CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws",
    "gs": "log in with `gcloud auth application-default login`",
    "az": "set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and _KEY",
}
CLIENTS = ("aiohttp", "azure", "botocore", "gcsfs", "google", "httpx", "huggingface_hub")
CONNECT_SECONDS, READ_SECONDS, TRIES = 5, 30, 2
S3_SETTINGS: dict[str, Any] = {
    "config_kwargs": {
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        "retries": {"max_attempts": TRIES - 1},
    }
}
VERSIONS = ("size", "ETag", "etag", "md5Hash", "content_md5", "blob_id", "mtime")
REASON_CHARACTERS = 300
SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)


class Unavailable(OSError):
    """A store did not answer, or refused; the text says why and what to do, without secrets."""


def is_url(text: str) -> bool:
    """True for a text that begins with a scheme and `://`."""
    return SCHEME.match(text) is not None


def check_url(url: str, schemes: Iterable[str] = READABLE) -> str:
    """The URL without a slash at its end. Raises InputError for one that cannot name a folder."""
    match = SCHEME.match(url)
    scheme = match[1].lower() if match else ""
    parts, shown = urlsplit(url), brief(without_secrets(url))
    if scheme not in schemes:
        known = [f"{one}://" for one in schemes]
        hint = did_you_mean(f"{scheme}://", known) if scheme else ""
        raise InputError(f"{shown}: must begin with {listed(known)}{hint}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError(
            f"{scheme}://{parts.hostname or ''}{parts.path}: has more before `@` or after `?`, "
            "which may be a secret and would be recorded; leave it out, and give credentials in "
            "the environment"
        )
    if not (parts.path.strip("/") if scheme == "file" else parts.netloc):
        raise InputError(f"{shown}: names no bucket or folder; write {scheme}://bucket/path")
    if scheme == "file" and parts.netloc:
        raise InputError(f"{shown}: a file URL has three slashes, as in file:///data/runs")
    return url.rstrip("/")


@dataclass(frozen=True)
class Store:
    """A folder of a store; names are relative to it, with `/` between their parts.

    All methods raise Unavailable where the store does not answer or refuses, and those that read an
    object FileNotFoundError if it is not there.
    """

    url: str
    _files: "AbstractFileSystem"
    _root: str
    _top: str  # the root of the store as it was opened

    @property
    def scheme(self) -> str:
        """Beginning of its URL, such as `s3`."""
        return self.url.partition("://")[0].lower()

    def below(self, name: str) -> "Store":
        """The folder of this name within, as a store of its own."""
        return replace(self, url=f"{self.url}/{name}", _root=f"{self._root}/{name}")

    def read(self, name: str) -> bytes:
        """The content of an object."""
        with self._answering(name):
            return bytes(self._files.cat_file(self._at(name)))

    def write(self, name: str, content: bytes) -> None:
        """Put an object, whole or not at all."""
        with self._answering():
            if self.scheme == "file":
                with self._appearing(name) as partial:
                    partial.write_bytes(content)
            else:
                self._files.pipe_file(self._at(name), content)

    def upload(self, name: str, file: Path) -> None:
        """Put a file as an object, whole or not at all."""
        with self._answering():
            if self.scheme == "file":
                with self._appearing(name) as partial:
                    shutil.copyfile(file, partial)
            else:
                self._files.put_file(str(file), self._at(name))

    def download(self, name: str, file: Path) -> None:
        """Copy an object to a file, whole or not at all; the file's folder is made."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with self._answering(name or self.url), appearing(file) as partial:
            self._files.get_file(self._at(name), str(partial))

    def delete(self, name: str) -> None:
        """Delete an object if it is there; on a disk its folder too, once it is empty."""
        with self._answering(), suppress(FileNotFoundError):
            self._files.rm_file(self._at(name))
        folder = Path(self._at(name)).parent
        if self.scheme == "file" and folder != Path(self._top):
            with suppress(OSError):  # there is more in it
                folder.rmdir()

    def sizes(self) -> dict[str, int]:
        """Bytes of every object below this folder, by name; empty if there is none."""
        return {name: int(entry["size"] or 0) for name, entry in self._entries().items()}

    def versions(self) -> dict[str, str]:
        """A text that changes with the content, by name, of every object below this folder.

        Of a store that is a single object the name is empty; empty where there is nothing.
        """
        return {
            name: "-".join(str(entry[key]) for key in VERSIONS if entry.get(key) is not None)
            for name, entry in self._entries().items()
        }

    def _entries(self) -> dict[str, dict[str, Any]]:
        with self._answering():
            try:
                found = self._files.find(self._root, detail=True)
            except FileNotFoundError:  # of a bucket too, which a write says
                return {}
        named = {str(path).removeprefix(self._root).lstrip("/"): e for path, e in found.items()}
        return {name: entry for name, entry in named.items() if not name.endswith(".partial")}

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextmanager
    def _appearing(self, name: str) -> Iterator[Path]:
        """Temporary path of an object on a disk. A disk that is not mounted is not written to."""
        if not Path(self._top).is_dir():
            raise FileNotFoundError(self._top)
        to = Path(self._at(name))
        to.parent.mkdir(parents=True, exist_ok=True)
        with appearing(to) as partial:
            yield partial

    @contextmanager
    def _answering(self, name: str = "") -> Iterator[None]:
        """Turn errors of a store's client into Unavailable, but for the object `name` not there."""
        try:
            yield
        except FileNotFoundError as error:
            if name:
                raise FileNotFoundError(f"{self.url}: there is no {name}") from None
            raise Unavailable(f"{self.url}: {_reason(self.scheme, error)}") from error
        except Exception as error:
            client = type(error).__module__.partition(".")[0] in CLIENTS
            if not client and not isinstance(error, OSError):
                raise
            raise Unavailable(f"{self.url}: {_reason(self.scheme, error)}") from error


def open_store(url: str, schemes: Iterable[str] = READABLE) -> Store:
    """Open the store that a URL names, without asking it for anything.

    Raises InputError for a URL that cannot be used, or where the package for it is missing.
    """
    url = check_url(url, schemes)
    scheme = url.partition("://")[0].lower()
    package = PACKAGES.get(scheme)
    if package is not None and importlib.util.find_spec(package) is None:
        raise InputError(
            f"{url}: reading it needs the package {package}; `pip install 'evomix[{scheme}]'`"
        )
    import fsspec

    settings = S3_SETTINGS if scheme == "s3" else {}
    try:
        files = fsspec.filesystem(
            scheme, skip_instance_cache=True, use_listings_cache=False, **settings
        )
    except ValueError as error:  # of adlfs, without an account
        raise InputError(f"{url}: {_reason(scheme, error)}; {CREDENTIALS.get(scheme)}") from error
    if scheme == "s3":
        files.retries = TRIES
    root = str(files._strip_protocol(url)).rstrip("/")
    return Store(url, files, root, root)


def _reason(scheme: str, error: Exception) -> str:
    """Reason why a store cannot be used, and what to do, in one line."""
    first = str(error).strip().partition("\n")[0] or type(error).__name__
    text = without_secrets(first)[:REASON_CHARACTERS]
    if "Credentials" in type(error).__name__:
        return f"no credentials ({text}); {CREDENTIALS.get(scheme, 'give them')}"
    if isinstance(error, FileNotFoundError):
        thing = "folder" if scheme == "file" else "bucket"
        return f"there is no such {thing}; make it, or check the name"
    if isinstance(error, PermissionError):
        return f"refused ({text}); check the credentials, and what they may do there"
    return f"cannot be reached ({text}); check the address and the network"
