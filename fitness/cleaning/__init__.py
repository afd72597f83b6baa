"""Cleaning of sources: normalisation, filters of documents, duplicates, held-out text."""
