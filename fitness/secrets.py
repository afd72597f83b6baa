"""The filter for every text that becomes a fact, a log or a report: secrets become `***`.

Secrets are: the value of an environment variable that is named like a secret; the password
in the value of any other, such as that of DATABASE_URL; the password in any URL; and tokens of
well-known services by their shape. Encodings in which errors show values are filtered as well.
"""

import json
import os
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping

HIDDEN = "***"
ANYWHERE = 8  # characters; a shorter value is replaced where it stands as a word of its own
LEAST = 4
BLANKS = " \t\n\r"
LONGEST = 4096  # characters of a secret that has no blank in it
# Parts of names between underscores: DB_PASS, SSHPASS, MYSQL_PWD, GITHUB_PAT, but no PATH and no
# GIT_AUTHOR_NAME. PWD alone is the working directory.
NAMED = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|KEY|AUTH(?!OR)|COOKIE|SIGNATURE|BEARER"
    r"|(?<!COM)(?<!BY)PASS(?=_|\d|$)|(?<![A-Z])(PW|PAT|PIN|JWT|DSN|SAS)(?=_|\d|$)|PWD(?=_|\d|$)",
    re.IGNORECASE,
)
NOT_SECRET = ("PWD", "OLDPWD", "SSH_AUTH_SOCK", "XAUTHORITY")
# Lengths are bounded, else a long text without blanks would take quadratic time.
IN_URL = re.compile(r"\b([a-z][a-z0-9+.-]{0,20}://[^\s/@:'\"]{0,200}):[^\s/@'\"]{1,500}@", re.I)
ALONE_IN_URL = re.compile(r"\b([a-z][a-z0-9+.-]{0,20}://)[^\s/@:'\"]{8,500}@", re.I)
WITHIN = (re.compile(r"://([^/:@\s]*):(.+)@"), re.compile(r"://([^/:@\s]*):(.+?)@"))
BEFORE_HOST = re.compile(r"://([^/:@\s]{8,})@")
ASSIGNED = re.compile(
    r"(?:password|passwd|passphrase|secret|token|api_?key|pwd)\s*=\s*([^\s;&'\"]+)", re.I
)
SHAPES = re.compile(  # the tokens of well-known services
    r"\b(?:hf_|gh[pousr]_|github_pat_|glpat-|sk-|xox[abeprs]-|AKIA|AIza)[A-Za-z0-9_-]{16,}"
)


class Filter:
    """Hides the secrets of an environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        secrets = secrets_of(environment)
        self._patterns = [_pattern(secret) for secret in secrets]
        spaced = [form for one in secrets for form in _encoded(one) if any(map(str.isspace, form))]
        self._longest_spaced = max(map(len, spaced), default=1)

    def clean(self, text: str) -> str:
        """The text with `***` in place of secrets; cleaning twice changes nothing.

        Clean a text before it is truncated: a part of a secret is not recognised.
        """
        for pattern in self._patterns:
            text = pattern.sub(HIDDEN, text)
        if "://" in text:  # a test that is much faster than searching for the patterns
            text = IN_URL.sub(rf"\1:{HIDDEN}@", text)
            text = ALONE_IN_URL.sub(rf"\1{HIDDEN}@", text)
        if any(part in text for part in ("-", "_", "AKIA", "AIza")):
            text = SHAPES.sub(HIDDEN, text)
        return text

    def finished(self, text: str) -> int:
        """Length of the part of a clean text that cannot contain the beginning of a secret.

        The text will be continued. The part ends before the last word, and before the place where
        a secret with blanks may have begun.
        """
        tail = text[-LONGEST:]
        word = len(text) - len(tail) + max(tail.rfind(blank) + 1 for blank in BLANKS)
        return max(0, min(word, len(text) - self._longest_spaced + 1))


def without_secrets(text: str) -> str:
    """The text with every secret of this process's environment hidden."""
    return Filter(os.environ).clean(text)


def quoted(value: object, length: int) -> str:
    """The beginning of a value as Python writes it, without secrets."""
    return without_secrets(repr(value))[:length]


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """The secrets in the values of variables, the longest first."""
    found: set[str] = set()
    for name in list(environment):
        value = environment.get(name, "")  # another thread may have removed it
        whole = value.strip()
        a_place = whole.startswith(("/", "~")) and os.path.exists(os.path.expanduser(whole))
        if name not in NOT_SECRET and NAMED.search(name) and not a_place:
            found.add(whole)
        found.update(_inside(whole))
    return sorted((one for one in found if _telling(one)), key=len, reverse=True)


def _inside(value: str) -> Iterator[str]:
    """Passwords within a value: of a URL, of its query, of a list of key=value."""
    yield from (match[1] for match in ASSIGNED.finditer(value))
    yield from (match[1] for match in BEFORE_HOST.finditer(value))
    for pattern in WITHIN:  # which `@` ends the password is a guess where there are several
        for match in pattern.finditer(value):
            yield from (match[2], urllib.parse.unquote(match[2]))


def _telling(value: str) -> bool:
    """Long enough, or of several kinds of characters: `true` or `8080` stand anywhere by chance."""
    kinds = (str.isalpha, str.isdigit, lambda one: not one.isalnum())
    several = sum(any(map(kind, value)) for kind in kinds) > 1
    return len(value) >= ANYWHERE or (len(value) >= LEAST and several)


def _pattern(secret: str) -> re.Pattern[str]:
    shown = "|".join(map(re.escape, _encoded(secret)))
    return re.compile(shown if len(secret) >= ANYWHERE else rf"(?<!\w)(?:{shown})(?!\w)")


def _encoded(secret: str) -> Iterable[str]:
    """A secret as it is, in Python's and JSON's quotes, and in a URL; the longest first."""
    forms = {
        secret,
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        urllib.parse.quote(secret, safe=""),
        urllib.parse.quote_plus(secret),
    }
    return sorted(forms, key=len, reverse=True)
