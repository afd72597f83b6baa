"""The run folder: ledger, facts, artifacts, and trust in the code that it names."""
