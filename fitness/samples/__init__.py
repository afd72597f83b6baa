"""Samples that a model generates for training: writing, filters and their scores."""
