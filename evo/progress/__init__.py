"""Progress of a run in the terminal: the live table, `evo status` and `evo ls`."""
