"""Exit codes of the `evo` command."""

import errno

DONE, FAILED, BAD_INPUT, STOPPED = 0, 1, 2, 130


def exit_code(error: OSError) -> int:
    """The exit code for a place that cannot be used: bad input if its name is too long for any."""
    return BAD_INPUT if error.errno == errno.ENAMETOOLONG else FAILED
