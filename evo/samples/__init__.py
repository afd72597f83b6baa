"""`evo generate`: samples of a model, filtered."""
