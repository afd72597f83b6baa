"""A base model: its folder, how it is loaded and checked, adapters, and weights on disk."""
