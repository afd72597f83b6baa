"""Stores of objects by URL, read and written through fsspec, its only home."""
