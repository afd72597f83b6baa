"""Checks of answers against references: each serves as metric, reward and filter of samples."""
