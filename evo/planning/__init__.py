"""Plan of a search: the schedule of its evaluations, warm starts, and controls."""
