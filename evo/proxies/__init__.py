"""Searches of mixtures on smaller models, one after the other, before that of the base model."""
