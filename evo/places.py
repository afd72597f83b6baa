"""Messages of one line for paths that cannot be read or written."""

import errno
import os
from pathlib import Path

from fitness.errors import InputError

REMEDIES = {
    errno.ENOSPC: "make room there, or name another place",
    errno.EDQUOT: "make room there, or name another place",
    errno.EROFS: "name a place that you may write to",
    errno.EACCES: "name a place that you may use",
    errno.EPERM: "name a place that you may use",
    errno.ENAMETOOLONG: "name a shorter path",
    errno.ENOENT: "make its folder first, or name another place",
    errno.ENOTDIR: "a file is where a folder should be; name another place",
    errno.EISDIR: "a folder is where a file should be; name another place",
    errno.EEXIST: "name a place that is free",
}


def unusable(error: OSError) -> str:
    """One line: the path, why it cannot be read or written, and what to do."""
    where = error.filename2 or error.filename or "standard output or a file"
    why = error.strerror or str(error).partition("\n")[0] or type(error).__name__
    remedy = REMEDIES.get(error.errno or 0, "name another place, or free this one")
    line = f"{os.fsdecode(where) if isinstance(where, bytes) else where}: {why}; {remedy}"
    return " ".join(line.splitlines())


def impossible(text: str, *, escapes: bool = False) -> str:
    """Reason why a text cannot be a path, and what to do; empty if it can.

    With `escapes`, lone surrogates are allowed: Python puts them in place of bytes of a
    command-line argument that are not UTF-8.
    """
    if "\0" in text:
        return "has a null byte, which paths and names cannot contain; leave it out"
    try:
        text.encode(errors="surrogateescape" if escapes else "strict")
    except UnicodeEncodeError:
        return "has half a surrogate pair, which is not valid text; write whole characters"
    return ""


def check_room_for(to: Path) -> None:
    """Raise InputError if no file or folder can be created at `to`, before any work is done."""
    above = next(folder for folder in to.absolute().parents if folder.exists())
    why = 0 if above.is_dir() else errno.ENOTDIR
    if not why and not os.access(above, os.W_OK | os.X_OK):
        why = errno.EACCES
    if why:
        raise InputError(unusable(OSError(why, os.strerror(why), str(to))))
