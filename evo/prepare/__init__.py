"""Checks of model, data and machine before anything trains, and what a run will cost."""
