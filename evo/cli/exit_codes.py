"""Exit codes of the `evo` command."""

DONE, FAILED, BAD_INPUT, STOPPED = 0, 1, 2, 130
