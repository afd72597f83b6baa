"""The run folder: ledger, facts, artifacts, and whether to trust somebody else's."""
