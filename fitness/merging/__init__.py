"""Warm starts: the lineage of an individual's weights, and merging those of its parents."""
