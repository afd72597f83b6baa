"""Checks of model, data and machine before anything trains, and estimates of a run's cost."""
