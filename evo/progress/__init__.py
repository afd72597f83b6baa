"""What people see of a run: the live table, `evo status` and `evo ls`."""
