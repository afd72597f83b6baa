"""Samples that a model generates for training: generation, filters and their scores."""
