"""Self-improvement in rounds: generate, filter, judge, pool, search again."""
