"""Benchmarks by lm-evaluation-harness: its tasks, their documents by split, and their scores."""
