"""Mirrors of run folders in a store: copied while a search runs, fetched on another machine."""
