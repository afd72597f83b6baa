"""What a search will evaluate, as far as the spec alone says: fidelities, warm starts, controls."""
