"""Scores of earlier searches for a new one: recalled where equal, else a guide of its surrogate."""
