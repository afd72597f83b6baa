"""The search loop: which individual is evaluated next, at which fidelity, and what became of it."""
